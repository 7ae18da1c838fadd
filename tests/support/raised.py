"""The engine of alerts, run by a test instead of a thread."""

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from squash_api.alerts.raising import Raising
from squash_api.delivery.reader import NO_WAIT
from squash_api.record.alerts import (
    AlertRow,
    EventRow,
    GroupRow,
    events_after,
    get_group,
    living_alerts,
)
from squash_api.record.audit import Actor
from squash_api.record.silences import NewSilence, add_silence, end_silence
from squash_api.site import Site
from tests.support.observatory import DAY_NS, Observatory


def make_engine(
    site: Site, *, quiet_s: float = 0.0, clock: Callable[[], int] = time.time_ns
) -> Raising:
    """Return an engine that has followed nothing in this process."""
    return Raising(
        site.record, site.reader, site.definitions.in_force, quiet_s=quiet_s, clock=clock
    )


def bring_up_to_date(site: Site, engine: Raising) -> None:
    """Derive what has changed, then bring the alerts up to date with it."""
    while site.deriver.derive_some():
        pass
    while engine.step() == NO_WAIT:
        pass


def alerts_in(site: Site) -> list[AlertRow]:
    """Return the living alerts."""
    with site.record.read() as connection:
        return living_alerts(connection)


def events_in(site: Site, after: int = 0) -> list[EventRow]:
    """Return the events of all alerts, oldest first."""
    with site.record.read() as connection:
        return events_after(connection, after, limit=100_000)


class AlertedObservatory(Observatory):
    """Jobs come one by one, and the engine has its turn when it is asked what there is."""

    def __init__(self, folder: Path, *, quiet_s: float = 0.0, **more: Any) -> None:
        super().__init__(folder, **more)
        self.quiet_s = quiet_s
        self.restart()
        self._told = 0

    def restart(self) -> None:
        """Let the engine forget what it has in memory."""
        self.engine = make_engine(self, quiet_s=self.quiet_s, clock=lambda: self.now_ns)

    def wait(self, seconds: float) -> None:
        """Let time pass."""
        self.now_ns += int(seconds * 10**9)

    def step(self) -> None:
        """Bring the alerts up to date."""
        bring_up_to_date(self, self.engine)

    def living(self) -> list[AlertRow]:
        """Return the living alerts, brought up to date."""
        self.step()
        return alerts_in(self)

    def raised(self) -> dict[str, tuple[int, float | None]]:
        """Return severity and value of the living alerts, by the detector or else the metric."""
        return {
            row.tags.get("detector", row.metric): (row.severity, row.value) for row in self.living()
        }

    def told(self) -> list[tuple[str, int]]:
        """Return kind and severity of the events since the last call."""
        return [(item.kind, item.severity) for item in self.happened()]

    def happened(self) -> list[EventRow]:
        """Return the events since the last call of this or of `told`."""
        self.step()
        found = events_in(self, self._told)
        self._told = found[-1].event_id if found else self._told
        return found

    def groups(self) -> list[tuple[GroupRow, list[AlertRow]]]:
        """Return the groups of living alerts, with these."""
        found: dict[int, list[AlertRow]] = {}
        for row in self.living():
            found.setdefault(row.group_id, []).append(row)
        with self.record.read() as connection:
            rows = {number: get_group(connection, number) for number in found}
        return [(row, found[number]) for number, row in rows.items() if row is not None]

    def silence(self, metric: str | None = None, *, days: float = 1.0, **tags: str) -> int:
        """Make a silence from now on."""
        until_ns = self.now_ns + int(days * DAY_NS)
        new = NewSilence(metric, tags, "planned", self.now_ns, until_ns)
        row = self.record.write(
            lambda connection: add_silence(connection, new, now_ns=self.now_ns, by=Actor())
        )
        return row.silence_id

    def end_silence(self, silence_id: int) -> None:
        """End a silence now."""
        self.record.write(
            lambda connection: end_silence(connection, silence_id, now_ns=self.now_ns, by=Actor())
        )
