"""What a service answers, as types: each a dictionary, read from JSON as it is."""

from typing import Any, TypedDict

State = str
"""A state of the pages' list, such as `CRITICAL`, `passed` or `no limit`."""


class Acknowledgement(TypedDict):
    """Who has an alert, since when and until when, and what they wrote."""

    by: str
    since: str
    severity: str
    until: str | None
    note: str
    link: str | None


class RunName(TypedDict):
    """The run that opened an alert."""

    pipeline: str | None
    run_id: str | None


class Alert(TypedDict):
    """An alert: `severity` is the level now, None once it is resolved; `worst` the worst so far.

    `date`, `value` and `job` are of what speaks for the series now.
    """

    id: int
    state: str
    severity: str | None
    worst: str
    metric: str
    tags: dict[str, str]
    group: int
    trial: bool
    silenced: bool
    silence: int | None
    text: str
    value: float | None
    unit: str | None
    broken: list[dict[str, Any]]
    date: str | None
    job: str | None
    opened: str
    opened_by_job: str | None
    run: RunName | None
    acknowledged: Acknowledgement | None
    resolved: str | None
    url: str


class AlertDetails(Alert):
    """An alert with the runs before it, what changed, its history, and its neighbours."""

    runs: list[dict[str, Any]]
    last_good: dict[str, Any] | None
    changes: dict[str, Any] | None
    artifacts: list[dict[str, Any]]
    history: list[dict[str, Any]]
    others: list[Alert]
    similar: list[Alert]
    same_run: list[Alert]
    to_silence: dict[str, Any]


class ChangedAlert(Alert):
    """An alert after a change, a sentence on that, and the ids of all that changed."""

    message: str
    changed: list[int]


class Silence(TypedDict):
    """A time in which nobody is told of some alerts; also has `from`, when it begins."""

    id: int
    state: str
    metric: str | None
    tags: dict[str, str]
    why: str
    by: str
    created: str
    until: str
    ended: str | None
    ended_by: str | None


class NewSilence(Silence):
    """A silence, and how many living alerts it is about."""

    alerts: int


class Run(TypedDict):
    """A run of a pipeline on a dataset, and how it stands."""

    pipeline: str | None
    run_id: str | None
    dataset: str | None
    filters: list[str]
    url: str
    run_url: str | None
    version_tag: str | None
    date: str
    jobs: int
    measurements: int
    newest_job: int
    complete: bool
    state: State
    verdicts: int
    failed: dict[str, int]
    passed: int
    not_measured: int
    metrics: dict[str, int]


class Standing(TypedDict):
    """How a metric stands now: its worst state, and its series, the worst first."""

    metric: str
    unit: str | None
    state: State
    states: list[State] | dict[str, int]
    series: list[dict[str, Any]]
    late: list[dict[str, Any]]
