"""A record to which jobs come one by one, and what watches it."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from sqlalchemy import update

from squash_api.alerts.freshness import Combination, ExpectedSeries, Freshness
from squash_api.index.jobs import delete_job
from squash_api.influx.client import (
    InfluxUnavailableError,
)
from squash_api.influx.writing import Rejected
from squash_api.record.record import Record
from squash_api.record.tables import definition
from squash_api.standings.standing import Standing
from tests.support.builders import make_body, measured, store_job
from tests.support.definitions import ADA, ROOT, World, metric, spec

HOUR_NS = 3600 * 10**9
DAY_NS = 24 * HOUR_NS
# Of every test that says no other.
NOW_NS = 1_790_000_040 * 10**9


class Observatory(World):
    """The metrics p.a and p.b are declared, in mmag; `now_ns` is the present."""

    def __init__(self, folder: Path, *, now_ns: int = NOW_NS, **settings: Any) -> None:
        super().__init__(folder, **settings)
        self.now_ns = now_ns
        self.define_metrics(metric("p.a"), metric("p.b"))
        self.freshness = Freshness(
            self.standings.definitions, self.standings.schema, self.standings.latest
        )

    def define_metrics(self, *documents: dict[str, Any]) -> None:
        """Declare metrics."""
        self.definitions.post("metric", list(documents), ADA)

    def define(self, *documents: dict[str, Any]) -> None:
        """Define specifications; they are as old as the test, whatever the clock says."""
        self.definitions.post("spec", list(documents), ADA)

    def redefine(self, name: str, document: dict[str, Any]) -> None:
        """Give a specification another definition."""
        self.definitions.put("spec", name, document, ADA)

    def job(
        self,
        value: float | None = 1.0,
        *,
        name: str = "p.a",
        ago_ns: int = 0,
        received_ago_ns: int | None = None,
        **meta: Any,
    ) -> int:
        """Store and derive a job of so long ago, which was received then unless it is said."""
        received = ago_ns if received_ago_ns is None else received_ago_ns
        self.metrics.refresh()
        job_id = store_job(
            self.record,
            body=make_body(measured(name, value), **({"instrument": "HSC"} | meta)),
            asked_ns=self.now_ns - ago_ns,
            received_ns=self.now_ns - received,
            revision=self.revision,
        )
        self.derive()
        return job_id

    def derive(self) -> None:
        """Derive all that waits for it."""
        while self.deriver.derive_some():
            pass

    def delete(self, job_id: int) -> None:
        """Delete a job."""
        delete_job(self.record, job_id, account=ROOT)

    def stand(self) -> dict[tuple[str, Combination], Standing]:
        """Return how things stand now, by metric and combination."""
        self.standings.refresh(now_ns=self.now_ns)
        return {(item.metric, item.tags): item for item in self.standings.present()}

    def values(self) -> list[float]:
        """Return the values that stand now, without absent ones."""
        found = (item.value for item in self.stand().values())
        return sorted(value for value in found if value is not None)

    def late(self) -> dict[Combination, ExpectedSeries]:
        """Return the expected series of the one specification that expects something."""
        days = self.freshness.days()
        with self.standings.refreshed(now_ns=self.now_ns, days=days) as view:
            found = self.freshness.series(view, now_ns=self.now_ns)
        assert len({item.specification for item in found}) <= 1
        return {item.tags: item for item in found}

    def late_hours(self) -> dict[str, float]:
        """Return by how many hours each series is late, by the values of its tags."""
        return {
            " ".join(text for _, text in tags): round(item.late_s / 3600, 3)
            for tags, item in self.late().items()
        }


class FakeOutlet:
    """Keeps what is written; fails, or leaves it to another, on demand."""

    def __init__(self, name: str = "default") -> None:
        self.name = name
        self.lines: list[str] = []
        self.rejected: list[Rejected] = []
        self.is_in_charge = True
        self.is_up = True

    def is_delivering(self) -> bool:
        """Return whether to write here."""
        return self.is_in_charge

    def takes_lateness(self, _specification: str, _tags: Mapping[str, str], /) -> bool:
        """Return whether to write how late a series is."""
        return True

    def write_extra(self, lines: Sequence[str], /) -> list[Rejected]:
        """Take lines, or fail."""
        if not self.is_up:
            raise InfluxUnavailableError("connection refused")
        self.lines.extend(lines)
        return self.rejected

    def take(self, measurement: str) -> list[str]:
        """Return the lines of a measurement, and forget all lines."""
        found = [line for line in self.lines if line.startswith(measurement)]
        self.lines.clear()
        return found


def expecting(name: str = "p.a.design", every: str = "24h", **changes: Any) -> dict[str, Any]:
    """Return a specification that expects a value, six hours late at most."""
    kept: dict[str, Any] = {
        "expect": {"every": every, "grace": "6h"},
        "alert": {"per": ["instrument", "filter"]},
    }
    return spec(name, **(kept | changes))


def loaded_ago(record: Record, ago_ns: int, *, now_ns: int = NOW_NS) -> None:
    """Let all definitions be of so long ago."""
    record.write(
        lambda connection: connection.execute(update(definition).values(created_ns=now_ns - ago_ns))
    )
