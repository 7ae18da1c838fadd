"""Settings, an open record and jobs for a test, untouched by the developer's own environment."""

import json
from collections.abc import Sequence
from dataclasses import replace
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from pydantic import SecretStr
from sqlalchemy import Engine

from squash_api.ingest.ingest import digest_of, measured_in
from squash_api.record.database import make_database, open_database
from squash_api.record.record import Record
from squash_api.record.storing import JobStore, NewJob, Stored
from squash_api.record.users import add_user
from squash_api.settings import Settings
from tests.support.records import record_url

SECRET = "a secret of tests, longer than 32 bytes"
STORE = JobStore(digest_of, measured_in)


def make_settings(tmp_path: Path, **changes: Any) -> Settings:
    """Return settings with the record in `tmp_path`; `changes` are fields of `Settings`.

    Every field is passed, so that neither the environment nor a `.env` has a say.
    """
    fields: dict[str, Any] = {
        name: field.get_default(call_default_factory=True, validated_data={})
        for name, field in Settings.model_fields.items()
    }
    fields |= {
        "secret": SecretStr(SECRET),
        "database_url": record_url(tmp_path),
        "registration": "open",
        "influx_url": None,
        # A test looks into the application that it made.
        "readers": 0,
    }
    return Settings(_env_file=None, **(fields | changes))


def open_record(tmp_path: Path) -> Record:
    """Open (and make, the first time) the record that `make_settings(tmp_path)` names."""
    return Record(open_new_database(tmp_path))


def open_new_database(tmp_path: Path) -> Engine:
    """Make the database of that record, unless there is one, and open it."""
    tmp_path.mkdir(parents=True, exist_ok=True)
    return open_database(with_record(make_settings(tmp_path)).database_url)


def with_record(settings: Settings) -> Settings:
    """Return settings whose record exists: an empty one, if there was none.

    In a file it is a copy, since to make the tables takes ten times as long as all else that opens
    a record. A database of `record_url` has one from the beginning.
    """
    other, _, name = settings.database_url.partition("sqlite:///")
    if not other and not any(Path(name).parent.glob(f"{Path(name).name}*")):
        Path(name).write_bytes(_empty_record())
    return settings


@cache
def _empty_record() -> bytes:
    with TemporaryDirectory() as folder:
        file = Path(folder) / "squash.db"
        make_database(f"sqlite:///{file}")
        return file.read_bytes()


def make_body(
    *measurements: dict[str, Any], blobs: Sequence[dict[str, Any]] = (), **meta: Any
) -> bytes:
    """Return the body of a job with these measurements, and with `meta` for its metadata."""
    document = {"measurements": list(measurements), "blobs": list(blobs), "meta": meta}
    return json.dumps(document).encode()


def measured(metric: str = "p.a", value: Any = 1.0, unit: str | None = "mmag") -> dict[str, Any]:
    """Return a measurement without an identifier."""
    return {"metric": metric, "value": value, "unit": unit}


def make_new_job(**changes: Any) -> NewJob:
    """Return a job of the user 1, ready to be stored in a record without definitions."""
    job = NewJob(
        user_id=1,
        user_epoch=1,
        received_ns=2_000,
        asked_ns=1_000,
        revision=0,
        identifiers_digest=None,
        is_deliverable=True,
        body=b"{}",
    )
    return replace(job, **changes)


def store_job(record: Record, **changes: Any) -> int:
    """Store a job of `make_new_job` and return its id; raise if it is not stored."""
    (stored,) = record.write(lambda connection: STORE.whole(connection, [make_new_job(**changes)]))
    if not isinstance(stored, Stored):
        raise TypeError(stored)
    return stored.job_id


def add_test_user(record: Record, name: str = "ada", *, role: str = "user") -> int:
    """Add a user, who cannot log in, and return the id: 1 for the first."""
    added = record.write(
        lambda connection: add_user(
            connection, name=name, password_hash="none", role=role, created_ns=0
        )
    )
    return added.user_id
