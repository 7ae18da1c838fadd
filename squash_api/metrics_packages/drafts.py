"""Documents of specification files before their bases are resolved.

The full name of a partial is `package:path#id`, that of a specification `package.metric.name`.
"""

from dataclasses import dataclass, field
from typing import Any

from squash_api.judging.kinds.registry import KEYS
from squash_api.metrics_packages.documents import Document, Report


def partial_name(text: str, *, package: str, path: str) -> str:
    """Return the full name of a partial from an `id`, or from a `base` with a `#`.

    `package` and `path`, where the text is written, replace what it leaves out.

    Raises
    ------
    ValueError
        If the text is not such a name.
    """
    text = text.removesuffix("\n")
    hash_at = text.rfind("#", 0, len(text) - 1) if "#" in text else -1
    place, name = (text[:hash_at], text[hash_at + 1 :]) if hash_at >= 0 else ("", text)
    if not name or name.split() != [name] or (place and place.split() != [place]):
        raise ValueError(
            f"{text!r} is not a partial's name: write '#id' or 'path#id', without spaces"
        )
    if hash_at < 0 and "#" in text:
        raise ValueError(f"{text!r} ends in '#': write the partial's id after it")
    named_package, colon, named_path = place.rpartition(":")
    if not colon or not named_package:
        named_package, named_path = package, place
    return f"{named_package}:{named_path or path}#{name}"


def split_specification(text: str, *, metric: str | None, package: str) -> tuple[str | None, str]:
    """Return the metric and the last part of a specification's name.

    The metric is None if neither the name nor `metric` gives it.

    Raises
    ------
    ValueError
        If a name has too many parts, or two of them disagree.
    """
    *above, last = text.split(".")
    if len(above) > 2:
        raise ValueError(f"'{text}' has more than three parts: write package.metric.name")
    above_metric = [] if metric is None else metric.split(".")
    if len(above_metric) > 2:
        raise ValueError(f"the metric '{metric}' has more than two parts: write package.metric")
    packages = [parts[0] for parts in (above, above_metric) if len(parts) == 2]
    wrong = next((other for other in packages if other != package), None)
    if wrong is not None:
        raise ValueError(
            f"the package '{wrong}' is not '{package}', the directory it is in: move the "
            f"document, or write '{package}'"
        )
    metrics = [parts[-1] for parts in (above, above_metric) if parts]
    if len(set(metrics)) > 1:
        raise ValueError(
            f"the name '{text}' and the metric '{metric}' disagree: write the metric once"
        )
    return (metrics[0] if metrics else None), last


def base_name(text: str, *, package: str, path: str) -> str:
    """Return the full name of a base: a partial if the text has a `#`, else a specification.

    Raises
    ------
    ValueError
        If the text is neither.
    """
    if "#" in text:
        return partial_name(text, package=package, path=path)
    parts = text.split(".")
    if len(parts) == 3 and parts[0] != package:
        raise ValueError(f"the base '{text}' is in another package: only a partial can be")
    metric, last = split_specification(text, metric=None, package=package)
    if metric is None:
        raise ValueError(
            f"the base '{text}' names nothing: write '#{text}' for a partial in this file, "
            f"'path#{text}' for one in another, metric.{text} for a specification"
        )
    return f"{package}.{metric}.{last}"


CONTENT_KEYS = ("type", *KEYS, "tags", "metadata_query", "alert", "expect")
"""The keys that are inherited; others have no effect."""

DOCUMENT_KEYS = ("name", "id", "metric", "base", *CONTENT_KEYS)
"""All keys of a document that have an effect."""

# lsst.verify passes the keys of a document on as arguments, and these are taken.
_TAKEN_KEYS = frozenset({"cls", "self", "operator_str"})


@dataclass(slots=True, eq=False)
class Draft:
    """A partial or a specification, with the full names of its bases.

    A specification whose metric comes from a base has an empty name until that is known. One that
    `is_rule` is below `rules/`, which lsst.verify does not read.
    """

    document: Document
    package: str
    is_partial: bool
    name: str
    bases: list[str] = field(default_factory=list)
    own_metric: str | None = None
    is_rule: bool = False
    sound: bool = True

    @property
    def content(self) -> dict[str, Any]:
        """The keys in this document, without those of its bases."""
        value = self.document.value
        return {key: value[key] for key in CONTENT_KEYS if key in value}

    @property
    def says_metric(self) -> bool:
        """Whether the document has a metric of its own, even null."""
        return self.own_metric is not None or "metric" in self.document.value


def read_draft(
    document: Document, *, package: str, path: str, report: Report, is_rule: bool = False
) -> Draft | None:
    """Return what a document of a specification file defines, or report why it defines nothing.

    `package` is the directory below `specs/`, or `rules/`, `path` the file's path in it without
    extension.
    """
    value = document.value
    if not isinstance(value, dict):
        what = "is empty" if value is None else "is not a mapping"
        report(document.source(), f"the document {what}: write one, or delete its ---")
        return None
    for key in value:
        if not isinstance(key, str):
            report(document.source(), f"the key {key!r} is not text: put it in quotes")
        elif key in _TAKEN_KEYS:
            report(document.source(key), f"lsst.verify cannot load the key '{key}': rename it")
    is_partial = "id" in value
    draft = Draft(document, package, is_partial, "", is_rule=is_rule)
    draft.bases = _read_bases(draft, path, report)
    draft.own_metric = _read_metric(draft, report)
    named = _name_partial(draft, path, report) if is_partial else _name_specification(draft, report)
    return draft if named else None


def name_with_metric(draft: Draft, metric: str, report: Report) -> bool:
    """Complete a specification's name with the metric of a base; return whether that worked."""
    document = draft.document
    try:
        own, last = split_specification(
            document.value["name"], metric=metric, package=draft.package
        )
    except ValueError as error:
        report(document.source("name"), f"from a base: {error}")
        return False
    draft.name = f"{draft.package}.{own}.{last}"
    return True


def _name_partial(draft: Draft, path: str, report: Report) -> bool:
    written = draft.document.value["id"]
    if not isinstance(written, str):
        report(draft.document.source("id"), f"the id {written!r} is not text: put it in quotes")
        return False
    try:
        draft.name = partial_name(written, package=draft.package, path=path)
    except ValueError as error:
        report(draft.document.source("id"), str(error))
        return False
    return True


def _name_specification(draft: Draft, report: Report) -> bool:
    document = draft.document
    written = document.value.get("name")
    place = document.source("name")
    if not isinstance(written, str):
        is_there = "name" in document.value
        what = f"the name {written!r} is not text" if is_there else "there is no name"
        report(place, f"{what}: write name: for a specification, id: for a partial")
        return False
    try:
        metric, last = split_specification(written, metric=draft.own_metric, package=draft.package)
    except ValueError as error:
        report(place, str(error))
        return False
    if metric is not None:
        draft.own_metric = metric
        draft.name = f"{draft.package}.{metric}.{last}"
    return True


def _read_metric(draft: Draft, report: Report) -> str | None:
    metric = draft.document.value.get("metric")
    if metric is None or isinstance(metric, str):
        return metric
    report(draft.document.source("metric"), f"the metric {metric!r} is not text: put it in quotes")
    draft.sound = False
    return None


def _read_bases(draft: Draft, path: str, report: Report) -> list[str]:
    value = draft.document.value
    if "base" not in value:
        return []
    written = value["base"] if isinstance(value["base"], list) else [value["base"]]
    bases = []
    for text in written:
        try:
            if not isinstance(text, str):
                raise ValueError(f"the base {text!r} is not text: write base: '#id'")  # noqa: TRY301, TRY004
            bases.append(base_name(text, package=draft.package, path=path))
        except ValueError as error:
            report(draft.document.source("base"), str(error))
            draft.sound = False
    return bases
