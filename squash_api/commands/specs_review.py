"""`squash specs review`: specifications that say too much, or nothing, by what they have done."""

import time
from typing import Annotated

import typer

from squash_api.commands.terminal import AsJson, fail, failing, print_json, print_table
from squash_api.judging.wording import counted
from squash_api.reports.reviewing import by_finding, review
from squash_api.schema.names import split_metric_name
from squash_api.settings import load_settings
from squash_api.site import Site
from squash_api.trends.question import EXAMPLES, parse_moment


def specs_review(
    *,
    since: Annotated[
        str, typer.Option(help="By jobs since this date, or of the last 90d, 2w and so on.")
    ] = "90d",
    package: Annotated[
        str | None, typer.Option(help="Only those of this verification package.")
    ] = None,
    every: Annotated[
        bool, typer.Option("--all", help="Also list those of which there is nothing to say.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """List specifications that say too much, or nothing, by what they have done.

    Those that at least 90 % of 20 values or more broke; whose alerts people acknowledged, at least
    three and half of them, and that then ended without worsening; that apply to nothing; that are
    on trial; and that none of 100 values or more broke. The record is only read.

    Exit code: 0 there is nothing to do, 1 there is (never firing and being on trial are not), 2 it
    cannot be done.
    """
    now_ns = time.time_ns()
    since_ns = parse_moment(since, now_ns=now_ns)
    if since_ns is None:
        fail(f"'{since}' is not a time: write one like {EXAMPLES}")
    with failing(), Site(load_settings()) as site:
        found = review(site.reader, site.definitions.in_force, since_ns=since_ns, now_ns=now_ns)
    if package is not None:
        found = [item for item in found if split_metric_name(item.specification)[0] == package]
        if not found:
            fail(f"no specification in force is of a package {package}")
    told = by_finding(found)
    if as_json:
        shown = found if every else [item for some in told.values() for item in some]
        print_json([item.to_json() for item in shown])
    else:
        for name, some in told.items():
            typer.echo(f"{name}: {counted(len(some), 'specification')}")
            print_table(("specification", ""), [(item.specification, item.text) for item in some])
        left = [item for item in found if item.finding is None]
        typer.echo(f"nothing to say: {counted(len(left), 'specification')}")
        if every:
            print_table(("specification", ""), [(item.specification, item.text) for item in left])
    if told.keys() & {"fires always", "noise", "applies to nothing"}:
        raise typer.Exit(1)
