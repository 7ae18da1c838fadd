"""The threads beside the requests: one drainer a target, one that derives, one that watches."""

import threading
from typing import Protocol

import structlog

from squash_api.delivery.drainer import Drainer
from squash_api.index.deriver import Deriver

_log = structlog.get_logger(__name__)
_POLL_S = 1.0
_PAUSE_S = 2.0


class Watch(Protocol):
    """What watches beside delivery, in a thread of its own."""

    def start(self) -> None:
        """Start it."""

    def stop(self) -> None:
        """End it after the work in hand."""


class Background:
    """Runs the drainers, and derives what no reader has asked for yet.

    Parameters
    ----------
    drainers
        One a target; none where another process delivers.
    deriver
        Derives the jobs; None where another process does.
    watch
        Watches what is late; None if nobody shall.
    """

    def __init__(
        self, drainers: list[Drainer], deriver: Deriver | None, watch: Watch | None = None
    ) -> None:
        self._drainers = drainers
        self._watch = watch
        self._new_job = threading.Event()
        self._stop = threading.Event()
        self._threads = [
            threading.Thread(target=drainer.run, name=f"drainer-{drainer.name}", daemon=True)
            for drainer in drainers
        ]
        if deriver is not None:
            derive = threading.Thread(
                target=self._derive, args=(deriver,), name="deriver", daemon=True
            )
            self._threads.append(derive)

    def start(self) -> None:
        """Start the threads."""
        for thread in self._threads:
            thread.start()
        if self._watch is not None:
            self._watch.start()

    def wake(self) -> None:
        """Say that a job has been stored."""
        if not self._new_job.is_set():
            self._new_job.set()
        for drainer in self._drainers:
            drainer.wake()

    def stop(self) -> None:
        """End the threads after the work in hand."""
        self._stop.set()
        self._new_job.set()
        if self._watch is not None:
            # Before the drainers, whose connections it uses.
            self._watch.stop()
        for drainer in self._drainers:
            drainer.stop()
        for thread in self._threads:
            thread.join()

    def _derive(self, deriver: Deriver) -> None:
        while not self._stop.is_set():
            self._new_job.wait(_POLL_S)
            self._stop.wait(_POLL_S)
            try:
                while not self._stop.is_set() and deriver.derive_some():
                    # Nobody waits for this: drainers and readers derive what they need. So it
                    # leaves most of the processor to jobs while they come.
                    if self._new_job.is_set():
                        self._new_job.clear()
                        self._stop.wait(_PAUSE_S)
            except Exception:  # noqa: BLE001  the thread must outlive whatever one round does
                _log.exception("deriving failed; it will be tried again")
            self._new_job.clear()
