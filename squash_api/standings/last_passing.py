"""What to compare a job or run with: the previous one, and the last one that passed."""

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial

from squash_api.alerts.freshness import Combination, combination_of
from squash_api.index.code_changes import PackageChange
from squash_api.index.contexts import SeriesJob
from squash_api.index.reader import Reader, View
from squash_api.judging.states import BROKEN, INFO, NOT_MEASURED, RANKS
from squash_api.schema import answers
from squash_api.standings.job_states import JobState, JobStates, faults_of, total

MOST_JOBS = 500
"""The most jobs that are judged to find one that passes."""

_FIRST_LOOK = 20
_GROWTH = 5


@dataclass(frozen=True, slots=True)
class Place:
    """A job among those with the same combination of tags, in order of time.

    `last_passing` is the newest job of the newest earlier run that passed: of the metrics that this
    job names, it measured all that it names itself and all that stand badly in this job, and broke
    no limit of at least WARNING. If none did, metrics that no earlier job measured do not count. A
    job without a run counts as a run. `looked_at` counts the jobs that were judged to find it.
    """

    combination: Combination
    previous: SeriesJob | None
    next: SeriesJob | None
    last_passing: SeriesJob | None
    looked_at: int


@dataclass(frozen=True, slots=True)
class Run:
    """A run, and its pipeline if it has one. `time_ns` is the time of its first job.

    `faulty` are its metrics that stand badly.
    """

    pipeline: str | None
    run_id: str
    datasets: Collection[str | None]
    time_ns: int
    faulty: Collection[str] = ()


@dataclass(frozen=True, slots=True)
class Comparison:
    """A job or run to compare with, and the packages that differ, by name.

    `packages` is None if one of the two has not named its packages. `unknown` names those that may
    differ: one of the two does not give their commit.
    """

    job_id: int
    run_id: str | None
    packages: Sequence[PackageChange] | None
    unknown: Sequence[str] = ()

    def to_json(self) -> answers.OtherRun:
        """Return the comparison as the API shows it."""
        packages = None if self.packages is None else [item.to_json() for item in self.packages]
        return {
            "job": self.job_id,
            "run_id": self.run_id,
            "packages": packages,
            "unknown": list(self.unknown),
        }


def place_of(reader: Reader, states: JobStates, job_id: int, *, revision: int) -> Place | None:
    """Return where a job stands in its series; None if it is not in the index.

    All jobs are judged by the specifications of `revision`.
    """
    with reader.view() as view:
        context = view.contexts.of([job_id]).get(job_id)
        if context is None:
            return None
        combination = combination_of(context.context.tags)
        run_id = context.context.fields.get("run_id")
        sets = view.contexts.tag_sets_where(
            {name: [text] for name, text in combination},
            lambda tags: combination_of(tags) == combination,
        )
        look = partial(view.contexts.neighbours, sets, context.time_ns)
        following = look(direction="later", limit=1)
        earlier = look(direction="earlier", limit=MOST_JOBS)
    own = states.judged_by(revision, [job_id], like=job_id).values()
    last_passing, looked_at = _last_passing(
        [item for item in earlier if item.run_id is None or item.run_id != run_id],
        lambda ids: states.judged_by(revision, ids, like=job_id),
        needed=faulty_of(own),
    )
    return Place(
        combination,
        earlier[0] if earlier else None,
        following[0] if following else None,
        last_passing,
        looked_at,
    )


def last_passing_run(
    reader: Reader, states: JobStates, run: Run, *, revision: int
) -> tuple[SeriesJob | None, int]:
    """Return the newest job of the last run, before this one, that passed.

    The run is of the same pipeline, and only jobs with the same datasets count. All jobs are judged
    by the specifications of `revision`; how many were judged is returned too.
    """
    with reader.view() as view:
        sets = view.contexts.tag_sets_where(
            {} if run.pipeline is None else {"pipeline": [run.pipeline]},
            lambda tags: (
                tags.get("pipeline") == run.pipeline and tags.get("dataset") in run.datasets
            ),
        )
        earlier = view.contexts.neighbours(sets, run.time_ns, direction="earlier", limit=MOST_JOBS)
    return _last_passing(
        [item for item in earlier if item.run_id != run.run_id],
        lambda ids: states.judged_by(revision, ids),
        needed=run.faulty,
    )


def faulty_of(states: Iterable[JobState]) -> frozenset[str]:
    """Name the metrics that were not measured, or break a limit of at least WARNING."""
    worse = {state for state in (*BROKEN, NOT_MEASURED) if RANKS[state] < RANKS[INFO]}
    return frozenset(fault.metric for fault in faults_of(states) if fault.state in worse)


def compare(view: View, job_id: int, other: int | None) -> Comparison | None:
    """Compare the packages of two jobs; None if there is no other job."""
    if other is None:
        return None
    runs = view.runs.of_jobs([job_id, other])
    if job_id not in runs or other not in runs:
        return None
    changes = view.changes_between(runs[other], runs[job_id])
    packages = changes.packages
    if packages is not None:
        packages = tuple(sorted(packages, key=lambda item: item.name))
    return Comparison(other, changes.previous_run_id, packages, changes.unknown)


def previous_run(view: View, job_id: int) -> int | None:
    """Return a job of the previous run of the same pipeline."""
    run = view.runs.of_jobs([job_id]).get(job_id)
    return None if run is None else run.previous_job_id


def _last_passing(
    jobs: Sequence[SeriesJob],
    judge: Callable[[Sequence[int]], dict[int, JobState]],
    *,
    needed: Collection[str],
) -> tuple[SeriesJob | None, int]:
    """Return the first job of the first run that passes, and how many jobs were judged for it.

    The run must have measured the metrics that are `needed`, apart from those that no job names. If
    there is no such run, metrics to which no job gave a value do not count either. Its first job
    that measured any of them is returned. The jobs are sorted, newest first. Those of a run need
    not follow each other; jobs of a run that are not among these jobs do not count.
    """
    runs: dict[str | int, list[SeriesJob]] = {}
    for item in jobs:
        runs.setdefault(item.job_id if item.run_id is None else item.run_id, []).append(item)
    states: dict[int, JobState] = {}
    done: set[int] = set()
    looked_at, size = 0, _FIRST_LOOK
    while looked_at < len(jobs):
        some = jobs[looked_at : looked_at + size]
        states |= judge([item.job_id for item in some])
        looked_at, size = looked_at + len(some), size * _GROWTH
        done.update(item.job_id for item in some)
        found = _first_passing(runs.values(), states, done, set(needed))
        if found is not None:
            return found, looked_at
    known = {name for state in states.values() for name in state.metrics}
    found = None
    if not known.issuperset(needed):
        found = _first_passing(runs.values(), states, done, known.intersection(needed))
    measured = {
        name
        for state in states.values()
        for name, found_state in state.states.items()
        if found_state != NOT_MEASURED
    }
    if found is None and measured != known:
        wanted = measured.intersection(needed)
        found = _first_passing(runs.values(), states, done, wanted, known - measured)
    return found, looked_at


def _first_passing(
    runs: Iterable[Sequence[SeriesJob]],
    states: Mapping[int, JobState],
    done: Collection[int],
    needed: Collection[str],
    ignored: Collection[str] = (),
) -> SeriesJob | None:
    for items in runs:
        if any(item.job_id not in done for item in items):
            # The jobs of the run that are left may break a limit.
            return None
        known = [item for item in items if item.job_id in states]
        found = total(states[item.job_id] for item in known)
        if found.is_passing(ignored) and found.states.keys() >= set(needed):
            return next(item for item in known if _has_any(states[item.job_id], needed))
    return None


def _has_any(state: JobState, needed: Collection[str]) -> bool:
    """Tell whether a job measured any of these metrics; without any, whether it was judged."""
    return bool(state.metrics) if not needed else not set(needed).isdisjoint(state.metrics)
