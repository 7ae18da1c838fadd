"""The page of the specifications in force: their limits, the jobs they apply to, their sources."""

import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from math import ceil
from typing import Any

from fastapi import Request, Response

from squash_api.definitions.in_force import Defined
from squash_api.judging.alerts import PER_JOB, Group, duration_text
from squash_api.judging.metadata_query import query_words
from squash_api.judging.specifications import Specification
from squash_api.judging.wording import counted
from squash_api.pages.rendering import query_text, render
from squash_api.reports.reviewing import Reviewed, by_finding, review
from squash_api.routes.dependencies import MAX_PAGE
from squash_api.routes.door import session_of
from squash_api.routes.parameters import read_number, read_parameters
from squash_api.schema.names import split_metric_name
from squash_api.schema.text import tag_text
from squash_api.site import Site
from squash_api.trends.question import parse_moment

PER_PAGE = 200
"""Specifications on one page, unless the query says otherwise."""

_FILTERS = ("metric", "tag", "dataset_name", "filter_name")
_NAMES = ("package", "q", *_FILTERS, "after", "limit", "page", "since")

# How far back a review of the specifications goes, in words.
_SPANS = {"30d": "30 days", "90d": "90 days", "180d": "half a year"}


@dataclass(frozen=True, slots=True)
class _Line:
    """A specification as the page shows it."""

    content: Specification
    source: str | None
    bases: tuple[str, ...]
    author: str | None
    reviewed: Reviewed | None


def specs_page(request: Request) -> Response:
    """Make the page of the specifications in force; the query filters it."""
    site: Site = request.app.state.site
    asked = read_parameters(request, _NAMES, choices={"since": _SPANS})
    page_asked = read_number({"page": asked.pop("page")}, "page", default=1)
    per_page = read_number(asked, "limit", default=PER_PAGE, most=MAX_PAGE)
    everything = list(site.definitions.in_force.at(None).specifications.values())
    # As programs filter them.
    listed = site.definitions.list_specs(
        **{name: asked[name] for name in (*_FILTERS, "after")}, limit=max(len(everything), 1)
    )
    found = [item for item in listed if _is_wanted(item, package=asked["package"], q=asked["q"])]
    pages = max(ceil(len(found) / per_page), 1)
    page = min(page_asked, pages)
    reviewed = _reviewed(site, asked["since"])
    by_metric: dict[str, list[_Line]] = {}
    is_known = session_of(request) is not None
    shown = found[(page - 1) * per_page : page * per_page]
    for line in _lines(site, shown, reviewed, is_known=is_known):
        by_metric.setdefault(line.content.metric, []).append(line)
    return render(
        request,
        "specs.html",
        here="/specs",
        asked=asked,
        more={name: asked[name] for name in (*_FILTERS, "after", "limit") if asked[name]},
        packages=sorted({_package(item) for item in everything}),
        total=len(everything),
        found=len(found),
        by_metric=by_metric,
        spans=_SPANS,
        to_review=by_finding([reviewed[name] for name in sorted(_names(found) & reviewed.keys())]),
        query_of=query_terms_text,
        alerts_of=alert_texts,
        page=page,
        pages=pages,
        address=partial(query_text, asked),
    )


def _reviewed(site: Site, since: str | None) -> dict[str, Reviewed]:
    """Review all specifications, by name, if that is asked for: it reads all values of the time."""
    if since is None:
        return {}
    now_ns = time.time_ns()
    since_ns = parse_moment(since, now_ns=now_ns)
    assert since_ns is not None  # noqa: S101 - it is one of the choices
    found = review(site.reader, site.definitions.in_force, since_ns=since_ns, now_ns=now_ns)
    return {item.specification: item for item in found}


def _names(found: Sequence[Defined[Specification]]) -> set[str]:
    return {item.content.name for item in found}


def _package(defined: Defined[Specification]) -> str:
    return split_metric_name(defined.content.metric)[0]


def _is_wanted(defined: Defined[Specification], *, package: str | None, q: str | None) -> bool:
    """Check that a specification belongs to a package and contains all words of `q`."""
    if package not in (None, _package(defined)):
        return False
    if q is None:
        return True
    content = defined.content
    said = [content.name, content.level, *content.tags, *query_terms_text(content)]
    text = "\n".join([*said, defined.source or "", *alert_texts(content)]).lower()
    return all(word in text for word in q.lower().split())


def _lines(
    site: Site,
    shown: Sequence[Defined[Specification]],
    reviewed: Mapping[str, Reviewed],
    *,
    is_known: bool,
) -> Iterator[_Line]:
    """Describe specifications; only a reader who is known sees the names of users."""
    ours = [item.content.name for item in shown if item.origin == "api" and is_known]
    authors = site.sources.authors(ours)
    for item in shown:
        content = item.content
        yield _Line(
            content,
            item.source,
            site.sources.bases(item),
            authors.get(content.name),
            reviewed.get(content.name),
        )


def query_terms_text(content: Specification) -> list[str]:
    """Write the conditions on a job's metadata, one by one."""
    return query_words(content.metadata_query, equals=" = ", text=_plain)


def _plain(value: Any) -> str:
    text = tag_text(value)
    return repr(value) if text is None else text


def alert_texts(content: Specification) -> list[str]:
    """List what a specification sets for its alerts and for late values."""
    texts = ["on trial: nobody is told"] if content.is_trial else []
    if content.after is not None:
        texts.append(f"raised when {content.after.runs} of {content.after.of} runs break it")
    if content.min_runs:
        texts.append(f"raised after {counted(content.min_runs, 'run')} at the earliest")
    if content.muted_through is not None and content.alert and content.alert.mute:
        texts.append(f"muted through {content.muted_through}: {content.alert.mute.why}")
    if content.channel:
        texts.append(f"alerts go to {content.channel}")
    if content.alert is not None and content.alert.per is not None:
        texts.append(f"one alert per {', '.join(content.per) or 'metric'}")
    if content.alert is not None and content.alert.group is not None:
        texts.append(_group_text(content.group))
    if content.alert is not None and content.alert.max_age_s is not None:
        texts.append(f"no alerts on data older than {duration_text(content.max_age_s)}")
    if content.expect is not None:
        grace = f", {duration_text(content.expect.grace_s)} late at most"
        texts.append(
            f"a value is expected every {duration_text(content.expect.every_s)}"
            f"{grace if content.expect.grace_s else ''}"
        )
        texts += [f"for each {tag} of {', '.join(said)}" for tag, said in content.expect.each]
    return texts


def _group_text(group: Group) -> str:
    if group == PER_JOB:
        return "all alerts of a job are one message"
    return f"one message for all of {', '.join(group)}" if group else "each alert is a message"
