"""What runs beside the requests: an outlet for each target, the deriver, and further readers.

`OUTLETS` is the table of outlets: another one is a file like `delivery/influxdb.py` and a line.
"""

import threading
from collections.abc import Callable, Iterable, Mapping

from squash_api.delivery.influxdb import InfluxOutlet
from squash_api.delivery.outlet import Outlet
from squash_api.delivery.reader import BackOff, Reader, Wait
from squash_api.index.deriver import Deriver
from squash_api.settings import InfluxTarget

_POLL_S = 1.0
_PAUSE_S = 2.0

# What sends to a target, by the class of its settings.
OUTLETS: Mapping[type, Callable[..., Outlet]] = {InfluxTarget: InfluxOutlet}


class Deriving(Reader):
    """Derives what nobody has asked for yet; how far it has come is in the index itself."""

    def __init__(self, deriver: Deriver) -> None:
        super().__init__(
            "deriver",
            BackOff(_POLL_S, _POLL_S),
            failure="deriving failed; it will be tried again",
        )
        self._deriver = deriver

    def step(self) -> Wait:
        """Derive until nothing waits, a little after the first job that did."""
        self.pause(_POLL_S)
        while not self.is_stopping() and self._deriver.derive_some():
            # Nobody waits for this: outlets and pages derive what they need. So it leaves most
            # of the processor to jobs while they come.
            if self.was_woken():
                self.pause(_PAUSE_S)
        return Wait(0.0, _POLL_S)


class Background:
    """Runs readers, each in a thread of its own.

    Parameters
    ----------
    readers
        In the order in which they start; they stop in the opposite one. None stands for one that
        the settings leave out.
    """

    def __init__(self, readers: Iterable[Reader | None]) -> None:
        self._readers = [reader for reader in readers if reader is not None]
        self._waiting_for_jobs = [reader for reader in self._readers if reader.waits_for_jobs]
        self._threads = [
            threading.Thread(target=reader.run, name=f"reader-{reader.name}", daemon=True)
            for reader in self._readers
        ]

    def start(self) -> None:
        """Start the threads."""
        for thread in self._threads:
            thread.start()

    def wake(self) -> None:
        """Say that a job has been stored."""
        for reader in self._waiting_for_jobs:
            reader.wake()

    def stop(self) -> None:
        """End the threads after the round in hand."""
        for reader in reversed(self._readers):
            reader.stop()
        for thread in self._threads:
            thread.join()
        # Only now: the watch writes through the connections of the outlets.
        for reader in self._readers:
            reader.close()
