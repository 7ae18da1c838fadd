"""`squash export`: measurements as CSV, Parquet or JSON, from the record or from a service."""

import sys
import time
from collections.abc import Generator, Iterable, Iterator, Sequence
from contextlib import closing
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from squash_api.commands.terminal import advancing, fail, writing
from squash_api.errors import InvalidInputError, SquashError
from squash_api.settings import load_settings

if TYPE_CHECKING:
    from squash_api.client.wire import Wire
    from squash_api.trends.question import Format

_PAGE = 1000
_TIMEOUT_S = 900.0
_RETRIES = 5

_Texts = list[str] | None
_Metric = Annotated[_Texts, typer.Option(help="Only this metric.")]
_Package = Annotated[_Texts, typer.Option(help="Only metrics of this package.")]
_Dataset = Annotated[_Texts, typer.Option(help="Only jobs of this dataset.")]
_Filter = Annotated[_Texts, typer.Option("--filter", help="Only jobs of this filter.")]
_Instrument = Annotated[_Texts, typer.Option(help="Only jobs of this instrument.")]
_Tag = Annotated[_Texts, typer.Option(metavar="NAME=VALUE", help="Only jobs with this tag.")]
_Meta = Annotated[
    _Texts,
    typer.Option(metavar="KEY=VALUE", help="Only jobs with this metadata; 1..1.5 is a range."),
]
_Run = Annotated[_Texts, typer.Option(help="Only jobs of this run.")]
_VersionTag = Annotated[_Texts, typer.Option(help="Only jobs of this release.")]
_Job = Annotated[_Texts, typer.Option(help="Only this job, by its id.")]
_Since = Annotated[
    str | None, typer.Option(help="Only this time or later: a date, or how long ago (90d).")
]
_Until = Annotated[str | None, typer.Option(help="Only this time or earlier, likewise.")]
_Unit = Annotated[str | None, typer.Option(help="Convert the values to this unit.")]
_Fields = Annotated[
    _Texts, typer.Option(help="Metadata to give, by commas: meta.airmass; * for all.")
]
_Absent = Annotated[bool, typer.Option("--absent", help="Give absent values too.")]
_Points = Annotated[
    int | None,
    typer.Option(help="Most values of each metric and set of tags; the extremes stay."),
]
_Limit = Annotated[int | None, typer.Option(min=1, help="Most values.")]
_Format = Annotated[
    Literal["csv", "parquet", "json"] | None,
    typer.Option("--format", help="Without, what the name of the file ends in, or csv."),
]
_Output = Annotated[
    Path | None, typer.Option(help="File to write, whole or not at all; without, standard output.")
]
_Url = Annotated[str | None, typer.Option(help="Root of a service to ask, not the record.")]


def export(
    *,
    metric: _Metric = None,
    package: _Package = None,
    dataset: _Dataset = None,
    filter_: _Filter = None,
    instrument: _Instrument = None,
    tag: _Tag = None,
    meta: _Meta = None,
    run: _Run = None,
    version_tag: _VersionTag = None,
    job: _Job = None,
    since: _Since = None,
    until: _Until = None,
    unit: _Unit = None,
    fields: _Fields = None,
    absent: _Absent = False,
    points: _Points = None,
    limit: _Limit = None,
    format_: _Format = None,
    output: _Output = None,
    url: _Url = None,
) -> None:
    """Write measurements with what their jobs said, in the order of time.

    They come from the record of SQUASH_DATABASE_URL, which the service may be using, or from a
    service. Options may be repeated: any of the values will do.

    Exit code: 0, 1 if it cannot be done now, 2 for a question that cannot be answered.
    """
    lists = {"metric": metric, "package": package, "dataset": dataset, "filter": filter_}
    lists |= {"instrument": instrument, "run": run, "version_tag": version_tag, "job": job}
    single = {"since": since, "until": until, "unit": unit, "points": points}
    parameters = [
        *((name, text) for name, texts in lists.items() for text in texts or ()),
        *(("fields", text) for text in fields or ()),
        *_pairs("--tag", tag),
        *((f"meta.{name}", text) for name, text in _pairs("--meta", meta)),
        *((name, str(value)) for name, value in single.items() if value is not None),
        *([("absent", "true")] if absent else []),
    ]
    chosen = format_ or _format_of(output)
    # A bar among the rows would be no help.
    has_bar = output is not None or not sys.stdout.isatty()
    read = _of_record if url is None else partial(_of_service, url)
    chunks = read(parameters, chosen, limit, has_bar=has_bar)
    _write(chunks, output, chosen)


def _write(chunks: Generator[bytes], output: Path | None, chosen: "Format") -> None:
    if chosen == "parquet" and output is None and sys.stdout.isatty():
        fail("Parquet is nothing to read on a screen: give --output.")
    try:
        with closing(chunks), writing(output) as file:
            for chunk in chunks:
                file.write(chunk)
    except BrokenPipeError:
        # Whoever reads has seen enough.
        raise
    except OSError as error:
        fail(f"{output or 'standard output'}: {error.strerror or error}", code=1)


def _pairs(option: str, texts: Sequence[str] | None) -> Iterator[tuple[str, str]]:
    for text in texts or ():
        name, equals, value = text.partition("=")
        if not (name and equals):
            fail(f"{option} {text}: write NAME=VALUE.")
        yield name, value


def _format_of(output: Path | None) -> "Format":
    endings: dict[str, Format] = {".json": "json", ".parquet": "parquet"}
    return "csv" if output is None else endings.get(output.suffix.lower(), "csv")


def _of_record(
    parameters: Sequence[tuple[str, str]], chosen: "Format", limit: int | None, *, has_bar: bool
) -> Generator[bytes]:
    # Heavy, and `squash --help` needs none of it.
    from squash_api.index.reader import Reader  # noqa: PLC0415
    from squash_api.index.tags_in_force import schema_of  # noqa: PLC0415
    from squash_api.record.record import Record  # noqa: PLC0415
    from squash_api.schema.names import Schema  # noqa: PLC0415
    from squash_api.site import spare_cycle_search  # noqa: PLC0415
    from squash_api.trends.formats import answer_chunks  # noqa: PLC0415
    from squash_api.trends.question import read_question  # noqa: PLC0415
    from squash_api.trends.series import Series  # noqa: PLC0415

    settings = load_settings()
    spare_cycle_search()
    try:
        record = Record.open(settings.database_url, is_made=False)
        try:
            schema = schema_of(record, Schema(settings.tags))
            # Files have no pages, whatever their format.
            asked = [*parameters, ("format", "csv"), *_limits(limit)]
            question = read_question(asked, schema=schema, now_ns=time.time_ns())
            reader = Reader.of_record(record, schema)
            series = Series(reader, question.selection)
            chunks = answer_chunks(series, replace(question, format=chosen), schema=schema)
            share = series.progress
            yield from advancing(chunks, what="exporting", share=share) if has_bar else chunks
        finally:
            record.close()
    except InvalidInputError as error:
        fail(_with_detail(error))
    except SquashError as error:
        fail(error.message, code=1)


def _of_service(
    url: str,
    parameters: Sequence[tuple[str, str]],
    chosen: "Format",
    limit: int | None,
    *,
    has_bar: bool,
) -> Generator[bytes]:
    import httpx  # noqa: PLC0415

    from squash_api.client.wire import SquashClientError, Wire  # noqa: PLC0415

    wire = Wire(timeout=_TIMEOUT_S, retries=_RETRIES)
    try:
        address = httpx.URL(f"{url.rstrip('/')}/measurements")
        query: list[Any] = [*parameters, ("format", chosen)]
        is_paged = chosen == "json" and not any(name == "points" for name, _ in parameters)
        if is_paged:
            pages = _pages(wire, address.copy_merge_params([*query, ("limit", _PAGE)]), limit)
            yield from advancing(pages, what="exporting") if has_bar else pages
        else:
            with wire.stream(address.copy_merge_params([*query, *_limits(limit)])) as chunks:
                yield from advancing(chunks, what="exporting") if has_bar else chunks
    except SquashClientError as error:
        fail(str(error), code=2 if error.status_code == 422 else 1)
    except httpx.InvalidURL as error:
        fail(f"--url {url}: {error}")
    finally:
        wire.close()


def _pages(wire: "Wire", first: Any, limit: int | None) -> Iterator[bytes]:
    """Yield the pages of a service as one document."""
    import orjson  # noqa: PLC0415

    from squash_api.client.wire import checked  # noqa: PLC0415

    url, left, separator = first, limit, b'{"measurements":['
    while url is not None and left != 0:
        page = checked(wire.request("GET", url))
        found = page["measurements"][:left]
        left = None if left is None else left - len(found)
        for item in found:
            yield separator + orjson.dumps(item)
            separator = b","
        url = page["next"]
    yield (b"" if separator == b"," else separator) + b'],"next":null}'


def _limits(limit: int | None) -> list[tuple[str, str]]:
    return [] if limit is None else [("limit", str(limit))]


def _with_detail(error: InvalidInputError) -> str:
    """Return all that is wrong, one thing on a line."""
    others: Iterable[str] = (detail.msg for detail in error.detail[1:])
    return "\n  ".join([error.message, *others])
