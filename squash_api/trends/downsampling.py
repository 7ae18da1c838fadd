"""Fewer points of long series, with the extremes among them. Pure."""

from bisect import bisect_left
from collections.abc import Hashable, Iterator
from dataclasses import dataclass
from typing import Generic, TypeVar

FEWEST_POINTS = 2
MOST_POINTS = 10_000

# The exponent of a span (ns) that covers all time.
_LONGEST = 64

Key = TypeVar("Key", bound=Hashable)


@dataclass(frozen=True, slots=True)
class Point:
    """A value of a series, and its job."""

    time_ns: int
    value: float
    job_id: int


class Downsampler(Generic[Key]):
    """Keeps at most `points` points of each series (at least 2), in bounded memory.

    A series with more values is cut into spans of time of equal length, and each span keeps the
    first of its smallest and of its largest values. The length is the smallest power of two (in ns,
    counted from 1970) that gives few enough points. So the points do not depend on the order in
    which values arrive, and most stay when more follow.
    """

    def __init__(self, points: int) -> None:
        self._points = points
        self._series: dict[Key, list[Point] | _Spans] = {}

    def add(self, key: Key, time_ns: int, value: float, job_id: int) -> None:
        """Add a finite value of a series."""
        found = self._series.get(key)
        point = Point(time_ns, value, job_id)
        if found is None:
            self._series[key] = [point]
        elif isinstance(found, _Spans):
            found.add(point)
        else:
            found.append(point)
            if len(found) > self._points:
                self._series[key] = _Spans(found, most=self._points // 2)

    def points(self) -> Iterator[tuple[Key, Point]]:
        """Yield the points that are kept of each series, sorted by time."""
        for key, found in self._series.items():
            kept = found.points() if isinstance(found, _Spans) else found
            for point in sorted(kept, key=lambda point: point.time_ns):
                yield key, point


class _Spans:
    """The smallest and the largest value in each of at most `most` spans of a series."""

    def __init__(self, points: list[Point], *, most: int) -> None:
        self._most = most
        times = [point.time_ns for point in points]
        # Longer spans mean fewer spans with a value.
        self._shift = bisect_left(
            range(_LONGEST), -most, key=lambda shift: -len({time_ns >> shift for time_ns in times})
        )
        self._extremes: dict[int, tuple[Point, Point]] = {}
        for point in points:
            self._put(point.time_ns >> self._shift, point, point)

    def add(self, point: Point) -> None:
        self._put(point.time_ns >> self._shift, point, point)
        while len(self._extremes) > self._most:
            self._shift += 1
            narrow, self._extremes = self._extremes, {}
            for span, extremes in narrow.items():
                self._put(span >> 1, *extremes)

    def points(self) -> list[Point]:
        return [
            point
            for low, high in self._extremes.values()
            for point in ((low,) if low is high else (low, high))
        ]

    def _put(self, span: int, low: Point, high: Point) -> None:
        known = self._extremes.get(span)
        if known is None:
            self._extremes[span] = (low, high)
            return
        lowest, highest = known
        if low.value < lowest.value or (low.value == lowest.value and low.time_ns < lowest.time_ns):
            self._extremes[span] = known = (low, highest)
        if high.value > highest.value or (
            high.value == highest.value and high.time_ns < highest.time_ns
        ):
            self._extremes[span] = (known[0], high)
