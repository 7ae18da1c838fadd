"""`squash export`: measurements as CSV, Parquet or JSON, from the record or from a service."""

import sys
import time
from collections.abc import Generator, Iterator, Sequence
from contextlib import closing
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Annotated, Any, Literal

import orjson
import typer

from squash_api.client.wire import Wire, checked
from squash_api.commands.results import asking, write
from squash_api.commands.terminal import advancing, fail, failing
from squash_api.settings import load_settings
from squash_api.site import Site, spare_cycle_search
from squash_api.trends.formats import answer_chunks
from squash_api.trends.question import Format, read_question
from squash_api.trends.series import Series

_PAGE = 1000

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
    chosen = _chosen_format(format_, output)
    # A bar among the rows would be no help.
    has_bar = output is not None or not sys.stdout.isatty()
    read = _of_record if url is None else partial(_of_service, url)
    with closing(read(parameters, chosen, limit, has_bar=has_bar)) as chunks:
        write(chunks, output, code=1)


def _pairs(option: str, texts: Sequence[str] | None) -> Iterator[tuple[str, str]]:
    for text in texts or ():
        name, equals, value = text.partition("=")
        if not (name and equals):
            fail(f"{option} {text}: write NAME=VALUE.")
        yield name, value


def _chosen_format(given: Format | None, output: Path | None) -> Format:
    endings: dict[str, Format] = {".json": "json", ".parquet": "parquet"}
    ending = "" if output is None else output.suffix.lower()
    chosen = given or endings.get(ending, "csv")
    if chosen == "parquet" and output is None and sys.stdout.isatty():
        fail("Parquet is nothing to read on a screen: give --output.")
    return chosen


def _of_record(
    parameters: Sequence[tuple[str, str]], chosen: Format, limit: int | None, *, has_bar: bool
) -> Generator[bytes]:
    spare_cycle_search()
    with (
        failing(code=1, code_of_input=2),
        Site(load_settings(), is_made=False, tags_of="record") as site,
    ):
        # Files have no pages, whatever their format.
        asked = [*parameters, ("format", "csv"), *_limits(limit)]
        question = read_question(asked, schema=site.schema, now_ns=time.time_ns())
        series = Series(site.record, site.deriver, question.selection)
        chunks = answer_chunks(series, replace(question, format=chosen), schema=site.schema)
        share = series.progress
        yield from advancing(chunks, what="exporting", share=share) if has_bar else chunks


def _of_service(
    url: str,
    parameters: Sequence[tuple[str, str]],
    chosen: Format,
    limit: int | None,
    *,
    has_bar: bool,
) -> Generator[bytes]:
    with asking(url, "measurements", code=1) as (wire, address):
        query: list[Any] = [*parameters, ("format", chosen)]
        is_paged = chosen == "json" and not any(name == "points" for name, _ in parameters)
        if is_paged:
            pages = _pages(wire, address.copy_merge_params([*query, ("limit", _PAGE)]), limit)
            yield from advancing(pages, what="exporting") if has_bar else pages
        else:
            with wire.stream(address.copy_merge_params([*query, *_limits(limit)])) as chunks:
                yield from advancing(chunks, what="exporting") if has_bar else chunks


def _pages(wire: Wire, first: Any, limit: int | None) -> Iterator[bytes]:
    """Yield the pages of a service as one document."""
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
