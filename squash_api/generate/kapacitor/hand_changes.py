"""A threshold changed by hand on a server: which specification's it is, and how to adopt it.

Nothing here knows how a task is written: a specification's numbers are found by giving it another
threshold and looking at what changes in its task.
"""

import re
from collections.abc import Callable
from dataclasses import dataclass, replace

from squash_api.generate.kapacitor.text import number
from squash_api.judging.specifications import Specification
from squash_api.metrics_packages.loading import MetricsPackage
from squash_api.verify.units import converter

Make = Callable[[MetricsPackage], str]
"""Makes the task of the one metric in a package."""

# Strings, references, comments, words, times such as 10m, numbers; then any sign.
_TOKEN = re.compile(
    r"""(?P<string>'''.*?'''|'(?:\\'|[^'])*')|(?P<name>"(?:\\"|[^"])*")|(?P<comment>//[^\n]*)"""
    r"""|(?P<word>[^\W\d]\w*|\d+(?:ms|[uµsmhdw])\b)|(?P<number>-?(?:\d+\.?\d*|\.\d+))|(?P<sign>\S)""",
    re.DOTALL,
)
_TRIES = (1.75, 2.625)


@dataclass(frozen=True, slots=True)
class HandChange:
    """A threshold that a server has and a specification does not, in the specification's unit."""

    specification: Specification
    value: float

    @property
    def yaml(self) -> str:
        """What the specification has to say for it."""
        return f"threshold: {{value: {number(self.value)}}}"


def metric_alone(package: MetricsPackage, metric: str) -> MetricsPackage:
    """Return a package with one metric and its specifications."""
    return replace(
        package,
        metrics={metric: package.metrics[metric]},
        specifications={
            name: item for name, item in package.specifications.items() if item.metric == metric
        },
    )


def hand_changes(alone: MetricsPackage, make: Make, script: str) -> list[HandChange]:
    """Return the thresholds that differ in a script, if it differs in numbers alone.

    Parameters
    ----------
    alone
        A metric with its specifications; see `metric_alone`.
    script
        The script of the metric's task on the server.

    Returns
    -------
    list
        By specification. Empty if anything but numbers is different.
    """
    ours, theirs = _tokens(make(alone)), _tokens(script)
    if [kind for kind, _ in ours] != [kind for kind, _ in theirs]:
        return []
    different = {
        place for place, pair in enumerate(zip(ours, theirs, strict=True)) if _differ(pair)
    }
    if any(ours[place][0] != "number" for place in different):
        return []
    found = []
    for name, specification in sorted(alone.specifications.items()):
        written = {theirs[place][1] for place in different & _places(alone, make, name, ours)}
        if len(written) == 1:
            metric_unit = alone.metrics[specification.metric].unit
            value = _in_unit(float(written.pop()), metric_unit, specification)
            if value is not None:
                found.append(HandChange(specification, value))
    return found


def _places(alone: MetricsPackage, make: Make, name: str, ours: list[tuple[str, str]]) -> set[int]:
    """Return where a specification's threshold stands among the tokens of its task."""
    specification = alone.specifications[name]
    for factor in _TRIES:
        other = replace(specification, threshold=specification.threshold * factor + factor)
        changed = replace(alone, specifications={**alone.specifications, name: other})
        tokens = _tokens(make(changed))
        # One that is another's threshold too could make two conditions one.
        if [kind for kind, _ in tokens] == [kind for kind, _ in ours]:
            pairs = enumerate(zip(ours, tokens, strict=True))
            return {place for place, pair in pairs if pair[0][0] == "number" and _differ(pair)}
    return set()


def _differ(pair: tuple[tuple[str, str], tuple[str, str]]) -> bool:
    (kind, ours), (_, theirs) = pair
    return float(ours) != float(theirs) if kind == "number" else ours != theirs


def _tokens(script: str) -> list[tuple[str, str]]:
    found = ((match.lastgroup or "", match[0]) for match in _TOKEN.finditer(script))
    return [(kind, text) for kind, text in found if kind != "comment"]


def _in_unit(value: float, unit: str, specification: Specification) -> float | None:
    """Return a number in the unit of a specification, the shortest that means the same."""
    there, back = converter(unit, specification.unit), converter(specification.unit, unit)
    if there is None or back is None:
        return None
    converted = there(value)
    for digits in range(1, 17):
        short = float(f"{converted:.{digits}g}")
        if back(short) == value:
            return short
    return converted
