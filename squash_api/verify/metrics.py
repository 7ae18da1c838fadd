"""Metrics: their definitions, and reading them from documents."""

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date
from difflib import get_close_matches
from math import isfinite
from typing import Any, NamedTuple

from squash_api.errors import Detail, InvalidInputError
from squash_api.schema.names import FIELD_SOURCES, RUN_ID, TAG_SOURCES, Schema
from squash_api.verify.derivation import (
    NOT_DERIVED,
    REDUCERS,
    Aggregation,
    Derivation,
    Reduction,
    is_reducer,
)
from squash_api.verify.units import UnitError, canonical_unit, converter

REFERENCE_KEYS = ("doc", "page", "url")
DERIVATION_KEYS = ("missing", "reduce", "aggregate")
"""The keys that say how values are derived; lsst.verify does not know them."""

LEGAL_NAME = re.compile(r"[A-Za-z0-9_.-]+\Z")
"""The characters of a name that appears in files, tasks and dashboards."""

_REDUCTION_KEYS = ("by", "blob", "key")
_NOT_OVER = frozenset({*TAG_SOURCES["pipeline"], *FIELD_SOURCES[RUN_ID]})
_AGGREGATION_KEYS = ("of", "over", "by", "at_least")
_LONGEST_NAME = 1000


@dataclass(frozen=True, slots=True, order=True)
class Source:
    """A line of a file, written like `srd/specs/validate_drp/AM1.yaml:12`."""

    file: str
    line: int

    def __str__(self) -> str:
        return f"{self.file}:{self.line}"


class Fault(NamedTuple):
    """A problem in a document: the path of keys to it, and what to do."""

    loc: tuple[str | int, ...]
    message: str


@dataclass(frozen=True, slots=True)
class Metric:
    """Something that is measured.

    Metrics compare equal by definition, wherever they were read from.
    """

    name: str
    package: str
    description: str
    unit: str
    tags: tuple[str, ...]
    reference: dict[str, Any]
    display_name: str
    derivation: Derivation = NOT_DERIVED
    source: Source | None = field(default=None, compare=False)

    def to_json(self) -> dict[str, Any]:
        """Return the definition as the API sends it."""
        return {
            "name": self.name,
            "package": self.package,
            "display_name": self.display_name,
            "description": self.description,
            "unit": self.unit,
            "tags": list(self.tags),
            "reference": dict(self.reference),
            **self.derivation.to_json(),
        }


@dataclass(frozen=True, slots=True)
class KnownMetric:
    """A metric that was declared or measured; `unit` is None until a value brings one.

    `unit_by` is the user whose value or definition brought the unit, which then binds nobody else;
    None if it is from YAML or an admin, and binds all. `own_units` are the units, by user, of those
    whose values do not convert to it.
    """

    unit: str | None
    is_declared: bool
    unit_by: int | None = None
    own_units: tuple[tuple[int, str], ...] = ()
    derivation: Derivation = NOT_DERIVED

    @classmethod
    def of(cls, metric: Metric) -> "KnownMetric":
        """Return what is known of a metric that is only declared."""
        return KnownMetric(metric.unit, is_declared=True, derivation=metric.derivation)

    def binds(self, user_id: int | None) -> bool:
        """Return whether a user's values must convert to the unit."""
        return self.unit_by is None or self.unit_by == user_id

    def own_unit(self, user_id: int | None) -> str | None:
        """Return a user's own unit; None if they have none."""
        return dict(self.own_units).get(user_id) if user_id is not None else None


Reductions = Mapping[str, Sequence[tuple[str, KnownMetric]]]
"""The metrics whose values are reduced from arrays, with their names, by blob."""


def reductions_of(metrics: Iterable[tuple[str, KnownMetric]]) -> Reductions:
    """Find the metrics whose values are reduced from arrays, by the names of the blobs."""
    found: dict[str, list[tuple[str, KnownMetric]]] = {}
    for name, metric in metrics:
        if metric.derivation.reduction is not None:
            found.setdefault(metric.derivation.reduction.blob, []).append((name, metric))
    return found


def metric_from_json(
    document: Any,
    *,
    name: str | None = None,
    source: Source | None = None,
    schema: Schema = Schema(),
) -> Metric:
    """Read a definition that was posted to the API; one without unit is dimensionless.

    Parameters
    ----------
    document
        An object with the keys of `Metric.to_json`; others are ignored.
    name
        The name in the URL of the request, which the document need not repeat.

    Raises
    ------
    InvalidInputError
        With every problem in its `detail`.
    """
    if not isinstance(document, dict):
        raise invalid("metric", [Fault((), "a metric must be an object")])
    full_name, faults = posted_name(document, name)
    if full_name is not None:
        problem = metric_name_problem(full_name, schema)
        faults.extend([Fault(("name",), problem)] if problem else [])
    package = document.get("package")
    if package is not None and full_name and package != full_name.partition(".")[0]:
        faults.append(Fault(("package",), f"the package of '{full_name}' is not {package!r}"))
    metric, others = parse_metric(document, name=full_name or "", source=source)
    if metric is None or faults:
        raise invalid("metric", [*faults, *others])
    return metric


def parse_metric(
    document: Mapping[Any, Any], *, name: str, source: Source | None = None
) -> tuple[Metric | None, list[Fault]]:
    """Read the keys of a definition from any origin; None if there are faults."""
    faults: list[Fault] = []
    package, _, bare_name = name.partition(".")
    reference, display_name = _parse_reference(document.get("reference"), faults)
    shown = document.get("display_name")
    metric = Metric(
        name=name,
        package=package,
        description=_parse_text(document.get("description"), "description", faults).rstrip("\n"),
        unit=parse_unit(document.get("unit", ""), ("unit",), faults) or "",
        tags=parse_tags(document.get("tags"), faults),
        reference=reference,
        display_name=_parse_text(shown, "display_name", faults) or display_name or bare_name,
        derivation=_parse_derivation(document, name=name, faults=faults),
        source=source,
    )
    return (None if faults else metric), faults


def aggregate_misfit(metric: Metric, of: Metric) -> str | None:
    """Return why a metric cannot be an aggregate of another, and what to do; None if it can."""
    made = metric.derivation.aggregation
    if of.derivation.aggregation is not None:
        return f"'{of.name}' is an aggregate itself: name {of.derivation.aggregation.of}"
    if made is None or made.by == "count" or converter(of.unit, metric.unit) is not None:
        return None
    return f"'{of.unit}', the unit of '{of.name}', does not convert to '{metric.unit}'"


def metric_name_problem(name: str, schema: Schema) -> str | None:
    """Return why a metric cannot have this name, and what to do; None if it can."""
    package, dot, metric = name.partition(".")
    if not dot or not package or not metric or "." in metric:
        return f"'{name}' is not a metric's name: write package.metric, with one dot"
    if LEGAL_NAME.match(name) is None:
        return f"'{name}' may contain only letters, digits, '_' and '-': choose another name"
    problem = schema.name_problem(name)
    return f"'{name}': {problem}" if problem else None


def posted_name(document: dict[str, Any], name: str | None) -> tuple[str | None, list[Fault]]:
    """Return the name of a posted definition, from the URL or from the document."""
    written = document.get("name")
    if written is None:
        return name, [] if name is not None else [Fault(("name",), "the name is missing")]
    if not isinstance(written, str):
        return name, [Fault(("name",), "the name is not text")]
    if name is not None and written != name:
        return name, [Fault(("name",), f"the URL says '{name}', the document says '{written}'")]
    return written, []


def invalid(kind: str, faults: Sequence[Fault]) -> InvalidInputError:
    """Return the error that names all faults of a definition."""
    first = faults[0]
    where = ".".join(map(str, first.loc))
    more = f" (and {len(faults) - 1} more)" if len(faults) > 1 else ""
    return InvalidInputError(
        f"Not a {kind} definition: {where + ': ' if where else ''}{first.message}{more}.",
        detail=[Detail(fault.loc, fault.message) for fault in faults],
    )


def parse_unit(value: Any, loc: tuple[str | int, ...], faults: list[Fault]) -> str | None:
    """Read a unit in canonical spelling; null in JSON means dimensionless."""
    if value is None:
        return ""
    if isinstance(value, bool) or not isinstance(value, str | int | float):
        faults.append(Fault(loc, "the unit is not text: write '' for a dimensionless one"))
        return None
    try:
        return canonical_unit(value if isinstance(value, str) else str(value))
    except UnitError as error:
        faults.append(Fault(loc, str(error)))
        return None


def parse_tags(value: Any, faults: list[Fault]) -> tuple[str, ...]:
    """Read tags from a string, a list, a set or a mapping's keys; sorted, without repeats."""
    if value is None:
        return ()
    if isinstance(value, str):
        value = [value]
    if not isinstance(value, list | set | dict):
        faults.append(Fault(("tags",), "tags must be text or a list of texts"))
        return ()
    tags = [tag for tag in value if isinstance(tag, str) and is_unicode(tag)]
    faults.extend(
        Fault(("tags",), f"the tag {tag!r} is not text: put it in quotes")
        for tag in value
        if not isinstance(tag, str) or not is_unicode(tag)
    )
    return tuple(sorted(set(tags)))


def is_unicode(text: str) -> bool:
    """Return whether text can be stored: lone surrogates cannot be encoded."""
    return text.isascii() or not any("\ud800" <= letter <= "\udfff" for letter in text)


def _parse_text(value: Any, key: str, faults: list[Fault]) -> str:
    if value is None:
        return ""
    if not isinstance(value, str) or not is_unicode(value):
        faults.append(Fault((key,), f"the {key.replace('_', ' ')} is not text"))
        return ""
    return value


def _parse_reference(value: Any, faults: list[Fault]) -> tuple[dict[str, Any], str]:
    """Read the reference and the display name in it.

    A YAML file keeps the display name there, as it may keep the keys of `Derivation`, because
    lsst.verify ignores other keys of a reference and refuses other keys of a metric.
    """
    if not isinstance(value, dict):
        if value is not None:
            faults.append(Fault(("reference",), "reference must be a mapping of doc, page and url"))
        return dict.fromkeys(REFERENCE_KEYS), ""
    reference = {
        key: _reference_value(value.get(key), ("reference", key), faults) for key in REFERENCE_KEYS
    }
    return reference, _parse_text(value.get("display_name"), "display_name", faults)


def _reference_value(value: Any, loc: tuple[str | int, ...], faults: list[Fault]) -> Any:
    if isinstance(value, list):
        return [_reference_value(item, loc, faults) for item in value]
    if isinstance(value, date):
        return value.isoformat()
    known = value is None or isinstance(value, str | int | float)
    if not known or (isinstance(value, float) and not isfinite(value)):
        faults.append(Fault(loc, "must be text, a number, or a list of these"))
        return None
    if isinstance(value, str) and not is_unicode(value):
        faults.append(Fault(loc, "cannot be encoded as UTF-8"))
        return None
    return value


def _parse_derivation(document: Mapping[Any, Any], *, name: str, faults: list[Fault]) -> Derivation:
    """Read the keys of a metric's definition, at its top or below `reference`.

    Parameters
    ----------
    name
        The metric's full name, which lsst.verify gives the blob with a measurement's extras.
    """
    missing, place = _written(document, "missing", faults)
    if missing not in (None, "zero"):
        faults.append(
            Fault(place, f"{_shown(missing)} is no way to write a missing value: write zero")
        )
    value, place = _written(document, "reduce", faults)
    reduction = _parse_reduction(value, place, name, faults)
    value, place = _written(document, "aggregate", faults)
    aggregation = _parse_aggregation(value, place, name, faults)
    if reduction is not None and aggregation is not None:
        faults.append(Fault(place, "a metric with reduce has no aggregate: make two metrics"))
    return Derivation(missing == "zero", reduction, aggregation)


def _written(
    document: Mapping[Any, Any], key: str, faults: list[Fault]
) -> tuple[Any, tuple[str, ...]]:
    """Return what a key has, and where it is."""
    reference = document.get("reference")
    below = reference.get(key) if isinstance(reference, dict) else None
    own = document.get(key)
    if own is not None and below is not None:
        faults.append(Fault((key,), f"{key} is below reference too: delete one of them"))
    return (own, (key,)) if own is not None else (below, ("reference", key))


def _parse_reduction(
    value: Any, place: tuple[str, ...], name: str, faults: list[Fault]
) -> Reduction | None:
    if value is None:
        return None
    if isinstance(value, str):
        value = {"by": value}
    if not isinstance(value, dict):
        example = "{by: median, blob: package.metric, key: name}"
        faults.append(Fault(place, f"reduce is neither text nor a mapping: write {example}"))
        return None
    before = len(faults)
    _check_keys(value, _REDUCTION_KEYS, place, faults)
    usual = {"by": None, "blob": name, "key": name.partition(".")[2]}
    found: dict[str, Any] = {key: value.get(key, default) for key, default in usual.items()}
    for key in ("blob", "key"):
        text = found[key]
        if not isinstance(text, str) or not 0 < len(text) <= _LONGEST_NAME:
            what = "the name of a blob" if key == "blob" else "the name of an array in it"
            faults.append(Fault((*place, key), f"{_shown(text)} is not {what}: write it as text"))
    _check_reducer(found["by"], place, faults)
    return Reduction(**found) if len(faults) == before else None


def _parse_aggregation(
    value: Any, place: tuple[str, ...], name: str, faults: list[Fault]
) -> Aggregation | None:
    if value is None:
        return None
    if not isinstance(value, dict):
        example = "{of: package.metric, over: [fiber], by: median}"
        faults.append(Fault(place, f"aggregate is not a mapping: write {example}"))
        return None
    before = len(faults)
    _check_keys(value, _AGGREGATION_KEYS, place, faults)
    of, over, at_least = value.get("of"), value.get("over"), value.get("at_least", 1)
    if isinstance(of, str) and "." not in of:
        of = f"{name.partition('.')[0]}.{of}"
    if not isinstance(of, str) or of.count(".") != 1 or not is_unicode(of):
        faults.append(Fault((*place, "of"), f"{_shown(of)} is not a metric: write package.metric"))
    elif of == name:
        faults.append(Fault((*place, "of"), "a metric is not made of itself: name another"))
    over = [over] if isinstance(over, str) else over
    if (
        not isinstance(over, list)
        or not over
        or not all(isinstance(key, str) and key and is_unicode(key) for key in over)
    ):
        what = "is not a list of keys of metadata: write such as [fiber]"
        faults.append(Fault((*place, "over"), f"{_shown(value.get('over'))} {what}"))
    elif _NOT_OVER.intersection(over):
        what = "is the same in all jobs of a run, so there is nothing to aggregate over"
        faults.append(Fault((*place, "over"), f"{min(_NOT_OVER.intersection(over))!r} {what}"))
    if isinstance(at_least, bool) or not isinstance(at_least, int) or at_least < 1:
        what = f"{_shown(at_least)} is not a number of values: write 1 or more"
        faults.append(Fault((*place, "at_least"), what))
    _check_reducer(value.get("by"), place, faults)
    if len(faults) > before:
        return None
    return Aggregation(str(of), tuple(dict.fromkeys(over or ())), value["by"], at_least)


def _check_keys(
    value: Mapping[Any, Any], known: Sequence[str], place: tuple[str, ...], faults: list[Fault]
) -> None:
    faults.extend(
        Fault((*place, str(key)), f"{place[-1]} has only {', '.join(known)}: delete {key!r}")
        for key in value
        if key not in known
    )


def _check_reducer(by: Any, place: tuple[str, ...], faults: list[Fault]) -> None:
    if isinstance(by, str) and is_reducer(by):
        return
    near = get_close_matches(by, REDUCERS, n=1) if isinstance(by, str) else []
    known = near[0] if near else f"{', '.join(REDUCERS)} or a percentile such as p95"
    said = "by is missing" if by is None else f"values are not reduced by {_shown(by)}"
    faults.append(Fault((*place, "by") if by is not None else place, f"{said}: write {known}"))


def _shown(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."
