"""Reviews the specifications in force by what they have done: which say too much, or nothing."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal, get_args

from squash_api.definitions.in_force import DefinitionsInForce, Snapshot
from squash_api.errors import RecordUnavailableError
from squash_api.index.reader import Reader
from squash_api.judging.specifications import Specification
from squash_api.judging.wording import counted, percent_text
from squash_api.record.alerts import PastAlert, past_alerts
from squash_api.record.definitions import on_trial_since
from squash_api.reports.report import read_results
from squash_api.reports.results import Limits, Result
from squash_api.trends.question import Question

Finding = Literal["fires always", "noise", "applies to nothing", "on trial", "never fires"]
"""What there is to say of a specification, what matters most first."""

FINDINGS: tuple[Finding, ...] = get_args(Finding)

OFTEN = 0.9
"""A limit that this part of its values breaks fires always."""

FEWEST = 20
"""Of fewer values nothing is said but that there are none."""

MANY = 100
"""A limit that none of so many values has broken never fires."""

MOST_NOISE = 3
"""So many alerts that were acknowledged, and ended without worsening, are noise."""

_TRIES = 5
_DAY_NS = 86_400 * 10**9


@dataclass(frozen=True, slots=True)
class Reviewed:
    """What a specification has done: the values it judged, those that broke it, and its alerts.

    `margin` is the smallest one of the last values of all series. Of the `alerts`, `acknowledged`
    were, and `noise` of these ended without worsening. `text` says it in words; without a `finding`
    there is nothing to do.
    """

    specification: str
    finding: Finding | None
    text: str
    judged: int
    broken: int
    margin: float | None
    alerts: int
    acknowledged: int
    noise: int
    trial_days: int | None

    def to_json(self) -> dict[str, Any]:
        """Describe it for programs."""
        return asdict(self)


@dataclass(slots=True)
class _Counts:
    judged: int = 0
    broken: int = 0
    margin: float | None = None
    alerts: int = 0
    acknowledged: int = 0
    noise: int = 0


def review(
    reader: Reader, definitions: DefinitionsInForce, *, since_ns: int, now_ns: int
) -> list[Reviewed]:
    """Review every specification in force by the jobs and alerts since a time, sorted by name."""
    reader.catch_up()
    snapshot = definitions.at(None)
    contents = {name: item.content for name, item in snapshot.specifications.items()}
    results, limits = _read(reader, snapshot, since_ns)
    on_trial = [name for name, item in contents.items() if item.is_trial]
    with reader.view() as view:
        alerts = view.ask(past_alerts, since_ns=since_ns)
        trials = view.ask(on_trial_since, on_trial)
    counts = _counted(results, alerts)
    measured = {item.metric for item in results}
    return [
        _reviewed(
            item,
            counts.get(name, _Counts()),
            problem=limits.unusable.get(name),
            is_measured=item.metric in measured,
            is_used=name in limits.used,
            trial_days=(now_ns - trials.get(name, now_ns)) // _DAY_NS if item.is_trial else None,
        )
        for name, item in sorted(contents.items())
    ]


def _read(reader: Reader, snapshot: Snapshot, since_ns: int) -> tuple[list[Result], Limits]:
    for _ in range(_TRIES):
        limits = Limits(snapshot.by_metric, reader.metrics.schema)
        question = Question(since_ns=since_ns)
        found = read_results(reader, names=snapshot.by_metric, limits=limits, question=question)
        if found is not None:
            return found.results(), limits
    raise RecordUnavailableError("Units of metrics are being changed. Try again.")


def _counted(results: Iterable[Result], alerts: Iterable[PastAlert]) -> dict[str, _Counts]:
    counts: dict[str, _Counts] = {}
    for result in results:
        for name, judged in result.judged.items():
            found = counts.setdefault(name, _Counts())
            found.judged += judged
            found.broken += result.beaten[name]
        for verdict in result.verdicts:
            found = counts.setdefault(verdict.name, _Counts())
            margins = [item for item in (found.margin, verdict.margin) if item is not None]
            found.margin = min(margins, default=None)
    for alert in alerts:
        for name in alert.specifications:
            found = counts.setdefault(name, _Counts())
            found.alerts += 1
            found.acknowledged += alert.is_acknowledged
            found.noise += alert.is_acknowledged and alert.is_resolved and not alert.has_worsened
    return counts


def _reviewed(
    item: Specification,
    counts: _Counts,
    *,
    problem: str | None,
    is_measured: bool,
    is_used: bool,
    trial_days: int | None,
) -> Reviewed:
    finding, text = next(
        _findings(
            item,
            counts,
            problem,
            is_measured=is_measured,
            is_used=is_used,
            trial_days=trial_days,
        ),
        (None, _usual_text(counts)),
    )
    return Reviewed(
        specification=item.name,
        finding=finding,
        text=text,
        **asdict(counts),
        trial_days=trial_days,
    )


def _findings(
    item: Specification,
    counts: _Counts,
    problem: str | None,
    *,
    is_measured: bool,
    is_used: bool,
    trial_days: int | None,
) -> Iterator[tuple[Finding, str]]:
    """Yield what there is to say of a specification, the most important first."""
    judged, broken = counts.judged, counts.broken
    values = counted(judged, "value")
    alerts = counted(counts.alerts, "alert")
    if judged >= FEWEST and broken >= OFTEN * judged:
        advice = "mend what it is about, or move the limit (squash specs propose)"
        yield "fires always", f"{broken} of {values} broke it, so it says nothing new: {advice}"
    if counts.noise >= MOST_NOISE and 2 * counts.noise >= counts.alerts:
        noise = f"{counts.noise} of its {alerts} were acknowledged and ended without worsening"
        yield "noise", f"{noise}: let it wait for a second run (alert.after), or widen it"
    if not is_used and not counts.alerts:
        without = (
            f"{item.metric} has no value" if not is_measured else "no value is one of its jobs'"
        )
        yield "applies to nothing", f"{problem or without}: delete it, or mend its terms"
    if trial_days is not None:
        days = counted(trial_days, "day")
        told = f"{broken} of {values} broke it, and {alerts} would have been told"
        yield "on trial", f"on trial for {days}: {told}; delete alert.trial when it is right"
    if judged >= MANY and not broken:
        near = f"; the smallest margin of a last value is {percent_text(counts.margin)}"
        rest = near if counts.margin is not None else ""
        yield "never fires", f"none of {values} broke it{rest}"


def _usual_text(counts: _Counts) -> str:
    values = counted(counts.judged, "value")
    alerts = f", {counted(counts.alerts, 'alert')}" if counts.alerts else ""
    return f"{counts.broken} of {values} broke it{alerts}"


def by_finding(reviewed: Sequence[Reviewed]) -> Mapping[Finding, list[Reviewed]]:
    """Sort what there is something to say of by what it is, the most important first."""
    found = {name: [item for item in reviewed if item.finding == name] for name in FINDINGS}
    return {name: some for name, some in found.items() if some}
