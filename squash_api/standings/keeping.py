"""Which old jobs can go, and which stay because something else needs them.

A run goes as a whole or not at all: a report on half of it would be wrong. A job stays

- while it waits to be delivered, derived, or taken out of quarantine,
- if its release is to be kept,
- if a measurement that is not old was added to it,
- if it has the last value of a series, or is the last to name its metric without one: a metric that
  is silent does not vanish,
- if later jobs are compared with it: it is of the previous run of a pipeline, or of its series the
  previous job or the last one that passed.
"""

from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from itertools import islice
from typing import Any, Literal

from squash_api.alerts.freshness import Combination, combination_of
from squash_api.index.pruning import (
    Age,
    OldJob,
    RunName,
    is_run_needed,
    old_jobs,
    previous_jobs,
)
from squash_api.index.reader import Reader, View
from squash_api.index.runs import NEWEST_NS
from squash_api.judging.wording import date_text
from squash_api.record.bulk import in_chunks
from squash_api.record.jobs import jobs_at
from squash_api.standings.job_states import JobState, JobStates
from squash_api.standings.last_passing import MOST_JOBS

Reason = Literal["waiting", "release", "added", "last", "compared", "run"]
REASONS: dict[Reason, str] = {
    "waiting": "waiting to be delivered or derived, or in quarantine",
    "release": "of a release that is kept",
    "added": "with a measurement added since",
    "last": "with the last value of a series",
    "compared": "compared with by later jobs",
    "run": "of a run of which other jobs stay",
}
"""Why old jobs stay, in the order in which a job is asked for them."""

_PAGE = 1000
_METRICS = 50
_SERIES = 200
_FIRST_LOOK = 20
_DAY_NS = 86_400 * 10**9


@dataclass(frozen=True, slots=True)
class Terms:
    """What is to go: old jobs, of no release like one of the patterns `releases`.

    With `takes_last` also those that have the last value of a series.
    """

    age: Age
    releases: tuple[str, ...] = ()
    takes_last: bool = False


@dataclass(slots=True)
class Plan:
    """What would go, and how many old jobs stay for each reason.

    `ended` are the series, by metric, whose last value is old; `silent` are the metrics of which
    all are. They stay unless the terms say otherwise. `releases` are those that lose jobs, with how
    many.
    """

    terms: Terms
    jobs: int = 0
    size: int = 0
    first_ns: int | None = None
    last_ns: int | None = None
    days: int = 0
    kept: Counter[Reason] = field(default_factory=Counter)
    ended: Counter[str] = field(default_factory=Counter)
    silent: list[str] = field(default_factory=list)
    releases: Counter[str] = field(default_factory=Counter)

    def to_json(self) -> dict[str, Any]:
        """Describe it for JSON."""
        return {
            "before": date_text(self.terms.age.before_ns),
            "jobs": self.jobs,
            "bytes": self.size,
            "first": None if self.first_ns is None else date_text(self.first_ns),
            "last": None if self.last_ns is None else date_text(self.last_ns),
            "days": self.days,
            "kept": {reason: self.kept[reason] for reason in REASONS},
            "ended_series": sum(self.ended.values()),
            "silent_metrics": self.silent,
            "takes_last_values": self.terms.takes_last,
            "releases": dict(sorted(self.releases.items())),
        }


class Planner:
    """Finds what can go; the index must be up to date. For one thread, and for one prune.

    What later jobs need is found once, when it is made, some series at a time.
    """

    def __init__(self, reader: Reader, states: JobStates, terms: Terms) -> None:
        self._reader = reader
        self._states = states
        self._terms = terms
        self._age = terms.age
        self._plan = Plan(terms)
        self._last: set[int] = set()
        self._compared: set[int] = set()
        self._runs: dict[RunName, bool] = {}
        with reader.view() as view:
            # Without old jobs nothing needs to be known.
            if not view.ask(old_jobs, self._age, after_ns=-1, limit=1):
                return
        last = self._find_last()
        self._last = set() if terms.takes_last else last
        self._compared = self._find_compared()
        with reader.view() as view:
            for run in view.runs.of_jobs(self._last | self._compared).values():
                if run.run_id:
                    self._runs[run.pipeline, run.run_id] = True

    def plan(self) -> Plan:
        """Count what would go and what stays."""
        plan, days = self._plan, set[int]()
        for page in self._pages():
            for item in page:
                reason = self._why_kept(item)
                if reason is not None:
                    plan.kept[reason] += 1
                    continue
                plan.jobs += 1
                plan.size += item.size
                days.add(item.time_ns // _DAY_NS)
                plan.first_ns = item.time_ns if plan.first_ns is None else plan.first_ns
                plan.last_ns = item.time_ns
                if item.version_tag is not None:
                    plan.releases[item.version_tag] += 1
        plan.days = len(days)
        return plan

    def going(self) -> Iterator[list[OldJob]]:
        """Yield the jobs that can go, some at a time, sorted by id."""
        for page in self._pages():
            found = [item for item in page if self._why_kept(item) is None]
            yield sorted(found, key=lambda item: item.job_id)

    def _pages(self) -> Iterator[list[OldJob]]:
        after_ns = -1
        while True:
            with self._reader.view() as view:
                page = view.ask(old_jobs, self._age, after_ns=after_ns, limit=_PAGE)
                for item in page:
                    if item.run is not None and item.run not in self._runs:
                        self._runs[item.run] = view.ask(is_run_needed, item.run, self._age)
            yield page
            if len(page) < _PAGE:
                return
            after_ns = page[-1].time_ns

    def _why_kept(self, item: OldJob) -> Reason | None:
        if item.is_waiting:
            return "waiting"
        if any(fnmatchcase(item.version_tag or "", pattern) for pattern in self._terms.releases):
            return "release"
        if item.has_news:
            return "added"
        if item.job_id in self._last:
            return "last"
        if item.job_id in self._compared:
            return "compared"
        return "run" if item.run is not None and self._runs[item.run] else None

    def _find_last(self) -> set[int]:
        """Find the old jobs that are the last of a series, and count the series that have ended."""
        before_ns, times = self._age.before_ns, set[int]()
        with self._reader.view() as view:
            names = {number: row.name for number, row in view.metrics.by_id.items()}
            last_job = view.contexts.last_job()
        for some in in_chunks(names, size=_METRICS):
            newest: dict[tuple[int, Combination], tuple[int, int]] = {}
            with self._reader.view() as view:
                found = view.values.latest_between(some, after=0, through=last_job)
                tags = view.contexts.tags({row.tag_set_id for row in found})
            for row in found:
                key = row.metric_id, combination_of(tags[row.tag_set_id])
                value_ns, absent_ns = newest.get(key, (0, 0))
                newest[key] = max(value_ns, row.time_ns), max(absent_ns, row.absent_ns)
            present = set[int]()
            for (metric_id, _), (value_ns, absent_ns) in newest.items():
                times.add(value_ns)
                if absent_ns > value_ns:
                    times.add(absent_ns)
                if max(value_ns, absent_ns) >= before_ns:
                    present.add(metric_id)
                else:
                    self._plan.ended[names[metric_id]] += 1
            self._plan.silent += (names[number] for number in {key[0] for key in newest} - present)
        self._plan.silent.sort()
        with self._reader.view() as view:
            return set(view.ask(jobs_at, (time_ns for time_ns in times if time_ns < before_ns)))

    def _find_compared(self) -> set[int]:
        """Find the old jobs that later ones are compared with."""
        with self._reader.view() as view:
            found = view.ask(previous_jobs, self._age)
            sets: dict[Combination, list[int]] = {}
            for number, tags in view.contexts.tag_sets_after(0).items():
                sets.setdefault(combination_of(tags), []).append(number)
        for some in _in_parts(sets.values()):
            found |= self._before(some)
        return found

    def _before(self, series: Iterable[Sequence[int]]) -> set[int]:
        """Find the previous job, and the last that passed, of series that go on.

        Each is given by its sets of tags.
        """
        found: set[int] = set()
        looks: list[list[int]] = []
        with self._reader.view() as view:
            for sets in series:
                later = view.contexts.newest_first(
                    sets, after_ns=self._age.before_ns - 1, before_ns=NEWEST_NS, limit=1
                )
                if later:
                    looks.append(self._earlier(view, sets))
        states = self._states.of({number for look in looks for number in look[:_FIRST_LOOK]})
        for look in looks:
            found.update(look[:1])
            found.update(self._passing(look, states))
        return found

    def _passing(self, look: Sequence[int], states: Mapping[int, JobState]) -> Iterator[int]:
        """Yield the first job that passed, if there is one; the states of the first are known."""
        known = {number: states[number] for number in look[:_FIRST_LOOK] if number in states}
        if not any(state.metrics for state in known.values()):
            # No specification applies to them.
            return
        first = _first_passing(look[:_FIRST_LOOK], known)
        rest = look[_FIRST_LOOK:]
        if first is None and rest:
            first = _first_passing(rest, self._states.of(rest))
        if first is not None:
            yield first

    def _earlier(self, view: View, sets: Collection[int]) -> list[int]:
        return [
            job_id
            for job_id, _ in view.contexts.newest_first(
                sets, after_ns=-1, before_ns=self._age.before_ns, limit=MOST_JOBS
            )
        ]


def _first_passing(job_ids: Iterable[int], states: Mapping[int, JobState]) -> int | None:
    passing = (item for item in job_ids if item in states and states[item].is_passing())
    return next(passing, None)


def _in_parts(series: Iterable[Sequence[int]]) -> Iterator[list[Sequence[int]]]:
    rest = iter(series)
    while part := list(islice(rest, _SERIES)):
        yield part
