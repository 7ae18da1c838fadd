"""The kinds of specification: a new one is a module and a line in this table."""

from collections.abc import Mapping
from difflib import get_close_matches
from types import MappingProxyType
from typing import Any

from squash_api.judging.kinds.compound import Compound
from squash_api.judging.kinds.criterion import Criterion
from squash_api.judging.kinds.range import Range
from squash_api.judging.kinds.threshold import Threshold
from squash_api.judging.kinds.trend import Trend

KINDS: Mapping[str, type[Criterion]] = MappingProxyType(
    {
        Threshold.TYPE: Threshold,
        Range.TYPE: Range,
        Trend.TYPE: Trend,
        Compound.TYPE: Compound,
    }
)
"""The kinds by the word that the key `type` of a document has for them."""

THRESHOLD: type[Criterion] = Threshold
"""The kind of a document that neither names one nor has the keys of one; lsst.verify's only one."""

KEYS: Mapping[str, Any] = MappingProxyType(
    {key: schema for kind in KINDS.values() for key, schema in kind.SCHEMA.items()}
)
"""The JSON schemas of the keys that not all kinds have."""


def kind_of(document: Mapping[str, Any]) -> type[Criterion] | None:
    """Return the kind that a document names, or whose keys it has; None if it is unknown."""
    named = document.get("type")
    if named is None:
        return kind_by_keys(document)
    return KINDS.get(named) if isinstance(named, str) else None


def kinds_with_keys(document: Mapping[Any, Any]) -> list[type[Criterion]]:
    """Return the kinds whose keys a document has, whatever they hold, but null."""
    return [
        kind for kind in KINDS.values() if any(document.get(key) is not None for key in kind.SCHEMA)
    ]


def unknown_kind(named: object) -> str:
    """Return what is wrong with a `type` that is none, and what may be meant."""
    near = get_close_matches(named, KINDS, n=1) if isinstance(named, str) else []
    meant = f"did you mean '{near[0]}'?" if near else f"write {' or '.join(KINDS)}"
    return f"{named!r} is not a type of specification: {meant}"


def kind_by_keys(document: Mapping[Any, Any]) -> type[Criterion]:
    """Return the kind whose keys a document has; `THRESHOLD` if it has no kind's keys."""
    found = (kind for kind in KINDS.values() if not kind.SCHEMA.keys().isdisjoint(document))
    return next(found, THRESHOLD)


def shown_criterion(shown: Mapping[str, Any], unit: str) -> Criterion | None:
    """Return the criterion that a verdict or a report shows; None if it shows none."""
    found = (kind.from_shown(shown, unit) for kind in KINDS.values())
    return next((criterion for criterion in found if criterion is not None), None)
