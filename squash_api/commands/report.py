"""`squash report`: how a run, a period or a release stands, as a file to mail or to keep."""

import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from squash_api.commands.terminal import fail, writing
from squash_api.errors import InvalidInputError, SquashError
from squash_api.settings import load_settings

if TYPE_CHECKING:
    from squash_api.reports.document import Report

Format = Literal["html", "json", "md", "xml"]

_TIMEOUT_S = 900.0
_RETRIES = 5

_Texts = list[str] | None
_Run = Annotated[_Texts, typer.Option(help="Only jobs of this run.")]
_Pipeline = Annotated[_Texts, typer.Option(help="Only jobs of this pipeline.")]
_VersionTag = Annotated[_Texts, typer.Option(help="Only jobs of this release.")]
_Since = Annotated[
    str | None, typer.Option(help="Only this time or later: a date, or how long ago (24h).")
]
_Until = Annotated[str | None, typer.Option(help="Only this time or earlier, likewise.")]
_Package = Annotated[_Texts, typer.Option(help="Only metrics of this package.")]
_Metric = Annotated[_Texts, typer.Option(help="Only this metric.")]
_Dataset = Annotated[_Texts, typer.Option(help="Only jobs of this dataset.")]
_Filter = Annotated[_Texts, typer.Option("--filter", help="Only jobs of this filter.")]
_Instrument = Annotated[_Texts, typer.Option(help="Only jobs of this instrument.")]
_Tag = Annotated[
    _Texts, typer.Option(help="Only metrics and specifications with this tag; of several, all.")
]
_CompareRun = Annotated[_Texts, typer.Option(help="Compare with this run.")]
_CompareVersionTag = Annotated[_Texts, typer.Option(help="Compare with this release.")]
_CompareSince = Annotated[str | None, typer.Option(help="Compare with this time or later.")]
_CompareUntil = Annotated[str | None, typer.Option(help="Compare with this time or earlier.")]
_Level = Annotated[
    Literal["INFO", "WARNING", "CRITICAL"],
    typer.Option(case_sensitive=False, help="Mildest violation that makes the exit code 1."),
]
_Strict = Annotated[
    bool, typer.Option("--strict", help="Exit code 1 too if something was not measured.")
]
_Output = Annotated[
    Path | None, typer.Option(help="File to write, whole or not at all; without, standard output.")
]
_Format = Annotated[
    Format | None,
    typer.Option("--format", help="Without, what the name of the file ends in, or md."),
]
_Url = Annotated[str | None, typer.Option(help="Root of a service to ask, not the record.")]


def report(
    *,
    run: _Run = None,
    pipeline: _Pipeline = None,
    version_tag: _VersionTag = None,
    since: _Since = None,
    until: _Until = None,
    package: _Package = None,
    metric: _Metric = None,
    dataset: _Dataset = None,
    filter_: _Filter = None,
    instrument: _Instrument = None,
    tag: _Tag = None,
    compare_run: _CompareRun = None,
    compare_version_tag: _CompareVersionTag = None,
    compare_since: _CompareSince = None,
    compare_until: _CompareUntil = None,
    level: _Level = "WARNING",
    strict: _Strict = False,
    output: _Output = None,
    format_: _Format = None,
    url: _Url = None,
) -> None:
    """Report on a run, a period or a release: HTML, JSON, Markdown or JUnit XML.

    It is made from the record of SQUASH_DATABASE_URL, which the service may be using, or by a
    service. Without a run, a release or a time it is about the last seven days. Lists are given by
    repeating an option.

    Exit code: 0 no violation of the level or worse, 1 at least one, or nothing was judged, 2 the
    report cannot be made.
    """
    lists = {"run": run, "pipeline": pipeline, "version_tag": version_tag, "package": package}
    lists |= {"metric": metric, "dataset": dataset, "filter": filter_, "instrument": instrument}
    lists |= {"tag": tag, "compare_run": compare_run, "compare_version_tag": compare_version_tag}
    times = {"since": since, "until": until}
    times |= {"compare_since": compare_since, "compare_until": compare_until}
    asked = [(name, text) for name, texts in lists.items() for text in texts or ()]
    asked += [(name, text) for name, text in times.items() if text is not None]
    chosen = format_ or _format_of(output)
    made = _of_record(asked) if url is None else _of_service(url, asked)
    _write(_rendered(made, chosen, level), output)
    raise typer.Exit(_outcome(made, output, level=level, is_strict=strict))


def _outcome(made: "Report", output: Path | None, *, level: str, is_strict: bool) -> int:
    from squash_api.reports.document import fails  # noqa: PLC0415

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


def _of_record(parameters: Sequence[tuple[str, str]]) -> "Report":
    # Heavy, and `squash --help` needs none of it.
    from squash_api.definitions.in_force import DefinitionsInForce  # noqa: PLC0415
    from squash_api.index.reader import Reader  # noqa: PLC0415
    from squash_api.index.tags_in_force import check_tags  # noqa: PLC0415
    from squash_api.record.record import Record  # noqa: PLC0415
    from squash_api.reports.report import PeriodReports  # noqa: PLC0415
    from squash_api.reports.scope import read_request  # noqa: PLC0415
    from squash_api.schema.names import Schema  # noqa: PLC0415

    now_ns = time.time_ns()
    try:
        request = read_request(parameters, now_ns=now_ns)
        settings = load_settings()
        schema = Schema(settings.tags)
        record = Record.open(settings.database_url, is_made=False)
        try:
            check_tags(record, schema)
            reader = Reader.of_record(record, schema)
            definitions = DefinitionsInForce(record, schema)
            reports = PeriodReports(reader, definitions, url=settings.url)
            return reports.report(request, now_ns=now_ns)
        finally:
            record.close()
    except InvalidInputError as error:
        fail("\n  ".join([error.message, *(item.msg for item in error.detail[1:])]))
    except SquashError as error:
        fail(error.message)


def _of_service(url: str, parameters: Sequence[tuple[str, str]]) -> "Report":
    import httpx  # noqa: PLC0415
    from pydantic import TypeAdapter, ValidationError  # noqa: PLC0415

    from squash_api.client.wire import SquashClientError, Wire, checked  # noqa: PLC0415
    from squash_api.reports.document import Report  # noqa: PLC0415

    wire = Wire(timeout=_TIMEOUT_S, retries=_RETRIES)
    try:
        address = httpx.URL(f"{url.rstrip('/')}/report")
        query: list[Any] = [*parameters, ("format", "json")]
        answer = checked(wire.request("GET", address.copy_merge_params(query)))
        return TypeAdapter(Report).validate_python(answer)
    except SquashClientError as error:
        fail(str(error))
    except ValidationError:
        fail(f"{url}: the answer is not a report: is this a SQuaSH service of this version?")
    except httpx.InvalidURL as error:
        fail(f"--url {url}: {error}")
    finally:
        wire.close()


def _rendered(made: "Report", chosen: Format, level: str) -> bytes:
    if chosen == "html":
        from squash_api.pages.report import report_file  # noqa: PLC0415

        return report_file(made).encode()
    if chosen == "json":
        import orjson  # noqa: PLC0415

        return orjson.dumps(made, option=orjson.OPT_INDENT_2 | orjson.OPT_APPEND_NEWLINE)
    from squash_api.reports.texts import report_junit, report_markdown  # noqa: PLC0415

    return report_markdown(made).encode() if chosen == "md" else report_junit(made, level=level)


def _write(content: bytes, output: Path | None) -> None:
    try:
        with writing(output) as file:
            file.write(content)
    except BrokenPipeError:
        # Whoever reads has seen enough.
        raise
    except OSError as error:
        fail(f"{output or 'standard output'}: {error.strerror or error}")
