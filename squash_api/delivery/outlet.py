"""An outlet: a reader that sends jobs to a target, in order, at least once.

The record has a row for each target: the cursor (what has been sent), the lease (of all outlets to
this target, in any process, only its holder sends), and the trouble (why nothing is being sent, as
`/readyz` shows it). Subclasses define what is sent, and how.
"""

import os
import socket
import threading
import time
from abc import abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Self
from uuid import uuid4

import httpx
import structlog

from squash_api.accounts.links import Links
from squash_api.definitions.in_force import DefinitionsInForce
from squash_api.delivery.reader import BackOff, Loop, Wait
from squash_api.errors import RecordUnavailableError, with_runbook
from squash_api.index.deriver import Deriver
from squash_api.index.reader import Reader
from squash_api.influx.client import (
    InfluxError,
    InfluxMisconfiguredError,
    InfluxRefusedError,
)
from squash_api.influx.writing import Rejected
from squash_api.judging.limits import Verdict
from squash_api.logs import Seldom, words_of
from squash_api.record.deliveries import (
    LEASE_NS,
    ensure_targets,
    get_target,
    is_lease_over,
    mark_erased,
    mark_trouble,
    release_lease,
    take_lease,
)
from squash_api.record.record import Record

HEARTBEAT_S = 5.0

FIRST_WAIT_S = 0.25
# Attempts are expensive: in an outage, new jobs must not hasten them.
_LEAST_WAIT_S = 1.0
LONGEST_WAIT_S = 5.0
REFUSED = Wait(30.0, 30.0)
STANDBY = Wait(0.0, 2.0)
IDLE = Wait(0.0, 0.25)
# Jobs that arrive one by one are sent together: a request costs as much as fifty jobs.
GATHER = Wait(0.03, 0.03)

_log = structlog.get_logger(__name__)


class HeldUpError(Exception):
    """Nothing can be sent now, for this reason; `needs_operator` if that will not pass.

    `runbook` is the entry of the runbook on that.
    """

    def __init__(self, reason: str, *, needs_operator: bool, runbook: str) -> None:
        super().__init__(reason)
        self.needs_operator = needs_operator
        self.runbook = runbook


@dataclass(frozen=True, slots=True)
class Sources:
    """What outlets read. `squash_url` is the public root of the service, for links to jobs.

    `links` sign those to alerts, if they are to be signed. `judge` returns the verdicts on a job,
    by the specifications in force when it was received; none if it is deleted.
    """

    record: Record
    reader: Reader
    deriver: Deriver
    definitions: DefinitionsInForce
    squash_url: str
    links: Links | None = None
    judge: Callable[[int], Sequence[Verdict]] = lambda _job_id: ()


class Outlet(Loop):
    """Sends to the target of this name while it holds the lease."""

    takes_lines: ClassVar[bool] = True
    """Whether points that do not belong to jobs are for it."""

    def __init__(self, name: str, record: Record) -> None:
        super().__init__(
            name,
            BackOff(FIRST_WAIT_S, LONGEST_WAIT_S, least_s=_LEAST_WAIT_S, jitter=0.5),
            failure="delivery failed; it will be tried again",
            target=name,
        )
        self.is_well = False
        self._record = record
        self._lease = Lease(name, record)
        record.write(lambda connection: ensure_targets(connection, [name]))

    @classmethod
    @abstractmethod
    def of(
        cls, target: Any, sources: Sources, *, transport: httpx.BaseTransport | None = None
    ) -> Self:
        """Make the outlet to a target; `transport` replaces the network in tests."""

    @abstractmethod
    def send_some(self) -> Wait:
        """Send the next jobs, and note in the record that they were sent.

        Returns `NO_WAIT` if more jobs wait, `GATHER` after the last, `IDLE` if there was none.

        Raises
        ------
        InfluxError
            If the target accepts nothing at the moment.
        """

    @abstractmethod
    def forget(self) -> None:
        """Drop what has been prepared to be sent: another outlet may send it now."""

    def takes_lateness(self, _specification: str, _tags: Mapping[str, str]) -> bool:
        """Return whether it takes how late an expected series is. May be called from any thread."""
        return True

    def write_extra(self, _lines: Sequence[str]) -> list[Rejected]:
        """Write lines that do not belong to jobs, once; by default none is written.

        May be called from any thread.

        Raises
        ------
        InfluxError
            If it fails; that does not concern delivery.
        """
        return []

    def run(self) -> None:
        """Send until `stop`."""
        self._lease.start()
        try:
            super().run()
        finally:
            self.forget()
            self._lease.end()

    def step(self) -> Wait:
        """Send one batch, unless another outlet holds the lease."""
        if not self._lease.is_held():
            self.forget()
            return STANDBY
        try:
            wait = self.send_some()
        except InfluxError as error:
            is_refusal = isinstance(error, InfluxRefusedError | InfluxMisconfiguredError)
            raise HeldUpError(
                str(error), needs_operator=is_refusal, runbook=error.runbook
            ) from error
        if wait == IDLE and not self.is_well:
            # It answers, although nothing had to be sent: this clears its trouble in the record.
            self._record.write(lambda connection: mark_erased(connection, self.name, job_ids=[]))
        self.is_well = True
        return wait

    def is_delivering(self) -> bool:
        """Return whether this outlet holds the lease, and its last round was successful."""
        return self.is_well and not self.is_stopping() and self._lease.is_held()

    def failed(self, error: Exception) -> Wait:
        """Note in the record and in the log why nothing can be sent."""
        if not isinstance(error, HeldUpError):
            return super().failed(error)
        trouble, runbook = str(error), error.runbook
        # The first time is a warning; what will not pass by itself is an error.
        first = _log.error if error.needs_operator else _log.warning
        log = first if self._back_off.failures == 0 else _log.info
        self.is_well = False
        wait = self._back_off.wait()
        if error.needs_operator:
            # More attempts would only fill the target's log.
            wait = REFUSED
        wait_s = round(wait.longest_s, 1)
        log(
            "delivery is held up",
            target=self.name,
            reason=trouble,
            wait_s=wait_s,
            runbook=runbook,
        )
        noted = with_runbook(trouble, runbook)
        try:
            self._record.write(
                lambda connection: mark_trouble(
                    connection, self.name, trouble=noted, now_ns=time.time_ns()
                )
            )
        except RecordUnavailableError:
            _log.warning("trouble not noted in the record", target=self.name)
        return wait


class Lease:
    """The right to send to a target; between `start` and `end` a thread renews it while held."""

    def __init__(self, target: str, record: Record) -> None:
        self._target = target
        self._record = record
        # Host and process: so that an operator, and a test, can tell who delivers.
        self._owner = f"{socket.gethostname()[:31]} {os.getpid()} {uuid4().hex[:16]}"
        self._until_ns = 0
        self._seldom = Seldom()
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._keep, name=f"lease-{target}", daemon=True)

    def start(self) -> None:
        """Renew the lease from now on, however long a batch takes."""
        self._thread.start()

    def end(self) -> None:
        """Release the lease, so that a standby need not wait for it to expire."""
        self._over.set()
        self._thread.join()
        self._until_ns = 0
        try:
            self._record.write(
                lambda connection: release_lease(connection, self._target, owner=self._owner)
            )
        except RecordUnavailableError:
            _log.warning("lease not released; it will expire", target=self._target)

    def is_held(self) -> bool:
        """Return whether this outlet holds the lease; it takes the lease if it is free."""
        now_ns = time.time_ns()
        # By the clock: a process that was suspended may have lost the lease without noticing. And
        # after the clock was set back, the lease looks to others as if it were void.
        if now_ns < self._until_ns <= now_ns + LEASE_NS:
            return True
        with self._record.read() as connection:
            row = get_target(connection, self._target)
        # A standby asks often, and must not write each time.
        is_over = is_lease_over(row.lease_until_ns, now_ns=now_ns, length_ns=LEASE_NS)
        if row.lease_owner not in (None, self._owner) and not is_over:
            self._until_ns = 0
            return False
        return self._take()

    def _take(self) -> bool:
        now_ns = time.time_ns()
        until_ns = now_ns + LEASE_NS
        is_taken = self._record.write(
            lambda connection: take_lease(
                connection, self._target, owner=self._owner, now_ns=now_ns, until_ns=until_ns
            )
        )
        self._until_ns = until_ns if is_taken else 0
        return is_taken

    def _keep(self) -> None:
        while not self._over.wait(HEARTBEAT_S):
            try:
                if self._until_ns:
                    self._take()
                self._seldom.over()
            except Exception as error:  # noqa: BLE001  the thread must outlive whatever one round does
                self._not_renewed(error)

    def _not_renewed(self, error: Exception) -> None:
        reason = error.reason if isinstance(error, RecordUnavailableError) else None
        if reason is None or self._seldom.is_due(reason):
            _log.warning(
                "lease not renewed; it will be tried again",
                target=self._target,
                reason=reason or words_of(error),
                exc_info=None if reason else error,
            )
