"""The names in InfluxDB: tags, fields, aliases, and which metadata value goes where.

Nothing else knows these names. What writes points, judges specifications or generates alerts and
dashboards takes them from here, so that all agree.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from math import inf, isfinite, nextafter
from operator import itemgetter
from typing import Any, NamedTuple

from squash_api.errors import SettingsError
from squash_api.schema.text import (
    MAX_FIELD_TEXT_BYTES,
    MAX_TEXT_BYTES,
    SentNumber,
    clean_text,
    finite,
    is_changed,
    link_text,
    tag_text,
)

TAGS = (
    "env_name",
    "instrument",
    "dataset",
    "dataset_name",
    "dataset_repo_url",
    "filter",
    "physical_filter",
    "pipeline",
    "status",
    "ccdnum",
    "detector",
    "tract",
    "patch",
    "band",
    "skymap",
    "camera_name",
)
"""Tags of every point, in this order; `SQUASH_TAGS` adds to them, specifications never do."""

VALUE_TAGS = ("dataset", "filter", "instrument")
"""What people filter values by, on pages, dashboards and the command line, in this order."""

HEADLINE_TAGS = ("pipeline", *VALUE_TAGS)
"""The tags that people see everywhere.

All other tags name parts of a focal plane or of the sky, or say where a job ran.
"""

RUN_TAGS = tuple(tag for tag in HEADLINE_TAGS if tag != "instrument")
"""What runs are filtered by; the dataset of a run implies its instrument."""

LINE_TAGS = tuple(tag for tag in VALUE_TAGS if tag != "instrument")
"""Values with the same values of these are one line of a dashboard's graph."""

MESSAGE_TAGS = (*LINE_TAGS, "pipeline")
"""What every alert names, most useful first; the instrument only where alerts differ by it."""

SERIES_TAGS = ("instrument", *LINE_TAGS, "pipeline", "detector", "ccdnum", "tract", "patch")
"""What tells the series of a metric apart, and alerts unless a specification says otherwise.

The order is part of the ids of alerts: a change would end every alert and raise it again.
"""

PART_TAGS = ("spectrograph", "ccd", "fiber")
"""Further parts of a focal plane, which are tags, and tell series apart, if `SQUASH_TAGS` has them.

The others that it adds do not.
"""

STANDING_TAGS = (*SERIES_TAGS, *PART_TAGS)
"""The tags that a metric has a standing for each combination of; those that jobs do not have, none.
"""

TAG_SOURCES: dict[str, tuple[str, ...]] = {
    "filter": ("filter_name", "physical_filter", "filter"),
    "dataset": ("ci_dataset", "dataset"),
    "pipeline": ("ci_name", "pipeline"),
}
"""Metadata keys that feed a tag, best first; the key of its own name feeds any other tag."""

FIELD_SOURCES: dict[str, tuple[str, ...]] = {
    "run_id": ("ci_id", "run_id"),
    "run_url": ("ci_url", "run_id_url", "run_url"),
    "version_tag": ("version_tag",),
}
"""Metadata keys that feed the text fields of the contract, best first."""

_PLACEHOLDERS = {
    "run_id": {"unknown"},
    "run_url": {"https://example.com", "https://example.com/"},
    "version_tag": {"unknown"},
}
"""What lsst.verify writes where it knows nothing: else everybody's jobs would be one run."""

RUN_ID = "run_id"
RUN_URL = "run_url"
SQUASH_ID = "squash_id"
SQUASH_URL = "squash_url"
TIMESTAMP = "timestamp"
CODE_CHANGES = "code_changes"
CODE_CHANGES_COUNTS = "code_changes_counts"

CONTRACT_FIELDS = frozenset(
    {*FIELD_SOURCES, SQUASH_ID, SQUASH_URL, TIMESTAMP, CODE_CHANGES, CODE_CHANGES_COUNTS}
)

SPEAKS_FOR = "squash_speaks_for"
"""The groupings of a metric whose newest value a point has; without it, all of them.

Only points that are sent to Kapacitor have this field, `GONE`, `NOT_FOR`, `ARTIFACT_URL` and
`SINCE_GOOD`.
"""

GONE = "squash_gone"
"""Says that a series has no value to alert on any more; the value next to it is a placeholder."""

GONE_WHOLLY = 1.0
"""What `GONE` is if the series has no value at all."""

GONE_OLD = 2.0
"""What `GONE` is if the series has only values that are too old to alert on."""

NOT_FOR = "squash_not_for"
"""The branches that must not alert on a point: the service tells of them itself, or not now."""

ARTIFACT_URL = "squash_artifact"
"""The address of the job's first artifact, for the message of an alert."""

SINCE_GOOD = "squash_changes"
"""What has changed in the code since the last good run, for the message of an alert."""

_RESERVED_FIELDS = CONTRACT_FIELDS | {SPEAKS_FOR, GONE, NOT_FOR, ARTIFACT_URL, SINCE_GOOD}
META_PREFIX = "meta."
TEXT_SUFFIX = ".text"
RESERVED_PACKAGE_PREFIX = "squash"

_NOT_METADATA = frozenset({"date", "ci_label", "packages"})


@dataclass(frozen=True, slots=True)
class Cleaning:
    """Why a metadata value was changed or left out of the points."""

    key: str
    reason: str


class Among(NamedTuple):
    """A condition on metadata: to be one of several values, which are sorted."""

    values: tuple[str | float, ...]

    def includes(self, found: str | float) -> bool:
        """Return whether metadata with this value meet it."""
        return found in self.values

    @property
    def example(self) -> str | float:
        """A value that meets it."""
        return self.values[0]


class Interval(NamedTuple):
    """A condition on numeric metadata: to be between two numbers, None for no end.

    `has_low` and `has_high` say whether the ends themselves are included.
    """

    low: float | None
    high: float | None
    has_low: bool = False
    has_high: bool = False

    def includes(self, found: str | float) -> bool:
        """Return whether metadata with this value meet it."""
        if isinstance(found, str):
            return False
        is_above = self.low is None or found > self.low or (self.has_low and found == self.low)
        is_below = self.high is None or found < self.high or (self.has_high and found == self.high)
        return is_above and is_below

    @property
    def example(self) -> float | None:
        """A value that meets it; None if no float does."""
        low = -inf if self.low is None else self.low
        high = inf if self.high is None else self.high
        tried = (low, high, nextafter(low, inf), nextafter(high, -inf))
        return next((item for item in tried if isfinite(item) and self.includes(item)), None)


@dataclass(frozen=True, slots=True)
class Term:
    """One term of a `metadata_query`, to be compared with a tag or a field."""

    name: str
    value: str | float | Among | Interval
    is_tag: bool

    def is_met_by(self, found: str | float | None) -> bool:
        """Return whether a tag or field with this value meets it; None for no value."""
        if found is None:
            return False
        value = self.value
        return found == value if isinstance(value, str | float) else value.includes(found)

    @property
    def values(self) -> tuple[str | float, ...] | None:
        """The only values that meet it; None if there are too many."""
        if isinstance(self.value, Interval):
            return None
        return self.value.values if isinstance(self.value, Among) else (self.value,)

    def implies(self, other: "Term") -> bool:
        """Return whether all values that meet it meet another term too."""
        if self.name != other.name:
            return False
        if self.values is not None:
            return all(map(other.is_met_by, self.values))
        own, its = self.value, other.value
        if not isinstance(own, Interval) or not isinstance(its, Interval):
            return False
        has_low = its.low is None or (own.low is not None and its.low < own.low)
        has_high = its.high is None or (own.high is not None and its.high > own.high)
        return (has_low or (own.low == its.low and its.has_low >= own.has_low)) and (
            has_high or (own.high == its.high and its.has_high >= own.has_high)
        )

    @property
    def example(self) -> str | float:
        """A value that meets it."""
        if isinstance(self.value, str | float):
            return self.value
        found = self.value.example
        return 0.0 if found is None else found


@dataclass(frozen=True, slots=True)
class Context:
    """A job's metadata under InfluxDB's names: what its points have in addition to values."""

    tags: dict[str, str] = field(default_factory=dict)
    fields: dict[str, str | float] = field(default_factory=dict)
    cleanings: list[Cleaning] = field(default_factory=list)

    def satisfies(self, term: Term) -> bool:
        """Return whether the metadata has the term's value under the term's name."""
        # As `Term.is_met_by`, without another call: this runs for every limit of every job.
        found = self.tags.get(term.name) if term.is_tag else self.fields.get(term.name)
        if found is None:
            return False
        value = term.value
        return found == value if isinstance(value, str | float) else value.includes(found)


def split_metric_name(name: str) -> tuple[str, str]:
    """Split a metric name at its first dot into InfluxDB's measurement and field key.

    A name without a dot gives an empty measurement.
    """
    measurement, dot, key = name.partition(".")
    return (measurement, key) if dot else ("", name)


def _extra_tag_problem(name: str) -> str | None:
    """Return why `SQUASH_TAGS` cannot name this tag, or None if it can."""
    if name == "time" or name in _RESERVED_FIELDS or name.startswith((META_PREFIX, "_")):
        return f"'{name}' is the name of a field, or reserved"
    if not name or clean_text(name) != name or " " in name:
        return f"'{name}' is not a plain word"
    if any(name in keys and name != tag for tag, keys in TAG_SOURCES.items()):
        return f"'{name}' feeds another tag already"
    if name in _NOT_METADATA or len(name.encode()) > MAX_TEXT_BYTES:
        return f"'{name[:40]}' never reaches InfluxDB"
    return None


@dataclass(frozen=True, slots=True)
class Schema:
    """The names in force: the fixed ones and the tags that `SQUASH_TAGS` adds.

    `tag_keys` are the metadata keys that feed a tag.

    Raises
    ------
    SettingsError
        If an added tag has an impossible name.
    """

    extra_tags: tuple[str, ...] = ()
    tags: tuple[str, ...] = field(init=False)
    tag_keys: frozenset[str] = field(init=False)
    _names: tuple[str, ...] = field(init=False)
    _feeds: dict[str, tuple[tuple[str, int], ...]] = field(init=False)
    _mapped: dict[str, str] = field(init=False)

    def __post_init__(self) -> None:
        problems = [problem for problem in map(_extra_tag_problem, self.extra_tags) if problem]
        if problems:
            raise SettingsError(f"SQUASH_TAGS: {'; '.join(problems)}")
        tags = tuple(dict.fromkeys((*TAGS, *self.extra_tags)))
        names = (*tags, *FIELD_SOURCES)
        feeds: dict[str, tuple[tuple[str, int], ...]] = {}
        for name in names:
            keys = TAG_SOURCES.get(name) or FIELD_SOURCES.get(name) or (name,)
            for rank, key in enumerate(keys):
                feeds[key] = (*feeds.get(key, ()), (name, rank))
        # physical_filter feeds two tags; a query for it means its own.
        mapped = {key: key if key in names else fed[0][0] for key, fed in feeds.items()}
        object.__setattr__(self, "tags", tags)
        feeding = (key for key, fed in feeds.items() if any(name in tags for name, _ in fed))
        object.__setattr__(self, "tag_keys", frozenset(feeding))
        object.__setattr__(self, "_names", names)
        object.__setattr__(self, "_feeds", feeds)
        object.__setattr__(self, "_mapped", mapped)

    def name_problem(self, metric: str) -> str | None:
        """Return why a metric of this name cannot be a field in InfluxDB, or None if it can."""
        measurement, key = split_metric_name(metric)
        if not measurement:
            return "the name has no package: write package.metric"
        if not key:
            return "the name ends after its package: write package.metric"
        if measurement.startswith("#"):
            return "a package cannot begin with '#': InfluxDB would read a comment"
        if measurement.startswith(RESERVED_PACKAGE_PREFIX):
            return f"package names that begin with '{RESERVED_PACKAGE_PREFIX}' are reserved"
        if is_changed(measurement) or is_changed(key) or is_changed(metric):
            return (
                "the name holds what InfluxDB cannot: a control character, '#!~', or a backslash "
                "at the end or before a comma, equals sign, space or quote"
            )
        if measurement in {"_fieldKeys", "_measurements", "_name", "_series", "_tagKeys", "_tags"}:
            return f"InfluxDB keeps '{measurement}' for itself"
        if len(metric.encode()) > MAX_TEXT_BYTES:
            return f"the name is longer than {MAX_TEXT_BYTES} bytes"
        if key == "time" or key in _RESERVED_FIELDS or key in self.tags:
            return f"'{key}' is the name of a tag or field that every point has"
        if key.startswith(META_PREFIX):
            return f"names that begin with '{META_PREFIX}' are for metadata"
        return None

    @property
    def series_tags(self) -> tuple[str, ...]:
        """What tells the series of a metric apart, and alerts by default."""
        return (*SERIES_TAGS, *(tag for tag in PART_TAGS if tag in self.tags))

    @property
    def sources(self) -> tuple[str, ...]:
        """The metadata keys that feed a tag or a text field of the contract."""
        return tuple(self._feeds)

    def term(self, key: str, value: Any) -> Term | None:
        """Return a term of a `metadata_query` as it is compared; None if it never matches."""
        found = self._term(key, value)
        return found if isinstance(found, Term) else None

    def term_problem(self, key: str, value: Any) -> str | None:
        """Return why no job can match a term of a `metadata_query`; None if one can."""
        found = self._term(key, value)
        return found if isinstance(found, str) else None

    def _term(self, key: str, value: Any) -> Term | str:
        if key in _NOT_METADATA:
            return f"the key '{key}' is not written to InfluxDB"
        if value is None or isinstance(value, dict):
            return f"{'null' if value is None else 'a mapping'} has no text to compare"
        name = self._mapped.get(key)
        name, stored, reason = (
            _as_field(key, value) if name is None else (name, *_as_text(name, value))
        )
        if stored is None:
            return (reason or "").removesuffix(": left out")
        return Term(name, stored, is_tag=name in self.tags)

    def context(self, meta: Mapping[str, Any]) -> Context:
        """Map a job's metadata to tags and fields.

        A tag is looked for at the top level, then in `env`, then in the other objects; within
        each in the order of its sources. Values that feed neither a tag nor a field of the contract
        become `meta.<key>` (finite numbers) or `meta.<key>.text` (text, booleans and lists). The
        key is the innermost one, with its parent in front if another value has that name.
        """
        scopes: _Scopes = ([], [], [])
        _collect(meta, (), 0, scopes)
        context = Context()
        fed: dict[str, list[_Candidate]] = {}
        others: list[_Leaf] = []
        for scope, leaves in enumerate(scopes):
            for leaf in leaves:
                feeds = self._feeds.get(leaf[1])
                if feeds is None:
                    others.append(leaf)
                    continue
                for name, rank in feeds:
                    fed.setdefault(name, []).append((scope, rank, leaf))
        for name in self._names:
            if name in fed:
                self._choose(name, fed[name], context)
        for leaf in others:
            _store_other(leaf, context)
        return context

    def _choose(self, name: str, candidates: "list[_Candidate]", context: Context) -> None:
        """Fill one tag or field of the contract from its best source; note the other sources."""
        if len(candidates) > 1:
            candidates.sort(key=itemgetter(0, 1))
        target: dict[str, Any] = context.fields if name in FIELD_SOURCES else context.tags
        for _, _, (_, key, value) in candidates:
            if value is None:
                continue
            text, reason = _as_text(name, value)
            if reason is None and name not in target:
                target[name] = text
                _note_change(key, value, text, context)
            elif reason is None and text != target[name]:
                reason = f"another key feeds '{name}': left out"
            if reason is not None and self._mapped[key] == name:
                context.cleanings.append(Cleaning(key, reason))


# The path to a value of the metadata, its key, and the value.
_Leaf = tuple[tuple[str, ...], str, Any]
# A value that may fill a tag: its scope, and its rank among the sources.
_Candidate = tuple[int, int, _Leaf]
# Values at the top level, directly in `env`, and elsewhere.
_Scopes = tuple[list[_Leaf], list[_Leaf], list[_Leaf]]


def _collect(node: Mapping[str, Any], path: tuple[str, ...], scope: int, scopes: _Scopes) -> None:
    """Sort the values of an object, and of those inside it, into `scopes`."""
    found = scopes[scope]
    for key, value in node.items():
        if key in _NOT_METADATA:
            continue
        if isinstance(value, dict):
            inner = 1 if scope == 0 and key == "env" else 2
            _collect(value, (*path, key), inner, scopes)
        else:
            found.append((path, key, value))


def _as_text(name: str, value: Any) -> tuple[str | None, str | None]:
    """Convert a value to a tag or text field of the contract, or return None and why not."""
    text = tag_text(value)
    if text is None:
        return None, "empty: left out"
    if text in _PLACEHOLDERS.get(name, ()):
        return None, "only a placeholder of lsst.verify: left out"
    if name == RUN_URL:
        text = link_text(value) if isinstance(value, str) else None
        if text is None:
            return None, "not an http or https URL: left out"
    if len(text) * 4 > MAX_TEXT_BYTES and len(text.encode()) > MAX_TEXT_BYTES:
        return None, f"longer than {MAX_TEXT_BYTES} bytes: left out"
    return text, None


def _as_field(key: str, value: Any) -> tuple[str, str | float | None, str | None]:
    """Return the name and value of other metadata; or the name, None and why it is left out."""
    clean_key = clean_text(key)
    stored: str | float | None
    if isinstance(value, int | float) and not isinstance(value, bool):
        name, stored = f"{META_PREFIX}{clean_key}", finite(value)
        if stored is None:
            return name, None, "not a finite number: left out"
        if clean_key.endswith(TEXT_SUFFIX):
            return name, None, f"a number whose key ends in '{TEXT_SUFFIX}': left out"
    else:
        name, stored = f"{META_PREFIX}{clean_key}{TEXT_SUFFIX}", tag_text(value)
        if stored is None:
            return name, None, "empty: left out"
        if len(stored) * 4 > MAX_FIELD_TEXT_BYTES and len(stored.encode()) > MAX_FIELD_TEXT_BYTES:
            return name, None, f"longer than {MAX_FIELD_TEXT_BYTES} bytes: left out"
    if not clean_key:
        return name, None, "an empty key: left out"
    if len(clean_key) * 4 > MAX_TEXT_BYTES and len(clean_key.encode()) > MAX_TEXT_BYTES:
        return name, None, f"a key longer than {MAX_TEXT_BYTES} bytes: left out"
    return name, stored, None


def _note_change(key: str, value: Any, stored: str | float | None, context: Context) -> None:
    """Note what a value has lost on the way to a tag or field."""
    if value == stored and type(value) in _KEPT:
        return
    if isinstance(stored, float):
        if not isinstance(value, SentNumber) or value.is_rounded:
            reason = f"rounded to {stored!r}: a 64-bit float holds no more digits"
            context.cleanings.append(Cleaning(key, reason))
    elif is_changed(value):
        context.cleanings.append(Cleaning(key, _REMOVED))


# If they are equal to what is stored, nothing was lost.
_KEPT = (str, float, int)
_REMOVED = "characters that InfluxDB cannot hold were removed"


def _store_other(leaf: _Leaf, context: Context) -> None:
    """Store a value as `meta.<key>` or `meta.<key>.text`."""
    path, key, value = leaf
    if value is None:
        return
    name, stored, reason = _as_field(key, value)
    is_key_changed = "\ufffd" in key or not name.startswith(META_PREFIX + key)
    if stored is not None and name in context.fields:
        name = _free_name(path, name, is_text=isinstance(stored, str), context=context)
        if not name:
            stored, reason = None, "its names in InfluxDB belong to other keys: left out"
    if stored is None:
        context.cleanings.append(Cleaning(".".join((*path, key)), reason or ""))
        return
    if is_key_changed:
        context.cleanings.append(Cleaning(key, _REMOVED))
    else:
        _note_change(key, value, stored, context)
    context.fields[name] = stored


def _free_name(path: tuple[str, ...], name: str, *, is_text: bool, context: Context) -> str:
    """Put the nearest or all parents in front of a name; return '' if both are taken."""
    key = name.removeprefix(META_PREFIX)
    for parents in (path[-1:], path):
        longer = ".".join([*map(clean_text, parents), key])
        # A number `text` in an object `a` must not get the name of the text `a`.
        is_of_type = is_text or not longer.endswith(TEXT_SUFFIX)
        longer = META_PREFIX + longer
        if (
            is_of_type
            and longer not in context.fields
            and len(longer.encode()) <= 2 * MAX_TEXT_BYTES
        ):
            return longer
    return ""
