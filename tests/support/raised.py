"""The engine of alerts, run by a test instead of a thread."""

import time
from collections.abc import Callable

from squash_api.alerts.raising import Raising
from squash_api.record.alerts import AlertRow, EventRow, events_after, living_alerts
from squash_api.site import Site


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
    engine.step()


def alerts_in(site: Site) -> list[AlertRow]:
    """Return the living alerts."""
    with site.record.read() as connection:
        return living_alerts(connection)


def events_in(site: Site, after: int = 0) -> list[EventRow]:
    """Return the events of all alerts, oldest first."""
    with site.record.read() as connection:
        return events_after(connection, after, limit=100_000)
