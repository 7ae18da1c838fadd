"""Search: metrics, specifications, runs, jobs and the documentation, by words."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Literal, TypeVar
from urllib.parse import quote

from fastapi import APIRouter, Query, Response

from squash_api.errors import Detail, InvalidInputError
from squash_api.index.runs import FoundRun
from squash_api.judging.metadata_query import query_words
from squash_api.judging.specifications import Specification
from squash_api.judging.wording import date_text
from squash_api.record.jobs import get_job
from squash_api.routes.dependencies import SiteDep, is_count
from squash_api.routes.documents import Section, documents
from squash_api.routes.parameters import KnownParametersRoute
from squash_api.routes.replies import errors_of, json_reply
from squash_api.routes.runs import run_path
from squash_api.site import Site
from squash_api.standings.board import Entry

router = APIRouter(tags=["overview"], route_class=KnownParametersRoute)

KINDS = ("metrics", "specifications", "runs", "jobs", "documentation")
"""What is searched, in the order in which it is shown."""

MOST_LETTERS = 200
FEW = 10
"""How many of each kind are returned if that is not asked for."""

MOST = 100
_SNIPPET = 200
_Item = TypeVar("_Item")


@dataclass(frozen=True, slots=True)
class FoundJob:
    """A job, and its time (ns since 1970)."""

    job_id: int
    time_ns: int


@dataclass(frozen=True, slots=True)
class Found:
    """What has all words of a search, the best of each kind first."""

    metrics: Sequence[Entry] = ()
    specifications: Sequence[Specification] = ()
    runs: Sequence[FoundRun] = ()
    jobs: Sequence[FoundJob] = ()
    documentation: Sequence[Section] = ()


@router.get("/search", responses=errors_of(422))
def get_search(
    site: SiteDep,
    *,
    q: Annotated[str, Query(max_length=MOST_LETTERS, description="Words; all must be found.")],
    kind: Annotated[
        Literal["metrics", "specifications", "runs", "jobs", "documentation"] | None,
        Query(description="Search only these."),
    ] = None,
    limit: Annotated[
        int, Query(ge=1, le=MOST, description="Return at most this many of each kind.")
    ] = FEW,
) -> Response:
    """Find metrics, specifications, runs, jobs and sections of the documentation by words.

    Searched are names, and descriptions, tags and levels of metrics and specifications. A run is
    found by its pipeline and id, a job by its id. The best of each kind come first.
    """
    found = search(site, q, kinds=KINDS if kind is None else (kind,), limit=limit)
    root = site.settings.url
    return json_reply(
        {
            "metrics": [_metric_object(item, root) for item in found.metrics],
            "specifications": [_specification_object(item, root) for item in found.specifications],
            "runs": [_run_object(item, root) for item in found.runs],
            "jobs": [
                {"id": item.job_id, "date": date_text(item.time_ns), "url": _job(root, item)}
                for item in found.jobs
            ],
            "documentation": [
                {
                    "document": item.document,
                    "title": item.title,
                    "text": snippet(item, q),
                    "url": f"{root}{item.address}",
                }
                for item in found.documentation
            ],
        }
    )


def _metric_object(item: Entry, root: str) -> dict[str, Any]:
    url = f"{root}/metric/{quote(item.name, safe='')}"
    return {"name": item.name, "state": item.state, "url": url}


def _specification_object(item: Specification, root: str) -> dict[str, Any]:
    url = f"{root}/spec/{quote(item.name, safe='')}"
    return {"name": item.name, "metric": item.metric, "level": item.level, "url": url}


def _run_object(item: FoundRun, root: str) -> dict[str, Any]:
    return {
        "pipeline": item.pipeline,
        "run_id": item.run_id,
        "date": date_text(item.time_ns),
        "url": f"{root}{run_path(item.pipeline, item.run_id)}",
    }


def _job(root: str, item: FoundJob) -> str:
    return f"{root}/job/{item.job_id}"


def search(site: Site, text: str, *, kinds: Iterable[str] = KINDS, limit: int = FEW) -> Found:
    """Search some kinds of things for words, of which each must be found.

    Raises
    ------
    InvalidInputError
        If there is no word.
    """
    words = text.lower().split()
    if not words:
        message = "`q` needs a word to search for"
        raise InvalidInputError(f"{message}.", detail=[Detail(("query", "q"), message, "missing")])
    site.reader.catch_up()
    searched: dict[str, Callable[[], Sequence[Any]]] = {
        "metrics": lambda: _best(site.board.entries(), words, _of_metric),
        "specifications": lambda: _best(
            (item.content for item in site.definitions.in_force.at(None).specifications.values()),
            words,
            _of_specification,
        ),
        "runs": lambda: _runs(site, text.split(), limit),
        "jobs": lambda: _jobs(site, words),
        "documentation": lambda: _best(
            (item for sections in documents().values() for item in sections), words, _of_section
        ),
    }
    return Found(**{kind: searched[kind]()[:limit] for kind in kinds})


def snippet(section: Section, text: str) -> str:
    """Return the part of a section's text around the first of the words."""
    plain = section.plain
    places = [plain.lower().find(word) for word in text.lower().split()]
    first = min((place for place in places if place >= 0), default=0)
    start = max(first - _SNIPPET // 4, 0)
    part = plain[start : start + _SNIPPET]
    # Whole words only.
    if start > 0:
        part = f"… {part.partition(' ')[2]}"
    if start + _SNIPPET < len(plain):
        part = f"{part.rpartition(' ')[0]} …"
    return part


def _of_metric(item: Entry) -> tuple[str, str]:
    return item.name, "\n".join([item.description, *item.tags])


def _of_specification(item: Specification) -> tuple[str, str]:
    query = query_words(item.metadata_query, equals=" ", text=str)
    return item.name, "\n".join([item.level, *item.tags, *query])


def _of_section(item: Section) -> tuple[str, str]:
    return item.title, f"{item.document}\n{item.text}"


def _best(
    items: Iterable[_Item], words: Sequence[str], said: Callable[[_Item], tuple[str, str]]
) -> list[_Item]:
    """Return the items that say all words, those with the words in their names first."""
    ranked = []
    for item in items:
        name, text = said(item)
        rank = _rank(words, name.lower(), text)
        if rank is not None:
            ranked.append((rank, len(name), name, item))
    return [item for *_, item in sorted(ranked, key=lambda found: found[:3])]


def _rank(words: Sequence[str], name: str, text: str) -> int | None:
    """Return how well something fits, 0 if best, and None if a word is in neither of the two."""
    asked = " ".join(words)
    if all(word in name for word in words):
        is_part = asked in name.split(".")
        return 0 if asked == name else 1 if is_part else 2 if name.startswith(asked) else 3
    return 4 if all(word in name or word in text.lower() for word in words) else None


def _runs(site: Site, words: Sequence[str], limit: int) -> list[FoundRun]:
    with site.reader.view() as view:
        return view.runs.matching(words, limit=limit)


def _jobs(site: Site, words: Sequence[str]) -> list[FoundJob]:
    """Return the job with the number that is one of the words, such as `job 12`."""
    numbers = [word for word in words if is_count(word)]
    if len(numbers) != 1 or len(words) > 2 or {*words} - {*numbers} - {"job"}:
        return []
    with site.reader.view() as view:
        row = view.ask(get_job, int(numbers[0]))
    return [] if row is None or row.deleted_ns else [FoundJob(row.job_id, row.time_ns)]
