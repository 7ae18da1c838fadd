"""Limits changed by hand on a server: whose they are, and how to adopt them.

This module does not know how tasks are written. It finds the numbers of a specification in a task
by changing them and comparing the tasks.
"""

import re
from collections.abc import Callable
from dataclasses import dataclass, replace

from squash_api.judging.specifications import Specification
from squash_api.judging.wording import exact_number
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
    """A number on a server that differs from the specification's, in the specification's unit.

    `path` are the keys to it in the document.
    """

    specification: Specification
    path: tuple[str, ...]
    value: float

    @property
    def yaml(self) -> str:
        """The YAML with which the specification adopts it."""
        first, *inner = self.path
        text = exact_number(self.value)
        for key in reversed(inner):
            text = f"{{{key}: {text}}}"
        return f"{first}: {text}"


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
    """Return the numbers of limits that were changed in a script, sorted by specification.

    Returns nothing if the script differs in more than numbers.

    Parameters
    ----------
    alone
        A metric with its specifications; see `metric_alone`.
    script
        That of the metric's task on the server.
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
    for _, specification in sorted(alone.specifications.items()):
        metric_unit = alone.metrics[specification.metric].unit
        for index, path in enumerate(specification.criterion.number_paths):
            places = _places(alone, make, specification, index, ours)
            written = {theirs[place][1] for place in different & places}
            if len(written) == 1:
                unit = specification.criterion.unit
                value = _in_unit(float(written.pop()), metric_unit, unit)
                if value is not None:
                    found.append(HandChange(specification, path, value))
    return found


def _places(
    alone: MetricsPackage,
    make: Make,
    specification: Specification,
    index: int,
    ours: list[tuple[str, str]],
) -> set[int]:
    """Return the places of a number of a specification among the tokens of its task."""
    criterion = specification.criterion
    for factor in _TRIES:
        numbers = list(criterion.numbers)
        numbers[index] = numbers[index] * factor + factor
        changed = criterion.with_numbers(tuple(numbers), criterion.unit)
        other = replace(specification, criterion=changed)
        specifications = {**alone.specifications, specification.name: other}
        tokens = _tokens(make(replace(alone, specifications=specifications)))
        # A number that another limit has too could merge two conditions.
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


def _in_unit(value: float, unit: str, other: str) -> float | None:
    """Return a number in another unit, as short as possible."""
    there, back = converter(unit, other), converter(other, unit)
    if there is None or back is None:
        return None
    converted = there(value)
    for digits in range(1, 17):
        short = float(f"{converted:.{digits}g}")
        if back(short) == value:
            return short
    return converted
