"""`squash prune`: delete old jobs, or only say what would go."""

import time
from collections.abc import Iterator
from typing import Annotated

import typer

from squash_api.commands.terminal import AsJson, advancing, failing, operator, print_json
from squash_api.errors import InvalidInputError
from squash_api.index.pruning import Age, Pruned
from squash_api.judging.wording import counted, date_text
from squash_api.logs import configure_logs
from squash_api.settings import load_settings
from squash_api.site import Site
from squash_api.standings.keeping import REASONS, Plan, Planner, Terms
from squash_api.standings.pruning import prune as prune_jobs
from squash_api.trends.question import EXAMPLES, parse_moment

_MOST_NAMED = 10


def prune(
    *,
    before: Annotated[
        str,
        typer.Option(help="Jobs before this time: a date in UTC, which stays, or an age (400d)."),
    ],
    keep_release: Annotated[
        list[str] | None,
        typer.Option(help="Keep jobs of this version tag, or pattern (v*); may be repeated."),
    ] = None,
    take_last: Annotated[
        bool, typer.Option("--take-last", help="Also take the last values of series.")
    ] = False,
    keep_points: Annotated[
        bool, typer.Option("--keep-points", help="Leave the points in InfluxDB.")
    ] = False,
    yes: Annotated[bool, typer.Option("--yes", help="Delete them; else only say it.")] = False,
    as_json: AsJson = False,
) -> None:
    """Delete old jobs; without --yes only say what would go.

    A job is old if its time is before the given one and it was received before it. Old jobs stay
    that something else needs; the command says how many, and why. It may be stopped, and run again.
    The service may be running.

    Exit code: 0 success, 1 it cannot be done now, 2 unusable input.
    """
    # Standard output is for the result.
    configure_logs()
    settings = load_settings()
    with failing(code=1, code_of_input=2):
        outlets = tuple(target.name for target in settings.outlets)
        releases = (*settings.keep_releases, *(keep_release or ()))
        terms = Terms(Age(_moment(before), outlets), releases, takes_last=take_last)
        with Site(settings, tags_of="record") as site:
            if yes:
                site.check_record()
            site.reader.catch_up(may_lag=False)
            planner = Planner(site.reader, site.states, terms)
            plan = planner.plan()
            done = _delete(site, planner, plan, keeps_points=keep_points) if yes else None
    if as_json:
        print_json(plan.to_json() | {"deleted": 0 if done is None else done.jobs})
        return
    for line in _lines(plan):
        typer.echo(line)
    typer.echo(_end(plan, done, keeps_points=keep_points))


def _moment(text: str) -> int:
    now_ns = time.time_ns()
    time_ns = parse_moment(text, now_ns=now_ns)
    if time_ns is None:
        raise InvalidInputError(f"--before: '{text}' is not a time: write one like {EXAMPLES}.")
    if time_ns > now_ns:
        raise InvalidInputError(f"--before: '{text}' is in the future: that would take every job.")
    return time_ns


def _delete(site: Site, planner: Planner, plan: Plan, *, keeps_points: bool) -> Pruned:
    by = operator("prune")
    steps = prune_jobs(site.record, site.reader, planner, plan, by=by, keeps_points=keeps_points)
    done = Pruned()
    for step in advancing(steps, what="deleting old jobs"):
        done = step
    return done


def _lines(plan: Plan) -> Iterator[str]:
    before = date_text(plan.terms.age.before_ns)
    if plan.jobs:
        days = f"{counted(plan.days, 'day')}, {date_text(plan.first_ns or 0)[:10]} to "
        days += date_text(plan.last_ns or 0)[:10]
        yield f"before {before}: {counted(plan.jobs, 'job')} of {days}, {plan.size / 1e6:.1f} MB"
    else:
        yield f"before {before}: no job that can go"
    for reason, words in REASONS.items():
        if plan.kept[reason]:
            yield f"  {counted(plan.kept[reason], 'older job')} kept: {words}"
    if plan.ended:
        ended = (
            f"  {counted(sum(plan.ended.values()), 'series')} with the last value before it, of "
        )
        fate = "it goes too" if plan.terms.takes_last else "it is kept: --take-last takes it"
        yield f"{ended}{_listed(sorted(plan.ended))}; {fate}"
    if plan.silent:
        yield f"  not measured since: {_listed(plan.silent)}"
    if plan.releases:
        named = [f"{name} ({count})" for name, count in sorted(plan.releases.items())]
        yield f"  releases that lose jobs: {_listed(named)}; --keep-release keeps those of one"


def _end(plan: Plan, done: Pruned | None, *, keeps_points: bool) -> str:
    if done is None:
        return "nothing was deleted: --yes does it" if plan.jobs else "nothing to delete"
    text = f"deleted: {counted(done.jobs, 'job')}, {done.size / 1e6:.1f} MB"
    if keeps_points:
        return f"{text}; their points stay in InfluxDB"
    return f"{text}; the service now deletes their points from InfluxDB"


def _listed(names: list[str]) -> str:
    others = len(names) - _MOST_NAMED
    more = f" and {others} more" if others > 0 else ""
    return ", ".join(names[:_MOST_NAMED]) + more
