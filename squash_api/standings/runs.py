"""Runs of pipelines: what they measured, how they stand, and what changed since earlier runs."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

from squash_api.errors import NotFoundError
from squash_api.index.contexts import Tags, TagSets
from squash_api.index.reader import Reader, View
from squash_api.index.runs import NEWEST_NS, RunJob
from squash_api.standings.job_states import Fault, JobState, JobStates, faults_of, total
from squash_api.standings.last_passing import (
    Comparison,
    Run,
    compare,
    faulty_of,
    last_passing_run,
    previous_run,
)

MOST_JOBS_OF_RUN = 1000
"""If a run has more jobs, only the newest are looked at."""

_WINDOW = 2000
# A list goes back at most this many jobs before it returns where to go on.
_MOST_LOOKED_AT = 40_000
_MOST_JUDGED = 2000

# Pipeline, run, and the dataset; or the job, if it has no run.
_Key = tuple[str | None, str | None, str | int | None]
# The jobs of an entry, newest first, and whether these are all of them.
_Members = tuple[list[RunJob], bool]


@dataclass(frozen=True, slots=True)
class RunSummary:
    """The jobs of one run with one dataset, or a job that has no run.

    `job_id` and `time_ns` are those of the newest job, `filters` those of all jobs. It is complete
    unless the run has too many jobs to look at all of them.
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
    """Some runs, newest first; `after` is where the next ones begin, None if these were all.

    `after` is a time (ns): nothing before it has been looked at.
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
    """A run, and one page of its jobs; `after` is where the next page begins.

    The state is that of `looked_at` of its `jobs`, and `faults` are the metrics that are not as
    they should be in these. `before` is the previous run, and `last_passing` the last earlier one
    that passed, found among `judged` jobs.
    """

    pipeline: str | None
    run_id: str
    jobs: int
    looked_at: int
    measurements: int
    state: JobState
    faults: Sequence[Fault]
    newest: RunJob
    members: Sequence[RunMember]
    after: int | None
    before: Comparison | None
    last_passing: Comparison | None
    judged: int


class RunsOverview:
    """Lists runs and shows single ones, of jobs in the index. Safe to use from many threads."""

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
            Values that tags must have; only jobs that have them count.
        after
            The `after` of the previous page.
        limit
            The most runs to return. There may be fewer although more follow, because one call looks
            at a limited number of jobs.
        is_now
            Judge by today's specifications rather than those in force at receipt.
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
            Possible pipelines and runs; the first that has a job is used.
        after
            The id of the last job of the previous page.

        Raises
        ------
        NotFoundError
            If there is no such run.
        """
        with self._reader.view() as view:
            known = view.runs.with_job(candidates)
            if not known:
                pipeline, run_id = candidates[0]
                raise NotFoundError.of("run", run_id, view.runs.recent(pipeline))
            run = known[0]
            newest = view.runs.newest_jobs(*run, limit=MOST_JOBS_OF_RUN)
            count = view.runs.count_jobs(*run)
            page = view.runs.page(*run, after=after, limit=limit + 1)
            tags = view.contexts.tags({job.tag_set_id for job in (*newest, *page)})
        shown = page[:limit]
        states = self._states.of({job.job_id for job in (*newest, *shown)}, is_now=is_now)
        nothing = JobState()
        judged_jobs = [states.get(job.job_id, nothing) for job in newest]
        before, last_passing, judged = self._compared(newest, tags, faulty_of(judged_jobs))
        return RunDetail(
            *run,
            count,
            len(newest),
            sum(job.measurement_count for job in newest),
            total(judged_jobs),
            faults_of(judged_jobs),
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
        self, jobs: Sequence[RunJob], tags: Mapping[int, Tags], faulty: Collection[str]
    ) -> tuple[Comparison | None, Comparison | None, int]:
        """Compare a run with the previous one and with the last one that passed."""
        newest = jobs[0]
        datasets = {tags[job.tag_set_id].get("dataset") for job in jobs}
        with self._reader.view() as view:
            revision = view.contexts.revisions([newest.job_id]).get(newest.job_id, 0)
        passing, judged = last_passing_run(
            self._reader,
            self._states,
            Run(newest.pipeline, newest.run_id or "", datasets, jobs[-1].time_ns, faulty),
            revision=revision,
        )
        with self._reader.view() as view:
            before = compare(view, newest.job_id, previous_run(view, newest.job_id))
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
    """Return the jobs of the same entry as a job."""
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
    tags = [sets[job.tag_set_id] for job in members]
    filters = {item["filter"] for item in tags if "filter" in item}
    return RunSummary(
        newest.pipeline,
        newest.run_id,
        tags[0].get("dataset"),
        tuple(sorted(filters)),
        newest.job_id,
        newest.time_ns,
        len(members),
        sum(job.measurement_count for job in members),
        total(states[job.job_id] for job in members if job.job_id in states),
        newest.run_url,
        newest.version_tag,
        is_complete,
    )
