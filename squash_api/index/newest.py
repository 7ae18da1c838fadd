"""The newest values of series, for readers that need those of a few series at a time.

A series is what has a combination: the same values of some tags, where "" stands for a tag that is
missing. `index/latest.py` keeps the newest values of all series, for readers that need them all.
"""

from collections.abc import Callable, Collection, Iterable, Mapping
from typing import NamedTuple

from squash_api.index.contexts import Tags
from squash_api.index.reader import View
from squash_api.schema.names import Context

# Nearly always the first jobs have all the values; later pages need not be small.
_FIRST_PAGE = 8
_PAGE = 100
_LAST_NS = 2**63 - 1

Combination = tuple[str, ...]
"""The values of some tags, in the order in which these are named."""


class Newest(NamedTuple):
    """The newest value of a metric in a series, and its job."""

    job_id: int
    time_ns: int
    value: float


def combination_of(tags: Mapping[str, str], per: Iterable[str]) -> Combination:
    """Return the combination of a job with these tags."""
    return tuple(tags.get(name, "") for name in per)


class TagSets:
    """The sets of tags with each combination, kept from view to view. For one thread."""

    def __init__(self) -> None:
        self._through = 0
        self._by_per: dict[tuple[str, ...], dict[Combination, list[int]]] = {}

    def follow(self, view: View, pers: Collection[tuple[str, ...]]) -> None:
        """Read the sets that a view has in addition; these tags make the combinations."""
        if not set(pers) <= self._by_per.keys():
            self._through, self._by_per = 0, {per: {} for per in pers}
        for number, tags in view.contexts.tag_sets_after(self._through).items():
            self._through = number
            for per, found in self._by_per.items():
                found.setdefault(combination_of(tags, per), []).append(number)

    def combinations(self, per: tuple[str, ...]) -> Mapping[Combination, list[int]]:
        """Return the sets of each combination of these tags."""
        return self._by_per[per]

    def of(
        self,
        view: View,
        per: tuple[str, ...],
        combination: Combination,
        suits: Callable[[Tags], bool] | None = None,
    ) -> list[int]:
        """Return the sets with a combination, only those that suit."""
        found = self._by_per[per].get(combination, [])
        if suits is None:
            return found
        tags = view.contexts.tags(found)
        return [number for number in found if suits(tags[number])]


def newest_values(
    view: View,
    metric_ids: Iterable[int],
    tag_sets: Collection[int],
    *,
    after_ns: int,
    suits: Callable[[Context], bool] | None = None,
) -> dict[int, Newest]:
    """Return the newest value of each metric, by metric; those that have none are left out.

    Parameters
    ----------
    tag_sets
        Only values of jobs with one of these sets of tags count.
    after_ns
        Only values after this time count.
    suits
        Only values of jobs with a suitable context count.
    """
    found: dict[int, Newest] = {}
    wanted = set(metric_ids)
    before_ns, size = _LAST_NS, _FIRST_PAGE
    while wanted and tag_sets:
        page = view.contexts.newest_first(
            tag_sets, after_ns=after_ns, before_ns=before_ns, limit=size
        )
        times = dict(page)
        jobs = list(times)
        if suits is not None:
            contexts = view.contexts.of(jobs)
            jobs = [item for item in jobs if item in contexts and suits(contexts[item].context)]
        kept = set(jobs)
        for metric_id, job_id, value in view.values.in_jobs(wanted, jobs, has_absent=False):
            if job_id not in kept or value is None:
                continue
            before = found.get(metric_id)
            if before is None or before.time_ns < times[job_id]:
                found[metric_id] = Newest(job_id, times[job_id], value)
        wanted -= found.keys()
        if len(page) < size:
            break
        before_ns, size = page[-1][1], _PAGE
    return found
