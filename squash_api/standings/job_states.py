"""How jobs stand against their specifications, for many jobs at once.

The verdicts are those of a job's report, but they come from the index of measurements and from what
was derived of the jobs' metadata: no document is read.

Verdicts on stored jobs.
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
from squash_api.judging.alert_keys import LEVELS
from squash_api.judging.alert_plan import query_terms
from squash_api.judging.specifications import OPERATORS, Specification
from squash_api.judging.verdicts import Verdict, judge_job, threshold_in
from squash_api.record.jobs import JobRow, current_revision
from squash_api.record.metrics import KnownMetrics, MetricRow, Metrics
from squash_api.schema.names import Context, Schema, Term
from squash_api.verify.metrics import KnownMetric
from squash_api.verify.units import UnitError

WARNING = LEVELS.index("WARNING") + 1
"""A severity: that of a violation that is not to be passed over."""

_MOST_REMEMBERED = 20_000
_MOST_YARDSTICKS = 8


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
        """The worst that can be said, in a word or two."""
        if self.severity:
            return LEVELS[self.severity - 1]
        if self.passed:
            return "passed"
        return "not measured" if self.not_measured else "no limit"

    @property
    def is_passing(self) -> bool:
        """Whether something was judged, and nothing of at least WARNING is broken."""
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
    """Return the sum of what several jobs come to."""
    failed = [0] * len(LEVELS)
    passed = not_measured = 0
    for state in states:
        for rank, count in enumerate(state.failed):
            failed[rank] += count
        passed += state.passed
        not_measured += state.not_measured
    return JobState(tuple(failed), passed, not_measured)


# A limit as it is compared: what it asks of the metadata, whether a value holds (None if the units
# do not convert, so that nothing is measured), and the rank of its level.
_Limit = tuple[tuple[Term, ...], Callable[[float], bool] | None, int]


class Yardstick:
    """The specifications of a revision, ready to judge many values. It does not change.

    Parameters
    ----------
    snapshot
        What was defined as of the revision.
    metrics
        All metrics of the record, in whose units the values are.
    schema
        The names in InfluxDB.
    """

    def __init__(self, snapshot: Snapshot, metrics: Iterable[MetricRow], schema: Schema) -> None:
        self._limits: dict[int, list[_Limit]] = {}
        for metric in metrics:
            specifications = snapshot.by_metric.get(metric.name)
            if specifications:
                self._limits[metric.metric_id] = [
                    _limit_of(item, metric.unit, schema) for item in specifications
                ]
        self.metric_ids = tuple(sorted(self._limits))

    def judge(self, context: Context, values: Iterable[tuple[int, float | None]]) -> JobState:
        """Judge a job by its values, each with the id of its metric."""
        failed = [0] * len(LEVELS)
        passed = not_measured = 0
        known: dict[tuple[Term, ...], bool] = {}
        for metric_id, value in values:
            for terms, holds, rank in self._limits.get(metric_id, ()):
                applies = known.get(terms)
                if applies is None:
                    applies = known[terms] = all(map(context.satisfies, terms))
                if not applies:
                    continue
                if value is None or holds is None:
                    not_measured += 1
                elif holds(value):
                    passed += 1
                else:
                    failed[rank] += 1
        return JobState(tuple(failed), passed, not_measured)


def _limit_of(specification: Specification, unit: str | None, schema: Schema) -> _Limit:
    terms = query_terms(specification, schema)
    rank = LEVELS.index(specification.level)
    try:
        threshold = threshold_in(specification, unit or specification.unit)
    except UnitError:
        return terms, None, rank
    compare = OPERATORS[specification.operator]
    return terms, lambda value: compare(value, threshold), rank


class JobStates:
    """Judges jobs, and remembers how they stood. Safe to use from many threads.

    Parameters
    ----------
    reader
        Where the jobs are; those that are not in the index have no state.
    definitions
        The specifications in force.
    """

    def __init__(self, reader: Reader, definitions: DefinitionsInForce) -> None:
        self._reader = reader
        self._definitions = definitions
        self._schema = reader.metrics.schema
        self._lock = threading.Lock()
        self._metrics = KnownMetrics()
        self._yardsticks: OrderedDict[int, Yardstick] = OrderedDict()
        # By job and revision: the version of what the job says, and the state.
        self._known: OrderedDict[tuple[int, int], tuple[int, JobState]] = OrderedDict()

    def of(self, job_ids: Collection[int], *, is_now: bool = False) -> dict[int, JobState]:
        """Return how jobs stand by the specifications at their receipt, or by today's.

        Jobs that have been deleted are left out.
        """

        def read(view: View) -> tuple[dict[int, int], dict[int, int]]:
            view.require_settled(job_ids)
            # First, as other metrics make what is known worthless.
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

        Parameters
        ----------
        like
            A job: what is not measured there counts for nothing.
        """
        snapshot = self._definitions.at(revision)
        values: dict[int, list[tuple[int, float | None]]] = {}
        with self._reader.view() as view:
            self._take_metrics(view.metrics)
            yardstick = self._yardstick(revision, snapshot)
            metrics: Sequence[int] = yardstick.metric_ids
            if like is not None:
                metrics = [item[0] for item in view.values.in_jobs(metrics, [like])]
            contexts = view.contexts.of(job_ids)
            for metric_id, job_id, value in view.values.in_jobs(metrics, contexts):
                values.setdefault(job_id, []).append((metric_id, value))
        return {
            job_id: yardstick.judge(item.context, values.get(job_id, ()))
            for job_id, item in contexts.items()
        }

    def _take_metrics(self, metrics: KnownMetrics) -> None:
        with self._lock:
            if metrics.version > self._metrics.version:
                self._metrics = metrics
                self._yardsticks.clear()
                self._known.clear()

    def _yardstick(self, revision: int, snapshot: Snapshot) -> Yardstick:
        with self._lock:
            found = self._yardsticks.get(revision)
            if found is None:
                found = Yardstick(snapshot, self._metrics.by_id.values(), self._schema)
                self._yardsticks[revision] = found
                if len(self._yardsticks) > _MOST_YARDSTICKS:
                    self._yardsticks.popitem(last=False)
            self._yardsticks.move_to_end(revision)
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
    """Judge a job by the specifications in force at its receipt, or by today's; sorted by name."""
    revision = None if is_now else row.revision
    metrics.refresh()
    schema = metrics.schema
    declared = definitions.metrics_in_force(revision)
    measured = {
        item.metric: KnownMetric(declared[item.metric].unit, is_declared=True)
        if item.metric in declared
        else metrics.now.by_name.get(item.metric)
        for item in job.measurements
    }
    known = {name: metric for name, metric in measured.items() if metric is not None}
    outcome = assess(job, metrics=known, schema=schema)
    in_force = definitions.specifications_in_force(revision)
    values = {name: outcome.values.get(name) for name in known}
    units = {name: metric.unit or "" for name, metric in known.items()}
    specifications = [spec for name in known for spec in in_force.get(name, ())]
    return judge_job(values, units, specifications, schema.context(job.meta), schema)
