"""`squash specs backtest`: what changed specifications would have said about past jobs."""

import time
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Annotated

import typer

from squash_api.commands.specs import load_sound
from squash_api.commands.terminal import AsJson, fail, failing, print_json, print_table, tracked
from squash_api.metrics_packages.loading import MetricsPackage
from squash_api.reports.backtest import (
    Backtest,
    SpecificationSet,
    jobs_to_judge,
    set_in_force,
    set_of_package,
)
from squash_api.reports.backtest import backtest as judge_by_both
from squash_api.reports.backtest_report import sections, summary, to_json, to_markdown
from squash_api.schema.text import tag_text
from squash_api.settings import load_settings
from squash_api.site import Site
from squash_api.trends.question import EXAMPLES, parse_moment

_RIGHT = {
    *("runs flagged", "of runs", "value", "job", "now", "proposed", "values"),
    *("without them", "after, min_runs, trial", "told in groups"),
}


def backtest(
    directories: Annotated[
        list[Path],
        typer.Argument(metavar="NEW_DIR", help="Directories of the changed metrics packages."),
    ],
    *,
    since: Annotated[
        str, typer.Option(help="Judge jobs since this date, or of the last 90d, 2w and so on.")
    ] = "90d",
    old: Annotated[
        list[Path] | None,
        typer.Option(help="Directory to compare with; may be repeated. Default: what is in force."),
    ] = None,
    metric: Annotated[
        list[str] | None,
        typer.Option(help="Only this metric or verification package; may be repeated."),
    ] = None,
    dataset: Annotated[str | None, typer.Option(help="Only jobs of this dataset.")] = None,
    every: Annotated[
        bool, typer.Option("--all", help="Also list the specifications without a difference.")
    ] = False,
    as_markdown: Annotated[
        bool, typer.Option("--markdown", help="Print Markdown, for a pull request.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Judge past jobs by changed specifications.

    Shows where the verdicts differ from those by the specifications in force, which are the ones
    that the record has from YAML or, if it has none, those of SQUASH_SPECS. The record is only
    read; the service may keep running.

    Exit code: 0 success, 1 NEW_DIR has problems, 2 it cannot be done.
    """
    since_ns = parse_moment(since, now_ns=time.time_ns())
    if since_ns is None:
        fail(f"'{since}' is not a time: write one like {EXAMPLES}")
    if as_json and as_markdown:
        fail("--json and --markdown exclude each other")
    with failing(), Site(load_settings()) as site:
        package = load_sound(directories, schema=site.schema)
        outcome = _judge(package, old or [], metric or [], dataset, site=site, since_ns=since_ns)
    _print(outcome, since_ns, is_all=every, as_markdown=as_markdown, as_json=as_json)


def _judge(
    package: MetricsPackage,
    old: list[Path],
    metrics: list[str],
    dataset: str | None,
    *,
    site: Site,
    since_ns: int,
) -> Backtest:
    return judge_by_both(
        site.reader,
        tracked(jobs_to_judge(site.reader, since_ns=since_ns), what="judging"),
        old=_old_set(old, site, metrics),
        new=set_of_package(site.reader, package, metrics=metrics),
        dataset=None if dataset is None else tag_text(dataset),
    )


def _old_set(directories: list[Path], site: Site, metrics: list[str]) -> SpecificationSet:
    if not directories:
        in_force = set_in_force(site.reader, site.definitions.in_force, metrics=metrics)
        if in_force.specifications or not site.settings.specs:
            return in_force
    chosen = directories or list(site.settings.specs)
    # An expired mute is not a problem in the old specifications.
    refusal = "the specifications to compare with have problems:"
    package = load_sound(chosen, schema=site.schema, today=date.min, refusal=refusal)
    return set_of_package(site.reader, package, metrics=metrics)


def _print(
    outcome: Backtest, since_ns: int, *, is_all: bool, as_markdown: bool, as_json: bool
) -> None:
    if as_json:
        print_json(to_json(outcome))
        return
    title = summary(outcome, f"{datetime.fromtimestamp(since_ns // 10**9, UTC):%Y-%m-%d}")
    found = sections(outcome, is_all=is_all)
    if as_markdown:
        typer.echo(to_markdown(title, found), nl=False)
        return
    typer.echo(title)
    for section in found:
        typer.echo(f"\n{section.title}")
        if section.rows:
            print_table(section.columns, section.rows, right=_RIGHT)
        for note in section.notes:
            typer.echo(note)
