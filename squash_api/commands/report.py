"""`squash report`: how a run, a period or a release is doing, as a file to mail or keep."""

import time
from pathlib import Path
from typing import Annotated, Any, Literal

import orjson
import typer
from pydantic import TypeAdapter, ValidationError

from squash_api.client.wire import checked
from squash_api.commands.results import Asked, Output, Url, asking, with_question, write
from squash_api.commands.terminal import AllowMissing, fail, failing
from squash_api.judging.alerts import Level
from squash_api.reports.document import Report, fails
from squash_api.reports.texts import report_junit, report_markdown
from squash_api.settings import load_settings
from squash_api.site import Site
from squash_api.trends.question import read_report_question

Format = Literal["html", "json", "md", "xml"]
_ENDINGS: dict[str, Format] = {
    ".html": "html",
    ".htm": "html",
    ".json": "json",
    ".md": "md",
    ".xml": "xml",
}


@with_question("report")
def report(
    *,
    asked: Asked,
    level: Annotated[
        Level,
        typer.Option(
            case_sensitive=False, help="Exit with 1 if a limit of this level or worse is broken."
        ),
    ] = "WARNING",
    strict: Annotated[
        bool,
        typer.Option("--strict", help="Also exit with 1 if a metric with limits has no value."),
    ] = False,
    allow_missing: AllowMissing = False,
    output: Output = None,
    format_: Annotated[
        Format | None,
        typer.Option("--format", help="Default: from the file's extension, or md."),
    ] = None,
    url: Url = None,
) -> None:
    """Report on a run, a period or a release.

    The report is HTML, JSON, Markdown or JUnit XML. It is made from the record of
    SQUASH_DATABASE_URL, which the service may be using, or by a service. Without a run, a release
    or a time it covers the last seven days. Repeat an option to give a list.

    Exit code: 0 no limit of the level or worse is broken; 1 at least one is, or nothing was judged,
    or a result was not measured; 2 the report cannot be made.
    """
    if strict and allow_missing:
        fail("--strict does not go with --allow-missing")
    chosen = format_ or _format_of(output)
    made = _of_record(asked) if url is None else _of_service(url, asked)
    write([_rendered(made, chosen, level)], output, code=2)
    if output is not None:
        typer.echo(f"{output}: {made.summary.headline}", err=True)
    raise typer.Exit(1 if fails(made, level=level, is_strict=strict, may_miss=allow_missing) else 0)


def _format_of(output: Path | None) -> Format:
    if output is None:
        return "md"
    found = _ENDINGS.get(output.suffix.lower())
    if found is None:
        fail(f"{output}: end the name in .html, .json, .md or .xml, or give --format")
    return found


def _of_record(asked: Asked) -> Report:
    now_ns = time.time_ns()
    with failing():
        question = read_report_question(asked, now_ns=now_ns)
        with Site(load_settings()) as site:
            site.check_tags()
            return site.reports.report(question, now_ns=now_ns)


def _of_service(url: str, asked: Asked) -> Report:
    with asking(url, "report", code=2) as (wire, address):
        query: list[Any] = [*asked, ("format", "json")]
        answer = checked(wire.request("GET", address.copy_merge_params(query)))
    try:
        return TypeAdapter(Report).validate_python(answer)
    except ValidationError:
        fail(f"{url}: the answer is not a report: is this a SQuaSH service of this version?")


def _rendered(made: Report, chosen: Format, level: str) -> bytes:
    if chosen == "html":
        # It imports the web framework.
        from squash_api.pages.report import report_file  # noqa: PLC0415

        return report_file(made).encode()
    if chosen == "json":
        return orjson.dumps(made, option=orjson.OPT_INDENT_2 | orjson.OPT_APPEND_NEWLINE)
    return report_markdown(made).encode() if chosen == "md" else report_junit(made, level=level)
