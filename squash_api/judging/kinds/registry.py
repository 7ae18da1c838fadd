"""The kinds of specification: a new one is a module and a line in this table."""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

from squash_api.judging.kinds.criterion import Criterion
from squash_api.judging.kinds.threshold import Threshold

KINDS: Mapping[str, type[Criterion]] = MappingProxyType(
    {
        Threshold.TYPE: Threshold,
    }
)
"""The kinds by what the key `type` of a document says."""

THRESHOLD: type[Criterion] = Threshold
"""What a document is that does not say it, and the only kind that lsst.verify reads."""


def kind_of(document: Mapping[str, Any]) -> type[Criterion] | None:
    """Return the kind that a document says it is of; None if there is no such kind."""
    said = document.get("type")
    if said is None:
        return THRESHOLD
    return KINDS.get(said) if isinstance(said, str) else None


def shown_criterion(shown: Mapping[str, Any], unit: str) -> Criterion | None:
    """Return the criterion of which a verdict or a report tells; None if it tells of none."""
    found = (kind.from_shown(shown, unit) for kind in KINDS.values())
    return next((criterion for criterion in found if criterion is not None), None)
