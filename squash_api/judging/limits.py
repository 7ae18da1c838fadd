"""The judge: limits, and the verdicts on values.

lsst.verify converts a threshold to the unit of the measurement. Here both are compared in the unit
of the metric, in which values are stored; results differ in the last bit at most.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import date
from typing import Protocol

from squash_api.judging.alerts import Level, severity_of
from squash_api.judging.kinds.compound import Compound
from squash_api.judging.kinds.criterion import Criterion, demand_of_past
from squash_api.judging.metadata_query import applies, query_terms
from squash_api.judging.specifications import Specification
from squash_api.judging.states import RANKS, State
from squash_api.judging.wording import number_text, plain_number
from squash_api.schema import answers
from squash_api.schema.names import Context, Schema, Term
from squash_api.schema.text import finite

Status = answers.Status
_WORST_FIRST: tuple[Status, ...] = ("failed", "not measured", "passed")

_NO_MARGIN = float("inf")


@dataclass(frozen=True, slots=True)
class Limit:
    """A specification prepared for judging, with its criterion in the metric's unit.

    It applies to jobs with all `terms`. If its unit does not fit that of the metric, `problem` says
    why, and the limit cannot judge. Only one that `is_alone` judges a value by itself; of others,
    `settled` gives what judges one value, or they are judged by `judge_compound`.
    """

    specification: Specification
    terms: tuple[Term, ...]
    criterion: Criterion
    problem: str = ""
    level: Level = field(init=False, compare=False, repr=False)
    severity: int = field(init=False, compare=False, repr=False)
    holds: Callable[[float], bool] = field(init=False, compare=False, repr=False)
    is_alone: bool = field(init=False, compare=False, repr=False)

    def __post_init__(self) -> None:
        # Needed for every value, so found once.
        level = self.specification.level
        object.__setattr__(self, "is_alone", self.criterion.is_alone)
        object.__setattr__(self, "level", level)
        object.__setattr__(self, "severity", severity_of(level))
        object.__setattr__(self, "holds", self.criterion.holds)

    @property
    def name(self) -> str:
        """The name of the specification."""
        return self.specification.name

    @property
    def label(self) -> str:
        """The last part of the name, which tells it from other limits of the metric."""
        return self.name.rpartition(".")[2]

    @property
    def unit(self) -> str:
        """The unit in which values are compared with it."""
        return self.criterion.unit

    @property
    def muted_through(self) -> date | None:
        """The last day without alerts; None if it is not muted."""
        return self.specification.muted_through

    @property
    def is_trial(self) -> bool:
        """Whether it is on trial: it is judged and shown, and counts nowhere."""
        return self.specification.is_trial

    @property
    def is_served(self) -> bool:
        """Whether only the alerts of the record know if it is raised."""
        return self.specification.is_served

    @property
    def history(self) -> int:
        """How many earlier values of the series it looks at; 0 if it needs none."""
        return self.criterion.history

    @property
    def has_past(self) -> bool:
        """Whether it was settled: what it demands of one value follows from those before it."""
        return self.specification.criterion.history > 0 and not self.history

    def settled(self, past: Sequence[float]) -> "Limit | None":
        """Return what judges one value; None if there is no verdict on it.

        Parameters
        ----------
        past
            The values before it, as `Criterion.settled` takes them, in the unit of the limit.
        """
        if self.is_alone:
            return self
        criterion = None if self.criterion.members else self.criterion.settled(past)
        return None if criterion is None else replace(self, criterion=criterion)


def limits_of(
    specifications: Iterable[Specification], *, unit: str | None, schema: Schema
) -> list[Limit]:
    """Return the limits of a metric, worst first, then by name.

    Those that cannot judge are included; those that can apply to no job are not.

    Parameters
    ----------
    unit
        The metric's; None if it has none yet, so that each limit keeps its own.
    """
    found = [
        _limit(item, terms, unit)
        for item in specifications
        if (terms := query_terms(item.metadata_query, schema)) is not None
    ]
    return sorted(found, key=lambda limit: (-limit.severity, limit.name))


def _limit(item: Specification, terms: tuple[Term, ...], unit: str | None) -> Limit:
    own = item.criterion
    criterion = own if unit is None else own.in_unit(unit)
    if unit is None or criterion is not None:
        return Limit(item, terms, criterion or own)
    problem = f"'{own.unit}', the unit of {item.name}, {own.misfit(unit)}"
    return Limit(item, terms, own, problem)


@dataclass(frozen=True, slots=True)
class Verdict:
    """The result of one limit for one value, which is in the limit's unit.

    `margin` is the distance to the limit as a fraction of the limit, negative if it is broken. On a
    compound, `value` is the number of its members that are broken, and `members` names them. With
    `alert.after`, `runs` says how many of how many of the newest runs break the limit, once it is
    raised.
    """

    limit: Limit
    status: Status
    value: float | None
    margin: float | None
    members: tuple[str, ...] = ()
    runs: tuple[int, int] | None = None

    @property
    def name(self) -> str:
        """The name of the specification."""
        return self.limit.name

    @property
    def metric(self) -> str:
        """The metric that was measured."""
        return self.limit.specification.metric

    @property
    def unit(self) -> str:
        """The unit of the value and the limit."""
        return self.limit.unit

    @property
    def level(self) -> Level:
        """How bad it is to break the limit."""
        return self.limit.level

    @property
    def word(self) -> State:
        """The level if the limit is broken, otherwise the status."""
        return self.level if self.status == "failed" else self.status

    @property
    def is_trial(self) -> bool:
        """Whether the limit is on trial, so that the verdict is only shown."""
        return self.limit.is_trial

    @property
    def shown_word(self) -> str:
        """The word, and of a broken limit on trial that it only would be so."""
        is_would_be = self.is_trial and self.status == "failed"
        return f"on trial: would be {self.word}" if is_would_be else self.word

    @property
    def order(self) -> tuple[bool, int, float, str]:
        """The key to sort verdicts worst first, then nearest to the limit first.

        Those on trial come last.
        """
        margin = _NO_MARGIN if self.margin is None else self.margin
        return self.is_trial, RANKS[self.word], margin, self.name

    @property
    def summary(self) -> str:
        """The value and the limit in one line, such as `8.31 mmag, must be ≤ 8 (minimum_r)`.

        Neither has an exponent. That of a compound is such as
        `2 of 3 broken: demo.PA1.minimum, demo.AM1.design (photometry)`.
        """
        if self.limit.criterion.members:
            count = self.limit.criterion.value_text(self.value)
            names = f": {', '.join(self.members)}" if self.members else ""
            return f"{count} broken{names} ({self.limit.label})"
        criterion, numbers = self.limit.criterion, self.limit.criterion.numbers
        value = (
            "no value"
            if self.value is None
            else f"{plain_number(float(number_text(self.value, *numbers)))} {self.unit}".rstrip()
        )
        demand = (
            demand_of_past(criterion, self.value)
            if self.limit.has_past
            else criterion.words(plain_number)
        )
        return f"{value}, must be {demand} ({self.limit.label})"

    def to_json(self) -> answers.Verdict:
        """Return the verdict as the API sends it."""
        limit = self.limit
        shown = limit.criterion.shown()
        told: answers.Verdict = {
            "specification": self.name,
            "status": self.status,
            "metric": self.metric,
            "value": self.value,
            "unit": self.unit,
            "operator": shown["operator"],
            "threshold": shown["threshold"],
            "level": self.level,
            "margin": self.margin,
        }
        if limit.criterion.members:
            told["members"] = list(self.members)
        if limit.has_past:
            told["type"] = limit.specification.criterion.TYPE
        if self.runs:
            told["runs"] = {"broken": self.runs[0], "of": self.runs[1]}
        if self.is_trial:
            told["trial"] = True
        return told


class Evidence(Protocol):
    """What limits that do not judge a value alone need to know about a job."""

    def past(self, limit: Limit) -> Sequence[float]:
        """Return the values before the job's, newest first, in the limit's unit, for `settled`."""

    def in_run(self, limit: Limit) -> Mapping[str, Status]:
        """Return how the members of a compound stand, by name: in the job, or in all of its run.

        Those without a verdict are left out.
        """


def judge(limit: Limit, value: float | None) -> Verdict:
    """Judge a value in the metric's unit; one that is not finite is not measured."""
    number = None if value is None or limit.problem else finite(value)
    if number is None:
        return Verdict(limit, "not measured", None, None)
    status: Status = "passed" if limit.holds(number) else "failed"
    return Verdict(limit, status, number, limit.criterion.margin(number))


def judge_compound(limit: Limit, found: Mapping[str, Status]) -> Verdict | None:
    """Judge how the members of a compound stand, by name; None if none of them has a verdict.

    A member without a verdict is not broken. If those that are not measured decide, the compound is
    not measured.
    """
    criterion = limit.criterion
    if not isinstance(criterion, Compound):
        raise TypeError(f"{limit.name} is no compound")
    known = [found[name] for name in criterion.members if name in found]
    if not known:
        return None
    broken = tuple(name for name in criterion.members if found.get(name) == "failed")
    is_met = criterion.is_met(len(broken), known.count("not measured"))
    if is_met is None:
        return Verdict(limit, "not measured", None, None, broken)
    return Verdict(limit, "passed" if is_met else "failed", float(len(broken)), None, broken)


def judge_by(limit: Limit, value: float | None, evidence: Evidence) -> Verdict | None:
    """Judge the value of a job by a limit that needs more than that; None if it has no verdict."""
    if limit.criterion.members:
        return judge_compound(limit, evidence.in_run(limit))
    settled = limit.settled(evidence.past(limit))
    return None if settled is None else judge(settled, value)


def worst_status(statuses: Iterable[Status]) -> Status:
    """Return the status of a specification in several jobs: failed in one of them, it is failed."""
    return min(statuses, key=_WORST_FIRST.index)


def judge_job(
    values: Mapping[str, float | None],
    units: Mapping[str, str],
    specifications: Iterable[Specification],
    context: Context,
    schema: Schema,
    *,
    evidence: Evidence | None = None,
) -> list[Verdict]:
    """Judge a job by all specifications that apply to it, sorted by name.

    Parameters
    ----------
    values
        By metric, in its unit; None for an absent one. A specification whose metric has no key here
        gives no verdict.
    units
        By metric. A specification whose unit does not fit gives the verdict "not measured", in its
        own unit.
    evidence
        None if nothing is known beside the job: then limits with a history, and compounds over a
        run, give no verdict.
    """
    limits = [
        limit
        for item in specifications
        if item.metric in values
        for limit in limits_of([item], unit=units.get(item.metric), schema=schema)
        if applies(limit.terms, context)
    ]
    verdicts = []
    for limit in limits:
        if limit.is_alone or limit.problem:
            verdicts.append(judge(limit, values[limit.specification.metric]))
        elif limit.history and evidence is not None:
            found = judge_by(limit, values[limit.specification.metric], evidence)
            verdicts.extend([] if found is None else [found])
    in_job = {verdict.name: verdict.status for verdict in verdicts}
    for limit in limits:
        if isinstance(limit.criterion, Compound):
            is_of_job = limit.criterion.over == "job"
            statuses = in_job if is_of_job else evidence.in_run(limit) if evidence else {}
            verdict = judge_compound(limit, statuses)
            verdicts.extend([] if verdict is None else [verdict])
    return sorted(verdicts, key=lambda verdict: verdict.name)


class LimitJudge:
    """Judges values of a metric by its limits, and remembers which of them applied.

    Compounds are left out, for they judge no value.
    """

    def __init__(self, limits: Iterable[Limit]) -> None:
        usable = sorted(
            (limit for limit in limits if not limit.problem), key=lambda limit: -limit.severity
        )
        self._limits = [limit for limit in usable if limit.is_alone]
        self._histories = [limit for limit in usable if limit.history]
        self._tests = [
            (limit.holds, limit.severity) for limit in self._limits if not limit.is_trial
        ]
        self._counts = [0] * len(self._limits)
        self._count = 0

    @property
    def has_history(self) -> bool:
        """Whether a limit looks at earlier values."""
        return bool(self._histories)

    def settle(self, context: Context, past: Callable[[Limit], Sequence[float]]) -> list[Limit]:
        """Return what limits that look at earlier values demand of the value of a job.

        `past` gives the values before it, as `Limit.settled` takes them.
        """
        found = (
            limit.settled(past(limit)) for limit in self._histories if applies(limit.terms, context)
        )
        return [limit for limit in found if limit is not None]

    def judge(
        self, value: float, context: Context, settled: Sequence[Limit] = ()
    ) -> tuple[bool, list[Limit]]:
        """Return whether any limit applies to a job, and the limits that its value breaks.

        Limits on trial only apply. `settled` are those of `settle`.
        """
        self._count += 1
        heard = [limit for limit in settled if not limit.is_trial]
        is_limited = bool(heard)
        broken = [limit for limit in heard if not limit.holds(value)]
        for index, limit in enumerate(self._limits):
            if applies(limit.terms, context):
                self._counts[index] += 1
                if limit.is_trial:
                    continue
                is_limited = True
                if not limit.holds(value):
                    broken.append(limit)
        return is_limited, broken

    def badness(self, value: float) -> int:
        """Return the severity (0 to 3) of a value, as if all limits applied."""
        return next((severity for holds, severity in self._tests if not holds(value)), 0)

    def applied(self) -> list[tuple[Limit, bool]]:
        """Return the limits that applied to any value so far, and whether they applied to all."""
        return [
            (item, count == self._count)
            for item, count in zip(self._limits, self._counts, strict=True)
            if count
        ]
