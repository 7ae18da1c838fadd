"""How jobs stand against their specifications: the states of many, and the verdicts on one.

States are made from the index, without reading documents. They count the verdicts that a job's
report lists, apart from those of specifications that cannot judge, or that need more than the job's
own value, and the metrics that these are on.
"""

import threading
from collections import OrderedDict
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial

from squash_api.definitions.definitions import Definitions
from squash_api.definitions.in_force import DefinitionsInForce, Snapshot
from squash_api.errors import NotFoundError
from squash_api.index.reader import Reader, View
from squash_api.ingest.assessment import assess
from squash_api.ingest.document import Job
from squash_api.ingest.reducing import with_reduced
from squash_api.ingest.stored_job import load_job
from squash_api.judging.alerts import LEVELS, severity_of
from squash_api.judging.limits import Verdict, judge_job, limits_of
from squash_api.judging.metadata_query import applies
from squash_api.judging.states import (
    BROKEN,
    NO_LIMIT,
    NOT_MEASURED,
    PASSED,
    RANKS,
    STATES,
    State,
    count_states,
    worst_state,
)
from squash_api.record.jobs import JobRow, current_revision
from squash_api.record.metrics import KnownMetrics, MetricRow, Metrics
from squash_api.schema import answers
from squash_api.schema.names import Context, Schema, Term
from squash_api.standings.evidence import Evidence
from squash_api.verify.derivation import NOT_DERIVED
from squash_api.verify.metrics import KnownMetric

_FAILS = severity_of("WARNING")

_MOST_REMEMBERED = 20_000
_MOST_JUDGES = 8
_MOST_LISTS = 1000
_UNJUDGED = len(STATES)


@dataclass(frozen=True, slots=True)
class JobState:
    """How a job stands, or several: the worst state of its limited metrics.

    The numbers are of verdicts, of which each limit that applies to a job gives one; `failed`
    counts by level, the mildest first. `metrics` are those that a limit applies to, each with the
    rank of its state in the same place of `ranks`.
    """

    failed: tuple[int, ...] = (0,) * len(LEVELS)
    passed: int = 0
    not_measured: int = 0
    metrics: tuple[str, ...] = ()
    ranks: bytes = b""

    @property
    def verdicts(self) -> dict[State, int]:
        """The number of verdicts in each state, worst first."""
        counts: dict[State, int] = dict(zip(LEVELS, self.failed, strict=True))
        counts |= {NOT_MEASURED: self.not_measured, PASSED: self.passed}
        return {state: counts[state] for state in STATES if counts.get(state)}

    @property
    def states(self) -> dict[str, State]:
        """The state of each metric that a limit applies to."""
        return {name: STATES[rank] for name, rank in zip(self.metrics, self.ranks, strict=True)}

    @property
    def counts(self) -> dict[State, int]:
        """The number of metrics in each state, worst first."""
        return count_states(STATES[rank] for rank in self.ranks)

    @property
    def severity(self) -> int:
        """The worst level that is broken: 1 for INFO, 2 for WARNING, 3 for CRITICAL, else 0."""
        return max((rank for rank, count in enumerate(self.failed, 1) if count), default=0)

    @property
    def word(self) -> State:
        """The worst state."""
        return worst_state(self.verdicts, NO_LIMIT)

    def is_passing(self, ignored: Collection[str] = ()) -> bool:
        """Tell whether all was measured, and no limit of at least WARNING is broken.

        The metrics that are `ignored` may be missing.
        """
        is_judged = self.passed + sum(self.failed) > 0
        if not is_judged or self.severity >= _FAILS:
            return False
        if not self.not_measured or not ignored:
            return not self.not_measured
        return all(state != NOT_MEASURED or name in ignored for name, state in self.states.items())

    def to_json(self) -> answers.JudgedState:
        """Return the state as the API shows it."""
        return {
            "state": self.word,
            "failed": dict(zip(LEVELS, self.failed, strict=True)),
            "passed": self.passed,
            "not_measured": self.not_measured,
            "verdicts": sum(self.failed) + self.passed + self.not_measured,
            "metrics": self.counts,
        }


def total(states: Iterable[JobState]) -> JobState:
    """Add up the states of several jobs; a metric is in the worst state that it has in any."""
    counted = [JobState(), *states]
    worst: dict[str, int] = {}
    for state in counted:
        for name, rank in zip(state.metrics, state.ranks, strict=True):
            if rank < worst.get(name, len(STATES)):
                worst[name] = rank
    metrics = tuple(sorted(worst))
    return JobState(
        tuple(map(sum, zip(*(state.failed for state in counted), strict=True))),
        sum(state.passed for state in counted),
        sum(state.not_measured for state in counted),
        metrics,
        bytes(worst[name] for name in metrics),
    )


@dataclass(frozen=True, slots=True)
class Fault:
    """A metric that breaks a limit or is not measured, and in how many of `judged` jobs.

    `state` is the worst in any of them.
    """

    metric: str
    state: State
    jobs: int
    judged: int


def faults_of(states: Iterable[JobState]) -> list[Fault]:
    """List the metrics of several jobs that are not as they should be, worst first."""
    found: dict[str, list[State]] = {}
    for item in states:
        for name, state in item.states.items():
            found.setdefault(name, []).append(state)
    wrong = (*BROKEN, NOT_MEASURED)
    faults = [
        Fault(name, worst, sum(state in wrong for state in some), len(some))
        for name, some in found.items()
        if (worst := worst_state(some, NO_LIMIT)) in wrong
    ]
    return sorted(faults, key=lambda item: (RANKS[item.state], -item.jobs, item.metric))


# A limit, unpacked: its terms for the metadata, whether a value meets it, and the place of its
# level.
_Test = tuple[tuple[Term, ...], Callable[[float], bool], int]


class JobJudge:
    """Judges jobs by the specifications of a snapshot; values are in the units of the metrics.

    A specification whose unit does not convert to the metric's judges nothing, nor does one that
    needs more than the value: many jobs are judged at a time.
    """

    def __init__(self, snapshot: Snapshot, metrics: Iterable[MetricRow], schema: Schema) -> None:
        self._tests: dict[int, list[_Test]] = {}
        self._names: dict[int, str] = {}
        # Jobs that measure the same metrics share the list of their names.
        self._lists: dict[tuple[int, ...], tuple[str, ...]] = {}
        for metric in metrics:
            specifications = snapshot.by_metric.get(metric.name)
            if specifications:
                limits = limits_of(specifications, unit=metric.unit, schema=schema)
                self._names[metric.metric_id] = metric.name
                self._tests[metric.metric_id] = [
                    (limit.terms, limit.holds, limit.severity - 1)
                    for limit in limits
                    # Nothing that is on trial counts.
                    if limit.is_alone and not limit.problem and not limit.is_trial
                ]
        self.metric_ids = tuple(sorted(self._tests))

    def state(self, context: Context, values: Iterable[tuple[int, float | None]]) -> JobState:
        """Judge a job by its values, each with the id of its metric."""
        failed = [0] * len(LEVELS)
        passed = not_measured = 0
        known: dict[tuple[Term, ...], bool] = {}
        ids: list[int] = []
        ranks = bytearray()
        for metric_id, value in values:
            rank = _UNJUDGED
            for terms, holds, place in self._tests.get(metric_id, ()):
                is_judged = known.get(terms)
                if is_judged is None:
                    is_judged = known[terms] = applies(terms, context)
                if not is_judged:
                    continue
                if value is None:
                    not_measured += 1
                    rank = RANKS[NOT_MEASURED]
                elif holds(value):
                    passed += 1
                    rank = min(rank, RANKS[PASSED])
                else:
                    failed[place] += 1
                    rank = min(rank, RANKS[LEVELS[place]])
            if rank != _UNJUDGED:
                ids.append(metric_id)
                ranks.append(rank)
        return JobState(tuple(failed), passed, not_measured, self._list(tuple(ids)), bytes(ranks))

    def _list(self, metric_ids: tuple[int, ...]) -> tuple[str, ...]:
        found = self._lists.get(metric_ids)
        if found is None:
            if len(self._lists) >= _MOST_LISTS:
                self._lists.clear()
            found = self._lists[metric_ids] = tuple(map(self._names.__getitem__, metric_ids))
        return found


class JobStates:
    """Judges jobs that are in the index, and remembers their states.

    Safe to use from many threads.
    """

    def __init__(self, reader: Reader, definitions: DefinitionsInForce) -> None:
        self._reader = reader
        self._definitions = definitions
        self._schema = reader.metrics.schema
        self._lock = threading.Lock()
        self._metrics = KnownMetrics()
        self._judges: OrderedDict[int, JobJudge] = OrderedDict()
        # By job and revision: the version of what the job says, and the state.
        self._known: OrderedDict[tuple[int, int], tuple[int, JobState]] = OrderedDict()

    def of(self, job_ids: Collection[int], *, is_now: bool = False) -> dict[int, JobState]:
        """Return how jobs stand by the specifications in force when they were received, or now.

        Deleted jobs are left out.
        """

        def read(view: View) -> tuple[dict[int, int], dict[int, int]]:
            view.require_settled(job_ids)
            # First, because other metrics invalidate what is known.
            self._take_metrics(view.metrics)
            versions = view.contexts.versions(job_ids)
            if is_now:
                return versions, dict.fromkeys(versions, view.ask(current_revision))
            return versions, view.contexts.revisions(versions)

        versions, revisions = self._reader.settled(read)
        found: dict[int, JobState] = {}
        unknown: dict[int, list[int]] = {}
        with self._lock:
            for job_id, version in versions.items():
                known = self._known.get((job_id, revisions[job_id]))
                if known is not None and known[0] == version:
                    found[job_id] = known[1]
                else:
                    unknown.setdefault(revisions[job_id], []).append(job_id)
        for revision, some in unknown.items():
            judged = self.judged_by(revision, some)
            self._remember(revision, versions, judged)
            found |= judged
        return found

    def judged_by(
        self, revision: int, job_ids: Sequence[int], *, like: int | None = None
    ) -> dict[int, JobState]:
        """Judge jobs by the specifications of a revision, whenever they were received.

        With `like`, only metrics that this job measured count.
        """
        snapshot = self._definitions.at(revision)
        values: dict[int, list[tuple[int, float | None]]] = {}
        with self._reader.view() as view:
            self._take_metrics(view.metrics)
            judge = self._judge(revision, snapshot)
            metrics: Sequence[int] = judge.metric_ids
            if like is not None:
                metrics = [item[0] for item in view.values.in_jobs(metrics, [like])]
            contexts = view.contexts.of(job_ids)
            for metric_id, job_id, value in view.values.in_jobs(metrics, contexts):
                values.setdefault(job_id, []).append((metric_id, value))
        return {
            job_id: judge.state(item.context, values.get(job_id, ()))
            for job_id, item in contexts.items()
        }

    def _take_metrics(self, metrics: KnownMetrics) -> None:
        with self._lock:
            if metrics.version > self._metrics.version:
                self._metrics = metrics
                self._judges.clear()
                self._known.clear()

    def _judge(self, revision: int, snapshot: Snapshot) -> JobJudge:
        with self._lock:
            found = self._judges.get(revision)
            if found is None:
                found = JobJudge(snapshot, self._metrics.by_id.values(), self._schema)
                self._judges[revision] = found
                if len(self._judges) > _MOST_JUDGES:
                    self._judges.popitem(last=False)
            self._judges.move_to_end(revision)
            return found

    def _remember(
        self, revision: int, versions: Mapping[int, int], judged: Mapping[int, JobState]
    ) -> None:
        with self._lock:
            for job_id, state in judged.items():
                self._known[job_id, revision] = (versions[job_id], state)
            while len(self._known) > _MOST_REMEMBERED:
                self._known.popitem(last=False)


def verdicts_on(
    job_id: int, reader: Reader, definitions: Definitions, evidence: Evidence
) -> Sequence[Verdict]:
    """Judge a job by the specifications in force when it was received; none if it is gone."""
    try:
        with reader.view() as view:
            row, job = view.ask(load_job, job_id)
    except NotFoundError:
        return ()
    metrics = reader.metrics
    return job_report(
        row, job, definitions=definitions, metrics=metrics, is_now=False, evidence=evidence
    )


def job_report(
    row: JobRow,
    job: Job,
    *,
    definitions: Definitions,
    metrics: Metrics,
    is_now: bool,
    evidence: Evidence | None = None,
) -> list[Verdict]:
    """Judge a job by the specifications in force when it was received, or now, sorted by name.

    Earlier values, and the rest of its run, are taken as they are in the index now; without
    `evidence` limits that need them give no verdict.
    """
    revision = None if is_now else row.revision
    metrics.refresh()
    schema = metrics.schema
    in_force = definitions.in_force.at(revision)
    declared, now = in_force.declared, metrics.now
    job = with_reduced(job, now.reductions)
    # Only units have to be those of then: limits are in them.
    known: dict[str, KnownMetric] = {}
    for name in dict.fromkeys(item.metric for item in job.measurements):
        metric = now.by_name.get(name)
        if name in declared:
            derivation = NOT_DERIVED if metric is None else metric.derivation
            unit = declared[name].unit
            known[name] = KnownMetric(unit, is_declared=True, derivation=derivation)
        elif metric is not None:
            known[name] = metric
    outcome = assess(job, metrics=known, schema=schema)
    values = {name: outcome.values.get(name) for name in known}
    units = {name: metric.unit or "" for name, metric in known.items()}
    specifications = [spec for name in known for spec in in_force.by_metric.get(name, ())]
    judge = partial(judge_job, values, units, specifications, schema.context(job.meta), schema)
    if evidence is None or all(spec.criterion.is_alone for spec in specifications):
        return judge()
    with evidence.on(row.job_id, in_force) as found:
        return judge(evidence=found)
