"""The lease of a target: of all drainers, in whatever process, the one that holds it sends."""

import threading
import time
from uuid import uuid4

import structlog

from squash_api.errors import RecordUnavailableError
from squash_api.record.deliveries import get_target, release_lease, take_lease
from squash_api.record.record import Record

# Its holder renews it while it lives: another takes over soon after it has died.
LEASE_NS = 20 * 10**9
HEARTBEAT_S = 5.0

_log = structlog.get_logger(__name__)


class Lease:
    """The right to send to a target. Between `start` and `end` a thread renews it while it is held.

    Parameters
    ----------
    target
        Name of the target, which the record knows.
    record
        Where the lease is kept.
    """

    def __init__(self, target: str, record: Record) -> None:
        self._target = target
        self._record = record
        self._owner = uuid4().hex
        self._until_ns = 0
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._keep, name=f"lease-{target}", daemon=True)

    def start(self) -> None:
        """Renew the lease from now on, however long a batch takes."""
        self._thread.start()

    def end(self) -> None:
        """Give the lease back, so that a standby need not wait for it to expire."""
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
        """Take the lease, or tell that it is held already; False if another drainer holds it."""
        now_ns = time.time_ns()
        # Asked of the clock: a process that was stopped for a while may have lost it unawares.
        if now_ns < self._until_ns:
            return True
        with self._record.read() as connection:
            row = get_target(connection, self._target)
        # A standby asks often: it shall not write each time.
        if row.lease_owner not in (None, self._owner) and row.lease_until_ns >= now_ns:
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
            except Exception:  # noqa: BLE001  the thread must outlive whatever one round does
                _log.warning(
                    "lease not renewed; it will be tried again", target=self._target, exc_info=True
                )
