"""The names in InfluxDB: tags, fields, aliases, and how a metadata value becomes text.

The only owner of these names. The writer of points, the judge of specifications and the makers of
alerts and dashboards all ask here, so that they cannot disagree.
"""

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from math import isfinite
from typing import Any

from squash_api.errors import SettingsError

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

TAG_SOURCES: dict[str, tuple[str, ...]] = {
    "filter": ("filter_name", "physical_filter", "filter"),
    "dataset": ("ci_dataset", "dataset"),
    "pipeline": ("ci_name", "pipeline"),
}
"""Metadata keys that feed a tag, best first; any other tag is fed by the key of its own name."""

FIELD_SOURCES: dict[str, tuple[str, ...]] = {
    "run_id": ("ci_id", "run_id"),
    "run_url": ("ci_url", "run_id_url", "run_url"),
    "version_tag": ("version_tag",),
}
"""Metadata keys that feed the text fields of the contract, best first."""

RUN_ID = "run_id"
RUN_URL = "run_url"
VERSION_TAG = "version_tag"
SQUASH_ID = "squash_id"
SQUASH_URL = "squash_url"
TIMESTAMP = "timestamp"
CODE_CHANGES = "code_changes"
CODE_CHANGES_COUNTS = "code_changes_counts"

CONTRACT_FIELDS = frozenset(
    {
        RUN_ID,
        RUN_URL,
        VERSION_TAG,
        SQUASH_ID,
        SQUASH_URL,
        TIMESTAMP,
        CODE_CHANGES,
        CODE_CHANGES_COUNTS,
    }
)
META_PREFIX = "meta."
TEXT_SUFFIX = ".text"
RESERVED_PACKAGE_PREFIX = "squash"

_SYSTEM_MEASUREMENTS = frozenset(
    {"_fieldKeys", "_measurements", "_name", "_series", "_tagKeys", "_tags"}
)

MAX_TEXT_BYTES = 1000
"""Longest tag value, metadata key or metric name, in bytes of UTF-8."""

MAX_FIELD_TEXT_BYTES = 64_000
"""InfluxDB's limit of a string field is 64 kB."""

_NOT_METADATA = frozenset({"date", "ci_label", "packages"})
_CONTROL = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029]")
_SURROGATE = re.compile("[\ud800-\udfff]")
_LOOSE_BACKSLASHES = re.compile(r'\\+(?=[,= "]|\Z)')
_LINK = re.compile(r"https?://[^\s]+\Z", re.IGNORECASE)
# Below this an integral float prints as the integer it equals; above, its digits would be invented.
_INTEGRAL_LIMIT = 1e18


@dataclass(frozen=True, slots=True)
class Cleaning:
    """A metadata value that was changed or left out on its way to InfluxDB, and why."""

    key: str
    reason: str


@dataclass(frozen=True, slots=True)
class Term:
    """One term of a `metadata_query`, as it is compared: with a tag, or with a field."""

    name: str
    value: str | float
    is_tag: bool


@dataclass(frozen=True, slots=True)
class Context:
    """A job's metadata under InfluxDB's names: what its points carry beside the values."""

    tags: dict[str, str] = field(default_factory=dict)
    fields: dict[str, str | float] = field(default_factory=dict)
    cleanings: list[Cleaning] = field(default_factory=list)

    def satisfies(self, term: Term) -> bool:
        """Tell whether the metadata has the term's value under the term's name."""
        found = self.tags.get(term.name) if term.is_tag else self.fields.get(term.name)
        return found is not None and found == term.value


def is_link(text: str) -> bool:
    """Tell whether the text is an http or https URL, the only kind that is ever rendered."""
    return _LINK.match(text) is not None


def clean_text(text: str) -> str:
    """Make text safe for every position of the line protocol.

    Lone surrogates become U+FFFD. Control characters go (newlines too), and backslashes at the end
    or before a comma, equals sign, space or quote, which no escaping brings across. So does the
    middle of `#!~#`, by which InfluxDB parts series and field in its files: a name that holds it
    comes back from a restart as another (measured on 1.6.7).
    """
    if not text.isascii():
        text = _SURROGATE.sub("\ufffd", text)
    if not text.isprintable():
        text = _CONTROL.sub("", text)
    if "\\" in text:
        text = _LOOSE_BACKSLASHES.sub("", text)
    return text.replace("#!~", "#~") if "#!~" in text else text


def tag_text(value: Any) -> str | None:
    """Return the text that stands for a metadata value in InfluxDB, or None if there is none.

    Integral numbers print as integers, also inside lists; booleans as `true` and `false`; lists
    as compact JSON; spaces as `_`. Null, objects, numbers that are not finite and empty text have
    none.
    """
    plain = _plain(value)
    if plain is None or isinstance(plain, dict):
        return None
    if not isinstance(plain, str):
        plain = json.dumps(plain, separators=(",", ":"), ensure_ascii=False)
    return clean_text(plain).replace(" ", "_") or None


def _plain(value: Any) -> Any:
    if isinstance(value, float):
        if not isfinite(value):
            return None
        return int(value) if value.is_integer() and abs(value) < _INTEGRAL_LIMIT else value
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    return value


def split_metric_name(name: str) -> tuple[str, str]:
    """Split a metric name at its first dot into InfluxDB's measurement and field key.

    A name without a dot gives an empty measurement.
    """
    measurement, dot, key = name.partition(".")
    return (measurement, key) if dot else ("", name)


def _extra_tag_problem(name: str) -> str | None:
    """Return why `SQUASH_TAGS` cannot name this tag, or None if it can."""
    if name == "time" or name in CONTRACT_FIELDS or name.startswith((META_PREFIX, "_")):
        return f"'{name}' is the name of a field, or reserved"
    if not name or clean_text(name) != name or " " in name:
        return f"'{name}' is not a plain word"
    if any(name in keys and name != tag for tag, keys in TAG_SOURCES.items()):
        return f"'{name}' feeds another tag already"
    return None


@dataclass(frozen=True, slots=True)
class Schema:
    """The names in force: the fixed ones and the tags that `SQUASH_TAGS` adds.

    Raises
    ------
    SettingsError
        If an added tag has an impossible name.
    """

    extra_tags: tuple[str, ...] = ()
    tags: tuple[str, ...] = field(init=False)
    _sources: tuple[tuple[str, tuple[str, ...]], ...] = field(init=False)
    _mapped: dict[str, str] = field(init=False)

    def __post_init__(self) -> None:
        problems = [problem for problem in map(_extra_tag_problem, self.extra_tags) if problem]
        if problems:
            raise SettingsError(f"SQUASH_TAGS: {'; '.join(problems)}")
        tags = tuple(dict.fromkeys((*TAGS, *self.extra_tags)))
        sources = tuple(
            (name, TAG_SOURCES.get(name) or FIELD_SOURCES.get(name) or (name,))
            for name in (*tags, *FIELD_SOURCES)
        )
        # physical_filter feeds two tags; a query for it means its own.
        mapped = {key: name for name, keys in sources for key in keys}
        mapped.update({name: name for name in (*tags, *FIELD_SOURCES)})
        object.__setattr__(self, "tags", tags)
        object.__setattr__(self, "_sources", sources)
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
        if clean_text(measurement) != measurement or clean_text(key) != key:
            return (
                "the name holds what InfluxDB cannot: a control character, '#!~', or a backslash "
                "at the end or before a comma, equals sign, space or quote"
            )
        if measurement in _SYSTEM_MEASUREMENTS:
            return f"InfluxDB keeps '{measurement}' for itself"
        if len(metric.encode()) > MAX_TEXT_BYTES:
            return f"the name is longer than {MAX_TEXT_BYTES} bytes"
        if key == "time" or key in CONTRACT_FIELDS or key in self.tags:
            return f"'{key}' is the name of a tag or field that every point has"
        if key.startswith(META_PREFIX):
            return f"names that begin with '{META_PREFIX}' are for metadata"
        return None

    def term(self, key: str, value: Any) -> Term | None:
        """Return how a term of a `metadata_query` is compared, or None if nothing can match it."""
        name = self._mapped.get(key)
        text = tag_text(value)
        if text is None:
            return None
        if name is not None:
            return Term(name, text, is_tag=name not in FIELD_SOURCES)
        if isinstance(value, int | float) and not isinstance(value, bool):
            return Term(f"{META_PREFIX}{clean_text(key)}", float(value), is_tag=False)
        return Term(f"{META_PREFIX}{clean_text(key)}{TEXT_SUFFIX}", text, is_tag=False)

    def context(self, meta: Mapping[str, Any]) -> Context:
        """Map a job's metadata to tags and fields.

        A tag is looked for at the top level, then in `env`, then in the other objects; within
        each in the order of its sources. What feeds no tag and no field of the contract becomes
        `meta.<key>` for a finite number and `meta.<key>.text` for text, booleans and lists, where
        the key is the innermost one, with its parent in front where another value has taken that
        name.
        """
        scopes = _scopes(meta)
        context = Context()
        # The first of several nested values with one key feeds the tag.
        by_key = [{leaf.key: leaf for leaf in reversed(leaves)} for leaves in scopes if leaves]
        for name, keys in self._sources:
            _take_mapped(name, keys, by_key, context)
        for leaves in scopes:
            for leaf in leaves:
                mapped = self._mapped.get(leaf.key)
                if mapped is None:
                    _take_other(leaf, context)
                else:
                    _note_loser(leaf, mapped, context)
        return context


@dataclass(frozen=True, slots=True)
class _Leaf:
    path: tuple[str, ...]
    key: str
    value: Any


def _scopes(meta: Mapping[str, Any]) -> tuple[list[_Leaf], list[_Leaf], list[_Leaf]]:
    """Return the values at the top level, those directly in `env`, and those in other objects."""
    top: list[_Leaf] = []
    env: list[_Leaf] = []
    nested: list[_Leaf] = []
    for key, value in meta.items():
        if key in _NOT_METADATA:
            continue
        if not isinstance(value, dict):
            top.append(_Leaf((), key, value))
        elif key == "env":
            for leaf in _leaves(value, ("env",)):
                (env if len(leaf.path) == 1 else nested).append(leaf)
        else:
            nested.extend(_leaves(value, (key,)))
    return top, env, nested


def _leaves(node: dict[str, Any], path: tuple[str, ...]) -> Iterator[_Leaf]:
    for key, value in node.items():
        if isinstance(value, dict):
            yield from _leaves(value, (*path, key))
        elif key not in _NOT_METADATA:
            yield _Leaf(path, key, value)


def _take_mapped(
    name: str, keys: tuple[str, ...], scopes: list[dict[str, _Leaf]], context: Context
) -> None:
    """Fill one tag or field of the contract from the best of its sources."""
    for leaves in scopes:
        for key in keys:
            leaf = leaves.get(key)
            if leaf is None or leaf.value is None:
                continue
            text = tag_text(leaf.value)
            reason = _text_problem(name, text)
            if text is None or reason:
                context.cleanings.append(Cleaning(key, reason or "empty: left out"))
                continue
            _note_change(leaf, text, context)
            (context.fields if name in FIELD_SOURCES else context.tags)[name] = text
            return


def _text_problem(name: str, text: str | None) -> str | None:
    if text is None:
        return "empty: left out"
    if len(text) * 4 > MAX_TEXT_BYTES and len(text.encode()) > MAX_TEXT_BYTES:
        return f"longer than {MAX_TEXT_BYTES} bytes: left out"
    if name == RUN_URL and not is_link(text):
        return "not an http or https URL: left out"
    return None


def _note_change(leaf: _Leaf, text: str, context: Context) -> None:
    if isinstance(leaf.value, str) and leaf.value.replace(" ", "_") != text:
        context.cleanings.append(
            Cleaning(leaf.key, "characters that InfluxDB cannot hold were taken out")
        )


def _note_loser(leaf: _Leaf, name: str, context: Context) -> None:
    """Say which of several values for one tag or field was not taken."""
    taken = context.tags.get(name) or context.fields.get(name)
    text = tag_text(leaf.value)
    if text is not None and taken is not None and text != taken:
        context.cleanings.append(Cleaning(leaf.key, f"another key feeds '{name}': left out"))


def _take_other(leaf: _Leaf, context: Context) -> None:
    """Store a value as `meta.<key>` or `meta.<key>.text`."""
    value = leaf.value
    if value is None:
        return
    key = clean_text(leaf.key)
    reason = _key_problem(key)
    stored: str | float | None
    if isinstance(value, int | float) and not isinstance(value, bool):
        suffix, stored = "", finite(value)
        if key.endswith(TEXT_SUFFIX):
            reason = f"a number whose key ends in '{TEXT_SUFFIX}': left out"
        elif stored is None:
            reason = "not a finite number: left out"
    else:
        suffix, stored = TEXT_SUFFIX, tag_text(value)
        if stored is None:
            reason = "empty: left out"
        elif len(stored) * 4 > MAX_FIELD_TEXT_BYTES and len(stored.encode()) > MAX_FIELD_TEXT_BYTES:
            reason = f"longer than {MAX_FIELD_TEXT_BYTES} bytes: left out"
    name = None if reason else _free_name(leaf.path, key, suffix, context)
    if name is None or stored is None:
        reason = reason or "other keys have taken its names in InfluxDB: left out"
        context.cleanings.append(Cleaning(".".join((*leaf.path, leaf.key)), reason))
        return
    if isinstance(stored, str):
        _note_change(leaf, stored, context)
    context.fields[name] = stored


def _key_problem(key: str) -> str | None:
    if not key:
        return "an empty key: left out"
    if len(key.encode()) > MAX_TEXT_BYTES:
        return f"a key longer than {MAX_TEXT_BYTES} bytes: left out"
    return None


def _free_name(path: tuple[str, ...], key: str, suffix: str, context: Context) -> str | None:
    for parents in ((), path[-1:], path):
        name = META_PREFIX + ".".join([*map(clean_text, parents), key]) + suffix
        if name not in context.fields and len(name.encode()) <= MAX_TEXT_BYTES * 2:
            return name
    return None


def finite(value: float) -> float | None:
    """Return the number as a 64-bit float, or None if it is not finite or does not fit one."""
    try:
        number = float(value)
    except OverflowError:
        return None
    return number if isfinite(number) else None
