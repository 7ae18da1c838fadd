"""What a service answers, as types: each a dictionary, read from JSON as it is.

What builds an answer returns one of these, and who reads it with the client gets them. The text
below a field is its description in the OpenAPI document. Times are ISO 8601, in UTC.
"""

from typing import Any, Literal, NotRequired, TypedDict

Level = Literal["INFO", "WARNING", "CRITICAL"]
"""How bad it is to break a limit."""

State = Literal[
    "CRITICAL",
    "WARNING",
    "late",
    "not measured",
    "INFO",
    "passed",
    "no limit",
    "old",
    "never seen",
]
"""How something stands: a state of the pages' list, worst first."""

Status = Literal["passed", "failed", "not measured"]
"""What a limit says of a value."""

DeliveryState = Literal["PENDING", "STARTED", "SUCCESS", "FAILURE"]
"""How far a job is on its way to InfluxDB."""


# Jobs


class Skipped(TypedDict):
    """A value that was left out, and why."""

    metric: str
    """The metric's full name."""
    reason: str
    """Why the value is not used."""


class Cleaned(TypedDict):
    """A key of the metadata that is stored in another form than it was sent, and why."""

    key: str
    """The key in the metadata."""
    reason: str
    """What was changed."""


class LeftOut(TypedDict):
    """What a service says of a job's values: at most 100 of each kind."""

    absent: list[str]
    """Metrics whose values are null, NaN or infinite."""
    skipped: list[Skipped]
    """Values that cannot be used."""
    undeclared: list[str]
    """Metrics that nobody has declared; their values are stored."""
    more: NotRequired[dict[str, int]]
    """How many more there are of which kind, if not all are listed."""


class Receipt(LeftOut):
    """What became of a job that was posted."""

    message: str
    """What became of it, for people; the id is between the first two back-ticks."""
    status: str
    """URL of the job's delivery."""
    id: int
    """The job's id."""
    notes: list[str]
    """What else is to be known, for people."""


class JobStatus(LeftOut):
    """Whether a job has reached InfluxDB, and what was left out or cleaned."""

    status: DeliveryState
    """How far the job is with all targets together."""
    message: str
    """The same in words, with the reasons of those that refused."""
    status_code: int
    """The number that clients of the original service read: 202, 204 or 400."""
    targets: dict[str, DeliveryState]
    """How far the job is, by target."""
    cleaned: list[Cleaned]
    """Keys of the metadata that are stored in another form."""


class BlobOfMeasurement(TypedDict):
    """A blob that a measurement refers to."""

    identifier: str
    """The blob's identifier in the job."""
    name: Any
    """The blob's name, as it was posted."""
    s3_uri: None
    """Always null: blobs are in the job."""


class StoredMeasurement(TypedDict):
    """A measurement of a job."""

    metric: str
    """The metric's full name."""
    value: Any
    """The value, in `unit`; null if it is absent. A skipped one is as it was posted."""
    unit: str | None
    """The metric's unit, in astropy's spelling; of a skipped value as it was posted."""
    identifier: str | None
    """What the job calls the measurement."""
    job: int
    """The job's id."""
    blobs: list[BlobOfMeasurement]
    """The blobs that it refers to."""
    reduced: NotRequired[dict[str, str] | None]
    """From which array in a blob the value is made: `by`, `blob` and `key`."""
    skipped: NotRequired[str]
    """Why the value is not used, if it is skipped."""


class MeasurementsOfJob(TypedDict):
    """What a job measured."""

    measurements: list[StoredMeasurement]
    """In the order of the job; those made from arrays in blobs come last."""


class StoredJob(TypedDict):
    """A job: its measurements in the metrics' units, and its metadata."""

    id: int
    """The job's id."""
    date_created: str
    """When it ran."""
    date_received: str
    """When the service received it."""
    time_ns: int
    """When it ran, in nanoseconds since 1970."""
    ci_dataset: str | None
    """The dataset that it measured."""
    s3_uri: None
    """Always null: the job is in the record."""
    measurements: list[StoredMeasurement]
    """What it measured."""
    meta: dict[str, Any]
    """Its metadata, as they were posted; `packages` are a list."""


class Artifact(TypedDict):
    """A URL in a job's metadata."""

    key: str
    """Its place in the metadata, such as `plots.map`."""
    url: str
    """A URL of http or https."""
    type: str | None
    """Its media type, if the job or the end of the URL tells."""
    description: str | None
    """What the job says of it."""


# Verdicts


class RunsOfLimit(TypedDict):
    """How many of the newest runs break a limit, once that is raised."""

    broken: int
    """Runs that break it."""
    of: int
    """Runs that are looked at."""


class Shown(TypedDict):
    """What verdicts and reports show of a limit next to its unit."""

    operator: str
    """How values must compare: `<=`, `within`, ... or the word of another type."""
    threshold: float | list[float | None]
    """The number, or numbers, of the limit, in `unit`; null is an end that a range has not."""


class Verdict(Shown):
    """The result of one limit for one value."""

    specification: str
    """The specification's full name."""
    status: Status
    """Whether the value meets it."""
    metric: str
    """The metric's full name."""
    value: float | None
    """The value, in `unit`; of a compound, how many of its members are broken."""
    unit: str
    """The unit of value and limit, in astropy's spelling."""
    level: Level
    """How bad it is to break the limit."""
    margin: float | None
    """The distance to the limit as a fraction of the limit, negative if it is broken."""
    members: NotRequired[list[str]]
    """Of a compound, the members that are broken."""
    type: NotRequired[str]
    """The type of a limit that follows from the values before."""
    runs: NotRequired[RunsOfLimit]
    """How many runs break it, if several are needed."""
    trial: NotRequired[bool]
    """True if the limit is on trial: it is judged, and nobody is told."""


# Runs and standings


class PackageChange(TypedDict):
    """A package that differs between two runs."""

    name: str
    """The package's name."""
    before: str | None
    """Its commit in the earlier run."""
    after: str | None
    """Its commit in the later run."""
    git_url: str | None
    """URL of its repository."""
    new: bool
    """Whether only the later run has it."""
    gone: bool
    """Whether only the earlier run has it."""
    compare: str | None
    """URL of a page with the changes."""


class JudgedState(TypedDict):
    """How a job or a run stands. The numbers are of verdicts, one for each limit that applies."""

    state: State
    """The worst state of all verdicts."""
    failed: dict[Level, int]
    """Broken limits, by level."""
    passed: int
    """Limits that are met."""
    not_measured: int
    """Limits for which there is no value."""
    verdicts: int
    """All verdicts."""
    metrics: dict[State, int]
    """How many metrics with limits are in each state; without those in which none is."""


class Run(JudgedState):
    """A run of a pipeline on a dataset, or a job that belongs to no run, and how it stands."""

    pipeline: str | None
    """The pipeline's name."""
    run_id: str | None
    """The run's id; null for a job that belongs to no run."""
    dataset: str | None
    """The dataset of its jobs."""
    filters: list[str]
    """The filters of its jobs."""
    url: str
    """URL of the run, or of the job."""
    run_url: str | None
    """URL of the run where it ran."""
    version_tag: str | None
    """The release of the software."""
    date: str
    """When its newest job ran."""
    jobs: int
    """Number of its jobs."""
    newest_job: int
    """The id of its newest job."""
    measurements: int
    """Number of its measurements."""
    complete: bool
    """Whether all its jobs were looked at."""


class FaultOfRun(TypedDict):
    """A metric that breaks a limit, or is not measured, in some jobs of a run."""

    metric: str
    """The metric's full name."""
    state: State
    """The worst state in any job."""
    jobs: int
    """In how many jobs."""
    of: int
    """Of how many that were judged."""


class OtherRun(TypedDict):
    """An earlier run to compare with, and the packages that differ."""

    job: int
    """The id of its newest job."""
    run_id: str | None
    """Its id."""
    packages: list[PackageChange] | None
    """The packages that differ; null if one of the two has not named its packages."""
    unknown: list[str]
    """Packages that may differ: one of the two does not give their commit."""


class JobOfRun(JudgedState):
    """A job of a run, and how it stands."""

    id: int
    """The job's id."""
    url: str
    """The job's URL."""
    date: str
    """When it ran."""
    tags: dict[str, str]
    """Its tags."""
    measurements: int
    """Number of its measurements."""


class RunDetails(JudgedState):
    """A run: how it stands, its faults, and its jobs."""

    pipeline: str | None
    """The pipeline's name."""
    run_id: str
    """The run's id."""
    run_url: str | None
    """URL of the run where it ran."""
    version_tag: str | None
    """The release of the software."""
    date: str
    """When its newest job ran."""
    number_of_jobs: int
    """Number of all its jobs."""
    complete: bool
    """Whether all its jobs were looked at."""
    measurements: int
    """Number of its measurements."""
    faults: list[FaultOfRun]
    """Metrics that are not as they should be."""
    run_before: OtherRun | None
    """The run before, on the same data; null if there is none."""
    last_passing: OtherRun | None
    """The newest earlier run that passed; null if none was found."""
    jobs: list[JobOfRun]
    """Its jobs."""


class RunPage(RunDetails):
    """A run with a page of its jobs."""

    next: str | None
    """URL of the next page of jobs; null on the last one."""


class LateSeries(TypedDict):
    """A series whose next value is late."""

    specification: str
    """The specification that expects it."""
    level: Level
    """How bad that is."""
    tags: dict[str, str]
    """The tags of the series."""
    late_s: float
    """How late it is, in seconds."""
    since: str
    """Since when."""
    missing: NotRequired[str]
    """Which have not arrived, if several values are expected."""


class StandingSeries(TypedDict):
    """The newest value of a series, and how it stands."""

    state: State
    """Its worst state."""
    states: list[State]
    """All its states, worst first."""
    tags: dict[str, str]
    """The tags of the series."""
    value: float | None
    """The value, in the metric's unit; null if it is absent."""
    date: str
    """When it was measured."""
    job: str
    """URL of its job."""
    run_id: str | None
    """The id of its run."""
    broken: list[str]
    """The specifications that it breaks, worst first."""
    verdict: Verdict | None
    """What the worst of them, or else the nearest, says; null if none applies."""
    late: LateSeries | None
    """By how much the next value is late; null if it is not."""


class Standing(TypedDict):
    """How a metric stands now: its worst state, and its series, the worst first."""

    metric: str
    """The metric's full name."""
    unit: str | None
    """Its unit, in astropy's spelling."""
    state: State
    """Its worst state."""
    states: list[State]
    """All its states, worst first."""
    series: list[StandingSeries]
    """The newest value of each series."""
    late: list[LateSeries]
    """Series without any recent value that are late."""
