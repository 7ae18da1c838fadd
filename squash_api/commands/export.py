"""`squash export`: measurements as a file, from the record or from a service."""

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
from squash_api.commands.results import Asked, Output, Url, asking, with_question, write
from squash_api.commands.terminal import advancing, fail, failing
from squash_api.delivery.interpreter import spare_cycle_search
from squash_api.settings import load_settings
from squash_api.site import Site
from squash_api.trends.formats.answer import answer_chunks
from squash_api.trends.parameters import FORMATS
from squash_api.trends.question import read_question
from squash_api.trends.series import Series

_PAGE = 1000


@with_question("measurements")
def export(
    *,
    asked: Asked,
    tag: Annotated[
        list[str] | None, typer.Option(metavar="NAME=VALUE", help="Only jobs with this tag.")
    ] = None,
    meta: Annotated[
        list[str] | None,
        typer.Option(metavar="KEY=VALUE", help="Only jobs with this metadata; 1..1.5 is a range."),
    ] = None,
    limit: Annotated[int | None, typer.Option(min=1, help="At most this many values.")] = None,
    format_: Annotated[
        # mypy knows only literals that are written out.
        Literal[tuple(FORMATS)] | None,  # type: ignore[valid-type]
        typer.Option("--format", help="Default: from the file's extension, or csv if it has none."),
    ] = None,
    output: Output = None,
    url: Url = None,
) -> None:
    """Write measurements, with the metadata of their jobs.

    They are sorted by time, and come from the record of SQUASH_DATABASE_URL, which the service may
    be using, or from a service. An option that is repeated accepts any of its values.

    Exit code: 0 success, 1 it cannot be done now, 2 the question cannot be answered.
    """
    asked = [
        *asked,
        *_pairs("--tag", tag),
        *((f"meta.{name}", text) for name, text in _pairs("--meta", meta)),
    ]
    chosen = _chosen_format(format_, output)
    # No bar among the rows.
    has_bar = output is not None or not sys.stdout.isatty()
    read = _of_record if url is None else partial(_of_service, url)
    with closing(read(asked, chosen, limit, has_bar=has_bar)) as chunks:
        write(chunks, output, code=1)


def _pairs(option: str, texts: Sequence[str] | None) -> Iterator[tuple[str, str]]:
    for text in texts or ():
        name, equals, value = text.partition("=")
        if not (name and equals):
            fail(f"{option} {text}: write NAME=VALUE")
        yield name, value


def _chosen_format(given: str | None, output: Path | None) -> str:
    ending = "" if output is None else output.suffix.lower().removeprefix(".")
    if given is None and ending and ending not in FORMATS:
        endings = ", ".join(f".{name}" for name in FORMATS)
        fail(f"{output}: the ending is none of {endings}; give --format, or one of these")
    chosen = given or ending or "csv"
    if FORMATS[chosen].is_binary and output is None and sys.stdout.isatty():
        fail(f"{FORMATS[chosen].title} cannot be shown on a screen: give --output")
    return chosen


def _of_record(asked: Asked, chosen: str, limit: int | None, *, has_bar: bool) -> Generator[bytes]:
    spare_cycle_search()
    with (
        failing(code=1, code_of_input=2),
        Site(load_settings(), tags_of="record") as site,
    ):
        # A file is not paged, whatever its format.
        parameters = [*asked, ("format", "csv"), *_limits(limit)]
        question = read_question(parameters, schema=site.schema, now_ns=time.time_ns())
        series = Series(site.reader, question)
        chunks = answer_chunks(series, replace(question, format=chosen), schema=site.schema)
        yield from advancing(chunks, what="exporting", share=series.progress) if has_bar else chunks


def _of_service(
    url: str, asked: Asked, chosen: str, limit: int | None, *, has_bar: bool
) -> Generator[bytes]:
    with asking(url, "measurements", code=1) as (wire, address):
        query: list[Any] = [*asked, ("format", chosen)]
        # Only JSON that is not thinned out has pages.
        if chosen == "json" and not any(name == "points" for name, _ in asked):
            pages = _pages(wire, address.copy_merge_params([*query, ("limit", _PAGE)]), limit)
            yield from advancing(pages, what="exporting") if has_bar else pages
        else:
            with wire.stream(address.copy_merge_params([*query, *_limits(limit)])) as chunks:
                yield from advancing(chunks, what="exporting") if has_bar else chunks


def _pages(wire: Wire, first: Any, limit: int | None) -> Iterator[bytes]:
    """Join the pages of a service into one document."""
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
