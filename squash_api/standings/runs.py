"""Runs of pipelines: what they measured, how they stand, and what changed before them."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from squash_api.errors import NotFoundError
from squash_api.index.contexts import Tags, TagSets
from squash_api.index.reader import Reader, View
from squash_api.index.runs import NEWEST_NS, RunJob
from squash_api.standings.job_states import JobState, JobStates, total
from squash_api.standings.last_passing import Comparison, Run, compare, last_passing_run, run_before

MOST_JOBS_OF_RUN = 1000
"""Of a run with more jobs, the newest are looked at."""

_WINDOW = 2000
# A list goes so many jobs back at most before it says where to go on.
_MOST_LOOKED_AT = 40_000
_MOST_JUDGED = 2000

# Pipeline, run, and what else tells an entry from others: the dataset, or the job of no run.
_Key = tuple[str | None, str | None, str | int | None]
# Jobs that make an entry, the newest first, and whether these are all of them.
_Members = tuple[list[RunJob], bool]


@dataclass(frozen=True, slots=True)
class RunSummary:
    """The jobs of one run with one dataset, or a job that is of no run.

    `job_id` and `time_ns` are of the newest job. `tags` are those that all jobs share, `filters`
    all that they have. It is complete unless the run has too many jobs to look at all of them.
    """

    pipeline: str | None
    run_id: str | None
    dataset: str | None
    filters: tuple[str, ...]
    job_id: int
    time_ns: int
    jobs: int
    measurements: int
    state: JobState
    run_url: str | None
    version_tag: str | None
    is_complete: bool = True


@dataclass(frozen=True, slots=True)
class RunList:
    """Some runs, the newest first; `after` is where the next ones begin, None if these were all.

    It is the time (ns) before which nothing has been looked at.
    """

    runs: Sequence[RunSummary]
    after: int | None


@dataclass(frozen=True, slots=True)
class RunMember:
    """A job of a run, with its tags."""

    job: RunJob
    tags: Mapping[str, str]
    state: JobState


@dataclass(frozen=True, slots=True)
class RunDetail:
    """A run, and a part of its jobs; `after` is where the next part begins.

    `looked_at` is how many of its `jobs` the state is made of. `before` is the run before it,
    `last_passing` the last before it that broke nothing of at least WARNING, found among `judged`
    jobs.
    """

    pipeline: str | None
    run_id: str
    jobs: int
    looked_at: int
    measurements: int
    state: JobState
    newest: RunJob
    members: Sequence[RunMember]
    after: int | None
    before: Comparison | None
    last_passing: Comparison | None
    judged: int


class RunsOverview:
    """Lists runs and shows single ones. Safe to use from many threads.

    Parameters
    ----------
    reader
        Where the jobs are; only those in the index are seen.
    states
        How jobs stand.
    """

    def __init__(self, reader: Reader, states: JobStates) -> None:
        self._reader = reader
        self._states = states

    def list_runs(
        self,
        *,
        tags: Mapping[str, str],
        after: int | None,
        limit: int,
        is_now: bool = False,
    ) -> RunList:
        """Return runs by the time of their newest job.

        Parameters
        ----------
        tags
            Values that tags must have; of a run, only jobs that have them count.
        after
            Where the page before ended.
        limit
            Most runs to return. There may be fewer although more follow: what one call looks at is
            bounded.
        is_now
            Judge by today's specifications in place of those at receipt.
        """
        start_ns = NEWEST_NS if after is None else after
        found: list[_Members] = []
        seen: set[_Key] = set()
        sets: TagSets = {}
        before_ns: int | None = start_ns
        looked_at = judged = 0
        while before_ns is not None and looked_at < _MOST_LOOKED_AT:
            with self._reader.view() as view:
                jobs, before_ns = view.runs.back(before_ns=before_ns, jobs=_WINDOW)
                looked_at += _WINDOW
                _learn_sets(view, jobs, sets)
                for job in jobs:
                    key = _key(job, sets)
                    if key in seen or not _has(sets[job.tag_set_id], tags):
                        continue
                    seen.add(key)
                    members, is_complete = _members(view, job, sets, tags)
                    if not members or members[0].time_ns >= start_ns:
                        continue
                    if len(found) == limit or judged >= _MOST_JUDGED:
                        after_ns = found[-1][0][0].time_ns
                        return self._listed(found, sets, after_ns, is_now=is_now)
                    found.append((members, is_complete))
                    judged += len(members)
        return self._listed(found, sets, before_ns, is_now=is_now)

    def run(
        self,
        candidates: Sequence[tuple[str | None, str]],
        *,
        after: int,
        limit: int,
        is_now: bool = False,
    ) -> RunDetail:
        """Return a run with some of its jobs, in order of arrival.

        Parameters
        ----------
        candidates
            Pipeline and run, as they may be meant; the first that has a job is taken.
        after
            The id of the last job of the page before.

        Raises
        ------
        NotFoundError
            If there is no such run.
        """
        with self._reader.view() as view:
            known = view.runs.with_job(candidates)
            if not known:
                raise NotFoundError(f"There is no run {candidates[0][1][:100]}.")
            run = known[0]
            newest = view.runs.newest_jobs(*run, limit=MOST_JOBS_OF_RUN)
            count = view.runs.count_jobs(*run)
            page = view.runs.page(*run, after=after, limit=limit + 1)
            tags = view.contexts.tags({job.tag_set_id for job in (*newest, *page)})
        shown = page[:limit]
        states = self._states.of({job.job_id for job in (*newest, *shown)}, is_now=is_now)
        before, last_passing, judged = self._compared(newest, tags)
        nothing = JobState()
        return RunDetail(
            *run,
            count,
            len(newest),
            sum(job.measurement_count for job in newest),
            total(states.get(job.job_id, nothing) for job in newest),
            newest[0],
            [
                RunMember(job, tags[job.tag_set_id], states.get(job.job_id, nothing))
                for job in shown
            ],
            shown[-1].job_id if len(page) > limit else None,
            before,
            last_passing,
            judged,
        )

    def _compared(
        self, jobs: Sequence[RunJob], tags: Mapping[int, Tags]
    ) -> tuple[Comparison | None, Comparison | None, int]:
        """Compare a run with the one before it and with the last one that passed."""
        newest = jobs[0]
        datasets = {tags[job.tag_set_id].get("dataset") for job in jobs}
        with self._reader.view() as view:
            revision = view.contexts.revisions([newest.job_id]).get(newest.job_id, 0)
        passing, judged = last_passing_run(
            self._reader,
            self._states,
            Run(newest.pipeline, newest.run_id or "", datasets, jobs[-1].time_ns),
            revision=revision,
        )
        with self._reader.view() as view:
            before = compare(view, newest.job_id, run_before(view, newest.job_id))
            job_id = None if passing is None else passing.job_id
            last_passing = compare(view, newest.job_id, job_id)
        return before, last_passing, judged

    def _listed(
        self,
        found: Sequence[_Members],
        sets: Mapping[int, Tags],
        after: int | None,
        *,
        is_now: bool,
    ) -> RunList:
        states = self._states.of(
            {job.job_id for members, _ in found for job in members}, is_now=is_now
        )
        runs = [
            _summary(members, sets, states, is_complete=is_complete)
            for members, is_complete in found
        ]
        return RunList(runs, after)


def _learn_sets(view: View, jobs: Sequence[RunJob], sets: TagSets) -> None:
    sets.update(view.contexts.tags({job.tag_set_id for job in jobs} - sets.keys()))


def _members(view: View, job: RunJob, sets: TagSets, tags: Mapping[str, str]) -> _Members:
    """Return the jobs that make one entry with a job."""
    if job.run_id is None:
        return [job], True
    jobs = view.runs.newest_jobs(job.pipeline, job.run_id, limit=MOST_JOBS_OF_RUN)
    _learn_sets(view, jobs, sets)
    key = _key(job, sets)
    found = [item for item in jobs if _key(item, sets) == key and _has(sets[item.tag_set_id], tags)]
    return found, len(jobs) < MOST_JOBS_OF_RUN


def _key(job: RunJob, sets: Mapping[int, Tags]) -> _Key:
    if job.run_id is None:
        return job.pipeline, None, job.job_id
    return job.pipeline, job.run_id, sets[job.tag_set_id].get("dataset")


def _has(found: Mapping[str, str], tags: Mapping[str, str]) -> bool:
    return all(found.get(name) == text for name, text in tags.items())


def _summary(
    members: Sequence[RunJob],
    sets: Mapping[int, Tags],
    states: Mapping[int, JobState],
    *,
    is_complete: bool,
) -> RunSummary:
    newest = members[0]
    return RunSummary(
        newest.pipeline,
        newest.run_id,
        sets[newest.tag_set_id].get("dataset"),
        _distinct(sets[job.tag_set_id].get("filter") for job in members),
        newest.job_id,
        newest.time_ns,
        len(members),
        sum(job.measurement_count for job in members),
        total(states[job.job_id] for job in members if job.job_id in states),
        newest.run_url,
        newest.version_tag,
        is_complete,
    )


def _distinct(values: Iterable[str | None]) -> tuple[str, ...]:
    return tuple(sorted({value for value in values if value is not None}))
