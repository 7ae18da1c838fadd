"""A limit changed by hand on a server: which specification's it is, and how to adopt it.

Nothing here knows how a task is written: a specification's numbers are found by giving it another
number and looking at what changes in its task.
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
    """A number that a server has and a specification does not, in the specification's unit.

    `path` are the keys to it in the document.
    """

    specification: Specification
    path: tuple[str, ...]
    value: float

    @property
    def yaml(self) -> str:
        """What the specification has to say for it."""
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
    """Return the numbers of limits that differ in a script, if it differs in numbers alone.

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
    for _, specification in sorted(alone.specifications.items()):
        metric_unit = alone.metrics[specification.metric].unit
        for index, path in enumerate(specification.criterion.NUMBER_PATHS):
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
    """Return where a number of a specification stands among the tokens of its task."""
    criterion = specification.criterion
    for factor in _TRIES:
        numbers = list(criterion.numbers)
        numbers[index] = numbers[index] * factor + factor
        changed = criterion.with_numbers(tuple(numbers), criterion.unit)
        other = replace(specification, criterion=changed)
        specifications = {**alone.specifications, specification.name: other}
        tokens = _tokens(make(replace(alone, specifications=specifications)))
        # One that is another's number too could make two conditions one.
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
    """Return a number in another unit, the shortest that means the same."""
    there, back = converter(unit, other), converter(other, unit)
    if there is None or back is None:
        return None
    converted = there(value)
    for digits in range(1, 17):
        short = float(f"{converted:.{digits}g}")
        if back(short) == value:
            return short
    return converted
