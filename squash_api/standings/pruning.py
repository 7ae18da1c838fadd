"""Deleting old jobs: once, for `squash prune`, and once a day, with `SQUASH_KEEP`.

Each transaction is small, and what is left after an interruption goes with the next prune. Of the
processes that serve one record, one prunes: it holds a lease in the record.
"""

import json
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from typing import Any, TypedDict
from uuid import uuid4

import structlog

from squash_api.delivery.reader import NO_WAIT, BackOff, Loop, Wait
from squash_api.index.derived import unmeasured
from squash_api.index.jobs import forget_unused
from squash_api.index.pruning import Age, Pruned, Pruning, waiting_erasures
from squash_api.index.reader import Reader
from squash_api.judging.wording import date_text
from squash_api.record.audit import SERVICE, Actor, note
from squash_api.record.deliveries import is_lease_over, target_names
from squash_api.record.record import Connection, Record, get_state, set_state
from squash_api.standings.job_states import JobStates
from squash_api.standings.keeping import REASONS, Plan, Planner, Terms

_KEY = "retention"
_DAY_NS = 86_400 * 10**9
_LEASE_NS = 600 * 10**9
# A start has better things to do.
_FIRST = Wait(30.0, 60.0)
_LOOK = Wait(0.0, 300.0)
# Between two transactions; and while InfluxDB has so many jobs to delete the points of.
_PAUSE_S = 0.5
_PATIENCE_S = 5.0
_MOST_ERASURES = 500

_log = structlog.get_logger(__name__)


def prune(
    record: Record,
    reader: Reader,
    planner: Planner,
    plan: Plan,
    *,
    by: Actor,
    keeps_points: bool = False,
) -> Iterator[Pruned]:
    """Delete the jobs of a plan, and yield how many have been deleted after each transaction.

    Their points are deleted from every target that has ever been known, unless it `keeps_points`.
    """
    with reader.view() as view:
        targets = () if keeps_points else tuple(view.ask(target_names))
    first = partial(_note, by=by, plan=plan, keeps_points=keeps_points)
    pruning = Pruning(record, plan.terms.age, targets, first)
    for page in planner.going():
        begun = 0
        while begun < len(page):
            begun += pruning.delete(page[begun:])
            yield pruning.done
    if plan.terms.takes_last and pruning.done.jobs:
        record.write(_forget_unused)


def _note(connection: Connection, *, by: Actor, plan: Plan, keeps_points: bool) -> None:
    facts: dict[str, Any] = {"jobs": plan.jobs, "bytes": plan.size}
    if plan.terms.takes_last:
        facts["silent_metrics"] = plan.silent[:100]
    if keeps_points:
        facts["keeps_points"] = True
    note(connection, by, "job.prune", date_text(plan.terms.age.before_ns), **facts)


def _forget_unused(connection: Connection) -> None:
    forget_unused(connection, unmeasured(connection), user_id=None)


class PruneRound(TypedDict):
    """The last daily prune."""

    began: str
    """When it began."""
    ended: str | None
    """When it ended; null while it is not over."""
    before: str
    """What is older than this was pruned."""
    jobs: int
    """Number of jobs that were pruned."""
    bytes: int
    """Their size, in bytes."""
    kept: dict[str, int]
    """Numbers of old jobs that stay, by why they do."""


@dataclass(frozen=True, slots=True)
class Round:
    """The last daily prune: when it began and ended (ns), what was old, and what became of it.

    `done_ns` is None while it is not over. `kept` counts old jobs by why they stay.
    """

    began_ns: int
    done_ns: int | None
    before_ns: int
    jobs: int
    size: int
    kept: dict[str, int]
    owner: str = ""
    until_ns: int = 0

    def to_json(self) -> PruneRound:
        """Describe it for JSON."""
        return {
            "began": date_text(self.began_ns),
            "ended": None if self.done_ns is None else date_text(self.done_ns),
            "before": date_text(self.before_ns),
            "jobs": self.jobs,
            "bytes": self.size,
            "kept": self.kept,
        }


def last_round(connection: Connection) -> Round | None:
    """Return the last daily prune, which may not be over; None if there was none."""
    text = get_state(connection, _KEY)
    return None if text is None else Round(**json.loads(text))


class Retention(Loop):
    """Prunes once a day, with pauses, what is older than `keep_s`; whole UTC days at a time.

    Parameters
    ----------
    releases
        Patterns for releases whose jobs stay.
    targets
        The names of those that every job must have been sent to.
    """

    waits_for_jobs = False
    first_wait = _FIRST

    def __init__(
        self,
        record: Record,
        reader: Reader,
        states: JobStates,
        *,
        keep_s: int,
        releases: Sequence[str] = (),
        targets: Sequence[str] = (),
        clock: Callable[[], int] = time.time_ns,
    ) -> None:
        super().__init__(
            "retention",
            BackOff(60.0, 3600.0),
            failure="deleting old jobs failed; it will be tried again",
        )
        self._record = record
        self._reader = reader
        self._states = states
        self._keep_ns = keep_s * 10**9
        self._releases = tuple(releases)
        self._targets = tuple(targets)
        self._clock = clock
        self._owner = uuid4().hex

    def step(self) -> Wait:
        """Prune, unless it has been done today or another process does it."""
        with self._reader.view() as view:
            if not self._is_due(view.ask(last_round)):
                return _LOOK
        turn = self._record.write(self._begin)
        if turn is None:
            return _LOOK
        self._reader.catch_up(may_lag=False)
        terms = Terms(Age(turn.before_ns, self._targets), self._releases)
        planner = Planner(self._reader, self._states, terms)
        plan = planner.plan()
        turn = replace(turn, kept={reason: plan.kept[reason] for reason in REASONS})
        for done in prune(self._record, self._reader, planner, plan, by=SERVICE):
            turn = replace(turn, jobs=done.jobs, size=done.size)
            if not self._goes_on(turn):
                return NO_WAIT
        self._record.write(
            partial(_put, turn=replace(turn, done_ns=self._clock(), until_ns=0), owner=self._owner)
        )
        if turn.jobs:
            _log.info("old jobs deleted", before=date_text(turn.before_ns), jobs=turn.jobs)
        return _LOOK

    def _is_due(self, last: Round | None) -> bool:
        now_ns = self._clock()
        if last is None:
            return True
        if last.done_ns is None:
            is_own = last.owner == self._owner
            return is_own or is_lease_over(last.until_ns, now_ns=now_ns, length_ns=_LEASE_NS)
        return last.began_ns // _DAY_NS != now_ns // _DAY_NS

    def _begin(self, connection: Connection) -> Round | None:
        if not self._is_due(last_round(connection)):
            return None
        now_ns = self._clock()
        before_ns = max((now_ns - self._keep_ns) // _DAY_NS * _DAY_NS, 0)
        turn = Round(now_ns, None, before_ns, 0, 0, {}, self._owner, now_ns + _LEASE_NS)
        set_state(connection, _KEY, json.dumps(asdict(turn)))
        return turn

    def _goes_on(self, turn: Round) -> bool:
        """Keep the lease and wait a while; tell whether to go on."""
        self.pause(_PAUSE_S)
        while True:
            until_ns = 0 if self.is_stopping() else self._clock() + _LEASE_NS
            held = replace(turn, until_ns=until_ns)
            is_held = self._record.write(partial(_put, turn=held, owner=self._owner))
            if not is_held or not until_ns:
                return False
            with self._reader.view() as view:
                if view.ask(waiting_erasures, self._targets) <= _MOST_ERASURES:
                    return True
            self.pause(_PATIENCE_S)


def _put(connection: Connection, *, turn: Round, owner: str) -> bool:
    """Note how far a round is; False if another process has taken it over."""
    last = last_round(connection)
    if last is None or last.owner != owner:
        return False
    set_state(connection, _KEY, json.dumps(asdict(turn)))
    return True
