"""Kapacitor as an outlet: tells it the newest value of each series, whenever that changes.

Kapacitor alerts on the points that it gets, in the order in which it gets them, and knows nothing
else. So it gets only what speaks for the present (`delivery/present.py`); its state is then that
of the newest values. It keeps what it has taken in memory only: after a restart of its process, of
a task, or of this outlet, it is told the newest value of every series once more. That is silent,
because its tasks send an alert only when a state changes.

What is told for a group, since one message has to do for all its alerts, and what only the service
can raise, it is told as verdicts (`delivery/verdicts.py`), from the alerts in the record. The
values say which branches must not alert on them for that reason, and during a silence.
"""

import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Self

import httpx
import structlog

from squash_api.definitions.in_force import Snapshot
from squash_api.delivery.outlet import GATHER, IDLE, Outlet, Sources
from squash_api.delivery.present import (
    Chooser,
    Gone,
    Plan,
    Present,
    of_changed_jobs,
    of_deleted_jobs,
    of_new_jobs,
)
from squash_api.delivery.reader import NO_WAIT, Wait
from squash_api.delivery.verdicts import (
    Around,
    ByValue,
    Told,
    Verdicts,
    has_news,
    verdicts_on_groups,
)
from squash_api.generate.kapacitor.server import TOPICS
from squash_api.generate.kapacitor.tasks import noted_unit, unit_note
from squash_api.generate.kapacitor.verdicts import VERDICT_TASK, is_verdict_id
from squash_api.index.contexts import JobContext
from squash_api.index.derived import derived_through
from squash_api.index.newest import TagSets, combination_of
from squash_api.index.reader import View
from squash_api.index.since_good import since_last_good
from squash_api.influx.client import (
    InfluxError,
)
from squash_api.influx.kapacitor import KapacitorClient
from squash_api.influx.points import gone_line, job_to_points
from squash_api.influx.writing import Rejected, deliver
from squash_api.ingest.stored_job import artifacts_in
from squash_api.judging.alert_plan import Grouping
from squash_api.judging.metadata_query import applies
from squash_api.logs import note_jobs
from squash_api.record.deliveries import (
    Erasure,
    Quarantined,
    get_target,
    mark_told,
    pending_erasures,
    pending_redeliveries,
)
from squash_api.record.jobs import last_job_id
from squash_api.record.record import Connection, get_state, set_state
from squash_api.schema.artifacts import may_have_artifacts
from squash_api.schema.names import (
    ARTIFACT_URL,
    NOT_FOR,
    SINCE_GOOD,
    SPEAKS_FOR,
    Context,
    split_metric_name,
)
from squash_api.schema.times import parse_time_ns
from squash_api.schema.watch import VERDICT
from squash_api.settings import KapacitorTarget

_MOST_JOBS = 250
_MOST_METRICS = 20
_MOST_LINES = 500
_LOOK_S = 10.0
_PROCESS_S = 60.0
# Longer than Kapacitor works on a request whose reply nobody waits for any more.
_DOUBT_S = 60.0
_DAY_NS = 86_400 * 10**9

_log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class _Line:
    """A line, and the job that it belongs to, if it is of one."""

    text: str
    measurement: str
    job_id: int | None = None


@dataclass(slots=True)
class _Round:
    """What a round tells, of the jobs after one and through another, and what is settled by it."""

    after: int
    through: int
    redelivered: Sequence[tuple[int, int]] = ()
    erasures: Sequence[Erasure] = ()
    metrics: Sequence[str] = ()
    lines: list[_Line] = field(default_factory=list)
    named: set[str] = field(default_factory=set)
    has_more: bool = False
    verdicts: Verdicts | None = None


@dataclass(frozen=True, slots=True)
class _Seen:
    """What was last seen of Kapacitor: its process, if that is known, and when tasks started."""

    process: str | None
    tasks: Mapping[str, tuple[Any, ...]]


class KapacitorOutlet(Outlet):
    """Tells one Kapacitor what is newest; `transport` replaces the network in tests."""

    def __init__(
        self,
        target: KapacitorTarget,
        sources: Sources,
        *,
        transport: httpx.BaseTransport | None = None,
        clock: Callable[[], int] = time.time_ns,
    ) -> None:
        super().__init__(target.name, sources.record)
        self._client = KapacitorClient(target, transport=transport)
        self._reader = sources.reader
        self._definitions = sources.definitions
        self._squash_url = sources.squash_url
        self._links = sources.links
        self._clock = clock
        self._seen: _Seen | None = None
        self._look_at_s = self._process_at_s = 0.0
        # The notes of the tasks' units.
        self._units: Mapping[str, str | None] = {}
        # Metrics whose values would be judged in another unit.
        self._withheld: set[str] = set()
        self._snapshot: Snapshot | None = None
        self._chooser: Chooser | None = None
        self._day = 0
        # Metrics whose newest values are to be told once more, and VERDICT_TASK for all groups.
        self._again: set[str] = set()
        self._by_value = ByValue()
        self._is_starting_over = False
        self._has_to_compare = False
        # Metrics in a request that failed.
        self._doubtful: set[str] = set()
        self._sure_at_s = 0.0

    @classmethod
    def of(
        cls,
        target: KapacitorTarget,
        sources: Sources,
        *,
        transport: httpx.BaseTransport | None = None,
    ) -> Self:
        """Make the outlet to a Kapacitor."""
        return cls(target, sources, transport=transport)

    def takes_lateness(self, specification: str, tags: Mapping[str, str]) -> bool:
        """Return whether it is told how late a series is: not in a group, and not silenced."""
        plan = self._plan() if self._chooser is None else self._chooser.plan
        return self._by_value.takes_lateness(plan, specification, tags)

    def write_extra(self, lines: Sequence[str], /) -> list[Rejected]:
        """Write points that do not belong to jobs."""
        return deliver(self._client, lines)

    def forget(self) -> None:
        """Forget what Kapacitor has been told: another outlet may tell it something now."""
        self._seen = None

    def close(self) -> None:
        """Close the connections."""
        self._client.close()

    def send_some(self) -> Wait:
        """Tell what some jobs have changed, and some of what is to be told once more."""
        self._look()
        chooser = self._follow_definitions()
        if not self._has_to_do():
            return IDLE
        self._reader.catch_up(may_lag=False)
        raised: Mapping[str, tuple[str, str]] = {}
        if self._is_starting_over:
            # Before it is told of groups.
            self._find_alone(chooser.plan, self._client.raised(TOPICS))
        elif self._has_to_compare and not self._again:
            raised = self._client.raised(TOPICS)
            self._find_alone(chooser.plan, raised)
        told = self._reader.settled(lambda view: self._prepare(view, chooser, raised))
        self._tell(told)
        if told.has_more or self._again or self._has_to_compare:
            return NO_WAIT
        return GATHER

    def _look(self) -> None:
        """Find out, now and then and after trouble, whether Kapacitor or a task was restarted."""
        now_s = time.monotonic()
        if self._doubtful and now_s >= self._sure_at_s:
            self._again |= self._doubtful
            self._doubtful = set()
        if self.is_well and self._seen is not None and now_s < self._look_at_s:
            return
        before = self._seen
        tasks = self._client.tasks()
        process = None if before is None else before.process
        if before is None or not self.is_well or now_s >= self._process_at_s:
            process = self._client.process()
            self._process_at_s = now_s + _PROCESS_S
            self._has_to_compare |= bool(self._by_value.alone)
        if before is None or tasks != before.tasks:
            scripts = self._client.scripts().items()
            self._units = {name: noted_unit(script, name) for name, script in scripts}
            self._find_groups_task(tasks)
        self._look_at_s = now_s + _LOOK_S
        self._seen = _Seen(process, tasks)
        is_unknown = process is None and not self.is_well
        if before is None or is_unknown or process != before.process:
            self._is_starting_over = True
            return
        if (VERDICT_TASK in tasks) != (VERDICT_TASK in before.tasks):
            # Values are told to other branches from now on.
            self._is_starting_over = True
            return
        started = {name for name in tasks if tasks[name] != before.tasks.get(name)}
        if started:
            self._again |= started
            # Points that they were given before are lost, also those of series without value.
            self._has_to_compare = True

    def _find_groups_task(self, tasks: Mapping[str, Any]) -> None:
        """Find out whether Kapacitor can be told of groups; else each series alerts by itself."""
        self._by_value.tells_groups = VERDICT_TASK in tasks
        if tasks and not self._by_value.tells_groups:
            _log.error(
                "Kapacitor does not have the task that alerts on groups, so each series alerts by "
                "itself, and limits that only the service can raise alert nobody: load the tasks "
                "that are generated from the specifications",
                target=self.name,
                task=VERDICT_TASK,
                runbook="delivery-verdicts",
            )

    def _find_alone(self, plan: Plan, raised: Iterable[str]) -> None:
        """Find the alerts of single series that Kapacitor has raised, and are in groups now."""
        with self._reader.view() as view:
            found = self._by_value.find_alone(view, plan, raised)
        if found is not None:
            self._again |= {VERDICT_TASK, *found}

    def _follow_definitions(self) -> Chooser:
        """Follow the specifications in force; note the metrics whose alerts they change."""
        snapshot, before = self._definitions.at(None), self._snapshot
        if self._chooser is None or snapshot is not before:
            self._chooser = Chooser(self._plan())
            old = {} if before is None else before.by_metric
            names = old.keys() | snapshot.by_metric.keys()
            self._again |= {name for name in names if old.get(name) != snapshot.by_metric.get(name)}
            self._snapshot = snapshot
        day = self._clock() // _DAY_NS
        if day != self._day:
            # Mutes end with a day.
            self._day = day
            self._again |= self._chooser.plan.muted
        return self._chooser

    def _follow_silences(self, view: View) -> None:
        """Note the silences that last; of what one has hidden that is over, tell how it is now."""
        ended = self._by_value.follow_silences(view, now_ns=self._clock())
        if ended is None:
            return
        names = self._snapshot.by_metric if self._snapshot is not None else {}
        self._again |= {name for name in names if any(item.is_about(name) for item in ended)}
        self._again.add(VERDICT_TASK)
        self._has_to_compare |= bool(ended)

    def _plan(self) -> Plan:
        return Plan(self._definitions.at(None), self._reader.metrics.schema, is_for_tasks=True)

    def _has_to_do(self) -> bool:
        with self._reader.view() as view:
            self._follow_silences(view)
            if self._again or self._is_starting_over or self._has_to_compare:
                return True
            return (
                view.ask(get_target, self.name).sent_through < view.ask(last_job_id)
                or bool(view.ask(pending_redeliveries, self.name, limit=1))
                or bool(view.ask(pending_erasures, self.name, limit=1))
                or (bool(self._by_value.tells_groups) and has_news(view, self._told(view)))
            )

    def _told(self, view: View) -> Told:
        """Return what this Kapacitor has been told of groups."""
        return Told.read(view.ask(get_state, self._state_key))

    @property
    def _state_key(self) -> str:
        return f"groups told to {self.name}"

    def _prepare(
        self, view: View, chooser: Chooser, raised: Mapping[str, tuple[str, str]]
    ) -> _Round:
        """Find out what is to be told, in one state of the record.

        `raised` are the alerts to be compared with it, with the times of their values, and topics.
        """
        now_ns = self._clock()
        self._withhold(view)
        told = self._begin(view)
        happened = [
            *of_new_jobs(view, after=told.after, through=told.through),
            *of_changed_jobs(view, [job_id for job_id, _ in told.redelivered]),
            *of_deleted_jobs(view, told.erasures),
        ]
        view.require_settled(item.job_id for item in happened)
        present = chooser.after(view, happened, now_ns=now_ns)
        ids = {row.name: row.metric_id for row in view.metrics.by_id.values()}
        some = [ids[name] for name in told.metrics if name in ids]
        if some:
            present.add(chooser.everything(view, some, now_ns=now_ns))
        if raised:
            present.gone += _vanished(view, chooser, raised, now_ns=now_ns)
        view.require_settled(present.values)
        told.lines = [*self._lines(view, chooser.plan, present, now_ns=now_ns)]
        told.named = {item.metric for item in present.gone}
        told.named |= {view.metrics.by_id[metric_id].name for _, metric_id in present.groupings}
        if self._by_value.tells_groups:
            self._add_verdicts(view, chooser.plan, told, raised)
        return told

    def _begin(self, view: View) -> _Round:
        """Begin a round: find the jobs and the metrics that it is about."""
        known = view.ask(derived_through)
        sent = view.ask(get_target, self.name).sent_through
        if self._is_starting_over:
            self._again = {row.name for row in view.metrics.by_id.values()} | {VERDICT_TASK}
            # All that new jobs may have changed is told anyway.
            sent = known
        through = min(sent + _MOST_JOBS, known)
        told = _Round(
            sent,
            through,
            redelivered=view.ask(pending_redeliveries, self.name, limit=_MOST_JOBS),
            erasures=view.ask(pending_erasures, self.name, limit=_MOST_JOBS),
            metrics=sorted(self._again)[:_MOST_METRICS],
        )
        told.has_more = through < known or _MOST_JOBS in (
            len(told.redelivered),
            len(told.erasures),
        )
        return told

    def _add_verdicts(
        self, view: View, plan: Plan, told: _Round, raised: Mapping[str, tuple[str, str]]
    ) -> None:
        """Tell of groups, behind the values of jobs."""
        assert self._snapshot is not None  # noqa: S101 - for mypy
        verdicts = verdicts_on_groups(
            view,
            self._told(view),
            Around(
                plan,
                self._snapshot,
                self._by_value,
                self._squash_url,
                self._clock(),
                self._links,
            ),
            is_everything=VERDICT_TASK in told.metrics,
            raised={name: topic for name, (_, topic) in raised.items()},
        )
        told.verdicts = verdicts
        for item in verdicts.put_aside:
            branch = plan.branch(item.metric, item.branch)
            if branch is not None and branch.is_tick:
                place = branch.grouping, combination_of(item.tags, branch.per)
                gone = Gone(
                    item.metric, *place, has_old=item.time_ns is not None, branch=branch.key
                )
                told.lines.append(self._gone(gone, plan, self._clock()))
        told.lines += [_Line(line, VERDICT) for line in verdicts.lines]
        told.named |= {VERDICT_TASK} if verdicts.lines else set()
        told.has_more |= verdicts.has_more

    def _withhold(self, view: View) -> None:
        """Find the metrics whose tasks were generated for another unit: these are told no values.

        When task and metric have the same unit again, their newest values are told.
        """
        withheld = {
            row.name
            for row in view.metrics.by_id.values()
            if row.unit is not None
            and (noted := self._units.get(row.name)) is not None
            and noted != unit_note(row.name, row.unit)
        }
        if withheld - self._withheld:
            _log.error(
                "Kapacitor's tasks judge these metrics in another unit than they have now, so they "
                "are told no values: load the tasks that are generated from the specifications",
                target=self.name,
                metrics=sorted(withheld),
                runbook="delivery-withheld",
            )
        self._again |= self._withheld - withheld
        self._withheld = withheld

    def _tell(self, told: _Round) -> None:
        """Send lines, then note in the record what is settled by them."""
        verdicts = told.verdicts
        if verdicts is not None and verdicts.is_numbering:
            # Sent again, a group must have the number that it may have been told by.
            self._keep_told(verdicts.before)
        try:
            refused = self._write(told.lines)
        except InfluxError:
            # It may yet work on them, after what it is told next: say it once more when that is
            # over.
            self._doubtful |= told.named
            self._sure_at_s = time.monotonic() + _DOUBT_S
            raise

        def settle(connection: Connection) -> None:
            mark_told(
                connection,
                self.name,
                through=told.through,
                redelivered=told.redelivered,
                erased=told.erasures,
                quarantined=refused,
                now_ns=time.time_ns(),
            )
            if verdicts is not None and verdicts.is_news:
                set_state(connection, self._state_key, verdicts.after.text)

        self._record.write(settle)
        told_jobs = [line.job_id for line in told.lines if line.job_id is not None]
        note_jobs(_log, "told for alerts", told_jobs, target=self.name)
        if self._has_to_compare and not self._again:
            self._has_to_compare = False
        self._again -= set(told.metrics)
        if self._is_starting_over:
            self._is_starting_over, self._has_to_compare = False, True

    def _keep_told(self, told: Told) -> None:
        self._record.write(lambda connection: set_state(connection, self._state_key, told.text))

    def _write(self, lines: Sequence[_Line]) -> list[Quarantined]:
        """Write lines; return those that are refused, and belong to a job."""
        refused: list[Quarantined] = []
        for start in range(0, len(lines), _MOST_LINES):
            some = lines[start : start + _MOST_LINES]
            for item in deliver(self._client, [line.text for line in some]):
                line = some[item.index]
                _log.error(
                    "Kapacitor permanently refused a point",
                    target=self.name,
                    job=line.job_id,
                    runbook="quarantine",
                )
                if line.job_id is not None:
                    refused.append(
                        Quarantined(line.job_id, line.measurement, line.text, item.reason)
                    )
        return refused

    @property
    def _sets(self) -> TagSets | None:
        return None if self._chooser is None else self._chooser.sets

    def _lines(self, view: View, plan: Plan, present: Present, *, now_ns: int) -> Iterator[_Line]:
        """Make the lines, in order of the jobs' times; then those of series without value."""
        contexts = view.contexts.of(present.values)
        changes = view.changes_since_previous_run(list(present.values))
        may_have = [number for number, job in contexts.items() if may_have_artifacts(job.context)]
        artifacts = view.ask(artifacts_in, may_have)
        for job in sorted(contexts.values(), key=lambda job: job.time_ns):
            by_mark: dict[tuple[str | None, str | None, str], dict[str, float]] = {}
            for metric_id, value in present.values[job.job_id].items():
                name = view.metrics.by_id[metric_id].name
                if name in self._withheld:
                    continue
                told = present.groupings[job.job_id, metric_id]
                mark = self._marks(view, plan, job, metric_id=metric_id, value=value, told=told)
                by_mark.setdefault(mark, {})[name] = value
            code_changes = changes.get(job.job_id)
            for (speaks_for, not_for, since_good), values in by_mark.items():
                told_too = {
                    SPEAKS_FOR: speaks_for,
                    NOT_FOR: not_for,
                    SINCE_GOOD: since_good or None,
                    ARTIFACT_URL: next((item.url for item in artifacts.get(job.job_id, ())), None),
                }
                more = {key: text for key, text in told_too.items() if text is not None}
                for point in job_to_points(
                    job_id=job.job_id,
                    squash_url=f"{self._squash_url}/job/{job.job_id}",
                    time_ns=job.time_ns,
                    values=values,
                    context=Context(job.context.tags, {**job.context.fields, **more}),
                    code_changes=None if code_changes is None else code_changes.in_point,
                ):
                    yield _Line(point.line, point.measurement, job.job_id)
        for item in present.gone:
            yield self._gone(item, plan, now_ns)

    def _marks(
        self,
        view: View,
        plan: Plan,
        job: JobContext,
        *,
        metric_id: int,
        value: float,
        told: set[Grouping],
    ) -> tuple[str | None, str | None, str]:
        """Return what the point of a value says beside it: what it is for, and since when."""
        metric = view.metrics.by_id[metric_id]
        due = {item for item in plan.groupings(metric.name) if applies(item.terms, job.context)}
        elsewhere = self._by_value.branches_without(plan, metric.name, job.context.tags, told)
        limits = plan.limits(metric.name, metric.unit, but=elsewhere)
        since_good = since_last_good(view, limits, job, value=value, sets=self._sets)
        return None if told >= due else _keys(told), " ".join(elsewhere) or None, since_good

    def _gone(self, item: Gone, plan: Plan, now_ns: int) -> _Line:
        """Make the line for a series without value to alert on, with what its alerts look at."""
        pairs = zip(item.grouping.per, item.combination, strict=True)
        tags = {name: text for name, text in pairs if text}
        fields: dict[str, str | float] = {}
        for term in item.grouping.terms:
            if term.is_tag:
                tags[term.name] = str(term.example)
            else:
                fields[term.name] = term.example
        is_only = len(plan.groupings(item.metric)) == 1
        elsewhere = {
            *self._by_value.branches_without(plan, item.metric, tags, (item.grouping,)),
            *(
                each.key
                for each in plan.branches(item.metric)
                if item.branch not in (None, each.key)
            ),
        }
        text = gone_line(
            item.metric,
            tags,
            fields,
            speaks_for=None if is_only else item.grouping.key,
            not_for=" ".join(sorted(elsewhere)) or None,
            time_ns=now_ns,
            has_old=item.has_old,
        )
        return _Line(text, split_metric_name(item.metric)[0])


def _vanished(
    view: View, chooser: Chooser, raised: Mapping[str, tuple[str, str]], *, now_ns: int
) -> list[Gone]:
    """Return the series of alerts whose values are gone, of those that are told by values."""
    times = {
        name: parse_time_ns(time) or 0
        for name, (time, _) in raised.items()
        if not is_verdict_id(name)
    }
    return chooser.vanished(view, times, now_ns=now_ns) if times else []


def _keys(groupings: Iterable[Grouping]) -> str:
    return " ".join(sorted(item.key for item in groupings))
