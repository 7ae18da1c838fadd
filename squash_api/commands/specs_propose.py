"""`squash specs propose`: limits for a metric, from the values that the record has of it."""

import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from typing import Annotated, Any

import typer

from squash_api.alerts.freshness import combination_of
from squash_api.commands.terminal import AsJson, fail, failing, print_json, tracked
from squash_api.judging.alerts import LEVELS
from squash_api.judging.kinds.registry import THRESHOLD
from squash_api.judging.specifications import Specification, parse_specification
from squash_api.judging.wording import counted, number_text
from squash_api.metrics_packages.export import specification_text
from squash_api.reports.backtest import (
    Backtest,
    backtest,
    jobs_to_judge,
    set_in_force,
    set_of,
)
from squash_api.reports.proposing import (
    SPREADS,
    Part,
    PastValue,
    Side,
    propose,
    rare_text,
)
from squash_api.reports.texts import minute_text, moment_text
from squash_api.schema.names import LINE_TAGS, split_metric_name
from squash_api.schema.text import clean_text, tag_text
from squash_api.settings import load_settings
from squash_api.site import Site
from squash_api.trends.question import EXAMPLES, Question, parse_moment
from squash_api.trends.series import Series, values_of
from squash_api.verify.metrics import Metric

_SIDES: Mapping[str, Side | None] = {
    "auto": None,
    "upper": "upper",
    "lower": "lower",
    "both": "both",
}
_MOST_CAUGHT = 10
# A limit that fires more often than in this part of the runs says little about any of them.
_OFTEN = 0.05
# What other specifications call a tag.
_KEYS = {"filter": "filter_name"}


@dataclass(frozen=True, slots=True)
class _Proposed:
    """A part of the values, and the specification that is proposed for it, if any."""

    part: Part
    specification: Specification | None


def specs_propose(
    metric: Annotated[str, typer.Argument(help="Full name, package.metric.")],
    *,
    since: Annotated[
        str, typer.Option(help="Learn from jobs since this date, or of the last 90d, 2w and so on.")
    ] = "180d",
    dataset: Annotated[str | None, typer.Option(help="Only jobs of this dataset.")] = None,
    side: Annotated[
        str,
        typer.Option(
            help="Where limits are wanted: upper, lower or both; auto is the side of the limits "
            "that there are, or both."
        ),
    ] = "auto",
    spreads: Annotated[
        float,
        typer.Option(help="How many robust standard deviations a limit is from the median."),
    ] = SPREADS,
    level: Annotated[str, typer.Option(help="info, warning or critical.")] = "warning",
    trial: Annotated[
        bool,
        typer.Option("--trial", help="Add alert.trial: judged and shown, and nobody is told."),
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Propose limits for a metric, from the values that the record has of it.

    Prints a document of a metrics package, with how often each limit would have fired and what it
    would have caught, by the machinery of squash specs backtest. A limit is 5 robust standard
    deviations (1.4826 times the median distance from the median) from the median, and further by
    their error where values are few. Datasets and filters whose values differ get limits of their
    own. The record is only read.

    Exit code: 0 a limit is proposed, 1 the values are too few or tell nothing, 2 it cannot be done.
    """
    now_ns = time.time_ns()
    since_ns = parse_moment(since, now_ns=now_ns)
    if since_ns is None:
        fail(f"'{since}' is not a time: write one like {EXAMPLES}")
    if side not in _SIDES:
        fail(f"'{side}' is not a side: write one of {', '.join(_SIDES)}")
    if level.upper() not in LEVELS:
        fail(f"'{level}' is not a level: write info, warning or critical")
    if not 1.0 <= spreads <= 1e6:
        fail(f"--spreads {spreads:g} makes no limit: give at least 1")
    with failing(), Site(load_settings()) as site:
        declared = _declared(site, metric)
        chosen = _SIDES[side] or _side(site, metric)
        question = Question(
            metrics=(metric,),
            since_ns=since_ns,
            tags={} if dataset is None else {"dataset": (tag_text(dataset) or "",)},
        )
        values = _read(site, question)
        parts = propose(values, side=chosen, spreads=spreads)
        proposed = _with_specifications(site, parts, declared, level=level.lower())
        outcome = _judge(site, proposed, declared, since_ns=since_ns, dataset=dataset)
    if as_json:
        print_json(_to_json(metric, declared.unit, proposed, outcome, is_trial=trial))
    else:
        asked = f"squash specs propose {metric} --since {since}"
        for line in _heading(asked, values, declared, spreads):
            typer.echo(f"# {clean_text(line)}".rstrip())
        for item in proposed:
            _print(item, outcome, is_trial=trial)
    if all(item.specification is None for item in proposed):
        raise typer.Exit(1)


def _declared(site: Site, metric: str) -> Metric:
    """Return the definition of a metric; of one that is only measured, one with its unit."""
    unit = site.trends.unit(metric)
    found = site.definitions.in_force.at(None).declared.get(metric)
    if found is not None:
        return found
    package, name = split_metric_name(metric)
    return Metric(metric, package, "", unit or "", (), {}, name)


def _side(site: Site, metric: str) -> Side:
    """Return the side of all limits that there are on a metric; both if they disagree."""
    there = {
        bound.is_upper for limit in site.trends.limits(metric) for bound in limit.criterion.bounds
    }
    if len(there) != 1:
        return "both"
    return "upper" if there.pop() else "lower"


def _read(site: Site, question: Question) -> list[PastValue]:
    """Read the values that are asked for, by time."""
    jobs = Series(site.reader, question).jobs()
    return [
        PastValue(
            item.time_ns,
            item.value,
            item.run_id or f"job {item.job_id}",
            combination_of(item.tags, LINE_TAGS),
        )
        for item in values_of(jobs)
        if item.value is not None
    ]


def _with_specifications(
    site: Site, parts: Sequence[Part], declared: Metric, *, level: str
) -> list[_Proposed]:
    taken = set(site.definitions.in_force.at(None).specifications)
    found = []
    for part in parts:
        criterion = _criterion(part, declared.unit)
        if criterion is None:
            found.append(_Proposed(part, None))
            continue
        words = "_".join(filter(None, ["history", part.suffix]))
        document = {
            **criterion,
            "metadata_query": {_KEYS.get(tag, tag): text for tag, text in part.place},
            "alert": {"level": level},
        }
        specification, faults = parse_specification(
            document, name=_free(f"{declared.name}.{words}", taken), schema=site.schema
        )
        if specification is None or faults:
            fail(f"no limit for {part.name}: {faults[0].message}")
        found.append(_Proposed(part, specification))
    return found


def _criterion(part: Part, unit: str) -> dict[str, Any] | None:
    """Return the keys of the limit of a part; None if it has none."""
    if part.low is not None and part.high is not None:
        return {"range": {"low": part.low, "high": part.high, "unit": unit}}
    for operator, number in (("<=", part.high), (">=", part.low)):
        if number is not None:
            return {"threshold": {"value": number, "unit": unit, "operator": operator}}
    return None


def _free(name: str, taken: set[str]) -> str:
    """Return a name that no specification has, and take it."""
    numbered = (name if number == 1 else f"{name}_{number}" for number in range(1, len(taken) + 2))
    free = next(text for text in numbered if text not in taken)
    taken.add(free)
    return free


def _judge(
    site: Site,
    proposed: Sequence[_Proposed],
    declared: Metric,
    *,
    since_ns: int,
    dataset: str | None,
) -> Backtest:
    """Judge the jobs by what is in force for the metric, and by what is proposed."""
    specifications = {
        item.name: item for each in proposed if (item := each.specification) is not None
    }
    batches = jobs_to_judge(site.reader, since_ns=since_ns) if specifications else []
    return backtest(
        site.reader,
        tracked(batches, what="judging"),
        old=set_in_force(site.reader, site.definitions.in_force, metrics=[declared.name]),
        new=set_of(site.reader, specifications, {declared.name: declared}),
        dataset=None if dataset is None else tag_text(dataset),
    )


def _heading(
    asked: str, values: Sequence[PastValue], declared: Metric, spreads: float
) -> Iterator[str]:
    yield f"{asked}, {datetime.now(UTC):%Y-%m-%d}"
    if not values:
        yield "There are no values."
        return
    runs = len({item.run for item in values})
    first, last = (minute_text(moment_text(values[end].time_ns))[:10] for end in (0, -1))
    unit = f", in {declared.unit}" if declared.unit else ""
    yield f"{counted(len(values), 'value')} of {counted(runs, 'run')}, {first} to {last}{unit}."
    yield (f"A limit is {spreads:g} robust standard deviations, and their error, from the median.")
    if not declared.description:
        yield f"A metrics package must declare {declared.name} before it can have limits."


def _print(item: _Proposed, outcome: Backtest, *, is_trial: bool) -> None:
    """Print the specifications of a part, with what is known of them as comments."""
    part = item.part
    counts = f"{part.name}: {counted(part.values, 'value')} of {counted(part.runs, 'run')}"
    lines = [counts if part.spread is None else f"{counts}; {_spread_text(part)}"]
    lines += part.notes
    if item.specification is None:
        typer.echo("\n" + "\n".join(f"# {clean_text(line)}" for line in lines))
        return
    if item.specification.criterion.TYPE != THRESHOLD.TYPE:
        lines.append("Its place is in rules/ of a metrics package: lsst.verify reads no ranges.")
    typer.echo("---")
    for line in [*lines, *_fired(item.specification, outcome)]:
        typer.echo(f"# {clean_text(line)}")
    written = _written(item.specification, is_trial=is_trial)
    typer.echo(written.removeprefix("---\n"), nl=False)


def _spread_text(part: Part) -> str:
    spread = part.spread
    assert spread is not None  # noqa: S101 - the caller has looked
    return (
        f"median {number_text(spread.centre)}, robust standard deviation "
        f"{spread.below:.3g} below it and {spread.above:.3g} above"
    )


def _written(specification: Specification, *, is_trial: bool) -> str:
    alert = specification.alert
    if is_trial and alert is not None:
        specification = replace(specification, alert=replace(alert, trial=True))
    return specification_text(specification)


def _fired(specification: Specification, outcome: Backtest) -> Iterator[str]:
    """Say how often a limit would have fired, and what it would have caught."""
    name, new = specification.name, outcome.new
    tally = new.tally(name)
    fired, runs = tally.flagged.count, tally.judged.count
    if not fired:
        yield f"It would not have fired in {counted(runs, 'run')}; {rare_text(runs)}."
        return
    raised = counted(sum(name in change.broken for change in new.changes), "alert")
    yield f"It would have fired in {fired} of {counted(runs, 'run')}, with {raised}:"
    told = {change.job_id: change.broken for change in outcome.old.changes if change.broken}
    caught = [*outcome.differences.get(name, ())]
    for item in caught[-_MOST_CAUGHT:]:
        where = " ".join(filter(None, (item.dataset, item.filter)))
        already = ", ".join(other.rpartition(".")[2] for other in told.get(item.job_id, ()))
        yield (
            f"  job {item.job_id}{f', run {item.run_id}' if item.run_id else ''}"
            f"{f', {where}' if where else ''}: {number_text(item.value)}"
            f"{f' ({already} told it)' if already else ''}"
        )
    more = outcome.differing[name] - min(len(caught), _MOST_CAUGHT)
    if more:
        yield f"  and {more} before these"
    if fired > _OFTEN * runs:
        yield (
            "That is often: if these are not faults, the values have a long tail; look at them, "
            "and give a larger --spreads."
        )


def _to_json(
    metric: str,
    unit: str,
    proposed: Sequence[_Proposed],
    outcome: Backtest,
    *,
    is_trial: bool,
) -> dict[str, Any]:
    return {
        "metric": metric,
        "unit": unit,
        "jobs": outcome.jobs,
        "runs": outcome.runs,
        "parts": [
            {
                "tags": dict(item.part.place),
                "values": item.part.values,
                "runs": item.part.runs,
                "spread": None if item.part.spread is None else asdict(item.part.spread),
                "notes": list(item.part.notes),
                "specification": None
                if item.specification is None
                else _specification_json(item.specification, outcome, is_trial=is_trial),
            }
            for item in proposed
        ],
    }


def _specification_json(
    specification: Specification, outcome: Backtest, *, is_trial: bool
) -> dict[str, Any]:
    name = specification.name
    tally = outcome.new.tally(name)
    return {
        "yaml": _written(specification, is_trial=is_trial),
        "name": name,
        "runs_fired": tally.flagged.count,
        "runs_judged": tally.judged.count,
        "alerts": sum(name in change.broken for change in outcome.new.changes),
        "caught": [asdict(item) for item in outcome.differences.get(name, ())],
    }
