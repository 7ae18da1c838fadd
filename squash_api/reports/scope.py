"""What a report is asked to be about: the parameters of `/report`, read and checked. Pure."""

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from difflib import get_close_matches
from typing import Any

from squash_api.errors import Detail, InvalidInputError
from squash_api.ingest.document import parse_time_ns
from squash_api.judging.alerts import LEVELS, parse_duration, parse_level
from squash_api.schema.text import tag_text

PARAMETERS: Mapping[str, str] = {
    "run": "Only jobs of this run; may be given again.",
    "pipeline": "Only jobs of this pipeline; may be given again.",
    "version_tag": "Only jobs of this release; may be given again.",
    "since": "Only jobs of this time (ISO 8601) or later, or how long ago: `24h`, `7d`.",
    "until": "Only jobs of this time or earlier; a day means all of it.",
    "package": "Only metrics of this verification package; may be given again.",
    "metric": "Only this metric; may be given again.",
    "dataset": "Only jobs of this dataset; may be given again.",
    "filter": "Only jobs of this filter; may be given again.",
    "instrument": "Only jobs of this instrument; may be given again.",
    "tag": "Only metrics and specifications with this tag; of several, with all of them.",
    "level": "Mildest level of the specifications to judge by: INFO, WARNING or CRITICAL.",
    "compare_run": "Compare with this run; may be given again.",
    "compare_version_tag": "Compare with this release; may be given again.",
    "compare_since": "Compare with jobs of this time or later.",
    "compare_until": "Compare with jobs of this time or earlier.",
}
"""The parameters of a report, and what each means."""

SINGLE = frozenset({"since", "until", "compare_since", "compare_until", "level"})
"""Parameters that are given once."""

DEFAULT_DAYS = 7
"""Without a run, a release or a time, a report is about so many days."""

_DAY_NS = 86_400 * 10**9
_MOST_VALUES = 50
_LONGEST = 1000
# Lone surrogates are how Python reads arguments that are not UTF-8.
_UNTEXT = re.compile("[\0\ud800-\udfff]")
_TAG_NAMES = ("pipeline", "dataset", "filter", "instrument")


@dataclass(frozen=True, slots=True)
class Scope:
    """What a report is about; what is empty or None makes no difference.

    Runs, releases and the values of `where`, which is by the name of a tag, are as the record keeps
    them. Both ends of the time (ns) count. `level` is the mildest level to judge by.
    """

    runs: tuple[str, ...] = ()
    version_tags: tuple[str, ...] = ()
    since_ns: int | None = None
    until_ns: int | None = None
    where: tuple[tuple[str, tuple[str, ...]], ...] = ()
    packages: tuple[str, ...] = ()
    metrics: tuple[str, ...] = ()
    tags: tuple[str, ...] = ()
    level: str = LEVELS[0]


@dataclass(frozen=True, slots=True)
class Request:
    """A report that is asked for: its scope, and the one to compare with, if any.

    `given` are the parameters as they came, without empty ones.
    """

    scope: Scope
    other: Scope | None
    given: Mapping[str, tuple[str, ...]]


def read_request(parameters: Iterable[tuple[str, str]], *, now_ns: int) -> Request:
    """Read the parameters of a report; empty ones are as if they were not given.

    Raises
    ------
    InvalidInputError
        Naming every parameter that is unknown, or wrong.
    """
    given, problems = _collect(parameters)
    problems = [*problems, *_too_many(given)]

    def read(name: str, reading: Callable[[str], Any]) -> Any:
        if name not in given:
            return None
        try:
            return reading(given[name][0])
        except ValueError as error:
            problems.append(_problem(name, str(error)))
            return None

    def time_of(name: str) -> Any:
        is_end = name.endswith("until")
        return read(name, lambda text: _time_ns(text, now_ns=now_ns, is_end=is_end))

    scope = Scope(
        runs=_kept(given.get("run", ())),
        version_tags=_kept(given.get("version_tag", ())),
        since_ns=time_of("since"),
        until_ns=time_of("until"),
        where=tuple((name, _kept(given[name])) for name in _TAG_NAMES if name in given),
        packages=given.get("package", ()),
        metrics=given.get("metric", ()),
        tags=given.get("tag", ()),
        level=read("level", parse_level) or LEVELS[0],
    )
    other = replace(
        scope,
        runs=_kept(given.get("compare_run", ())),
        version_tags=_kept(given.get("compare_version_tag", ())),
        since_ns=time_of("compare_since"),
        until_ns=time_of("compare_until"),
    )
    if problems:
        raise InvalidInputError(f"{problems[0].msg}.", detail=problems)
    has_other = any(name.startswith("compare_") for name in given)
    return Request(_bounded(scope, now_ns), other if has_other else None, given)


def title_of(scope: Scope, *, now_ns: int) -> str:
    """Return what a scope is about, in words; the filters are left to `filters_of`.

    A period without an end is said to end at `now_ns`.
    """
    parts = []
    if scope.version_tags:
        parts.append(f"{_noun('release', scope.version_tags)} {', '.join(scope.version_tags)}")
    if scope.runs:
        parts.append(f"{_noun('run', scope.runs)} {', '.join(scope.runs)}")
    pipelines = dict(scope.where).get("pipeline", ())
    if pipelines:
        parts.append(f"pipeline {', '.join(pipelines)}")
    if scope.since_ns is not None:
        end_ns = now_ns if scope.until_ns is None else scope.until_ns
        parts.append(f"{moment(scope.since_ns)} to {moment(end_ns)} UTC")
    elif scope.until_ns is not None:
        parts.append(f"until {moment(scope.until_ns)} UTC")
    text = ", ".join(parts)
    return text[:1].upper() + text[1:] if text else "Everything"


def filters_of(scope: Scope) -> dict[str, tuple[str, ...]]:
    """Return what narrows a scope beside run, release and time, by the name of its parameter."""
    named = {
        **{name: values for name, values in scope.where if name != "pipeline"},
        "package": scope.packages,
        "metric": scope.metrics,
        "tag": scope.tags,
        "level": () if scope.level == LEVELS[0] else (scope.level,),
    }
    return {name: values for name, values in named.items() if values}


def moment(time_ns: int) -> str:
    """Return a time as day and minute."""
    return datetime.fromtimestamp(time_ns // 10**9, UTC).strftime("%Y-%m-%d %H:%M")


def _noun(word: str, values: Sequence[str]) -> str:
    return word if len(values) == 1 else f"{word}s"


def _bounded(scope: Scope, now_ns: int) -> Scope:
    """Give a beginning to a scope that has no other bound.

    It has no end: the clocks of those who send jobs may be ahead.
    """
    if scope.runs or scope.version_tags or scope.since_ns is not None:
        return scope
    end_ns = now_ns if scope.until_ns is None else scope.until_ns
    return replace(scope, since_ns=max(end_ns - DEFAULT_DAYS * _DAY_NS, 0))


def _collect(
    parameters: Iterable[tuple[str, str]],
) -> tuple[dict[str, tuple[str, ...]], list[Detail]]:
    given: dict[str, tuple[str, ...]] = {}
    problems = []
    for name, text in parameters:
        if name not in PARAMETERS:
            near = get_close_matches(name, PARAMETERS, n=1)
            hint = f"; did you mean {near[0]}?" if near else ""
            problems.append(_problem(name[:40], f"A report has no parameter '{name[:40]}'{hint}"))
        elif text.strip():
            given[name] = (*given.get(name, ()), text.strip())
    return given, problems


def _too_many(given: Mapping[str, tuple[str, ...]]) -> Iterable[Detail]:
    for name, values in given.items():
        if name in SINGLE and len(values) > 1:
            yield _problem(name, f"'{name}' can be given once")
        if len(values) > _MOST_VALUES:
            yield _problem(name, f"'{name}' can be given {_MOST_VALUES} times")
        if any(len(value) > _LONGEST or _UNTEXT.search(value) for value in values):
            yield _problem(name, f"'{name}' has {_LONGEST} characters at most, and no NUL")


def _kept(values: Sequence[str]) -> tuple[str, ...]:
    """Return values as the record keeps what jobs say of themselves."""
    return tuple(dict.fromkeys(tag_text(value) or "" for value in values))


def _time_ns(text: str, *, now_ns: int, is_end: bool) -> int:
    """Return a moment, or how long ago, in ns since 1970."""
    time_ns = parse_time_ns(text)
    if time_ns is not None:
        is_day = len(text) <= len("2026-11-22")
        time_ns += _DAY_NS - 1 if is_day and is_end else 0
        if not 0 <= time_ns < 2**63:
            raise ValueError(f"'{text[:40]}' is before 1970, or far ahead")
        return time_ns
    try:
        return max(now_ns - parse_duration(text) * 10**9, 0)
    except ValueError:
        raise ValueError(
            f"'{text[:40]}' is no time: write one like 2026-11-22, 2026-11-22T08:00Z or 24h"
        ) from None


def _problem(name: str, message: str) -> Detail:
    return Detail(("query", name), message)
