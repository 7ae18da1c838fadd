"""Reads questions: which values, what judges them, and in which form they are wanted. Pure.

Questions come as the query of a URL or as the options of a command. Both are read by the table in
`trends/parameters.py`.
"""

import re
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from math import inf
from typing import Any

from squash_api.errors import Detail, Hints, InvalidInputError, sentence
from squash_api.judging.alerts import LEVELS, parse_duration, parse_level
from squash_api.schema.names import (
    HEADLINE_TAGS,
    META_PREFIX,
    TAG_SOURCES,
    TEXT_SUFFIX,
    Schema,
    split_metric_name,
)
from squash_api.schema.text import finite, tag_text
from squash_api.schema.times import parse_time_ns
from squash_api.trends.parameters import (
    ASKED,
    COMPARED,
    MOST_JSON,
    PARAMETERS,
    Kind,
    Parameter,
)
from squash_api.verify.units import UnitError, canonical_unit

ALL_FIELDS = "*"
TAG_PREFIX = "tag."
EXAMPLES = "2026-11-22, 2026-11-22T08:00Z, 90d or 12h"
"""Times as `parse_moment` reads them."""

DEFAULT_DAYS = 7
"""Without a run, a release or a time, a report is about this many days."""

_DEFAULT_JSON = 100
_MOST_ID = 2**63 - 1
_DAY_NS = 86_400 * 10**9
_TRUTH = {"true": True, "1": True, "false": False, "0": False}
# For a report, whose page is a form.
_MOST_TEXTS = 50
_LONGEST = 1000
_LONGEST_NAME = 40
_CURSOR = re.compile(r"([0-9]{1,19})\.([0-9]{1,19})")
# Python reads arguments that are not UTF-8 as lone surrogates.
_UNTEXT = re.compile("[\0\ud800-\udfff]")

Condition = Callable[[Mapping[str, str | float]], bool]


@dataclass(frozen=True, slots=True)
class Cursor:
    """Where a page ended: a job, by its unique time (ns), and one of its metrics, by its id."""

    time_ns: int
    metric_id: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Question:
    """What is asked for; a part that is empty or None excludes nothing.

    A value must be of one of the `metrics` or `packages`, and match one entry of each other part
    that is given. Both ends of the time (ns) are included. `conditions` are on the metadata by
    InfluxDB's names (`meta.airmass`).

    Values come in `unit`, or else in their metric's, with the metadata `fields`, in which `*`
    stands for all. With `has_absent`, values that are null, NaN, infinite or skipped come as None;
    otherwise they are left out.

    A report is about metrics and specifications that have all `labels`, and judges by those of
    `level` or worse. With `has_steps` it has the change points too.
    """

    metrics: tuple[str, ...] = ()
    packages: tuple[str, ...] = ()
    tags: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    runs: tuple[str, ...] = ()
    version_tags: tuple[str, ...] = ()
    jobs: tuple[int, ...] | None = None
    since_ns: int | None = None
    until_ns: int | None = None
    conditions: tuple[Condition, ...] = ()
    unit: str | None = None
    fields: tuple[str, ...] = ()
    has_absent: bool = False
    points: int | None = None
    format: str = "json"
    limit: int | None = None
    after: Cursor | None = None
    labels: tuple[str, ...] = ()
    level: str = LEVELS[0]
    has_steps: bool = False

    def has_metric(self, metric: str) -> bool:
        """Whether a metric is asked for, by its name or its package."""
        if not (self.metrics or self.packages):
            return True
        return metric in self.metrics or split_metric_name(metric)[0] in self.packages


@dataclass(frozen=True, slots=True)
class ReportQuestion:
    """What a report is about, and what to compare it with, if anything.

    `given` are the parameters as they came, without empty ones.
    """

    about: Question
    other: Question | None
    given: Mapping[str, tuple[str, ...]]


def read_question(
    parameters: Iterable[tuple[str, str]], *, schema: Schema, now_ns: int
) -> Question:
    """Read what is asked of measurements, from pairs of a name and a text; names may repeat.

    Raises
    ------
    InvalidInputError
        Naming all unknown parameters and wrong texts.
    """
    reader = _Reader(_by_name(parameters), schema=schema, now_ns=now_ns)
    question = reader.question()
    if reader.problems:
        raise refusal(reader.problems)
    return question


def read_report_question(parameters: Iterable[tuple[str, str]], *, now_ns: int) -> ReportQuestion:
    """Read what a report should be about; empty parameters are ignored.

    Without a run, a release or a start it is about the last `DEFAULT_DAYS`.

    Raises
    ------
    InvalidInputError
        Naming all unknown parameters and wrong texts.
    """
    reader = _ReportReader(_by_name(parameters), now_ns=now_ns)
    about = reader.question()
    other = reader.other(about)
    if reader.problems:
        raise refusal(reader.problems)
    given = {name: tuple(texts) for name, texts in reader.asked.items()}
    has_other = any(name.startswith(COMPARED) for name in given)
    return ReportQuestion(_bounded(about, now_ns), other if has_other else None, given)


def refusal(problems: Sequence[Detail]) -> InvalidInputError:
    """Make the error that states the first problem, and lists at most 100."""
    return InvalidInputError(sentence(problems[0].msg), detail=problems[:100])


def refuse_unknown(question: Question, known: Collection[str]) -> None:
    """Refuse a question that names a metric or package that is not among the known metrics.

    Raises
    ------
    InvalidInputError
        Naming all unknown metrics, or all unknown packages, and for each the nearest known one.
    """
    packages = {split_metric_name(name)[0] for name in known}
    hints = Hints()
    for noun, asked, names in (
        ("metric", question.metrics, known),
        ("package", question.packages, packages),
    ):
        problems = []
        for name in sorted(set(asked).difference(names)):
            problem = f"There is no {noun} `{name[:_LONGEST]}`{hints.of(name, names)}"
            problems.append(Detail(("query", noun), problem))
        if problems:
            raise refusal(problems)


def parse_moment(text: str, *, now_ns: int, is_end: bool = False) -> int | None:
    """Read a date, or how long ago like `90d`, as ns since 1970; None if it is neither.

    A date is UTC unless it has a time zone. A day without a time means its first moment, or with
    `is_end` its last: as since and as until, a day means all of it.
    """
    time_ns = parse_time_ns(text, is_end=is_end)
    if time_ns is not None:
        return time_ns
    try:
        return now_ns - parse_duration(text.strip()) * 10**9
    except ValueError:
        return None


def parse_cursor(text: str) -> Cursor | None:
    """Read the text of a cursor; None if `cursor_text` has not written it."""
    match = _CURSOR.fullmatch(text)
    if match is None:
        return None
    cursor = Cursor(*map(int, match.groups()))
    return cursor if max(cursor.time_ns, cursor.metric_id) <= _MOST_ID else None


def cursor_text(cursor: Cursor) -> str:
    """Write a cursor."""
    return f"{cursor.time_ns}.{cursor.metric_id}"


def column_of(tag: str) -> str:
    """Name the parameter and column of a tag: as the tag, with a prefix if the name is taken."""
    return f"{TAG_PREFIX}{tag}" if tag in _TAKEN else tag


# Names of parameters and columns that are not tags.
_TAKEN = frozenset(
    {*ASKED["measurements"], "time", "time_ns", "value", "run_id", "run_url", "tags", "identifier"}
)


def _by_name(parameters: Iterable[tuple[str, str]]) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for name, text in parameters:
        found.setdefault(name, []).append(text)
    return found


def _bounded(question: Question, now_ns: int) -> Question:
    """Set a start for a report that has no other bound.

    It gets no end: clients' clocks may be ahead.
    """
    if question.runs or question.version_tags or question.since_ns is not None:
        return question
    end_ns = now_ns if question.until_ns is None else question.until_ns
    return replace(question, since_ns=max(end_ns - DEFAULT_DAYS * _DAY_NS, 0))


class _Reader:
    """Reads what is asked of measurements, and collects the problems."""

    def __init__(self, asked: dict[str, list[str]], *, schema: Schema, now_ns: int) -> None:
        self.asked = asked
        self.problems: list[Detail] = []
        self._hints = Hints()
        self._schema = schema
        self._now_ns = now_ns
        self._readers: Mapping[Kind, Callable[[Parameter], Any]] = {
            "texts": lambda row: self._given(row.name),
            "names": lambda row: self._kept(row.name),
            "ids": self._ids,
            "time": self._time,
            "unit": self._unit,
            "truth": self._truth,
            "count": self._count,
            "choice": self._choice,
            "fields": self._fields,
            "cursor": self._cursor,
            "level": self._level,
        }

    def question(self) -> Question:
        """Read the question; problems are reported in the order of reading."""
        self._check_names()
        parts = self._parts("fields", "points", "format", "limit", "after")
        is_paged = parts["limit"] is not None or parts["after"] is not None
        if parts["points"] is not None and is_paged:
            self._refuse(
                "points",
                "`points` does not go with `limit` or `after`",
            )
        if parts["limit"] is None and parts["format"] == "json" and parts["points"] is None:
            parts["limit"] = _DEFAULT_JSON
        parts |= self._parts("since", "until")
        since_ns, until_ns = parts["since_ns"], parts["until_ns"]
        self._check_order("since", since_ns, until_ns)
        parts |= self._parts("metric", "package")
        parts["tags"] = self._tags()
        parts |= self._parts("run", "version_tag", "job")
        parts["conditions"] = tuple(
            self._condition(name, texts)
            for name, texts in self.asked.items()
            if name.startswith(META_PREFIX)
        )
        rest = [name for name in ASKED["measurements"] if PARAMETERS[name].gives not in parts]
        return Question(**parts, **self._parts(*rest))

    def _parts(self, *names: str) -> dict[str, Any]:
        """Read the parts of a question that these parameters give."""
        rows = [PARAMETERS[name] for name in names]
        return {row.gives: self._readers[row.kind](row) for row in rows if row.gives != "tags"}

    def _refuse(self, name: str, problem: str) -> None:
        self.problems.append(Detail(("query", name), problem))

    def _check_order(self, name: str, since_ns: int | None, until_ns: int | None) -> None:
        if since_ns is not None and until_ns is not None and since_ns > until_ns:
            self._refuse(name, f"`{name}` is later than `{name.replace('since', 'until')}`")

    def _check_names(self) -> None:
        own = ASKED["measurements"]
        aliases = [key for keys in TAG_SOURCES.values() for key in keys]
        known = [*own, *self._schema.tags, *aliases]
        for name, texts in self.asked.items():
            if name in own and not PARAMETERS[name].is_repeated and len(texts) > 1:
                self._refuse(name, f"`{name}` can be given only once")
            if name in own or self._tag_of(name) or name.startswith(META_PREFIX):
                continue
            shown = name[:100]
            hint = self._hints.of(shown, known) or f"; for metadata, write `meta.{shown}`"
            self._refuse(name, f"There is no parameter `{shown}`{hint}")

    def _tag_of(self, name: str) -> str | None:
        """Find the tag that a parameter names, directly or by one of its sources."""
        if name in ASKED["measurements"]:
            return None
        if name.startswith(TAG_PREFIX):
            short = name.removeprefix(TAG_PREFIX)
            return short if short in self._schema.tags else None
        if name in self._schema.tags:
            return name
        return next((tag for tag, keys in TAG_SOURCES.items() if name in keys), None)

    def _tags(self) -> dict[str, tuple[str, ...]]:
        found: dict[str, tuple[str, ...]] = {}
        for name in self.asked:
            tag = self._tag_of(name)
            if tag is not None:
                found[tag] = (*found.get(tag, ()), *self._kept(name))
        return found

    def _given(self, name: str) -> tuple[str, ...]:
        texts = self.asked.get(name, [])
        if "" in texts:
            self._refuse(name, f"`{name[:100]}` is empty")
        return tuple(dict.fromkeys(texts))

    def _kept(self, name: str) -> tuple[str, ...]:
        """Read texts as the record keeps them."""
        return tuple(dict.fromkeys(tag_text(text) or "" for text in self._given(name)))

    def _one(self, row: Parameter) -> str | None:
        texts = self.asked.get(row.name)
        return texts[0] if texts else None

    def _unit(self, row: Parameter) -> str | None:
        text = self._one(row)
        try:
            return None if text is None else canonical_unit(text)
        except UnitError as error:
            self._refuse(row.name, str(error))
            return None

    def _ids(self, row: Parameter) -> tuple[int, ...] | None:
        texts = self._given(row.name)
        wrong = [text for text in texts if text and not (text.isascii() and text.isdigit())]
        for text in wrong:
            self._refuse(row.name, f"{text[:100]!r} is not a job id")
        if not texts or wrong:
            return None
        # No job has an id this long.
        return tuple(int(text) for text in texts if text and len(text) < 19)

    def _time(self, row: Parameter) -> int | None:
        text = self._one(row)
        if text is None:
            return None
        time_ns = parse_moment(text, now_ns=self._now_ns, is_end=row.gives == "until_ns")
        if time_ns is None:
            self._refuse(row.name, f"{text[:100]!r} is not a time: write one like {EXAMPLES}")
        return time_ns

    def _truth(self, row: Parameter) -> bool:
        text = self._one(row)
        if text is not None and text.lower() not in _TRUTH:
            self._refuse(row.name, f"`{row.name}` must be true or false")
        return _TRUTH.get((text or "false").lower(), False)

    def _choice(self, row: Parameter) -> str:
        chosen = self._one(row) or row.choices[0]
        if chosen not in row.choices:
            choices = ", ".join(row.choices)
            self._refuse(row.name, f"{chosen!r} is not a {row.name}: choose one of {choices}")
        return chosen

    def _count(self, row: Parameter) -> int | None:
        text = self._one(row)
        if text is None:
            return None
        is_json = (self._one(PARAMETERS["format"]) or "json") == "json"
        least, most = row.least, row.most or (MOST_JSON if is_json else _MOST_ID)
        if text.isascii() and text.isdigit() and len(text) < 20 and least <= int(text) <= most:
            return int(text)
        limits = f"at least {least}" if most == _MOST_ID else f"{least} to {most}"
        self._refuse(row.name, f"`{row.name}` must be a whole number, {limits}")
        return None

    def _cursor(self, row: Parameter) -> Cursor | None:
        text = self._one(row)
        cursor = None if text is None else parse_cursor(text)
        if text is not None and cursor is None:
            self._refuse(row.name, "The cursor `after` must come from a `next` link")
        return cursor

    def _fields(self, row: Parameter) -> tuple[str, ...]:
        names = [name for text in self.asked.get(row.name, ()) for name in text.split(",")]
        for name in names:
            if name != ALL_FIELDS and not name.startswith(META_PREFIX):
                hint = f": write {META_PREFIX}{name[:100]}" if name else ""
                self._refuse(row.name, f"{name[:100]!r} is not metadata{hint}")
        return tuple(dict.fromkeys(names))

    def _level(self, row: Parameter) -> str:
        try:
            return parse_level(self._one(row) or LEVELS[0])
        except ValueError as error:
            self._refuse(row.name, str(error))
            return LEVELS[0]

    def _condition(self, name: str, texts: Sequence[str]) -> Condition:
        if name == META_PREFIX:
            self._refuse(name, "`meta.` needs a key, for example meta.airmass")
        self._given(name)
        ranges = [found for found in map(_range, texts) if found is not None]
        exact = {tag_text(text) for text in texts}
        text_name = name if name.endswith(TEXT_SUFFIX) else f"{name}{TEXT_SUFFIX}"

        def is_satisfied(fields: Mapping[str, str | float]) -> bool:
            number = fields.get(name)
            if isinstance(number, float) and any(low <= number <= high for low, high in ranges):
                return True
            return fields.get(text_name) in exact

        return is_satisfied


class _ReportReader(_Reader):
    """Reads what a report should be about; its page is a form, which sends empty texts."""

    def __init__(self, asked: dict[str, list[str]], *, now_ns: int) -> None:
        super().__init__({}, schema=Schema(), now_ns=now_ns)
        for name, texts in asked.items():
            stripped = [text.strip() for text in texts if text.strip()]
            if name not in ASKED["report"]:
                shown = name[:_LONGEST_NAME]
                hint = self._hints.of(name, ASKED["report"])
                self._refuse(shown, f"A report has no parameter '{shown}'{hint}")
                continue
            if stripped:
                self.asked[name] = stripped
            if len(stripped) > 1 and not PARAMETERS[name].is_repeated:
                self._refuse(name, f"'{name}' can be given only once")
            if len(stripped) > _MOST_TEXTS:
                self._refuse(name, f"'{name}' can be given at most {_MOST_TEXTS} times")
            if any(len(text) > _LONGEST or _UNTEXT.search(text) for text in stripped):
                self._refuse(name, f"'{name}' must have at most {_LONGEST} characters, and no NUL")

    def question(self) -> Question:
        names = [name for name in ASKED["report"] if not name.startswith(COMPARED)]
        tags = {name: self._kept(name) for name in HEADLINE_TAGS if name in self.asked}
        found = Question(**self._parts(*names), tags=tags)
        self._check_order("since", found.since_ns, found.until_ns)
        return found

    def other(self, about: Question) -> Question:
        """Read what to compare with: as `about`, but for other runs, releases or times."""
        names = [name for name in ASKED["report"] if name.startswith(COMPARED)]
        found = replace(about, **self._parts(*names))
        if any(name in self.asked for name in names):
            self._check_order(f"{COMPARED}since", found.since_ns, found.until_ns)
        return found

    def _time(self, row: Parameter) -> int | None:
        time_ns = super()._time(row)
        if time_ns is not None and not 0 <= time_ns < 2**63:
            text = self.asked[row.name][0][:40]
            self._refuse(row.name, f"'{text}' is before 1970, or too far ahead")
        return time_ns


def _range(text: str) -> tuple[float, float] | None:
    """Read a range: a number, or two with `..` between them, of which one may be missing."""
    low, dots, high = text.partition("..")
    ends = (_number(low, -inf), _number(high, inf) if dots else _number(low, inf))
    if text in {"", ".."} or ends[0] is None or ends[1] is None:
        return None
    return ends[0], ends[1]


def _number(text: str, default: float) -> float | None:
    try:
        return finite(float(text)) if text else default
    except ValueError:
        return None
