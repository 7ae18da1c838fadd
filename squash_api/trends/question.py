"""What is asked for, from the parameters of an address or the options of a command."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from difflib import get_close_matches
from math import inf
from typing import Literal, cast

from squash_api.errors import Detail, InvalidInputError
from squash_api.index.windows import Fields
from squash_api.ingest.document import parse_time_ns
from squash_api.judging.alerts import parse_duration
from squash_api.schema.names import META_PREFIX, TAG_SOURCES, TEXT_SUFFIX, Schema
from squash_api.schema.text import finite, tag_text
from squash_api.trends.downsampling import FEWEST_POINTS, MOST_POINTS
from squash_api.trends.series import Condition, Cursor, Selection

Format = Literal["json", "csv", "parquet"]
FORMATS: tuple[Format, ...] = ("json", "csv", "parquet")
ALL_FIELDS = "*"
TAG_PREFIX = "tag."
OWN_PARAMETERS = (
    "metric",
    "package",
    "run",
    "version_tag",
    "job",
    "since",
    "until",
    "unit",
    "fields",
    "absent",
    "points",
    "format",
    "limit",
    "after",
)
"""Parameters beside the tags and `meta.<key>`."""

MOST_JSON = 1000
"""Most values on a page."""

_DEFAULT_JSON = 100
_ONCE = ("since", "until", "unit", "absent", "points", "format", "limit", "after")
_MOST_ID = 2**63 - 1
_TRUTH = {"true": True, "1": True, "false": False, "0": False}


@dataclass(frozen=True, slots=True)
class Question:
    """Which values, and how they are to be given.

    `fields` are the names of metadata to give, possibly `*` for all. Without `limit` there is none.
    """

    selection: Selection
    fields: tuple[str, ...] = ()
    points: int | None = None
    format: Format = "json"
    limit: int | None = None
    after: Cursor | None = None


def read_question(
    parameters: Iterable[tuple[str, str]], *, schema: Schema, now_ns: int
) -> Question:
    """Read parameters, each a name and its text; a name may come repeatedly.

    Raises
    ------
    InvalidInputError
        Naming all parameters that there are not, and all texts that are wrong.
    """
    asked: dict[str, list[str]] = {}
    for name, text in parameters:
        asked.setdefault(name, []).append(text)
    reader = _Reader(asked, schema, now_ns)
    question = reader.question()
    if reader.problems:
        first = reader.problems[0].msg
        end = "" if first.endswith("?") else "."
        raise InvalidInputError(f"{first}{end}", detail=reader.problems[:100])
    return question


def parse_cursor(text: str) -> Cursor | None:
    """Return the cursor that `cursor_text` has written, or None if it is none."""
    time_ns, _, metric_id = text.partition(".")
    if not all(
        part.isascii() and part.isdigit() and len(part) < 20 for part in (time_ns, metric_id)
    ):
        return None
    cursor = Cursor(int(time_ns), int(metric_id))
    return cursor if max(cursor.time_ns, cursor.metric_id) <= _MOST_ID else None


def cursor_text(cursor: Cursor) -> str:
    """Return a cursor as text."""
    return f"{cursor.time_ns}.{cursor.metric_id}"


def column_of(tag: str) -> str:
    """Return the parameter and column of a tag: its name, unless that is one of ours."""
    return f"{TAG_PREFIX}{tag}" if tag in _TAKEN else tag


# Names of parameters and columns that are no tags.
_TAKEN = frozenset(
    {*OWN_PARAMETERS, "time", "time_ns", "value", "run_id", "run_url", "tags", "identifier"}
)


class _Reader:
    """Reads all parameters, and gathers what is wrong with them."""

    def __init__(self, asked: dict[str, list[str]], schema: Schema, now_ns: int) -> None:
        self._asked = asked
        self._schema = schema
        self._now_ns = now_ns
        self.problems: list[Detail] = []

    def question(self) -> Question:
        self._check_names()
        fields = self._fields()
        points = self._count("points", least=FEWEST_POINTS, most=MOST_POINTS)
        chosen = cast("Format", self._one("format") or "json")
        if chosen not in FORMATS:
            self._refuse(
                "format", f"There is no format {chosen!r}: choose among json, csv, parquet"
            )
        most = MOST_JSON if chosen == "json" else _MOST_ID
        limit = self._count("limit", least=1, most=most)
        after = self._after()
        if points is not None and (limit is not None or after is not None):
            self._refuse("points", "`points` gives all at once: it does not go with a page")
        if limit is None and chosen == "json" and points is None:
            limit = _DEFAULT_JSON
        selection = replace(self._selection(), has_fields=bool(fields))
        return Question(selection, fields, points, chosen, limit, after)

    def _selection(self) -> Selection:
        since_ns, until_ns = self._time("since"), self._time("until")
        if since_ns is not None and until_ns is not None and since_ns > until_ns:
            self._refuse("since", "`since` is later than `until`")
        return Selection(
            metrics=self._texts("metric"),
            packages=self._texts("package"),
            tags=self._tags(),
            runs=self._tag_texts("run"),
            version_tags=self._tag_texts("version_tag"),
            jobs=self._jobs(),
            since_ns=since_ns,
            until_ns=until_ns,
            conditions=tuple(
                self._condition(name, texts)
                for name, texts in self._asked.items()
                if name.startswith(META_PREFIX)
            ),
            unit=self._one("unit"),
            has_absent=self._truth("absent"),
        )

    def _refuse(self, name: str, problem: str) -> None:
        self.problems.append(Detail(("query", name), problem))

    def _check_names(self) -> None:
        aliases = [key for keys in TAG_SOURCES.values() for key in keys]
        known = [*OWN_PARAMETERS, *self._schema.tags, *aliases]
        for name, texts in self._asked.items():
            if name in _ONCE and len(texts) > 1:
                self._refuse(name, f"`{name}` can be given once only")
            is_tag = self._tag_of(name) is not None
            if name in OWN_PARAMETERS or is_tag or name.startswith(META_PREFIX):
                continue
            shown = name[:100]
            near = get_close_matches(shown, known, n=1)
            hint = f"did you mean `{near[0]}`?" if near else f"metadata is `meta.{shown}`"
            self._refuse(name, f"There is no parameter `{shown}`; {hint}")

    def _tag_of(self, name: str) -> str | None:
        """Return the tag that a parameter names, itself or by one of its sources."""
        if name in OWN_PARAMETERS:
            return None
        if name.startswith(TAG_PREFIX):
            short = name.removeprefix(TAG_PREFIX)
            return short if short in self._schema.tags else None
        if name in self._schema.tags:
            return name
        return next((tag for tag, keys in TAG_SOURCES.items() if name in keys), None)

    def _texts(self, name: str) -> tuple[str, ...]:
        texts = self._asked.get(name, [])
        if "" in texts:
            self._refuse(name, f"`{name}` is empty")
        return tuple(dict.fromkeys(texts))

    def _one(self, name: str) -> str | None:
        texts = self._asked.get(name)
        return texts[0] if texts else None

    def _tag_texts(self, name: str) -> tuple[str, ...]:
        """Return texts as the record keeps them."""
        return tuple(tag_text(text) or "" for text in self._texts(name))

    def _tags(self) -> dict[str, tuple[str, ...]]:
        found: dict[str, tuple[str, ...]] = {}
        for name in self._asked:
            tag = self._tag_of(name)
            if tag is not None:
                found[tag] = (*found.get(tag, ()), *self._tag_texts(name))
        return found

    def _jobs(self) -> tuple[int, ...] | None:
        texts = self._texts("job")
        wrong = [text for text in texts if text and not (text.isascii() and text.isdigit())]
        for text in wrong:
            self._refuse("job", f"{text[:100]!r} is no id of a job")
        if not texts or wrong:
            return None
        # An id that no job can have is of no job.
        return tuple(int(text) for text in texts if text and len(text) < 19)

    def _time(self, name: str) -> int | None:
        text = self._one(name)
        if text is None:
            return None
        time_ns = parse_time_ns(text)
        if time_ns is not None:
            return time_ns
        try:
            return self._now_ns - parse_duration(text) * 10**9
        except ValueError:
            self._refuse(
                name,
                f"{text[:100]!r} is neither an ISO 8601 date, like 2026-11-22T12:00:00Z, nor how "
                "long ago, like 90d or 12h",
            )
            return None

    def _truth(self, name: str) -> bool:
        text = self._one(name)
        if text is not None and text.lower() not in _TRUTH:
            self._refuse(name, f"`{name}` must be true or false")
        return _TRUTH.get((text or "false").lower(), False)

    def _count(self, name: str, *, least: int, most: int) -> int | None:
        text = self._one(name)
        if text is None:
            return None
        if text.isascii() and text.isdigit() and len(text) < 20 and least <= int(text) <= most:
            return int(text)
        limits = f"at least {least}" if most == _MOST_ID else f"{least} to {most}"
        self._refuse(name, f"`{name}` must be a whole number, {limits}")
        return None

    def _after(self) -> Cursor | None:
        text = self._one("after")
        cursor = None if text is None else parse_cursor(text)
        if text is not None and cursor is None:
            self._refuse("after", "The cursor `after` must be the one of a `next` link")
        return cursor

    def _fields(self) -> tuple[str, ...]:
        names = [name for text in self._asked.get("fields", ()) for name in text.split(",")]
        for name in names:
            if name != ALL_FIELDS and not name.startswith(META_PREFIX):
                hint = f": write {META_PREFIX}{name[:100]}" if name else ""
                self._refuse("fields", f"{name[:100]!r} is no metadata{hint}")
        return tuple(dict.fromkeys(names))

    def _condition(self, name: str, texts: Sequence[str]) -> Condition:
        if name == META_PREFIX:
            self._refuse(name, "`meta.` needs a key: write for instance meta.airmass")
        if "" in texts:
            self._refuse(name, f"`{name[:100]}` is empty")
        ranges = [found for found in map(_range, texts) if found is not None]
        exact = {tag_text(text) for text in texts}
        text_name = name if name.endswith(TEXT_SUFFIX) else f"{name}{TEXT_SUFFIX}"

        def is_satisfied(fields: Fields) -> bool:
            number = fields.get(name)
            if isinstance(number, float) and any(low <= number <= high for low, high in ranges):
                return True
            return fields.get(text_name) in exact

        return is_satisfied


def _range(text: str) -> tuple[float, float] | None:
    """Return the ends of what a text allows: a number, or two with `..` between, one may lack."""
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
