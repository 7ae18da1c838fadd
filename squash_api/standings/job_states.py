"""How jobs stand against their specifications: the states of many, and the verdicts on one.

States are made from the index, without reading documents. They count the verdicts that a job's
report lists.
"""

import threading
from collections import OrderedDict
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass

from squash_api.definitions.definitions import Definitions
from squash_api.definitions.in_force import DefinitionsInForce, Snapshot
from squash_api.index.reader import Reader, View
from squash_api.ingest.assessment import assess
from squash_api.ingest.document import Job
from squash_api.judging.alerts import LEVELS, severity_of
from squash_api.judging.limits import Verdict, judge_job, limits_of, state_word
from squash_api.judging.metadata_query import applies
from squash_api.record.jobs import JobRow, current_revision
from squash_api.record.metrics import KnownMetrics, MetricRow, Metrics
from squash_api.schema.names import Context, Schema, Term
from squash_api.verify.metrics import KnownMetric

WARNING = severity_of("WARNING")
"""The severity from which a broken limit fails a job."""

_MOST_REMEMBERED = 20_000
_MOST_JUDGES = 8


@dataclass(frozen=True, slots=True)
class JobState:
    """How many verdicts there are of each kind; `failed` counts by level, the mildest first."""

    failed: tuple[int, ...] = (0,) * len(LEVELS)
    passed: int = 0
    not_measured: int = 0

    @property
    def severity(self) -> int:
        """The worst level that is broken: 1 for INFO, 2 for WARNING, 3 for CRITICAL, else 0."""
        return max((rank for rank, count in enumerate(self.failed, 1) if count), default=0)

    @property
    def word(self) -> str:
        """The worst of it, in one or two words."""
        if self.not_measured and not self.severity and not self.passed:
            return "not measured"
        return state_word(self.severity, is_limited=self.passed > 0)

    @property
    def is_passing(self) -> bool:
        """Whether a value was judged, and no limit of at least WARNING is broken."""
        return self.severity < WARNING and self.passed + sum(self.failed) > 0

    def to_json(self) -> dict[str, object]:
        """Return the state as the API shows it."""
        return {
            "state": self.word,
            "failed": dict(zip(LEVELS, self.failed, strict=True)),
            "passed": self.passed,
            "not_measured": self.not_measured,
        }


def total(states: Iterable[JobState]) -> JobState:
    """Add up the states of several jobs."""
    counted = [JobState(), *states]
    return JobState(
        tuple(map(sum, zip(*(state.failed for state in counted), strict=True))),
        sum(state.passed for state in counted),
        sum(state.not_measured for state in counted),
    )


# A limit, unpacked: its terms for the metadata, whether a value meets it (None if the units do not
# convert, so that nothing is measured), and the place of its level.
_Test = tuple[tuple[Term, ...], Callable[[float], bool] | None, int]


class JobJudge:
    """Judges jobs by the specifications of a snapshot; values are in the units of the metrics."""

    def __init__(self, snapshot: Snapshot, metrics: Iterable[MetricRow], schema: Schema) -> None:
        self._tests: dict[int, list[_Test]] = {}
        for metric in metrics:
            specifications = snapshot.by_metric.get(metric.name)
            if specifications:
                limits = limits_of(specifications, unit=metric.unit, schema=schema)
                self._tests[metric.metric_id] = [
                    (limit.terms, None if limit.problem else limit.holds, limit.severity - 1)
                    for limit in limits
                ]
        self.metric_ids = tuple(sorted(self._tests))

    def state(self, context: Context, values: Iterable[tuple[int, float | None]]) -> JobState:
        """Judge a job by its values, each with the id of its metric."""
        failed = [0] * len(LEVELS)
        passed = not_measured = 0
        known: dict[tuple[Term, ...], bool] = {}
        for metric_id, value in values:
            for terms, holds, place in self._tests.get(metric_id, ()):
                is_judged = known.get(terms)
                if is_judged is None:
                    is_judged = known[terms] = applies(terms, context)
                if not is_judged:
                    continue
                if value is None or holds is None:
                    not_measured += 1
                elif holds(value):
                    passed += 1
                else:
                    failed[place] += 1
        return JobState(tuple(failed), passed, not_measured)


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


def job_report(
    row: JobRow,
    job: Job,
    *,
    definitions: Definitions,
    metrics: Metrics,
    is_now: bool,
) -> list[Verdict]:
    """Judge a job by the specifications in force when it was received, or now, sorted by name."""
    revision = None if is_now else row.revision
    metrics.refresh()
    schema = metrics.schema
    in_force = definitions.in_force.at(revision)
    declared = in_force.declared
    measured = {
        item.metric: KnownMetric(declared[item.metric].unit, is_declared=True)
        if item.metric in declared
        else metrics.now.by_name.get(item.metric)
        for item in job.measurements
    }
    known = {name: metric for name, metric in measured.items() if metric is not None}
    outcome = assess(job, metrics=known, schema=schema)
    values = {name: outcome.values.get(name) for name in known}
    units = {name: metric.unit or "" for name, metric in known.items()}
    specifications = [spec for name in known for spec in in_force.by_metric.get(name, ())]
    return judge_job(values, units, specifications, schema.context(job.meta), schema)
