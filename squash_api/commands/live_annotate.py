"""`squash live annotate`: what changed in the code, as annotations in Chronograf's graphs."""

import time
from collections.abc import Iterator, Sequence
from typing import Annotated

import typer

from squash_api.commands.terminal import AsJson, fail, failing, print_json, print_table
from squash_api.generate.chronograf.server import Annotation, Chronograf
from squash_api.generate.servers import ServerError, UnreachableError
from squash_api.index.reader import View
from squash_api.index.runs import NEWEST_NS, RunJob
from squash_api.index.since_good import changes_words
from squash_api.judging.wording import counted, date_text
from squash_api.schema.text import clean_text
from squash_api.settings import load_settings
from squash_api.site import Site
from squash_api.trends.question import EXAMPLES, parse_moment

_PAGE = 1000
_LONGEST_RUN_NS = 86_400 * 10**9


def annotate(
    *,
    since: Annotated[
        str, typer.Option(help="Runs since this date, or of the last 30d, 2w and so on.")
    ] = "30d",
    chronograf: Annotated[
        str | None, typer.Option(help="Instead of SQUASH_CHRONOGRAF_URL.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Annotate Chronograf's graphs with what changed in the code, run by run.

    Each run whose packages differ from those of the previous run of its pipeline gets an annotation
    at the time of its first job, with the names of the packages; the tag pipeline filters them.
    What is there already is not added again, so cron may run it. Chronograf keeps annotations in
    InfluxDB, in a database of its own: no file can contain them.

    Exit code: 0 success, 1 Chronograf refuses something, 2 it cannot be done.
    """
    since_ns = parse_moment(since, now_ns=time.time_ns())
    if since_ns is None:
        fail(f"'{since}' is not a time: write one like {EXAMPLES}")
    settings = load_settings()
    url = chronograf or settings.chronograf_url
    if url is None:
        fail("which server? Give --chronograf, or set SQUASH_CHRONOGRAF_URL")
    with failing(), Site(settings) as site:
        site.reader.catch_up()
        with site.reader.view() as view:
            wanted = list(_annotations(view, since_ns))
    added: list[Annotation] = []
    try:
        with Chronograf(url) as server:
            there = server.annotations(since_ns=since_ns) if wanted else set()
            for item in wanted:
                if item.key not in there:
                    server.annotate(item)
                    added.append(item)
    except ServerError as error:
        fail(
            f"{counted(len(added), 'annotation')} added, then: {error}",
            code=2 if isinstance(error, UnreachableError) else 1,
        )
    _print(added, there=len(wanted) - len(added), as_json=as_json)


def _print(added: Sequence[Annotation], *, there: int, as_json: bool) -> None:
    shown = [(date_text(item.time_ns), item.pipeline or "", item.text) for item in added]
    if as_json:
        print_json([dict(zip(("time", "pipeline", "text"), row, strict=True)) for row in shown])
        return
    if shown:
        print_table(("time", "pipeline", "annotation"), shown)
    typer.echo(f"{counted(len(added), 'annotation')} added, {there} were there")


def _annotations(view: View, since_ns: int) -> Iterator[Annotation]:
    """Yield an annotation for each run whose code differs from the run before, oldest first."""
    # A run that goes on has begun before.
    jobs = _jobs(view, since_ns - _LONGEST_RUN_NS)
    first = {(item.pipeline, item.run_id or ""): item for item in jobs}
    first = {run: item for run, item in first.items() if item.time_ns >= since_ns}
    changes = view.changes_since_previous_run([item.job_id for item in first.values()])
    for (pipeline, run_id), item in sorted(first.items(), key=lambda pair: pair[1].time_ns):
        found = changes.get(item.job_id)
        packages = None if found is None else found.packages
        if packages:
            names = ((f"-{each.name}" if each.is_gone else each.name, 1) for each in packages)
            text = f"{changes_words(names)} (run {run_id})"
            yield Annotation(item.time_ns, clean_text(text), pipeline, run_id)


def _jobs(view: View, since_ns: int) -> Iterator[RunJob]:
    """Yield the jobs of runs since a time, the newest first."""
    before_ns: int | None = NEWEST_NS
    while before_ns is not None and before_ns > since_ns:
        found, before_ns = view.runs.back(before_ns=before_ns, jobs=_PAGE)
        yield from (item for item in found if item.run_id and item.time_ns >= since_ns)
