"""Chooses which values of a metric a plot shows, so that the extremes are among them."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from math import isfinite
from typing import Generic, TypeVar

import orjson

from squash_api.alerts.freshness import Combination, combination_of
from squash_api.index.values import TrendRow
from squash_api.schema.names import HEADLINE_TAGS, META_PREFIX, STANDING_TAGS
from squash_api.trends.downsampling import Downsampler, Point

TIME = "time"
MOST_LINES = 21
"""With more series, those of all detectors and places on the sky are shown together."""

MOST_POINTS = 2000
"""At most this many points are shown of the series with a line, and as many of the rest."""

# At most this many values of a series are kept in memory.
_MOST_OF_A_SERIES = 20_000
# Steps along an axis other than time.
_STEPS = 2**60

Item = TypeVar("Item")


@dataclass(frozen=True, slots=True)
class Axis:
    """The horizontal axis: `time`, or the name of a tag, a field or another metric."""

    name: str = TIME
    is_tag: bool = False

    @property
    def is_field(self) -> bool:
        """Whether it is metadata that is not a tag."""
        return self.name.startswith(META_PREFIX)

    def place(self, row: TrendRow, tags: Mapping[str, str]) -> float | None:
        """Find where a value is on the axis; None if its job does not say."""
        if self.is_tag:
            return number_of(tags.get(self.name))
        return number_of(orjson.loads(row[4]).get(self.name) if self.is_field else row[4])


def number_of(value: float | str | None) -> float | None:
    """Read a number or a tag's text; None if it is not a finite number."""
    try:
        number = float(value) if value is not None else None
    except ValueError:
        return None
    return number if number is not None and isfinite(number) else None


@dataclass(frozen=True, slots=True)
class TrendLine(Generic[Item]):
    """The values of one or several series, sorted by the axis; the rest has no tags."""

    tags: Combination
    values: Sequence[Item]
    series: int = 1
    is_rest: bool = False


class TrendPoints:
    """Collects the values of a metric, and chooses which to show.

    Parameters
    ----------
    tags
        The sets of tags of the values' jobs, by their ids in the record.

    Attributes
    ----------
    xs
        Where jobs are on the axis; empty if that is the time.
    count
        The number of values with a place on the axis.
    outside
        The number of values without one.
    """

    def __init__(self, axis: Axis, tags: Mapping[int, Mapping[str, str]]) -> None:
        self._axis = axis
        self._tags = tags
        # Time, value and job.
        self._series: dict[Combination, list[tuple[int, float, int]]] = {}
        self._combinations: dict[int, Combination] = {}
        self._thinned: set[Combination] = set()
        self.xs: dict[int, float] = {}
        self.count = 0
        self.outside = 0

    @property
    def common(self) -> Combination:
        """The tags that all series have."""
        sets = [set(combination) for combination in self._series]
        shared = set.intersection(*sets) if sets else set()
        return tuple(item for item in next(iter(self._series), ()) if item in shared)

    def take(self, rows: Iterable[TrendRow]) -> None:
        """Add values."""
        is_time = self._axis.name == TIME
        for row in rows:
            job_id, time_ns, tag_set_id, value, _ = row
            tags = self._tags.get(tag_set_id)
            if tags is None:
                # Newer than the list of sets.
                continue
            if not is_time:
                x = self._axis.place(row, tags)
                if x is None:
                    self.outside += 1
                    continue
                self.xs[job_id] = x
            key = self._combinations.get(tag_set_id)
            if key is None:
                key = self._combinations[tag_set_id] = combination_of(tags)
                self._series.setdefault(key, [])
            self._series[key].append((time_ns, value, job_id))
            self.count += 1
        for key, points in self._series.items():
            if len(points) > _MOST_OF_A_SERIES:
                kept = _thinned(points, most=_MOST_OF_A_SERIES // 4)
                self._series[key] = [(point.time_ns, point.value, point.job_id) for point in kept]
                self._thinned.add(key)

    def choose(self, badness: Callable[[float], float]) -> list[TrendLine[Point]]:
        """Choose the lines, sorted by tags; the series with most `badness` have their own."""
        groups = self._groups()
        points = {
            name: [point for key in keys for point in self._series[key]]
            for name, keys in groups.items()
        }
        ranked = sorted(points, key=lambda name: (-_worst(points[name], badness), name))
        own, rest = ranked[:MOST_LINES], ranked[MOST_LINES:]
        lines = [
            TrendLine(
                name,
                self._fewer(points[name], most=max(2, MOST_POINTS // len(own))),
                series=len(groups[name]),
            )
            for name in sorted(own, key=_in_order)
        ]
        if rest:
            others = [point for name in rest for point in points[name]]
            count = sum(len(groups[name]) for name in rest)
            chosen = self._fewer(others, most=MOST_POINTS)
            lines.append(TrendLine((), chosen, series=count, is_rest=True))
        return lines

    def whole(self, line: TrendLine[Point]) -> list[tuple[int, float, int]]:
        """Return times, values and jobs of a line of one series in order of time, none left out.

        There are none if there were too many to keep.
        """
        keys = [] if line.is_rest else self._groups()[line.tags]
        if len(keys) != 1 or keys[0] in self._thinned:
            return []
        return sorted(self._series[keys[0]])

    def _groups(self) -> dict[Combination, list[Combination]]:
        """Group the series that are shown together, by those of their tags that differ."""
        shared = set(self.common)
        shown = HEADLINE_TAGS if len(self._series) > MOST_LINES else STANDING_TAGS
        groups: dict[Combination, list[Combination]] = {}
        for key in self._series:
            name = tuple(item for item in key if item not in shared and item[0] in shown)
            groups.setdefault(name, []).append(key)
        return groups

    def _fewer(self, points: Sequence[tuple[int, float, int]], *, most: int) -> list[Point]:
        """Keep at most `most` points, sorted by the axis."""
        if self._axis.name == TIME:
            return _thinned(points, most=most)
        times = {job_id: time_ns for time_ns, _, job_id in points}
        kept = _thinned(self._placed(points), most=most)
        return [Point(times[item.job_id], item.value, item.job_id) for item in kept]

    def _placed(self, points: Sequence[tuple[int, float, int]]) -> list[tuple[int, float, int]]:
        """Replace the times of points by whole numbers in the order of the axis."""
        xs = [self.xs[job_id] for _, _, job_id in points]
        low, width = min(xs), max(xs) - min(xs)
        if not isfinite(width):
            # Their distance overflows a float: use ranks instead.
            order = sorted(points, key=lambda point: self.xs[point[2]])
            return [(index, value, job_id) for index, (_, value, job_id) in enumerate(order)]
        return [
            (int((x - low) / (width or 1.0) * _STEPS), value, job_id)
            for x, (_, value, job_id) in zip(xs, points, strict=True)
        ]


def _thinned(points: Iterable[tuple[int, float, int]], *, most: int) -> list[Point]:
    chosen = Downsampler[None](most)
    for time_ns, value, job_id in points:
        chosen.add(None, time_ns, value, job_id)
    return [point for _, point in chosen.points()]


def _worst(points: Sequence[tuple[int, float, int]], badness: Callable[[float], float]) -> float:
    values = [value for _, value, _ in points]
    return max(badness(min(values)), badness(max(values)))


def _in_order(tags: Combination) -> list[tuple[str, bool, float, str]]:
    """Sort key of tags by which 9 is before 10."""
    ordered = []
    for name, value in tags:
        number = number_of(value)
        ordered.append((name, number is None, number or 0.0, value))
    return ordered
