"""A record of the first version, with jobs in it, is brought to the present one."""

from pathlib import Path

import pytest
from alembic import command
from alembic.config import Config
from sqlalchemy import Engine, create_engine, text

from squash_api.index.contexts import Contexts
from squash_api.index.derived import jobs_to_rederive, oldest_unindexed_ns
from squash_api.index.deriver import Deriver
from squash_api.record import database
from squash_api.record.metrics import Metrics
from squash_api.record.record import Record
from squash_api.schema.names import Schema
from tests.support.builders import make_body, measured, open_record

BODY = make_body(measured("p.a", 5.0), instrument="HSC", visit=7)


def make_first_version(path: Path) -> None:
    """Make a record of the first version: jobs 1 to 3 in the index, 2 deleted, 4 not derived."""
    engine = create_engine(f"sqlite:///{path}")
    config = Config()
    config.set_main_option("script_location", str(Path(database.__file__).parent / "migrations"))
    with engine.begin() as connection:
        config.attributes["connection"] = connection
        command.upgrade(config, "0001")
    fill_first_version(engine)
    engine.dispose()


def fill_first_version(engine: Engine) -> None:
    with engine.begin() as connection:
        connection.execute(
            text("INSERT INTO user_account VALUES (1, 'ada', 'none', 'user', 1, 0, 0)")
        )
        connection.execute(text("INSERT INTO metric VALUES (1, 'p.a', 'mmag', 0, 1)"))
        for job_id in range(1, 5):
            connection.execute(
                text(
                    "INSERT INTO job (id, user_id, received_ns, asked_ns, time_ns, revision,"
                    " is_deliverable, size, body, deleted_ns)"
                    " VALUES (:id, 1, 100 + :id, :id, :id, 0, 1, 10, :body, :deleted)"
                ),
                {
                    "id": job_id,
                    "body": None if job_id == 2 else BODY,
                    "deleted": 9 if job_id == 2 else None,
                },
            )
        connection.execute(text("INSERT INTO measurement VALUES (1, 1, 5.0), (1, 3, 5.0)"))
        connection.execute(text("INSERT INTO rederivation VALUES (3)"))
        connection.execute(
            text("INSERT INTO state VALUES ('derived_through', '3'), ('runs_through', '3')")
        )


@pytest.fixture
def record(tmp_path: Path) -> Record:
    make_first_version(tmp_path / "squash.db")
    return Record.open(f"sqlite:///{tmp_path / 'squash.db'}")


def test_jobs_in_the_index_are_to_be_derived_again(record: Record) -> None:
    with record.read() as connection:
        assert jobs_to_rederive(connection, limit=9) == [1, 3]
    record.close()


def test_until_then_the_measurements_stay_and_the_contexts_are_known_to_be_missing(
    record: Record,
) -> None:
    with record.read() as connection:
        count = connection.execute(text("SELECT count(*) FROM measurement")).scalar_one()
        assert (count, oldest_unindexed_ns(connection)) == (2, 101)
    record.close()


def test_in_the_end_every_job_has_its_context_and_its_measurements(record: Record) -> None:
    deriver = Deriver(record, Metrics(record, Schema()))
    while deriver.derive_some():
        pass
    with record.read() as connection:
        contexts = Contexts(connection).of(range(9))
        rows = connection.execute(text("SELECT job_id, value FROM measurement")).all()
        assert oldest_unindexed_ns(connection) is None
    assert list(contexts) == [1, 3, 4]
    assert all(item.context.tags == {"instrument": "HSC"} for item in contexts.values())
    assert contexts[4].context.fields == {"meta.visit": 7.0}
    assert (contexts[4].time_ns, contexts[4].received_ns) == (4, 104)
    assert sorted(map(tuple, rows)) == [(1, 5.0), (3, 5.0), (4, 5.0)]
    record.close()


def test_a_record_without_jobs_needs_nothing(tmp_path: Path) -> None:
    with open_record(tmp_path).read() as connection:
        assert oldest_unindexed_ns(connection) is None
        assert jobs_to_rederive(connection, limit=9) == []
