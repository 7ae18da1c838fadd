"""What a job is about and which run made it: told by options, or by the path of its file."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Self

DIMENSIONS = (
    "instrument",
    "visit",
    "detector",
    "tract",
    "patch",
    "band",
    "physical_filter",
    "skymap",
    "exposure",
    "group",
    "day_obs",
)
"""The butler's dimensions that Sasquatch sends with every value."""

KEYS = ("run", "dataset_type", "dataset_tag", "namespace", *DIMENSIONS)
"""What a data id is made of; any other name is metadata too."""

_METADATA = {"run": "run_id", "dataset_tag": "dataset", "reference_package_version": "version_tag"}
"""The keys that have another name in the metadata of a job."""

_COUNTED = frozenset({"visit", "exposure", "day_obs"})
"""Whole numbers, which are text in a path and in what Sasquatch sends."""

_DIGITS = _COUNTED | {"tract", "patch", "detector"}
"""Where these may be absent, only digits are taken for them."""

_NUMBER = re.compile(r"-?(?:0|[1-9]\d{0,17})\Z", re.ASCII)
_FIELD = re.compile(r"\{([A-Za-z_]\w*)(?::([?/]{0,2}))?\}|(\*\*/?)|(\*)|([^{}*]+)", re.ASCII)
_SAME = {"datasetType": "dataset_type", "datasetTag": "dataset_tag", "dataset": "dataset_tag"}
_UNKEPT = "_"


def data_id_metadata(values: Mapping[str, Any], *, date: str | None = None) -> dict[str, Any]:
    """Make metadata of a job from a data id; what is empty is left out.

    The names are those that the same data id has when it comes over Sasquatch's wire.

    Parameters
    ----------
    date
        The time of the job, ISO 8601.
    """
    found: dict[str, Any] = {}
    for key, value in values.items():
        if value in ("", None):
            continue
        # A run of CI counts as the run.
        name = key if key == "run" and values.get("ci_id") else _METADATA.get(key, key)
        is_number = key in _COUNTED and isinstance(value, str) and _NUMBER.match(value)
        found[name] = int(value) if is_number else value
    env = {"env_name": found.get("namespace"), "date": date}
    env = {key: value for key, value in env.items() if value}
    return {**found, "env": env} if env else found


class PathTemplate:
    """How the paths of files name their data id: `{run}/{dataset_type}/{tract}/{patch}/*.json`.

    A name stands for a text without `/`; `{run}`, and any with `:/`, may have some. One with `:?`
    may be absent, with the `/` or `_` before it; there tract, patch, visit, exposure, detector and
    day_obs are digits. A name that is repeated stands for the same text.
    `*` and `{_}` stand for anything without `/`, `**` for any folders. The template must fit the
    end of a path, from the name of a folder or file on.

    Raises
    ------
    ValueError
        If the text is no such template.
    """

    def __init__(self, text: str) -> None:
        self.text = text
        parts: list[str] = []
        names: dict[str, str] = {}
        end = 0
        for match in _FIELD.finditer(text):
            if match.start() != end:
                break
            end = match.end()
            name, how, folders, star, literal = match.groups()
            if literal:
                parts.append(re.escape(literal))
            elif folders:
                parts.append("(?:.*/)?" if folders == "**/" else ".*")
            elif star:
                parts.append("[^/]*")
            else:
                _add(parts, names, _SAME.get(name, name), how or "")
        if end != len(text) or not names:
            what = "it names nothing" if end == len(text) else f"at {text[end : end + 20]!r}"
            raise ValueError(
                f"{text!r} is not a path template, {what}: write it like "
                "'{run}/{dataset_type}/{tract}/*.json'"
            )
        self._pattern = re.compile(f"(?:.*?/)??{''.join(parts)}", re.DOTALL)

    def __str__(self) -> str:
        return self.text

    def values(self, path: str) -> dict[str, str] | None:
        """Return what a path names; None if it does not fit."""
        match = self._pattern.fullmatch(path)
        if match is None:
            return None
        return {name: value for name, value in match.groupdict().items() if value}


def _add(parts: list[str], names: dict[str, str], name: str, how: str) -> None:
    """Add the pattern of a name to those before it."""
    spans = "/" in how or name == "run"
    if name == _UNKEPT:
        pattern = "[^/]+"
    elif name in names:
        # The butler writes `_` for the slashes of a run in the names of files.
        pattern = "[^/]+" if names[name] == "/" else f"(?P={name})"
    else:
        is_digits = "?" in how and name in _DIGITS
        inner = r"\d+" if is_digits else ".+?" if spans else "[^/]+?"
        pattern = f"(?P<{name}>{inner})"
        names[name] = "/" if spans else how
    if "?" in how:
        before = parts.pop() if parts and parts[-1].endswith(("/", "_")) else ""
        parts.extend((before[:-1], f"(?:{before[-1:]}{pattern})?"))
    else:
        parts.append(pattern)


@dataclass(frozen=True, slots=True)
class DataId:
    """What files do not say themselves: their run, instrument, visit, detector and the like.

    `values` are by the names of `KEYS`; any other name is metadata too. They count for all files,
    before what a file's own path says by the `template`.
    """

    values: Mapping[str, str] = field(default_factory=dict)
    template: PathTemplate | None = None

    def fits(self, path: str) -> bool:
        """Tell whether a path says what the template asks for."""
        return self.template is None or self.template.values(path) is not None

    def of(self, path: str) -> Self:
        """Return the data id of one file."""
        named = (self.template.values(path) if self.template else None) or {}
        return type(self)({**named, **{key: text for key, text in self.values.items() if text}})
