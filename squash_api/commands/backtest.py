"""`squash specs backtest`: what a change of the specifications would have said of past jobs."""

import time
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Annotated

import typer

from squash_api.commands.terminal import (
    add_row,
    fail,
    failing,
    make_table,
    print_json,
    print_table,
    tracked,
)
from squash_api.metrics_packages.loading import MetricsPackage, load_metrics_packages
from squash_api.reports.backtest import (
    Backtest,
    SpecificationSet,
    jobs_to_judge,
    set_in_force,
    set_of_package,
)
from squash_api.reports.backtest import backtest as judge_by_both
from squash_api.reports.backtest_report import Section, sections, summary, to_json, to_markdown
from squash_api.schema.names import Schema
from squash_api.schema.text import tag_text
from squash_api.settings import load_settings
from squash_api.site import Site
from squash_api.trends.question import parse_moment

_RIGHT = {"runs flagged", "of runs", "value", "job", "now", "proposed", "values"}


def backtest(
    directories: Annotated[
        list[Path],
        typer.Argument(metavar="NEW_DIR", help="Directories of the proposed metrics packages."),
    ],
    *,
    since: Annotated[
        str, typer.Option(help="Jobs of the last weeks, days, hours (2w, 90d), or from a date on.")
    ] = "90d",
    old: Annotated[
        list[Path] | None,
        typer.Option(
            help="Directory to compare with; may be given again. Without, what is in force."
        ),
    ] = None,
    metric: Annotated[
        list[str] | None,
        typer.Option(help="Only this metric, or verification package; may be given again."),
    ] = None,
    dataset: Annotated[str | None, typer.Option(help="Only jobs of this dataset.")] = None,
    every: Annotated[
        bool, typer.Option("--all", help="List the specifications that say the same too.")
    ] = False,
    as_markdown: Annotated[
        bool, typer.Option("--markdown", help="Print Markdown, for a pull request.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Judge the record's jobs by other specifications, and show what differs.

    What is in force are the specifications that the record has from YAML, or those of SQUASH_SPECS
    if it has none. The record is only read; the service may go on running.

    Exit code: 0, 1 if NEW_DIR has problems, 2 if it cannot be done.
    """
    since_ns = _since_ns(since)
    if as_json and as_markdown:
        fail("--json and --markdown exclude each other")
    outcome = _run(directories, old or [], since_ns, metric or [], dataset)
    _print(outcome, since_ns, is_all=every, as_markdown=as_markdown, as_json=as_json)


def _run(
    directories: list[Path],
    old: list[Path],
    since_ns: int,
    metrics: list[str],
    dataset: str | None,
) -> Backtest:
    with failing(), Site(load_settings()) as site:
        package = _load_new(directories, site.schema)
        return judge_by_both(
            site.reader,
            tracked(jobs_to_judge(site.reader, since_ns=since_ns), what="judging"),
            old=_old_set(old, site, metrics),
            new=set_of_package(site.reader, package, metrics=metrics),
            dataset=None if dataset is None else tag_text(dataset),
        )


def _load_new(directories: list[Path], schema: Schema) -> MetricsPackage:
    package = load_metrics_packages(directories, schema=schema)
    if package.problems:
        for problem in package.problems:
            typer.echo(str(problem))
        fail(f"{len(package.problems)} problems: mend these first", code=1)
    return package


def _old_set(directories: list[Path], site: Site, metrics: list[str]) -> SpecificationSet:
    if not directories:
        in_force = set_in_force(site.reader, site.definitions.in_force, metrics=metrics)
        if in_force.specifications or not site.settings.specs:
            return in_force
    chosen = directories or list(site.settings.specs)
    # A mute that has ended is no problem of what was.
    package = load_metrics_packages(chosen, schema=site.schema, today=date.min)
    if package.problems:
        lines = "\n".join(str(problem) for problem in package.problems)
        fail(f"the specifications to compare with have problems:\n{lines}")
    return set_of_package(site.reader, package, metrics=metrics)


def _since_ns(text: str) -> int:
    since_ns = parse_moment(text, now_ns=time.time_ns())
    if since_ns is None:
        fail(f"'{text}' is neither a duration like 90d nor a date like 2026-11-01")
    return since_ns


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
        _print_section(section)


def _print_section(section: Section) -> None:
    typer.echo(f"\n{section.title}")
    if section.rows:
        table = make_table(
            *section.columns, right=[name for name in section.columns if name in _RIGHT]
        )
        for row in section.rows:
            add_row(table, *row)
        print_table(table)
    for note in section.notes:
        typer.echo(note)
