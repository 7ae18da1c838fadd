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
    tags: dict[str, str]
    state: State
    value: float | None
    unit: str | None
    specification: str | None = None
    level: str | None = None
    operator: str | None = None
    threshold: float | list[float | None] | None = None
    margin: float | None = None
    also_broken: list[str] = field(default_factory=list)
    time: str
    job_id: int
    run_id: str | None = None
    run_url: str | None = None
    values: int
    failed: int
    absent: int
    beyond: dict[State, int] = field(default_factory=dict)
    judged: int = 0
    broken: int = 0

    @property
    def criterion(self) -> Criterion | None:
        """What the value must meet; None if no limit is shown."""
        shown = {"operator": self.operator, "threshold": self.threshold}
        return shown_criterion(shown, self.unit or "")


@dataclass(frozen=True, slots=True)
class Column:
    """A column of the matrix. `instrument` is None if the report has only one."""

    dataset: str | None
    filter: str | None
    instrument: str | None = None

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
    state: State
    results: int
    states: dict[State, int]
    broken: int
    not_measured: int
    values: int
    failed: int
    absent: int
    shown: Finding
    change: Kind | None = None


@dataclass(frozen=True, slots=True)
class Row:
    """A metric with limits, in the columns in which it was measured."""

    metric: str
    package: str
    unit: str | None
    state: State
    cells: list[Cell]


@dataclass(frozen=True, slots=True)
class Missing:
    """A metric without a value, and the specifications that would have judged one."""

    metric: str
    specifications: list[str]


@dataclass(frozen=True, slots=True)
class SilentPackage:
    """A verification package without any value, and how many of its metrics have limits."""

    package: str
    metrics: int


@dataclass(frozen=True, slots=True)
class Unusable:
    """A specification that cannot judge, and why."""

    specification: str
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class JobArtifact:
    """An artifact of a job whose value the report shows; `key` is its place in the metadata."""

    job_id: int
    run_id: str | None
    key: str
    url: str
    type: str | None
    description: str | None

    @property
    def label(self) -> str:
        """What people read in place of the URL."""
        return self.description or self.key


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """How a metric in a column has changed; None stands for what one side does not have."""

    metric: str
    column: str
    kind: Kind
    state_before: State | None
    state: State | None
    broken_before: int
    broken: int
    value_before: float | None
    value: float | None
    unit: str | None
    margin_before: float | None
    margin: float | None
    job_before: int | None
    job_id: int | None


@dataclass(frozen=True, slots=True)
class Comparison:
    """The differences from another run, release or period; `changes` lists the worst of them.

    `counts` has the number of changes of each kind, and `unchanged` the cells without a change.
    """

    title: str
    jobs: int
    headline: str
    counts: dict[str, int]
    unchanged: int
    changes: list[Change]


@dataclass(frozen=True, slots=True)
class ChangedPackage:
    """A package that changed between two runs, its commits, and the page that compares them."""

    name: str
    before: str | None
    after: str | None
    link: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class LevelChange:
    """Where the level of a series changed: the medians of the values before and after it.

    `times_noise` is the size in standard deviations of the values around their level. The job is
    the first of the new level, and `job_before` the last of the old one; `packages` is None if it
    is not known what changed in the code between their runs.
    """

    metric: str
    tags: dict[str, str]
    unit: str | None
    time: str
    before: float
    after: float
    times_noise: float
    job_before: int
    job_id: int
    run_id: str | None
    packages: list[ChangedPackage] | None


@dataclass(frozen=True, slots=True)
class LevelChanges:
    """The change points of a report, the largest first; all are counted.

    `note` says why there are none to tell of; empty if they were looked for.
    """

    note: str = ""
    count: int = 0
    largest: list[LevelChange] = field(default_factory=list)


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
    headline: str
    jobs: int
    metrics: dict[State, int]
    results: int
    passed: int
    info: int
    warning: int
    critical: int
    not_measured: int
    no_limit: int
    missing: int
    values: int
    failed: int
    absent: int
    beyond: dict[State, int]

    @property
    def judged(self) -> int:
        """How many results a limit has judged."""
        return self.passed + self.info + self.warning + self.critical


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """How a run, a release or a period is doing, and what is not known about it.

    `idle` names specifications that applied to no value although their metrics were measured, and
    `unlimited` metrics to which no specification applied. `violations` counts all results that
    break a limit, of which `worst` lists at most `MOST_WORST`. `artifacts` has at most
    `MOST_OF_A_JOB` of a job, those of the worst first. `change_points` is None unless they were
    asked for.
    """

    title: str
    filters: dict[str, list[str]]
    url: str
    made: str
    since: str | None
    until: str | None
    asked: dict[str, list[str]]
    summary: Summary
    columns: list[Column]
    rows: list[Row]
    violations: int
    worst: list[Finding]
    near: list[Finding]
    missing: list[Missing]
    silent_packages: list[SilentPackage]
    idle: list[str]
    unusable: list[Unusable]
    unlimited: list[str]
    comparison: Comparison | None = None
    artifacts: list[JobArtifact] = field(default_factory=list)
    change_points: LevelChanges | None = None


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
