"""Numbers, limits and tags of a report as people read them. Pure."""

import re
from collections.abc import Mapping

from squash_api.reporting.document import Finding

NOTHING = "\u2013"
"""A dash, in place of what is not there."""

_LONGEST = 60
# They turn what follows around, beyond the name that they are in.
_TURNING = re.compile("[\u200e\u200f\u202a-\u202e\u2066-\u2069]")
_SIGNS = {"<=": "\u2264", ">=": "\u2265", "!=": "\u2260", "==": "="}


def number_text(number: float | None, beside: float | None = None) -> str:
    """Return a number with so many digits that it can be told from another one, six at least."""
    if number is None:
        return NOTHING
    is_close = beside is not None and number != beside and f"{number:.6g}" == f"{beside:.6g}"
    return repr(number) if is_close else f"{number:.6g}"


def value_text(finding: Finding) -> str:
    """Return a value with its unit."""
    return _with_unit(number_text(finding.value, finding.threshold), finding)


def limit_text(finding: Finding) -> str:
    """Return what must hold, such as `≤ 15 marcsec`."""
    if finding.operator is None or finding.threshold is None:
        return NOTHING
    threshold = _with_unit(number_text(finding.threshold, finding.value), finding)
    return f"{_SIGNS.get(finding.operator, finding.operator)} {threshold}"


def margin_text(margin: float | None) -> str:
    """Return a margin as per cent of the limit, with its sign."""
    return NOTHING if margin is None else f"{100 * margin:+.3g} %"


def tags_text(tags: Mapping[str, str]) -> str:
    """Return tags as people read them."""
    return ", ".join(f"{name} {name_text(value)}" for name, value in tags.items()) or NOTHING


def name_text(name: str) -> str:
    """Return a name that somebody made up, not too long, and without what turns text around."""
    plain = _TURNING.sub("", name)
    return plain if len(plain) <= _LONGEST else f"{plain[: _LONGEST - 1]}\u2026"


def minute_text(moment: str | None) -> str:
    """Return a moment of a report as day and minute."""
    return NOTHING if moment is None else moment[:16].replace("T", " ")


def _with_unit(text: str, finding: Finding) -> str:
    return f"{text} {finding.unit}" if finding.unit and text != NOTHING else text
