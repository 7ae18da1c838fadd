"""The results of a report: the last value of each metric and combination, judged. Pure.

All values are counted, and those that broke a limit. Memory grows with the combinations, never with
the values.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from operator import attrgetter

from squash_api.alerts.freshness import Combination, combination_of
from squash_api.errors import InvalidInputError
from squash_api.index.windows import MeasuredJob
from squash_api.judging.alerts import severity_of
from squash_api.judging.limits import Evidence, Limit, Verdict, judge, judge_by, limits_of
from squash_api.judging.metadata_query import applies, query_terms
from squash_api.judging.specifications import Specification
from squash_api.judging.states import BROKEN, State, state_of
from squash_api.record.metrics import MetricRow
from squash_api.schema.names import META_PREFIX, Context, Schema

MOST_RESULTS = 100_000
"""A report of more metrics and combinations is refused."""

MOST_KEPT = 500_000
"""Series that have more values together are not kept."""

_MOST_SINKS = 200_000
_WORST_FIRST = attrgetter("order")


# Not frozen, like what is made of it: see `Finding`.
@dataclass(slots=True)
class Result:
    """The last value of a metric for one combination, and the verdicts on it.

    `value` is in `unit`; None if it was measured as null, NaN or infinite, or was skipped. Of the
    `values` in the selection, `failed` broke a limit and `absent` were such Nones. `beyond` counts
    those that failed by the worst level that each broke. By the name of a specification, `judged`
    counts the values that it applied to, and `beaten` those that broke it.

    The `state` is how the last value stands. `broken` are the verdicts on the limits that it
    breaks, worst first; `nearest` is the one to show: the worst one, or that on the nearest limit.
    """

    metric: str
    unit: str | None
    tags: Combination
    value: float | None
    time_ns: int
    job_id: int
    run_id: str | None
    run_url: str | None
    verdicts: tuple[Verdict, ...]
    values: int
    failed: int
    absent: int
    beyond: Mapping[State, int] = field(default_factory=dict)
    judged: Mapping[str, int] = field(default_factory=dict)
    beaten: Mapping[str, int] = field(default_factory=dict)

    broken: tuple[Verdict, ...] = field(init=False, compare=False, repr=False)
    nearest: Verdict | None = field(init=False, compare=False, repr=False)
    state: State = field(init=False, compare=False, repr=False)

    def __post_init__(self) -> None:
        # Each is asked for about ten times, which took a fifth of a report's time.
        worst_first = sorted(self.verdicts, key=_WORST_FIRST)
        self.nearest = worst_first[0] if worst_first else None
        self.broken = tuple(item for item in worst_first if item.status == "failed")
        self.state = state_of(
            max((item.limit.severity for item in self.broken), default=0),
            is_limited=bool(self.verdicts),
            is_measured=self.value is not None,
        )


class Limits:
    """The limits to judge by, and which of them have judged something.

    Attributes
    ----------
    used
        Names of the specifications that applied to a job.
    unusable
        Why a specification cannot judge, by its name.
    """

    def __init__(
        self, specifications: Mapping[str, Sequence[Specification]], schema: Schema
    ) -> None:
        self.used: set[str] = set()
        self.unusable: dict[str, str] = {}
        self._specifications = specifications
        self._schema = schema
        self._limits: dict[tuple[str, str | None], list[Limit]] = {}

    @property
    def needs_fields(self) -> bool:
        """Whether a query has a term on a field that a job's own metadata gives (`meta.`)."""
        return any(
            not term.is_tag and term.name.startswith(META_PREFIX)
            for found in self._specifications.values()
            for item in found
            for term in query_terms(item.metadata_query, self._schema) or ()
        )

    def of(self, metric: str, unit: str | None, tags: Mapping[str, str]) -> list[Limit]:
        """Find the limits of a metric whose terms on tags match."""
        known = self._all(metric, unit)
        if not any(item.terms for item in known):
            self.used.update(item.name for item in known)
            return known
        context = Context(tags=dict(tags))
        found = []
        for item in known:
            of_tags = [term for term in item.terms if term.is_tag]
            if applies(of_tags, context):
                found.append(item)
                if len(of_tags) == len(item.terms):
                    self.used.add(item.name)
        return found

    def _all(self, metric: str, unit: str | None) -> list[Limit]:
        known = self._limits.get((metric, unit))
        if known is None:
            specifications = self._specifications.get(metric, ())
            limits = limits_of(specifications, unit=unit, schema=self._schema)
            self.unusable |= {item.name: item.problem for item in limits if item.problem}
            known = [item for item in limits if not item.problem]
            self._limits[metric, unit] = known
        return known


Measured = tuple[int, float, int]
"""The time (ns) of a value, the value, and its job."""


@dataclass(slots=True)
class _Tally:
    metric: MetricRow
    tags: Combination
    time_ns: int = -1
    value: float | None = None
    job: MeasuredJob | None = None
    limits: Sequence[Limit] = ()
    # Those that need more than the value to judge it, which is done for the last one.
    others: Sequence[Limit] = ()
    values: int = 0
    absent: int = 0
    # By severity; and by the name of each limit: those it applied to, and those that broke it.
    failed: list[int] = field(default_factory=lambda: [0, 0, 0, 0])
    counts: dict[str, list[int]] = field(default_factory=dict)

    def judging(self, limits: Sequence[Limit]) -> "_Judging":
        """Prepare limits, worst first, for judging many values."""
        return limits, [
            (
                limit.holds,
                # One on trial is counted by itself alone.
                0 if limit.is_trial else limit.severity,
                self.counts.setdefault(limit.name, [0, 0]),
            )
            for limit in limits
        ]


# Limits, and for each its test, which is called for every value, its severity, and its counts.
_Judging = tuple[Sequence[Limit], Sequence[tuple[Callable[[float], bool], int, list[int]]]]


class _Sink:
    """Where values of a metric with one set of tags go, and their limits."""

    __slots__ = ("has_conditions", "judging", "others", "tags", "tally")

    def __init__(self, tally: _Tally, limits: list[Limit], tags: Mapping[str, str]) -> None:
        self.tally = tally
        self.judging = tally.judging([limit for limit in limits if limit.is_alone])
        self.others = [limit for limit in limits if not limit.is_alone and not limit.is_trial]
        self.has_conditions = not all(term.is_tag for limit in limits for term in limit.terms)
        self.tags = dict(tags) if self.has_conditions else {}


class Kept:
    """Keeps the series of the values that pass by, up to `MOST_KEPT` values of them all."""

    def __init__(self) -> None:
        self._series: dict[tuple[int, Combination], list[Measured]] = {}
        self._count = 0

    def clear(self) -> None:
        """Forget all of it."""
        self._series, self._count = {}, 0

    def keep(
        self,
        jobs: Mapping[int, MeasuredJob],
        entries: Iterable[tuple[int, int, float | None]],
        tags_of: Mapping[int, Mapping[str, str]],
    ) -> Iterator[tuple[int, int, float | None]]:
        """Yield values as `Results.take` needs them, and keep those that there are."""
        combinations = {number: combination_of(tags) for number, tags in tags_of.items()}
        for metric_id, job_id, value in entries:
            job = jobs.get(job_id)
            if job is not None and value is not None and self._count <= MOST_KEPT:
                self._count += 1
                key = (metric_id, combinations[job.tag_set_id])
                self._series.setdefault(key, []).append((job.time_ns, value, job_id))
            yield metric_id, job_id, value

    def series(self) -> dict[tuple[int, Combination], list[Measured]] | None:
        """Return the series by metric and combination, by time; None if they are too many."""
        if self._count > MOST_KEPT:
            return None
        return {key: sorted(found) for key, found in self._series.items()}


class Results:
    """Judges values, in any order, and counts them.

    Parameters
    ----------
    metrics
        By their ids.

    Attributes
    ----------
    jobs
        The number of jobs that have a value.
    """

    def __init__(self, metrics: Mapping[int, MetricRow], limits: Limits) -> None:
        self.jobs = 0
        self.metrics = metrics
        self.limits = limits
        self._tallies: dict[tuple[int, Combination], _Tally] = {}
        self._sinks: dict[int, dict[int, _Sink]] = {}
        self._sink_count = 0
        self._combinations: dict[int, Combination] = {}

    def take(
        self,
        jobs: Mapping[int, MeasuredJob],
        entries: Iterable[tuple[int, int, float | None]],
        tags_of: Mapping[int, Mapping[str, str]],
    ) -> None:
        """Judge values: each a metric and a job, by their ids, and the value or None.

        Parameters
        ----------
        jobs
            By their ids; values of other jobs are ignored.
        tags_of
            The tags of each set that the jobs have, by its id.
        """
        seen: set[int] = set()
        current, sinks = -1, dict[int, _Sink]()
        for metric_id, job_id, value in entries:
            job = jobs.get(job_id)
            if job is None:
                continue
            if metric_id != current:
                current = metric_id
                sinks = self._sinks.setdefault(metric_id, {})
            sink = sinks.get(job.tag_set_id)
            if sink is None:
                sink = self._make_sink(metric_id, job.tag_set_id, tags_of[job.tag_set_id])
                sinks = self._sinks[metric_id]
            seen.add(job_id)
            (limits, tests), others = (
                self._applying(sink, job) if sink.has_conditions else (sink.judging, sink.others)
            )
            # Not a separate function: this runs for every value.
            tally = sink.tally
            tally.values += 1
            if job.time_ns > tally.time_ns:
                tally.time_ns, tally.job = job.time_ns, job
                tally.value, tally.limits, tally.others = value, limits, others
            if value is None:
                tally.absent += 1
                continue
            worst = 0
            for holds, severity, counts in tests:
                counts[0] += 1
                if not holds(value):
                    counts[1] += 1
                    worst = worst or severity
            tally.failed[worst] += 1
        self.jobs += len(seen)

    def results(self, evidence_of: Callable[[int], Evidence | None] | None = None) -> list[Result]:
        """List the results, sorted by metric and tags.

        Parameters
        ----------
        evidence_of
            Gives what is known about a job, by its id; without it, limits that need more than a
            value to judge it give no verdict.
        """
        found = [_result(tally, evidence_of) for tally in self._tallies.values()]
        return sorted(found, key=lambda item: (item.metric, item.tags))

    def _make_sink(self, metric_id: int, tag_set_id: int, tags: Mapping[str, str]) -> _Sink:
        if self._sink_count >= _MOST_SINKS:
            self._sinks = {metric_id: {}}
            self._combinations.clear()
            self._sink_count = 0
        combination = self._combinations.get(tag_set_id)
        if combination is None:
            combination = self._combinations[tag_set_id] = combination_of(tags)
        metric = self.metrics[metric_id]
        tally = self._tallies.get((metric_id, combination))
        if tally is None:
            if len(self._tallies) >= MOST_RESULTS:
                raise InvalidInputError(
                    f"The report would have more than {MOST_RESULTS} metrics and combinations of "
                    "tags: ask for less, for instance for one package or dataset."
                )
            tally = self._tallies[metric_id, combination] = _Tally(metric, combination)
        sink = _Sink(tally, self.limits.of(metric.name, metric.unit, tags), tags)
        self._sinks[metric_id][tag_set_id] = sink
        self._sink_count += 1
        return sink

    def _applying(self, sink: _Sink, job: MeasuredJob) -> tuple[_Judging, Sequence[Limit]]:
        """Find the limits whose terms on other metadata match too."""
        own = {"run_id": job.run_id, "run_url": job.run_url, "version_tag": job.version_tag}
        context = Context(
            tags=sink.tags,
            fields={**job.fields, **{key: text for key, text in own.items() if text is not None}},
        )
        found = [item for item in sink.judging[0] if applies(item.terms, context)]
        others = [item for item in sink.others if applies(item.terms, context)]
        self.limits.used.update(item.name for item in (*found, *others))
        return sink.tally.judging(found), others


def _result(tally: _Tally, evidence_of: Callable[[int], Evidence | None] | None) -> Result:
    job, unit = tally.job, tally.metric.unit
    assert job is not None  # noqa: S101 - a tally begins with a value
    verdicts = [judge(limit, tally.value) for limit in tally.limits if not limit.is_trial]
    evidence = evidence_of(job.job_id) if evidence_of and tally.others else None
    for limit in tally.others:
        verdict = None if evidence is None else judge_by(limit, tally.value, evidence)
        if verdict is not None:
            verdicts.append(verdict)
            tally.counts[limit.name] = [1, int(verdict.status == "failed")]
    return Result(
        metric=tally.metric.name,
        unit=unit,
        tags=tally.tags,
        value=tally.value,
        time_ns=tally.time_ns,
        job_id=job.job_id,
        run_id=job.run_id,
        run_url=job.run_url,
        verdicts=tuple(verdicts),
        values=tally.values,
        failed=sum(tally.failed[1:]),
        absent=tally.absent,
        beyond={level: count for level in BROKEN if (count := tally.failed[severity_of(level)])},
        judged={name: counts[0] for name, counts in tally.counts.items()},
        beaten={name: counts[1] for name, counts in tally.counts.items()},
    )
