"""Judges past jobs by two sets of specifications, to see what a change would have flagged.

A set is what is in force, or a metrics package. Jobs are read in batches, in the order in which
they were received. Memory is bounded: only the newest differences and messages are kept.
"""

from collections import Counter, deque
from collections.abc import Collection, Hashable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace

from squash_api.definitions.in_force import DefinitionsInForce
from squash_api.index.reader import Reader
from squash_api.ingest.assessment import Assessment, assess
from squash_api.ingest.document import Job
from squash_api.ingest.reducing import with_reduced
from squash_api.ingest.stored_job import document_of
from squash_api.judging.alert_history import WELL, AlertHistory, PastJob, StateChange
from squash_api.judging.alert_plan import Branch, WatchedMetric, watched_metrics
from squash_api.judging.alerts import PER_JOB, severity_of
from squash_api.judging.limits import Limit
from squash_api.judging.specifications import Specification
from squash_api.metrics_packages.loading import MetricsPackage
from squash_api.record.jobs import JobRow, added_measurements, job_ids_in_time, jobs_by_id
from squash_api.schema.names import Schema
from squash_api.verify.metrics import KnownMetric, Metric, Reductions, reductions_of


@dataclass(frozen=True, slots=True)
class SpecificationSet:
    """Specifications that alert; `known` are all metrics that jobs may have, with their units."""

    specifications: Mapping[str, Specification]
    watched: tuple[WatchedMetric, ...]
    known: Mapping[str, KnownMetric]
    reductions: Reductions = field(default_factory=dict)

    @property
    def limits(self) -> dict[str, Limit]:
        """The limits, by the names of their specifications."""
        return {
            limit.name: limit
            for item in self.watched
            for branch in item.branches
            for limit in branch.limits
        }

    def unit(self, metric: str) -> str:
        """Return the unit of a metric's values; empty if it has none."""
        known = self.known.get(metric)
        return (known.unit or "") if known else ""


def set_of_package(
    reader: Reader, package: MetricsPackage, *, metrics: Collection[str] = ()
) -> SpecificationSet:
    """Make the set of a metrics package without problems.

    Parameters
    ----------
    reader
        Knows the units of metrics that the package does not define.
    metrics
        Only specifications on these metrics or verification packages; if empty, all.
    """
    return set_of(reader, package.specifications, package.metrics, wanted=metrics)


def set_in_force(
    reader: Reader, definitions: DefinitionsInForce, *, metrics: Collection[str] = ()
) -> SpecificationSet:
    """Make the set of the specifications in force that come from YAML; no others alert.

    Parameters
    ----------
    metrics
        Only specifications on these metrics or verification packages; if empty, all.
    """
    snapshot = definitions.at(None)
    specifications = {
        name: defined.content
        for name, defined in snapshot.specifications.items()
        if defined.origin == "yaml"
    }
    return set_of(reader, specifications, snapshot.declared, wanted=metrics)


def set_of(
    reader: Reader,
    specifications: Mapping[str, Specification],
    declared: Mapping[str, Metric],
    *,
    wanted: Collection[str] = (),
) -> SpecificationSet:
    """Make the set of specifications by name, on metrics that are declared.

    Parameters
    ----------
    wanted
        Only specifications on these metrics or verification packages; if empty, all.
    """
    # A stored metric that can no longer be read is logged by its reader.
    chosen = {
        name: item
        for name, item in specifications.items()
        if item.metric in declared
        and (not wanted or item.metric in wanted or item.metric.partition(".")[0] in wanted)
    }
    with reader.view() as view:
        known: dict[str, KnownMetric] = dict(view.metrics.by_name)
    known |= {name: KnownMetric.of(item) for name, item in declared.items()}
    watched = watched_metrics(chosen.values(), declared, reader.metrics.schema)
    return SpecificationSet(chosen, tuple(watched), known, reductions_of(known.items()))


MOST_DIFFERENCES = 100
"""At most this many differing jobs are kept per specification, the newest."""

MOST_CHANGES = 1000
"""At most this many messages of a set are kept, the newest."""

_BATCH = 100
_MAX_BATCH_BYTES = 8_000_000
_MOST_REASONS = 1000
_REPLACED = "replaced by"


@dataclass(slots=True)
class Runs:
    """A set of runs, one bit each, so that many specifications cost little memory."""

    count: int = 0
    _bits: bytearray = field(default_factory=bytearray)

    def add(self, number: int) -> None:
        """Add a run by its number."""
        byte, bit = number >> 3, 1 << (number & 7)
        if byte >= len(self._bits):
            self._bits.extend(bytes(byte + 1 - len(self._bits)))
        if not self._bits[byte] & bit:
            self._bits[byte] |= bit
            self.count += 1


@dataclass(slots=True)
class Tally:
    """The runs in which a specification judged a value, and those in which it flagged one."""

    judged: Runs = field(default_factory=Runs)
    flagged: Runs = field(default_factory=Runs)


@dataclass(frozen=True, slots=True)
class Difference:
    """A job that only one set flags: the new one if `is_flagged`; `value` is in its unit."""

    specification: str
    is_flagged: bool
    run_id: str
    job_id: int
    dataset: str
    filter: str
    value: float


@dataclass(slots=True)
class Side:
    """The outcome of one set; `messages` counts by channel, with "" for the default one.

    These are changes of single series. `plain` is how many there would be without `alert.after`,
    `min_runs` and `trial`, and `told` how many messages people get of them in groups.
    """

    specs: SpecificationSet
    tallies: dict[str, Tally] = field(default_factory=dict)
    messages: Counter[str] = field(default_factory=Counter)
    plain: int = 0
    told: int = 0
    changes: deque[StateChange] = field(default_factory=lambda: deque(maxlen=MOST_CHANGES))

    def tally(self, specification: str) -> Tally:
        """Look up the tally of a specification, which may be empty."""
        return self.tallies.setdefault(specification, Tally())


@dataclass(slots=True)
class Backtest:
    """The outcome of both sets; a job without `run_id` counts as a run.

    `differing` counts all differences, `differences` holds the newest; both by specification.
    `unused` counts values that the new set needs and cannot judge, by metric and reason.
    """

    old: Side
    new: Side
    jobs: int = 0
    runs: int = 0
    differing: Counter[str] = field(default_factory=Counter)
    differences: dict[str, deque[Difference]] = field(default_factory=dict)
    unused: Counter[tuple[str, str]] = field(default_factory=Counter)


def jobs_to_judge(reader: Reader, *, since_ns: int) -> list[list[int]]:
    """List the ids of the jobs of this time or later, in batches; deleted ones are left out."""
    with reader.view() as view:
        ids = view.ask(job_ids_in_time, since_ns=since_ns, until_ns=None)
    return [ids[start : start + _BATCH] for start in range(0, len(ids), _BATCH)]


def backtest(
    reader: Reader,
    batches: Iterable[Sequence[int]],
    *,
    old: SpecificationSet,
    new: SpecificationSet,
    dataset: str | None = None,
) -> Backtest:
    """Judge jobs by two sets of specifications.

    Parameters
    ----------
    batches
        Ids of jobs, ascending, from `jobs_to_judge`.
    dataset
        Only jobs with this tag `dataset`.
    """
    player = _Player(Backtest(Side(old), Side(new)), reader.metrics.schema)
    for ids in batches:
        for row, job in _documents(reader, ids):
            player.play(row, job, dataset)
    return player.outcome


def _documents(reader: Reader, ids: Sequence[int]) -> Iterator[tuple[JobRow, Job]]:
    waiting = list(ids)
    while waiting:
        with reader.view() as view:
            rows = view.ask(jobs_by_id, waiting, max_bytes=_MAX_BATCH_BYTES)
            added = view.ask(added_measurements, [row.job_id for row in rows])
        if not rows:
            return
        for row in rows:
            # A job may have been deleted since the ids were read.
            if row.body is not None:
                yield row, document_of(row, added.get(row.job_id, []))
        waiting = [job_id for job_id in waiting if job_id > rows[-1].job_id]


class _Player:
    """Judges one job after another by both sets."""

    def __init__(self, outcome: Backtest, schema: Schema) -> None:
        self.outcome = outcome
        self._schema = schema
        self._players = [_SidePlayer(side, schema) for side in (outcome.old, outcome.new)]
        self._has_same_units = outcome.old.specs.known == outcome.new.specs.known
        self._wanted = {item.metric.name for item in outcome.new.specs.watched}
        self._numbers: dict[str | int, int] = {}

    def play(self, row: JobRow, job: Job, dataset: str | None) -> None:
        """Judge a job by both sets, and keep the differences."""
        context = self._schema.context(job.meta)
        if dataset is not None and context.tags.get("dataset") != dataset:
            return
        past = PastJob(row.job_id, row.received_ns, row.time_ns, context, {})
        run = self._numbers.setdefault(past.run_id or row.job_id, len(self._numbers))
        outcome = self.outcome
        outcome.jobs += 1
        outcome.runs = len(self._numbers)
        new = self._assess(job, outcome.new.specs)
        old = new if self._has_same_units else self._assess(job, outcome.old.specs)
        self._count_unused(new)
        flagged = [
            player.play(replace(past, values=found.values), run)
            for player, found in zip(self._players, (old, new), strict=True)
        ]
        self._compare(past, *flagged)

    def _assess(self, job: Job, specs: SpecificationSet) -> Assessment:
        reduced = with_reduced(job, specs.reductions)
        return assess(reduced, metrics=specs.known, schema=self._schema)

    def _count_unused(self, found: Assessment) -> None:
        unused = self.outcome.unused
        reasons = [(name, "null, NaN or infinite") for name in found.absent]
        reasons += [
            (skip.metric, skip.reason)
            for skip in found.skipped
            if not skip.reason.startswith(_REPLACED)
        ]
        for key in reasons:
            # Reasons quote what clients send, so their number has no limit.
            if key[0] in self._wanted and (key in unused or len(unused) < _MOST_REASONS):
                unused[key] += 1

    def _compare(self, past: PastJob, old: Mapping[str, float], new: Mapping[str, float]) -> None:
        outcome = self.outcome
        for name in sorted(old.keys() ^ new.keys()):
            outcome.differing[name] += 1
            kept = outcome.differences.setdefault(name, deque(maxlen=MOST_DIFFERENCES))
            tags = past.context.tags
            kept.append(
                Difference(
                    specification=name,
                    is_flagged=name in new,
                    run_id=past.run_id,
                    job_id=past.job_id,
                    dataset=tags.get("dataset", ""),
                    filter=tags.get("filter", ""),
                    value=new[name] if name in new else old[name],
                )
            )


class _SidePlayer:
    """Judges one job after another by one set."""

    def __init__(self, side: Side, schema: Schema) -> None:
        self._side = side
        self._history = AlertHistory(side.specs.watched)
        self._told = GroupsTold()
        plain = [without_new_keys(item) for item in side.specs.specifications.values()]
        metrics = {item.metric.name: item.metric for item in side.specs.watched}
        self._plain = AlertHistory(watched_metrics(plain, metrics, schema))

    def play(self, past: PastJob, run: int) -> dict[str, float]:
        """Judge a job, and find the values that break a limit, by specification."""
        side = self._side
        flagged: dict[str, float] = {}
        for judged, change in self._history.play(past):
            for limit in judged.branch.limits:
                side.tally(limit.name).judged.add(run)
            for limit in judged.broken:
                side.tally(limit.name).flagged.add(run)
                flagged[limit.name] = judged.value
            if change is not None:
                side.messages[change.channel or ""] += 1
                side.changes.append(change)
                self._told.take(judged.branch, change, past.run)
        side.told = self._told.messages
        side.plain += sum(change is not None for _, change in self._plain.play(past))
        return flagged


def without_new_keys(item: Specification) -> Specification:
    """Return a specification that alerts as releases before 2.4 did: on the newest value alone."""
    if item.alert is None:
        return item
    alert = replace(item.alert, after=None, min_runs=None, trial=None, group=())
    return replace(item, alert=alert)


@dataclass(slots=True)
class _Group:
    """Alerts that are told as one: the level of each series, and the severity that was told."""

    run: object
    levels: dict[Hashable, str] = field(default_factory=dict)
    told: int = 0


class GroupsTold:
    """Counts the messages that people get of changes of series: one of a group, when it changes.

    As the engine does, but by runs in place of minutes: what opens in one run is a group.
    """

    def __init__(self) -> None:
        self.messages = 0
        self._groups: dict[Hashable, _Group] = {}
        # The group that each series is in while it is not well.
        self._of_series: dict[Hashable, _Group] = {}

    def take(self, branch: Branch, change: StateChange, run: object) -> None:
        """Take a change of a series of a branch, by a job of a run."""
        series = (change.metric, branch.key, change.series)
        group = self._of_series.get(series)
        if group is None:
            group = self._join(branch, change, run)
            self._of_series[series] = group
        group.levels[series] = change.level
        if change.level == WELL:
            del self._of_series[series]
        severities = [0 if level == WELL else severity_of(level) for level in group.levels.values()]
        worst = max(severities)
        # Until the next run it gathers, and tells the worst of all.
        if worst > group.told and (group.told == 0 or group.run != run):
            self.messages += 1
        if worst == 0:
            self.messages += 1
        group.told = max(worst, group.told) if worst else 0

    def _join(self, branch: Branch, change: StateChange, run: object) -> _Group:
        grouped = branch.group
        if grouped == PER_JOB:
            key: Hashable = (PER_JOB, change.job_id)
        else:
            rest = tuple(pair for pair in change.series if pair[0] not in grouped)
            alone = change.series if len(rest) == len(change.series) else ()
            key = (change.metric, branch.key, rest, alone)
        group = self._groups.get(key)
        if group is None or group.run != run or not group.told:
            group = self._groups[key] = _Group(run)
        return group
