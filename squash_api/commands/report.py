"""`squash report`: how a run, a period or a release stands, as a file to mail or to keep."""

import time
from pathlib import Path
from typing import Annotated, Any, Literal

import orjson
import typer
from pydantic import TypeAdapter, ValidationError

from squash_api.client.wire import checked
from squash_api.commands.results import Asked, Output, Url, asking, with_question, write
from squash_api.commands.terminal import fail, failing
from squash_api.judging.alerts import Level
from squash_api.reports.document import Report, fails
from squash_api.reports.texts import report_junit, report_markdown
from squash_api.settings import load_settings
from squash_api.site import Site
from squash_api.trends.question import read_report_question

Format = Literal["html", "json", "md", "xml"]

_Level = Annotated[
    Level,
    typer.Option(case_sensitive=False, help="Mildest violation that makes the exit code 1."),
]
_Strict = Annotated[
    bool, typer.Option("--strict", help="Exit code 1 too if something was not measured.")
]
_Format = Annotated[
    Format | None,
    typer.Option("--format", help="Without, what the name of the file ends in, or md."),
]


@with_question("report")
def report(
    *,
    asked: Asked,
    level: _Level = "WARNING",
    strict: _Strict = False,
    output: Output = None,
    format_: _Format = None,
    url: Url = None,
) -> None:
    """Report on a run, a period or a release: HTML, JSON, Markdown or JUnit XML.

    It is made from the record of SQUASH_DATABASE_URL, which the service may be using, or by a
    service. Without a run, a release or a time it is about the last seven days. Lists are given by
    repeating an option.

    Exit code: 0 no violation of the level or worse, 1 at least one, or nothing was judged, 2 the
    report cannot be made.
    """
    chosen = format_ or _format_of(output)
    made = _of_record(asked) if url is None else _of_service(url, asked)
    write([_rendered(made, chosen, level)], output, code=2)
    raise typer.Exit(_outcome(made, output, level=level, is_strict=strict))


def _outcome(made: Report, output: Path | None, *, level: str, is_strict: bool) -> int:
    if output is not None:
        typer.echo(f"{output}: {made.summary.headline}", err=True)
    return 1 if fails(made, level=level, is_strict=is_strict) else 0


def _format_of(output: Path | None) -> Format:
    if output is None:
        return "md"
    endings: dict[str, Format] = {
        ".html": "html",
        ".htm": "html",
        ".json": "json",
        ".md": "md",
        ".xml": "xml",
    }
    found = endings.get(output.suffix.lower())
    if found is None:
        fail(f"{output}: end the name in .html, .json, .md or .xml, or give --format.")
    return found


def _of_record(asked: Asked) -> Report:
    now_ns = time.time_ns()
    with failing():
        question = read_report_question(asked, now_ns=now_ns)
        with Site(load_settings(), is_made=False) as site:
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
        # The web framework comes with it.
        from squash_api.pages.report import report_file  # noqa: PLC0415

        return report_file(made).encode()
    if chosen == "json":
        return orjson.dumps(made, option=orjson.OPT_INDENT_2 | orjson.OPT_APPEND_NEWLINE)

    return report_markdown(made).encode() if chosen == "md" else report_junit(made, level=level)
