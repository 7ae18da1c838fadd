"""A record with users, and what is needed to define metrics and specifications in it."""

from pathlib import Path
from typing import Any

from sqlalchemy import Connection, insert, select

from squash_api.accounts.accounts import Account
from squash_api.record.deliveries import ensure_targets
from squash_api.record.jobs import current_revision
from squash_api.record.storing import NewJob
from squash_api.record.tables import redelivery, user
from squash_api.site import Site
from tests.support.builders import STORE, make_settings, with_record

ADA = Account(1, "ada", "user", 1)
BOB = Account(2, "bob", "user", 1)
ROOT = Account(3, "root", "admin", 1)


class World(Site):
    """A site with three users; its record is in a folder."""

    def __init__(self, folder: Path, **settings: Any) -> None:
        super().__init__(with_record(make_settings(folder, **settings)), is_made=True)
        self.record.write(_add_users)

    @property
    def revision(self) -> int:
        with self.record.read() as connection:
            return current_revision(connection)

    def measure(self, *units: str | None) -> None:
        """Store and derive a job per unit, with 1 of it as value of p.a."""
        self.measure_only(*units)
        self.deriver.catch_up()

    def measure_only(self, *units: str | None) -> None:
        """Store a job per unit, as `measure` does, and leave it out of the index."""

        def work(connection: Connection) -> None:
            ensure_targets(connection, ["default"])
            for number, unit in enumerate(units, start=1):
                shown = "null" if unit is None else f'"{unit}"'
                body = f'{{"measurements": [{{"metric": "p.a", "value": 1, "unit": {shown}}}]}}'
                job = NewJob(
                    user_id=1,
                    user_epoch=1,
                    received_ns=number,
                    asked_ns=number,
                    revision=current_revision(connection),
                    identifiers_digest=None,
                    is_deliverable=True,
                    body=body.encode(),
                    new_units={} if "p.a" in self.metrics.now.by_name else {"p.a": unit},
                )
                STORE.whole(connection, [job])

        self.record.write(work)

    def requeued(self) -> list[int]:
        with self.record.read() as connection:
            return list(connection.execute(select(redelivery.c.job_id)).scalars())


def metric(name: str = "p.a", unit: str = "mmag", **changes: Any) -> dict[str, Any]:
    return {"name": name, "unit": unit, "description": "What it is."} | changes


def spec(
    name: str = "p.a.design", unit: str = "mmag", value: float = 5.0, **changes: Any
) -> dict[str, Any]:
    return {"name": name, "threshold": {"value": value, "unit": unit, "operator": "<"}} | changes


def _add_users(connection: Connection) -> None:
    for account in (ADA, BOB, ROOT):
        connection.execute(
            insert(user).values(
                name=account.name,
                password_hash="-",
                role=account.role,
                epoch=1,
                is_disabled=False,
                created_ns=0,
            )
        )
