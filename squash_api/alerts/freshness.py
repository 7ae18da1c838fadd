"""How late values are that specifications expect, as the record knows it.

A value has arrived when its job was received, whatever date the job has.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import lru_cache, partial
from itertools import groupby, product
from math import prod

from squash_api.definitions.in_force import DefinitionsInForce, Snapshot
from squash_api.index.latest import LatestValues
from squash_api.index.reader import View
from squash_api.judging.alert_plan import Expectation, expectations
from squash_api.judging.alerts import Expect, Level, severity_of
from squash_api.judging.metadata_query import applies
from squash_api.judging.wording import ranges_text
from squash_api.record.definitions import expected_since
from squash_api.record.silences import SilenceRow, active_silences, silencing
from squash_api.schema.names import RUN_ID, STANDING_TAGS, Context, Schema

# Those of some tags that have a value, with it.
Combination = tuple[tuple[str, str], ...]

_SEEN_S = 30 * 86400
_FAREWELL_S = 7 * 86400
_NS = 10**9
_JOBS = 1000
_MOST_PARTS = 5


@dataclass(frozen=True, slots=True)
class Arrival:
    """The last value that was received for an expected series."""

    received_ns: int
    job_id: int
    run_id: str | None = None


@dataclass(frozen=True, slots=True)
class ExpectedSeries:
    """How late an expected series is, by a specification of a level.

    `late_s` is above 0 when it is late. `since_ns` is when the last value was received; or, if
    there never was one and so no job, since when one is expected. Where `expect.each` names what is
    expected, all of it is one series without tags: the latest part of it says how late it is, and
    `missing` which parts are.
    """

    specification: str
    tags: Combination
    late_s: float
    age_s: float
    since_ns: int
    job_id: int | None = None
    run_id: str | None = None
    level: Level = "WARNING"
    missing: str = ""

    @property
    def since(self) -> str:
        """`since_ns` as text."""
        return _minute_text(self.since_ns // _NS)


# Many series have come with the same job.
@lru_cache(maxsize=4096)
def _minute_text(time_s: int) -> str:
    return f"{datetime.fromtimestamp(time_s, UTC):%Y-%m-%d %H:%M} UTC"


def combination_of(tags: Mapping[str, str], per: Iterable[str] = STANDING_TAGS) -> Combination:
    """Return those of the tags `per` that have a value, with it."""
    return tuple((name, tags[name]) for name in per if name in tags)


def seen_s(expect: Expect) -> int:
    """Return how long a combination of tags is expected after its last value, in seconds.

    It is 30 days, or twice the time that a value may take if that is longer.
    """
    return max(_SEEN_S, 2 * (expect.every_s + expect.grace_s))


def remembered_s(expect: Expect) -> int:
    """Return how long a combination of tags is reported after its last value, in seconds.

    Once it is no longer expected it is reported as in time for some days, so that its alert ends.
    """
    return seen_s(expect) + _FAREWELL_S


def expected_series(
    expected: Expectation,
    arrivals: Mapping[Combination, Arrival],
    *,
    loaded_ns: int,
    now_ns: int,
    is_silenced: Callable[[Combination], bool] = lambda _: False,
) -> list[ExpectedSeries]:
    """Return how late each series of a specification is.

    The specification itself, without tags, is one; it is late only while no combination of tags is
    expected, so that nothing is reported twice. With `expect.each` it is the only one.

    Parameters
    ----------
    arrivals
        The last value of each combination of tags, of jobs to which the specification applies.
    loaded_ns
        Since when a value is expected.
    is_silenced
        Whether nobody wants to hear of one of the combinations that `expect.each` names.
    """
    if expected.expect.each:
        return [_of_named(expected, arrivals, is_silenced, loaded_ns=loaded_ns, now_ns=now_ns)]
    allowed_s = expected.expect.every_s + expected.expect.grace_s
    longest_s, until_s = remembered_s(expected.expect), seen_s(expected.expect)
    found: dict[Combination, ExpectedSeries] = {}
    is_any = False
    for tags, arrival in arrivals.items():
        age_s = _age_s(now_ns, arrival.received_ns)
        if age_s > longest_s:
            continue
        is_seen = age_s <= until_s
        is_any = is_any or is_seen
        found[tags] = ExpectedSeries(
            expected.specification,
            tags,
            age_s - allowed_s if is_seen else -float(allowed_s),
            age_s,
            arrival.received_ns,
            arrival.job_id,
            arrival.run_id,
            expected.level,
        )
    # Jobs that have none of the tags are the series without tags.
    if () not in found or not is_any:
        found[()] = _as_a_whole(
            expected, arrivals, loaded_ns=loaded_ns, now_ns=now_ns, is_any=is_any
        )
    return list(found.values())


def _as_a_whole(
    expected: Expectation,
    arrivals: Mapping[Combination, Arrival],
    *,
    loaded_ns: int,
    now_ns: int,
    is_any: bool,
) -> ExpectedSeries:
    """Return how late the specification itself is, by any value that was received for it."""
    allowed_s = expected.expect.every_s + expected.expect.grace_s
    last = max(arrivals.values(), key=lambda item: item.received_ns, default=None)
    if last is not None and (is_any or last.received_ns > loaded_ns):
        since_ns, job_id, run_id = last.received_ns, last.job_id, last.run_id
    else:
        since_ns, job_id, run_id = loaded_ns, None, None
    age_s = _age_s(now_ns, since_ns)
    late_s = age_s - allowed_s
    return ExpectedSeries(
        expected.specification,
        (),
        min(late_s, 0.0) if is_any else late_s,
        age_s,
        since_ns,
        job_id,
        run_id,
        expected.level,
    )


def told_apart(expected: Expectation) -> tuple[str, ...]:
    """Return the tags whose combinations are expected: those that are named, if any are."""
    return tuple(name for name, _ in expected.expect.each) or expected.per


def _of_named(
    expected: Expectation,
    arrivals: Mapping[Combination, Arrival],
    is_silenced: Callable[[Combination], bool],
    *,
    loaded_ns: int,
    now_ns: int,
) -> ExpectedSeries:
    """Return how late the latest of the named combinations is, and which are late."""
    allowed_s = expected.expect.every_s + expected.expect.grace_s
    values = expected.expect.values
    never = Arrival(loaded_ns, 0)
    missing: list[tuple[Combination, Arrival]] = []
    worst, silenced = Arrival(now_ns, 0), 0
    for texts in product(*values.values()):
        named = tuple(zip(values, texts, strict=True))
        arrival = arrivals.get(named, never)
        is_late = _age_s(now_ns, arrival.received_ns) > allowed_s
        if is_late and is_silenced(named):
            silenced += 1
            continue
        if is_late:
            missing.append((named, arrival))
        worst = min(worst, arrival, key=lambda item: item.received_ns)
    age_s = _age_s(now_ns, worst.received_ns)
    return ExpectedSeries(
        expected.specification,
        (),
        age_s - allowed_s,
        age_s,
        worst.received_ns,
        worst.job_id or None,
        worst.run_id,
        expected.level,
        _missing_text(values, [named for named, _ in missing], silenced) if missing else "",
    )


def _is_silenced(silences: Sequence[SilenceRow], expected: Expectation, named: Combination) -> bool:
    """Tell whether a silence is about a combination, or about all jobs that it is expected of."""
    terms = {
        term.name: term.value
        for term in expected.terms
        if term.is_tag and isinstance(term.value, str)
    }
    return silencing(silences, expected.metric, {**terms, **dict(named)}) is not None


def _missing_text(
    values: Mapping[str, Sequence[str]], missing: Sequence[Combination], silenced: int
) -> str:
    """Say which of the named combinations are missing, such as `3 of 189 detectors: 12, 40-41`."""
    *outer, last = values
    count = prod(map(len, values.values()))
    plural = f"{last}es" if last.endswith(("s", "ch")) else f"{last}s"
    noun = plural if not outer else f"combinations of {' and '.join(values)}"
    parts = [
        " ".join([*(text for _, text in others), ranges_text(named[-1][1] for named in some)])
        for others, some in groupby(missing, key=lambda named: named[:-1])
    ]
    shown = "; ".join(parts[:_MOST_PARTS])
    more = len(parts) - _MOST_PARTS
    rest = f"; and of {more} more" if more > 0 else ""
    are = "is" if silenced == 1 else "are"
    quiet = f" ({silenced} more {are} silenced)" if silenced else ""
    return f"{len(missing)} of {count} {noun}: {shown}{rest}{quiet}"


def lateness_order(series: ExpectedSeries) -> tuple[int, float, str, Combination]:
    """Return a key that sorts late series worst first: by level, how late, and name."""
    return -severity_of(series.level), -series.late_s, series.specification, series.tags


def _age_s(now_ns: int, then_ns: int) -> float:
    return max(0, now_ns - then_ns) / _NS


@dataclass(slots=True)
class _Known:
    """What is known of one specification: the last job of each combination, as of `changes`."""

    expected: Expectation
    changes: int = -1
    jobs: dict[Combination, int] = field(default_factory=dict)
    # If it asks for more than tags: jobs up to this id have been looked at.
    through: int = 0
    rewrites: int = 0


class Freshness:
    """How late each expected series is, by newest values that the caller keeps up to date.

    For one thread.
    """

    def __init__(
        self, definitions: DefinitionsInForce, schema: Schema, latest: LatestValues
    ) -> None:
        self._definitions = definitions
        self._schema = schema
        self._latest = latest
        self._snapshot: Snapshot | None = None
        self._known: dict[str, _Known] = {}
        self._loaded: dict[str, int] = {}
        self._arrivals: dict[int, Arrival] = {}

    def days(self) -> float:
        """Return how many days back the standings must know the newest values."""
        expects = [
            item.content.expect for item in self._definitions.at(None).specifications.values()
        ]
        return max((remembered_s(item) / 86400 for item in expects if item), default=0.0) + 1.0

    def series(self, view: View, *, now_ns: int, metric: str | None = None) -> list[ExpectedSeries]:
        """Return all expected series, or those of one metric, by specification."""
        self._learn_expectations(view)
        ids = {row.name: metric_id for metric_id, row in self._latest.metrics.items()}
        asked = {
            name: known
            for name, known in sorted(self._known.items())
            if metric in (None, known.expected.metric)
        }
        for known in asked.values():
            metric_id = ids.get(known.expected.metric)
            if metric_id is not None:
                self._find_jobs(view, known, metric_id)
        self._learn_arrivals(view)
        # One without tags silences all that is told of a specification, and is for who tells it.
        silences = [row for row in view.ask(active_silences, now_ns=now_ns) if row.tags]
        return [
            series
            for name, known in asked.items()
            for series in expected_series(
                known.expected,
                {
                    tags: self._arrivals[job_id]
                    for tags, job_id in known.jobs.items()
                    if job_id in self._arrivals
                },
                loaded_ns=self._loaded.get(name, now_ns),
                now_ns=now_ns,
                is_silenced=partial(_is_silenced, silences, known.expected),
            )
        ]

    def _learn_expectations(self, view: View) -> None:
        snapshot = self._definitions.at(None)
        if snapshot is self._snapshot:
            return
        specifications = [item.content for item in snapshot.specifications.values()]
        found = {item.specification: item for item in expectations(specifications, self._schema)}
        self._loaded = view.ask(expected_since, found)
        before = self._known
        self._known = {
            name: before[name]
            if name in before and before[name].expected == expected
            else _Known(expected)
            for name, expected in found.items()
        }
        self._snapshot = snapshot

    def _find_jobs(self, view: View, known: _Known, metric_id: int) -> None:
        """Find the last job with a value for each combination, if there may be another."""
        changes, rewrites = self._latest.changes(metric_id), self._latest.rewrites
        if (known.changes, known.rewrites) == (changes, rewrites):
            return
        if known.rewrites != rewrites:
            known.through, known.jobs = 0, {}
        known.changes, known.rewrites = changes, rewrites
        terms, per = known.expected.terms, told_apart(known.expected)
        if not all(term.is_tag for term in terms):
            self._find_jobs_by_field(view, known, metric_id, per)
            return
        known.jobs = {}
        for tag_set_id, (_, job_id) in self._latest.of_metric(metric_id).items():
            tags = self._latest.tags(tag_set_id)
            if applies(terms, Context(dict(tags))):
                combination = combination_of(tags, per)
                known.jobs[combination] = max(job_id, known.jobs.get(combination, 0))

    def _find_jobs_by_field(
        self, view: View, known: _Known, metric_id: int, per: Sequence[str]
    ) -> None:
        """Find them where the tags are not enough, so that each job has to be looked at."""
        after = max(known.through, self._latest.first_id)
        while ids := view.values.jobs_with(
            metric_id, after=after, through=self._latest.last_id, limit=_JOBS
        ):
            after = ids[-1]
            for job in view.contexts.of(ids).values():
                if applies(known.expected.terms, job.context):
                    combination = combination_of(job.context.tags, per)
                    known.jobs[combination] = job.job_id
        known.through = after

    def _learn_arrivals(self, view: View) -> None:
        """Look up when the jobs were received, and drop jobs that no series needs."""
        wanted = {job_id for known in self._known.values() for job_id in known.jobs.values()}
        before = self._arrivals
        self._arrivals = {job_id: before[job_id] for job_id in wanted if job_id in before}
        for job in view.contexts.of(wanted - before.keys()).values():
            run_id = job.context.fields.get(RUN_ID)
            self._arrivals[job.job_id] = Arrival(
                job.received_ns, job.job_id, run_id if isinstance(run_id, str) else None
            )
