"""What a service answers about alerts and silences, as the types of `answers.py`."""

from typing import Annotated, Any, Literal, TypedDict

from squash_api.schema.answers import Artifact, Level, PackageChange, RunsOfLimit, State, Status

AlertState = Literal["open", "acknowledged", "resolved"]
"""Where an alert is in its life."""


class Broken(TypedDict, total=False):
    """What an alert broke last: a limit, as verdicts show it, or a value that is late."""

    specification: str
    """The specification's full name."""
    status: Status
    """Whether the value meets it."""
    metric: str
    """The metric's full name."""
    value: float | None
    """The value, in `unit`."""
    unit: str
    """The unit of value and limit, in astropy's spelling."""
    operator: str
    """How values must compare."""
    threshold: float | list[float | None]
    """The number, or numbers, of the limit, in `unit`."""
    level: Level
    """How bad it is to break the limit."""
    margin: float | None
    """The distance to the limit as a fraction of the limit, negative if it is broken."""
    members: list[str]
    """Of a compound, the members that are broken."""
    type: str
    """The type of a limit that follows from the values before."""
    runs: RunsOfLimit
    """How many runs break it, if several are needed."""
    trial: bool
    """True if the limit is on trial."""
    missing: str
    """Which of several values have not arrived, if that is what is wrong."""
    ended: str
    """Why the alert has ended, though its value need not be well."""


class Acknowledgement(TypedDict):
    """Who has an alert, since when and until when, and what they wrote."""

    by: str | None
    """The user who has it; null for a command."""
    since: str | None
    """When they took it."""
    severity: Level | None
    """The level that they saw."""
    until: str | None
    """Until when they have it; null for as long as it lives."""
    note: str | None
    """What they wrote."""
    link: str | None
    """Such as that of a ticket."""


class RunName(TypedDict):
    """The run that opened an alert."""

    pipeline: str | None
    """The pipeline's name."""
    run_id: str
    """The run's id in it."""


class BriefAlert(TypedDict):
    """An alert in a few words."""

    id: int
    """The alert's id."""
    state: AlertState
    """Where it is in its life."""
    severity: Level | None
    """Its level now; null once it is resolved."""
    worst: Level
    """The worst level that it had."""
    metric: str
    """The metric's full name."""
    tags: dict[str, str]
    """The tags of its series."""
    opened: str
    """When it opened."""
    resolved: str | None
    """When it was resolved; null while it lives."""
    url: str
    """URL of its page."""


class Alert(BriefAlert):
    """An alert. `date`, `value` and `job` are of what speaks for the series now."""

    group: int
    """The id of the group that is told as one."""
    trial: bool
    """Whether it is on trial, so that nobody is told."""
    silenced: bool
    """Whether a silence is about it now."""
    silence: int | None
    """The id of that silence."""
    text: str
    """Its value and its limit, or what is late, in one line."""
    value: float | None
    """The value, in `unit`."""
    unit: str | None
    """The metric's unit, in astropy's spelling."""
    broken: list[Broken]
    """The limits that were broken last."""
    date: str | None
    """When the value was measured."""
    job: str | None
    """URL of its job."""
    opened_by_job: str | None
    """URL of the job that opened it."""
    run: RunName | None
    """The run that opened it."""
    acknowledged: Acknowledgement | None
    """Who has it; null if nobody has."""


class RunOfAlert(TypedDict):
    """The newest value of a run in the series of an alert."""

    job: str | None
    """URL of its job."""
    run_id: str | None
    """The run's id."""
    date: str | None
    """When it was measured."""
    value: float | None
    """The value, in the alert's unit."""
    state: State
    """How it stood."""


class ChangesBeforeAlert(TypedDict):
    """What has changed in the code from the last good run to the job that opened an alert."""

    since_run: str | None
    """The id of the earlier run."""
    packages: list[PackageChange] | None
    """The packages that differ; null if one of the two has not named its packages."""
    unknown: list[str]
    """Packages that may differ: one of the two does not give their commit."""


class AlertEvent(TypedDict):
    """An event in the history of an alert."""

    date: str | None
    """When it happened."""
    kind: str
    """What happened, such as `opened`, `acknowledged` or `resolved`."""
    severity: Level | None
    """The level then."""
    user: str | None
    """Who brought it about; null for the service."""
    job: str | None
    """URL of the job that brought it about."""
    detail: dict[str, Any]
    """What else is known, such as a `note`."""


class Series(TypedDict):
    """What a silence of a series is made with."""

    metric: str
    """The metric's full name."""
    tags: dict[str, str]
    """The tags of the series."""


class AlertStory(Alert):
    """An alert with the runs before it, what changed, its history, and its neighbours."""

    runs: list[RunOfAlert]
    """The newest runs of its series, the oldest first."""
    last_good: RunOfAlert | None
    """The newest run before it opened that broke none of its limits."""
    changes: ChangesBeforeAlert | None
    """What changed in the code since then; null if that is not known."""
    artifacts: list[Artifact]
    """Artifacts of the job that opened it."""
    history: list[AlertEvent]
    """Its events, the oldest first."""
    others: list[BriefAlert]
    """The other alerts of its group."""
    similar: list[BriefAlert]
    """Earlier alerts of the same metric and limits, the newest first."""
    same_run: list[BriefAlert]
    """What else the run has opened."""


class AlertDetails(AlertStory):
    """All that there is to know of an alert."""

    to_silence: Series
    """What a silence of its series is made with."""


class ChangedAlert(Alert):
    """An alert after a change, a sentence on that, and the ids of all that changed."""

    message: str
    """What was changed, for people."""
    changed: list[int]
    """The ids of all alerts that changed."""


_Beginning = TypedDict("_Beginning", {"from": Annotated[str, "When it begins."]})


class Silence(_Beginning):
    """A time in which nobody is told of some alerts; also has `from`, when it begins."""

    id: int
    """The silence's id."""
    state: Literal["planned", "active", "over"]
    """Whether it is still to come, lasts, or is over."""
    metric: str | None
    """The metric or package that it is about; null for every metric."""
    tags: dict[str, str]
    """Only series that have all of these."""
    why: str
    """The reason, for those who wonder why they heard nothing."""
    by: str | None
    """The user who made it; null for a command."""
    created: str
    """When it was made."""
    until: str
    """When it ends."""
    ended: str | None
    """When somebody ended it before."""
    ended_by: str | None
    """The user who did."""


class NewSilence(Silence):
    """A silence, and how many living alerts it is about."""

    alerts: int
    """How many alerts that live now it is about."""


class EndedSilence(Silence):
    """A silence that was ended, and a sentence on that."""

    message: str
    """What was done, for people."""
