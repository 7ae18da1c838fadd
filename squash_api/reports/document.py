"""A report as programs get it: plain data, from which HTML, Markdown and XML are written. Pure."""

from dataclasses import dataclass, field
from typing import Literal

from squash_api.judging.alerts import LEVELS, Level, severity_of
from squash_api.judging.kinds.criterion import Criterion
from squash_api.judging.kinds.registry import shown_criterion

State = Level | Literal["passed", "not measured", "no limit"]
"""How a result stands: the worst level that is broken, or why nothing is."""

Overall = Level | Literal["passed", "incomplete", "nothing judged", "no data"]

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
"""What has become of a cell since the other run or release, the worst first."""

RANKS: dict[State, int] = {
    "no limit": 0,
    "passed": 1,
    "not measured": 2,
    "INFO": 3,
    "WARNING": 4,
    "CRITICAL": 5,
}
"""How much a state asks for attention."""

VIOLATED = RANKS["INFO"]
"""States of this rank or more are violations."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """The last value of a metric for one combination of tags, and the limit to tell of.

    That is the worst broken one, or else the nearest. `value` and `threshold` are in `unit`;
    `margin` is the distance to the limit as a part of the limit, negative beyond it. Of `values` in
    the selection `failed` broke a limit, and `absent` were null, NaN, infinite or skipped.

    `operator` and `threshold` are what its criterion has shown.
    """

    metric: str
    tags: dict[str, str]
    state: State
    value: float | None
    unit: str | None
    specification: str | None = None
    level: str | None = None
    operator: str | None = None
    threshold: float | list[float] | None = None
    margin: float | None = None
    also_broken: list[str] = field(default_factory=list)
    time: str
    job_id: int
    run_id: str | None = None
    run_url: str | None = None
    values: int
    failed: int
    absent: int

    @property
    def criterion(self) -> Criterion | None:
        """What must hold; None if no limit is told of."""
        shown = {"operator": self.operator, "threshold": self.threshold}
        return shown_criterion(shown, self.unit or "")


@dataclass(frozen=True, slots=True)
class Column:
    """A column of the matrix. `instrument` is None where there is but one."""

    dataset: str | None
    filter: str | None
    instrument: str | None = None

    @property
    def label(self) -> str:
        """What it is called."""
        named = [self.instrument, self.dataset, self.filter]
        return " ".join(item for item in named if item is not None) or "\u2013"


@dataclass(frozen=True, slots=True, kw_only=True)
class Cell:
    """The results of a metric in one column; it is as bad as the worst, which is `shown`.

    `column` is its place among the columns. `broken` and `not_measured` count results; the other
    numbers are those of all values in the selection. `change` is what has become of it since the
    other run or release, if there is one to compare with.
    """

    column: int
    state: State
    results: int
    broken: int
    not_measured: int
    values: int
    failed: int
    absent: int
    shown: Finding
    change: Kind | None = None


@dataclass(frozen=True, slots=True)
class Row:
    """A metric that has limits, in those columns in which it was measured."""

    metric: str
    package: str
    unit: str | None
    state: State
    cells: list[Cell]


@dataclass(frozen=True, slots=True)
class Missing:
    """A metric of which there is no value, though specifications ask for one."""

    metric: str
    specifications: list[str]


@dataclass(frozen=True, slots=True)
class SilentPackage:
    """A verification package of which nothing was measured, and how many metrics have limits."""

    package: str
    metrics: int


@dataclass(frozen=True, slots=True)
class Unusable:
    """A specification that cannot judge, and why."""

    specification: str
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """What has become of a metric in a column; what there was not is None."""

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
    """What is different from another run, release or period. Of `changes` the worst are listed.

    `counts` has the number of each kind, and `unchanged` those that are of none.
    """

    title: str
    jobs: int
    headline: str
    counts: dict[str, int]
    unchanged: int
    changes: list[Change]


@dataclass(frozen=True, slots=True, kw_only=True)
class Summary:
    """Numbers of results: of metrics and combinations of tags, each with its last value.

    `missing` is how many metrics with limits have no value at all, in packages that were measured
    or asked for. `values`, `failed` and `absent` are those of the whole selection.
    """

    state: Overall
    headline: str
    jobs: int
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


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """How the results of a run, a release or a period stand, and what is not known of them.

    `idle` names specifications that applied to no value although their metrics were measured, and
    `unlimited` metrics that no specification applied to. `worst` are at most `MOST_WORST`, of
    `violations`.
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


MOST_WORST = 100
"""So many violations are listed, the worst first; all are counted."""


def fails(report: Report, *, level: str, is_strict: bool = False) -> bool:
    """Tell whether a report is a reason to stop: a violation of the level or worse, or no results.

    Parameters
    ----------
    level
        Mildest level that counts.
    is_strict
        Whether it is one too that something was not measured.
    """
    summary = report.summary
    if summary.state in ("no data", "nothing judged"):
        return True
    counts = zip(LEVELS, (summary.info, summary.warning, summary.critical), strict=True)
    if any(count and severity_of(name) >= severity_of(level) for name, count in counts):
        return True
    return is_strict and bool(summary.not_measured or summary.missing or report.unusable)
