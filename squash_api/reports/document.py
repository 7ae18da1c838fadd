"""A report as plain data, from which JSON, HTML, Markdown and XML are written. Pure."""

from dataclasses import dataclass, field
from typing import Literal

from squash_api.judging.alerts import LEVELS, severity_of
from squash_api.judging.kinds.criterion import Criterion
from squash_api.judging.kinds.registry import shown_criterion
from squash_api.judging.states import State

Kind = Literal[
    "newly broken",
    "worse",
    "no longer measured",
    "gone",
    "still broken",
    "nearer to its limit",
    "better",
    "mended",
    "measured again",
    "new",
]
"""How a cell has changed since the other run or release, worst first."""


# Not frozen, nor is a cell: of thousands, to make frozen ones took a tenth of a report's time.
@dataclass(slots=True, kw_only=True)
class Finding:
    """The last value of a metric for one combination, and one limit: the worst broken or nearest.

    `value` and `threshold` are in `unit`; `margin` is a fraction of the limit, negative if broken.
    Of the `values` in the selection, `failed` broke any limit, `beyond` by the worst level of each,
    and `absent` were null, NaN, infinite or skipped. Of the `judged` values that this one limit
    applied to, `broken` broke it. `operator` and `threshold` are what its criterion shows.
    """

    metric: str
    """The metric's full name."""
    tags: dict[str, str]
    """The tags of its series."""
    state: State
    """How the value stands."""
    value: float | None
    """The last value, in `unit`; null if it is absent."""
    unit: str | None
    """The unit of value and limit, in astropy's spelling."""
    specification: str | None = None
    """The specification whose limit is shown; null if none applies."""
    level: str | None = None
    """How bad it is to break that."""
    operator: str | None = None
    """How values must compare with it."""
    threshold: float | list[float | None] | None = None
    """The number, or numbers, of the limit, in `unit`."""
    margin: float | None = None
    """The distance to the limit as a fraction of the limit, negative if it is broken."""
    also_broken: list[str] = field(default_factory=list)
    """Other specifications that the value breaks."""
    time: str
    """When it was measured."""
    job_id: int
    """The id of its job."""
    run_id: str | None = None
    """The id of its run."""
    run_url: str | None = None
    """URL of the run where it ran."""
    values: int
    """Number of values in the selection."""
    failed: int
    """Number of those that broke a limit."""
    absent: int
    """Number of those that were null, NaN, infinite or skipped."""
    beyond: dict[State, int] = field(default_factory=dict)
    """Numbers of those that broke a limit, by the worst level of each."""
    judged: int = 0
    """Number of values that the limit shown applied to."""
    broken: int = 0
    """Number of those that broke it."""

    @property
    def criterion(self) -> Criterion | None:
        """What the value must meet; None if no limit is shown."""
        shown = {"operator": self.operator, "threshold": self.threshold}
        return shown_criterion(shown, self.unit or "")


@dataclass(frozen=True, slots=True)
class Column:
    """A column of the matrix. `instrument` is None if the report has only one."""

    dataset: str | None
    """The dataset of its values."""
    filter: str | None
    """The filter of its values."""
    instrument: str | None = None
    """Their instrument; null if the report has only one."""

    @property
    def label(self) -> str:
        """The heading of the column."""
        named = [self.instrument, self.dataset, self.filter]
        return " ".join(item for item in named if item is not None) or "\u2013"


@dataclass(slots=True, kw_only=True)
class Cell:
    """The results of a metric in one column; the worst one is `shown` and gives the state.

    `column` is an index into the report's columns. `states` counts the results, which are series,
    by their states; `broken` and `not_measured` are parts of it. `values`, `failed` and `absent`
    count all values in the selection. `change` compares the cell with the other run or release, if
    there is one.
    """

    column: int
    """Index into `columns`, from 0."""
    state: State
    """The state of its worst result."""
    results: int
    """Number of results: the last value of each series."""
    states: dict[State, int]
    """Numbers of results, by state."""
    broken: int
    """Number of results that break a limit."""
    not_measured: int
    """Number of results without a value."""
    values: int
    """Number of values in the selection."""
    failed: int
    """Number of those that broke a limit."""
    absent: int
    """Number of those that were null, NaN, infinite or skipped."""
    shown: Finding
    """The worst result."""
    change: Kind | None = None
    """How it has changed since the other run or release; null if it has not, or there is none."""


@dataclass(frozen=True, slots=True)
class Row:
    """A metric with limits, in the columns in which it was measured."""

    metric: str
    """The metric's full name."""
    package: str
    """Its verification package."""
    unit: str | None
    """Its unit, in astropy's spelling."""
    state: State
    """The state of its worst result."""
    cells: list[Cell]
    """Its results, by column."""


@dataclass(frozen=True, slots=True)
class Missing:
    """A metric without a value, and the specifications that would have judged one."""

    metric: str
    """The metric's full name."""
    specifications: list[str]
    """The specifications that would have judged a value."""


@dataclass(frozen=True, slots=True)
class SilentPackage:
    """A verification package without any value, and how many of its metrics have limits."""

    package: str
    """The package's name."""
    metrics: int
    """How many of its metrics have limits."""


@dataclass(frozen=True, slots=True)
class Unusable:
    """A specification that cannot judge, and why."""

    specification: str
    """The specification's full name."""
    reason: str
    """Why it cannot judge."""


@dataclass(frozen=True, slots=True, kw_only=True)
class JobArtifact:
    """An artifact of a job whose value the report shows; `key` is its place in the metadata."""

    job_id: int
    """The job's id."""
    run_id: str | None
    """The id of its run."""
    key: str
    """Its place in the metadata, such as `plots.map`."""
    url: str
    """A URL of http or https."""
    type: str | None
    """Its media type, if the job or the end of the URL tells."""
    description: str | None
    """What the job says of it."""

    @property
    def label(self) -> str:
        """What people read in place of the URL."""
        return self.description or self.key


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """How a metric in a column has changed; None stands for what one side does not have."""

    metric: str
    """The metric's full name."""
    column: str
    """The heading of the column."""
    kind: Kind
    """How it has changed."""
    state_before: State | None
    """Its state in the other run or release."""
    state: State | None
    """Its state now."""
    broken_before: int
    """Number of results that broke a limit there."""
    broken: int
    """Number of results that break a limit now."""
    value_before: float | None
    """The value there, in `unit`."""
    value: float | None
    """The value now, in `unit`."""
    unit: str | None
    """The metric's unit, in astropy's spelling."""
    margin_before: float | None
    """The margin there, as a fraction of the limit."""
    margin: float | None
    """The margin now, as a fraction of the limit."""
    job_before: int | None
    """The id of the job there."""
    job_id: int | None
    """The id of the job now."""


@dataclass(frozen=True, slots=True)
class Comparison:
    """The differences from another run, release or period; `changes` lists the worst of them.

    `counts` has the number of changes of each kind, and `unchanged` the cells without a change.
    """

    title: str
    """What it is compared with."""
    jobs: int
    """Number of jobs there."""
    headline: str
    """The differences in a sentence."""
    counts: dict[str, int]
    """Numbers of changes, by kind."""
    unchanged: int
    """Number of cells without a change."""
    changes: list[Change]
    """The worst changes."""


@dataclass(frozen=True, slots=True)
class ChangedPackage:
    """A package that changed between two runs, its commits, and the page that compares them."""

    name: str
    """The package's name."""
    before: str | None
    """Its commit in the earlier run."""
    after: str | None
    """Its commit in the later run."""
    link: str | None
    """URL of a page with the changes."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LevelChange:
    """Where the level of a series changed: the medians of the values before and after it.

    `times_noise` is the size in standard deviations of the values around their level. The job is
    the first of the new level, and `job_before` the last of the old one; `packages` is None if it
    is not known what changed in the code between their runs.
    """

    metric: str
    """The metric's full name."""
    tags: dict[str, str]
    """The tags of its series."""
    unit: str | None
    """The unit of `before` and `after`, in astropy's spelling."""
    time: str
    """When the first value of the new level was measured."""
    before: float
    """The median of the values before, in `unit`."""
    after: float
    """The median of the values after, in `unit`."""
    times_noise: float
    """The size of the change, in standard deviations of the values around their level."""
    job_before: int
    """The id of the last job of the old level."""
    job_id: int
    """The id of the first job of the new level."""
    run_id: str | None
    """The id of its run."""
    packages: list[ChangedPackage] | None
    """What changed in the code between the two; null if that is not known."""


@dataclass(frozen=True, slots=True)
class LevelChanges:
    """The change points of a report, the largest first; all are counted.

    `note` says why there are none to tell of; empty if they were looked for.
    """

    note: str = ""
    """Why there are none to tell of; empty if they were looked for."""
    count: int = 0
    """Number of all of them."""
    largest: list[LevelChange] = field(default_factory=list)
    """The largest of them, the largest first."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Summary:
    """Numbers of results, each the last value of one series: of one metric and combination.

    The state is that of the worst result; what should have a value and has none is not measured.
    `metrics` counts the metrics with results by their worst states. `missing` counts metrics with
    limits but without any value, in packages that were measured or asked for. `values`, `failed`
    and `absent` count all values in the selection; `beyond` counts those that failed by the worst
    level that each broke.
    """

    state: State
    """The state of the worst result."""
    headline: str
    """How it stands, in a sentence."""
    jobs: int
    """Number of jobs in the selection."""
    metrics: dict[State, int]
    """Numbers of metrics with results, by their worst states."""
    results: int
    """Number of results: the last value of each series."""
    passed: int
    """Number of results that meet every limit."""
    info: int
    """Number of results that break only limits of INFO."""
    warning: int
    """Number of results that break a limit of WARNING, and no worse one."""
    critical: int
    """Number of results that break a limit of CRITICAL."""
    not_measured: int
    """Number of results without a value."""
    no_limit: int
    """Number of results to which no limit applies."""
    missing: int
    """Number of metrics with limits but without any value."""
    values: int
    """Number of values in the selection."""
    failed: int
    """Number of those that broke a limit."""
    absent: int
    """Number of those that were null, NaN, infinite or skipped."""
    beyond: dict[State, int]
    """Numbers of those that broke a limit, by the worst level of each."""

    @property
    def judged(self) -> int:
        """How many results a limit has judged."""
        return self.passed + self.info + self.warning + self.critical


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """How a run, a release or a period is doing, and what is not known about it.

    `idle` names specifications that applied to no value although their metrics were measured, and
    `unlimited` metrics to which no specification applied. `violations` counts all results that
    break a limit, of which `worst` lists at most 100. `artifacts` has at most 10 of a job,
    those of the worst first. `change_points` is None unless they were asked for.
    """

    title: str
    """What it is on."""
    filters: dict[str, list[str]]
    """What the selection is narrowed to, by tag or name."""
    url: str
    """The public root of the service."""
    made: str
    """When it was made."""
    since: str | None
    """When the selection begins."""
    until: str | None
    """When it ends; null for now."""
    asked: dict[str, list[str]]
    """The parameters that it was asked for with."""
    summary: Summary
    """How it stands."""
    columns: list[Column]
    """The columns of the matrix: combinations of dataset, filter and instrument."""
    rows: list[Row]
    """The metrics with limits, the worst first."""
    violations: int
    """Number of results that break a limit."""
    worst: list[Finding]
    """The worst of those, at most 100."""
    near: list[Finding]
    """Results that meet their limits closely."""
    missing: list[Missing]
    """Metrics with limits but without any value."""
    silent_packages: list[SilentPackage]
    """Packages without any value."""
    idle: list[str]
    """Specifications that applied to no value, although their metrics were measured."""
    unusable: list[Unusable]
    """Specifications that cannot judge."""
    unlimited: list[str]
    """Metrics to which no specification applied."""
    comparison: Comparison | None = None
    """The differences from another run or release; null if none was asked for."""
    artifacts: list[JobArtifact] = field(default_factory=list)
    """Artifacts of the jobs that it shows, those of the worst first."""
    change_points: LevelChanges | None = None
    """Where the level of series changed; null if that was not asked for."""


MOST_OF_A_JOB = 10
"""At most this many artifacts of a job are listed; its page has the others."""

MOST_WORST = 100
"""At most this many results that break a limit are listed, worst first; all are counted."""


def fails(report: Report, *, level: str, is_strict: bool = False, may_miss: bool = False) -> bool:
    """Return whether a report should fail a build.

    It should if a limit of `level` or worse is broken; unless `may_miss`, also if nothing was
    judged or a result was not measured; if `is_strict`, also if a metric has no value at all or a
    specification cannot judge.
    """
    summary = report.summary
    counts = zip(LEVELS, (summary.info, summary.warning, summary.critical), strict=True)
    if any(count and severity_of(name) >= severity_of(level) for name, count in counts):
        return True
    if not may_miss and (summary.not_measured or not summary.judged):
        return True
    return is_strict and bool(summary.missing or report.unusable)
