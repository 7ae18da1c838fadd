"""The engine of the alerts of the record: it follows the index, and opens, changes, ends alerts.

What it has followed is kept in the record and compared before anything is stored, so any number of
processes may run it. What alerts there are depends on what is in the record, not on the order in
which it has arrived: of whatever has changed, the present is found (`alerts/evaluating.py`) and
compared with the living alerts. Only when they opened, and their history, tell of the order.
"""

import json
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace

import structlog

from squash_api.alerts.changing import (
    Changes,
    mark_silenced,
    release_overdue,
    silences_changed,
)
from squash_api.alerts.evaluating import NS, Evaluator, Key, Plan, Present, Series
from squash_api.alerts.grouping import complete_groups, due_ns
from squash_api.alerts.lateness import Lateness
from squash_api.alerts.touched import Touched
from squash_api.definitions.in_force import DefinitionsInForce
from squash_api.delivery.reader import NO_WAIT, BackOff, Loop, Wait
from squash_api.index.reader import Reader, View
from squash_api.judging.alert_texts import LATE
from squash_api.record.alerts import (
    ENGINE_STATE,
    AlertRow,
    alerts_after,
    gathering_groups,
    newest_alert_version,
)
from squash_api.record.record import Connection, Record, get_state, set_state
from squash_api.record.silences import active_silences

_RULES = "alerts_rules"
_MOST_CHANGES = 500
_MOST_METRICS = 20
# Time is kept however much there is to follow.
_MOST_ROUNDS = 50
_BREATH_S = 0.005
_PAUSE_S = 0.25
_POLL_S = 1.0
_LATE_NS = 30 * NS
_DAY_NS = 86_400 * NS

_log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class _Progress:
    """How far the engine is.

    `version` is that of the contexts which it has followed, `through` the last job among them.
    `again` are metrics all of whose series are to be looked at; `day` is the one of which mutes
    that ended with the day before have been seen. `is_old` is true until all has been looked at
    once in a record that had jobs before it had alerts.
    """

    version: int = 0
    through: int = 0
    day: int = 0
    again: tuple[str, ...] = ()
    is_old: bool = False

    @classmethod
    def read(cls, connection: Connection) -> "_Progress":
        text = get_state(connection, ENGINE_STATE)
        if text is None:
            return cls()
        found = json.loads(text)
        return cls(**{**found, "again": tuple(found.get("again", ()))})

    @property
    def text(self) -> str:
        found = {name: getattr(self, name) for name in self.__slots__}
        return json.dumps({**found, "again": list(self.again)}, sort_keys=True)


@dataclass(slots=True)
class _Round:
    """What a round has found: the present of what has changed, and how far it is then."""

    before: _Progress
    after: _Progress
    present: list[Present] = field(default_factory=list)
    ended: list[AlertRow] = field(default_factory=list)
    rules: Mapping[str, str] | None = None

    @property
    def is_news(self) -> bool:
        """Whether there is anything to store."""
        return self.after != self.before or self.rules is not None


class Raising(Loop):
    """Keeps the alerts of the record as the index, the definitions and the time say.

    Parameters
    ----------
    quiet_s
        How long nothing must join a group of alerts until it is complete, in seconds.
    """

    def __init__(
        self,
        record: Record,
        reader: Reader,
        definitions: DefinitionsInForce,
        *,
        quiet_s: float,
        clock: Callable[[], int] = time.time_ns,
    ) -> None:
        super().__init__(
            "alerts",
            BackOff(_POLL_S, 30.0, least_s=_POLL_S),
            failure="alerts could not be brought up to date; it will be tried again",
        )
        self._record = record
        self._reader = reader
        self._definitions = definitions
        self._quiet_ns = int(quiet_s * NS)
        self._clock = clock
        self._evaluator: Evaluator | None = None
        self._rules: Mapping[str, str] | None = None
        self._living: dict[int, AlertRow] = {}
        self._version = 0
        self._lateness = Lateness(reader, definitions)
        self._late_at_ns = 0

    def step(self) -> Wait:
        """Follow some of what has changed; then what time has brought."""
        is_first = self._late_at_ns == 0 and self._is_old()
        rounds = 0
        while (has_more := self._follow()) and rounds < _MOST_ROUNDS and not self.is_stopping():
            rounds += 1
            # After a long pause there is much to follow, and others have work to do.
            self.pause(_BREATH_S)
        self._watch_lateness(is_first=is_first)
        due_s = self._keep_time()
        if has_more:
            return NO_WAIT
        return Wait(min(_PAUSE_S, due_s), min(_POLL_S, due_s))

    def _follow(self) -> bool:
        """Follow some changes; tell whether there may be more."""
        self._reader.metrics.refresh()
        found = self._reader.settled(self._find)
        if not found.is_news:
            return False
        is_stored = self._record.write(lambda connection: self._store(connection, found))
        if is_stored and found.rules is not None:
            self._rules = found.rules
        return True

    def _find(self, view: View) -> _Round:
        """Find what is to be done, in one state of the record."""
        now_ns = self._clock()
        before = view.ask(_Progress.read)
        evaluator = self._plan(view)
        self._learn_alerts(view)
        again, rules = self._follow_rules(view, evaluator.plan)
        day = now_ns // _DAY_NS
        if day != before.day:
            again |= {name for name, item in evaluator.plan.by_name.items() if item.is_muted}
        changed = view.contexts.changed(after=before.version, limit=_MOST_CHANGES)
        after = replace(before, day=day)
        series: set[Series] = set()
        ended: list[AlertRow] = []
        evaluator.follow(view)
        is_new_index = before.version > view.contexts.newest_version()
        if is_new_index or (before.version == 0 and before.is_old):
            # All there is, instead of what has become of each job.
            last = view.contexts.last_job()
            after = replace(after, version=view.contexts.newest_version(), through=last)
            again |= evaluator.plan.by_name.keys()
        elif changed:
            last = max(before.through, *(item.job_id for item in changed))
            after = replace(after, version=changed[-1].version, through=last)
            living = {Key.of(row) for row in self._living.values()}
            touched = Touched(view, evaluator, living, through=before.through, now_ns=now_ns)
            touched.take(changed)
            series = touched.series
            again |= evaluator.plan.by_name.keys() if touched.is_unknown else set()
        some = sorted({*before.again, *again})
        for name in some[:_MOST_METRICS]:
            found, gone = self._all_of(view, evaluator, name, now_ns=now_ns)
            series |= found
            ended += gone
        some = some[_MOST_METRICS:]
        after = replace(after, again=tuple(some), is_old=before.is_old and bool(some))
        rows = {Key.of(row): row for row in self._living.values()}
        present = evaluator.present(view, series, rows, now_ns=now_ns)
        return _Round(before, after, present, ended, rules)

    def _plan(self, view: View) -> Evaluator:
        """Return what finds the present by the definitions that are in force now."""
        snapshot, metrics = self._definitions.at(None), view.metrics
        before = None if self._evaluator is None else self._evaluator.plan
        if before is None or before.snapshot is not snapshot or before.metrics is not metrics:
            plan = Plan(snapshot, metrics, self._reader.metrics.schema, before)
            if self._evaluator is None:
                self._evaluator = Evaluator(plan)
            else:
                self._evaluator.replan(plan)
        assert self._evaluator is not None  # noqa: S101 - for mypy
        return self._evaluator

    def _learn_alerts(self, view: View) -> None:
        """Learn of alerts that have changed; only living ones are kept."""
        version = view.ask(newest_alert_version)
        if version == self._version:
            return
        for row in view.ask(alerts_after, self._version):
            if row.resolved_ns is None:
                self._living[row.alert_id] = row
            else:
                self._living.pop(row.alert_id, None)
        self._version = version

    def _follow_rules(self, view: View, plan: Plan) -> tuple[set[str], Mapping[str, str] | None]:
        """Return the metrics whose definitions have changed, and the definitions if any have."""
        rules = plan.rules
        if rules == self._rules:
            return set(), None
        stored = json.loads(view.ask(get_state, _RULES) or "{}")
        if rules == stored:
            self._rules = rules
            return set(), None
        names = rules.keys() | stored.keys()
        return {name for name in names if rules.get(name) != stored.get(name)}, rules

    def _all_of(
        self, view: View, evaluator: Evaluator, name: str, *, now_ns: int
    ) -> tuple[set[Series], list[AlertRow]]:
        """Return all series of a metric, and those of its alerts that no limit is for any more."""
        watched = evaluator.plan.by_name.get(name)
        series: set[Series] = set()
        if watched is not None:
            series = evaluator.all_series(view, watched.metric.metric_id, now_ns=now_ns)
        ended = []
        for row in self._living.values():
            if row.metric == name and not row.branch.startswith(LATE):
                found = evaluator.series_of_alert(row)
                if found is None:
                    ended.append(row)
                else:
                    series.add(found)
        return series, ended

    def _store(self, connection: Connection, found: _Round) -> bool:
        """Store what was found, unless another process has followed the same changes."""
        if _Progress.read(connection) != found.before:
            return False
        changes = self._changes(connection, is_old=found.before.is_old)
        changes.apply(found.present)
        changes.end(found.ended, why="undefined")
        changes.close()
        set_state(connection, ENGINE_STATE, found.after.text)
        if found.rules is not None:
            set_state(connection, _RULES, json.dumps(found.rules, sort_keys=True))
        if changes.counts:
            _log.info("alerts", **changes.counts)
        return True

    def _changes(self, connection: Connection, *, is_old: bool) -> Changes:
        now_ns = self._clock()
        return Changes(
            connection,
            active_silences(connection, now_ns=now_ns),
            quiet_ns=self._quiet_ns,
            now_ns=now_ns,
            is_found_at_start=is_old,
        )

    def _is_old(self) -> bool:
        with self._reader.view() as view:
            return view.ask(_Progress.read).is_old

    def _watch_lateness(self, *, is_first: bool) -> None:
        """Open and end the alerts of late series, now and then.

        At the first start what is late is found, as what is broken.
        """
        now_ns = self._clock()
        # A clock that was ahead must not keep it from looking.
        if 0 < self._late_at_ns - now_ns <= _LATE_NS:
            return
        self._late_at_ns = now_ns + _LATE_NS
        with self._reader.view() as view:
            self._learn_alerts(view)
        living = {Key.of(row): row for row in self._living.values() if row.branch.startswith(LATE)}
        present = self._lateness.present(living, now_ns=now_ns)
        if not present:
            return

        def store(connection: Connection) -> None:
            changes = self._changes(connection, is_old=is_first)
            changes.apply(present)
            changes.close()
            if changes.counts:
                _log.info("alerts of late values", **changes.counts)

        self._record.write(store)

    def _keep_time(self) -> float:
        """Do what is due: groups, silences, acknowledgements; return when to look again, in s."""
        now_ns = self._clock()
        with self._reader.view() as view:
            self._learn_alerts(view)
            groups = view.ask(gathering_groups)
            silences = view.ask(active_silences, now_ns=now_ns)
        due = [due_ns(row, self._quiet_ns) for row in groups]
        is_due = any(moment <= now_ns for moment in due)
        is_due = is_due or self._has_ended(now_ns)
        is_due = is_due or bool(silences_changed(self._living.values(), silences))
        if is_due:
            self._record.write(lambda connection: self._do_due(connection, now_ns))
        later = [moment - now_ns for moment in due if moment > now_ns]
        return max(min(later, default=_DAY_NS) / NS, 0.01)

    def _has_ended(self, now_ns: int) -> bool:
        return any(
            row.acknowledged_until_ns is not None and row.acknowledged_until_ns <= now_ns
            for row in self._living.values()
        )

    def _do_due(self, connection: Connection, now_ns: int) -> None:
        complete_groups(connection, quiet_ns=self._quiet_ns, now_ns=now_ns)
        release_overdue(connection, now_ns=now_ns)
        mark_silenced(connection, now_ns=now_ns)
