"""What runs beside the requests: an outlet for each target, the deriver, and further readers.

`_OUTLETS` is the table of outlets: another one is a file like `delivery/influxdb.py` and a line.
"""

import threading
from collections.abc import Iterable, Sequence

import httpx

from squash_api.delivery.batches import PointMaker
from squash_api.delivery.influxdb import InfluxOutlet
from squash_api.delivery.reader import BackOff, Reader, Wait
from squash_api.errors import SettingsError
from squash_api.index.deriver import Deriver
from squash_api.record.metrics import Vocabulary
from squash_api.record.record import Record
from squash_api.settings import InfluxTarget, Settings

_POLL_S = 1.0
_PAUSE_S = 2.0

# What sends to a target, by the class of its settings.
_OUTLETS = {InfluxTarget: InfluxOutlet}


def chosen_targets(settings: Settings, names: Sequence[str]) -> list[InfluxTarget]:
    """Return the targets of these names, or all if none is named.

    Raises
    ------
    SettingsError
        If there is no such target, or none at all.
    """
    known = {target.name: target for target in settings.targets}
    if not known:
        raise SettingsError("SQUASH_INFLUX_URL: no InfluxDB is configured.")
    unknown = [name for name in names if name not in known]
    if unknown:
        raise SettingsError(
            f"There is no target {unknown[0]}; there are: {', '.join(sorted(known))}."
        )
    return [known[name] for name in dict.fromkeys(names or known)]


def make_outlets(
    targets: Sequence[InfluxTarget],
    record: Record,
    vocabulary: Vocabulary,
    deriver: Deriver,
    *,
    squash_url: str,
    transport: httpx.BaseTransport | None = None,
) -> list[InfluxOutlet]:
    """Make an outlet for each target; `transport` is in place of the network, for tests."""
    return [
        _OUTLETS[type(target)](
            target,
            record,
            PointMaker(record, vocabulary, deriver, squash_url=squash_url),
            transport=transport,
        )
        for target in targets
    ]


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
