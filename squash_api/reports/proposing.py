"""Proposes limits for a metric from the values that the record has of it.

A limit is `SPREADS` robust standard deviations from the median: 1.4826 times the median of the
distances from it, so that outliers do not move a limit. Where one side is more than twice as wide
as the other, each has its own. The spread of few values is not known well: a limit is further away
by its error. Values whose datasets or filters are alike get one limit.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from decimal import ROUND_CEILING, ROUND_FLOOR, Decimal
from itertools import chain, combinations
from math import floor, isfinite, log10, sqrt
from statistics import fmean, median
from typing import Literal

from squash_api.judging.wording import counted, number_text
from squash_api.schema.names import LINE_TAGS

SPREADS = 5.0
"""How many robust standard deviations a limit is away from the median."""

FEWEST = 20
"""Of fewer values no limit is made: their spread is not known well enough."""

Side = Literal["upper", "lower", "both"]

# What makes the median of distances a standard deviation, and their mean, for normal noise.
_OF_MEDIAN, _OF_MEAN = 1.4826, 1.2533
# The standard error of the former, as a part of it, times the root of the number of values.
_ERROR_OF_MEDIAN = 1.17
# Values are alike if their medians differ by less than this many spreads, and these by less than
# this factor.
_ALIKE_MEDIANS, _ALIKE_SPREADS = 1.0, 2.0
# Before the last significant digit of a spread, a limit is rounded.
_DIGITS = 2
_MOVED = 2.0
# The squares of larger ones are no numbers.
_LARGEST = 1e150

_Place = tuple[tuple[str, str], ...]


@dataclass(frozen=True, slots=True)
class PastValue:
    """A finite value of the metric; `place` has the tags `LINE_TAGS` of its job that it has."""

    time_ns: int
    value: float
    run: str
    place: _Place


@dataclass(frozen=True, slots=True)
class Spread:
    """The median of values, and their robust standard deviations below and above it."""

    centre: float
    below: float
    above: float

    @property
    def least(self) -> float:
        """The smaller of the two that are not 0; 0 if both are."""
        return min(filter(None, (self.below, self.above)), default=0.0)


@dataclass(frozen=True, slots=True)
class Part:
    """Values that get limits of their own: those with the tags `place`, empty for all.

    `low` and `high` are None where there is no limit, and `notes` say what to know about them.
    """

    place: _Place
    values: int
    runs: int
    spread: Spread | None
    low: float | None = None
    high: float | None = None
    notes: Sequence[str] = field(default=())

    @property
    def name(self) -> str:
        """Its tags, as people write them; `all` without any."""
        return ", ".join(f"{tag} {text}" for tag, text in self.place) or "all"

    @property
    def suffix(self) -> str:
        """What tells the names of its specifications apart from those of other parts."""
        letters = "_".join(text for _, text in self.place)
        return "".join(each if each.isascii() and each.isalnum() else "_" for each in letters)


def propose(values: Sequence[PastValue], *, side: Side, spreads: float = SPREADS) -> list[Part]:
    """Return the parts of values that get limits of their own, with these limits.

    Parameters
    ----------
    values
        All of the metric, sorted by time.
    side
        On which side limits are wanted; one below 0 is left out where no value is negative.
    spreads
        How many robust standard deviations from the median.
    """
    cells: dict[_Place, list[PastValue]] = {}
    for item in values:
        cells.setdefault(item.place, []).append(item)
    has_negative = any(item.value < 0 for item in values)
    return [
        _part(place, found, side=side, spreads=spreads, has_negative=has_negative)
        for place, found in sorted(_split(cells).items())
    ]


def spread_of(values: Sequence[float]) -> Spread:
    """Return median and robust spreads, which are equal unless one is more than twice the other.

    Where more than half of the values are equal, they are by the mean distance.
    """
    centre = median(values)
    sides = (
        [centre - item for item in values if item <= centre],
        [item - centre for item in values if item >= centre],
    )
    below, above, both = (
        _OF_MEDIAN * median(some) or _OF_MEAN * fmean(some)
        for some in (*sides, [abs(item - centre) for item in values])
    )
    if max(below, above) <= _ALIKE_SPREADS * min(below, above):
        below = above = both
    return Spread(centre, below, above)


def rare_text(runs: int) -> str:
    """Say how often a limit may be broken that none of so many runs has broken."""
    return f"with {counted(runs, 'run')}, up to 1 in {max(runs // 3, 1)} may (95 % confidence)"


def _split(cells: Mapping[_Place, list[PastValue]]) -> dict[_Place, list[PastValue]]:
    """Put values together by as few tags as leave together only what is alike."""
    spreads = {
        place: spread_of([item.value for item in found])
        for place, found in cells.items()
        if len(found) >= FEWEST
    }
    tags = {name for place in cells for name, _ in place}
    choices = chain.from_iterable(
        combinations(reversed(LINE_TAGS), count) for count in range(len(LINE_TAGS) + 1)
    )
    for chosen in choices:
        if not tags.issuperset(chosen):
            continue
        parts: dict[_Place, list[_Place]] = {}
        for place in cells:
            key = tuple(pair for pair in place if pair[0] in chosen)
            parts.setdefault(key, []).append(place)
        if all(
            _are_alike([spreads[place] for place in some if place in spreads])
            for some in parts.values()
        ):
            return {
                key: sorted(
                    (item for place in some for item in cells[place]), key=lambda item: item.time_ns
                )
                for key, some in parts.items()
            }
    return dict(cells)


def _are_alike(spreads: Sequence[Spread]) -> bool:
    if len(spreads) < 2:
        return True
    centres = [item.centre for item in spreads]
    widths = [item.least for item in spreads]
    typical = median(widths)
    return max(centres) - min(centres) <= _ALIKE_MEDIANS * typical and max(
        widths
    ) <= _ALIKE_SPREADS * min(widths)


def _part(
    place: _Place, found: Sequence[PastValue], *, side: Side, spreads: float, has_negative: bool
) -> Part:
    values = [item.value for item in found]
    runs = len({item.run for item in found})
    if len(values) < FEWEST:
        few = f"too few for a limit: it takes {FEWEST} values to know how they spread"
        return Part(place, len(values), runs, None, notes=[few])
    if max(map(abs, values)) > _LARGEST:
        return Part(place, len(values), runs, None, notes=["too large numbers for a limit"])
    spread = spread_of(values)
    if not spread.least:
        same = (
            f"no limit: all values are {number_text(spread.centre)}, so nothing says what is far "
            "from it"
        )
        return Part(place, len(values), runs, spread, notes=[same])
    notes: list[str] = []
    low = high = None
    # The relative error of the spread.
    spreads *= 1.0 + _ERROR_OF_MEDIAN / sqrt(len(values))
    if side != "lower":
        width = spread.above or spread.below
        high = _outwards(spread.centre + spreads * width, width, is_up=True)
    if side != "upper":
        width = spread.below or spread.above
        low = _outwards(spread.centre - spreads * width, width, is_up=False)
        if low is not None and low < 0 and not has_negative:
            notes.append(
                f"no lower limit: it would be {number_text(low)}, and no value was below 0"
            )
            low = None
    notes += _moved(values, spread)
    return Part(place, len(values), runs, spread, low, high, notes)


def _moved(values: Sequence[float], spread: Spread) -> Iterable[str]:
    """Say that the level has changed, so that a limit on all of the values fits none of it."""
    halves = values[: len(values) // 2], values[len(values) // 2 :]
    early, late = map(median, halves)
    inner = median(spread_of(half).least for half in halves) or spread.least
    if abs(late - early) > _MOVED * inner:
        yield (
            f"the values have moved: their median was {number_text(early)} in the first half and "
            f"is {number_text(late)} in the second; choose --since so that it is one level"
        )


def _outwards(number: float, width: float, *, is_up: bool) -> float | None:
    """Round a limit away from the values, to the digits that its spread is known to."""
    if not isfinite(number):
        return None
    step = Decimal(1).scaleb(floor(log10(width)) - _DIGITS + 1)
    rounding = ROUND_CEILING if is_up else ROUND_FLOOR
    return float((Decimal(number) / step).to_integral_value(rounding) * step)
