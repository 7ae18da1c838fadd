"""Which limits of a series are raised: by its newest value, or by those of several runs. Pure.

A limit without `alert.after` is raised while the newest value breaks it; with `after` while at
least `runs` of the newest `of` runs with a value do; and with `alert.min_runs` only if the series
has that many runs with a value. Jobs without a value count neither way, and a run counts once, by
the newest of its values.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from datetime import UTC, date, datetime, time, timedelta
from typing import Any, Protocol, TypeVar

from squash_api.judging.limits import Limit, Verdict, judge

_NS = 10**9


class Measured(Protocol):
    """A job of a series; `index.history:Entry` is one."""

    @property
    def run(self) -> Any: ...  # noqa: D102  what entries of the same run have in common
    @property
    def value(self) -> float | None: ...  # noqa: D102


_Entry = TypeVar("_Entry", bound=Measured)

VerdictAt = Callable[[Limit, int], Verdict | None]
"""Gives the verdict on a limit for a run, by its place among the newest; None if there is none."""


def newest_of_runs(entries: Iterable[_Entry]) -> Iterator[_Entry]:
    """Yield of entries, newest first, the newest with a value of each run."""
    seen = set()
    for item in entries:
        if item.value is not None and item.run not in seen:
            seen.add(item.run)
            yield item


def runs_needed(limit: Limit) -> int:
    """Return how many of the newest runs with a value decide whether a limit is raised."""
    item = limit.specification
    judged = 1 if item.after is None else item.after.of
    return max(item.min_runs, judged + limit.history)


def verdicts_on(values: Sequence[float]) -> VerdictAt:
    """Return what gives the verdicts on the values of runs, newest first.

    A kind with history judges each by those before it.
    """

    def verdict_at(limit: Limit, place: int) -> Verdict | None:
        settled = limit.settled(values[place + 1 :])
        return None if settled is None else judge(settled, values[place])

    return verdict_at


def raised_by(limit: Limit, runs: int, verdict_at: VerdictAt) -> Verdict | None:
    """Return the newest verdict that breaks a limit, if the limit is raised; else None.

    Parameters
    ----------
    runs
        How many runs with a value the series has, as far as they were looked for.
    """
    item = limit.specification
    if limit.problem or runs < max(item.min_runs, 1):
        return None
    needed, judged = (1, 1) if item.after is None else (item.after.runs, item.after.of)
    judged = min(judged, runs)
    verdicts = (verdict_at(limit, place) for place in range(judged))
    failed = [verdict for verdict in verdicts if verdict and verdict.status == "failed"]
    if len(failed) < needed:
        return None
    return failed[0] if item.after is None else replace(failed[0], runs=(len(failed), judged))


def unmuted_ns(day: date) -> int:
    """Return when a limit that is muted through a day is heard: at its end, in UTC."""
    midnight = datetime.combine(day, time(), UTC) + timedelta(days=1)
    return int(midnight.timestamp()) * _NS


def is_muted(limit: Limit, now_ns: int) -> bool:
    """Tell whether a limit is muted."""
    return limit.muted_through is not None and now_ns < unmuted_ns(limit.muted_through)
