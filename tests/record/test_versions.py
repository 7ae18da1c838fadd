"""Tables are expanded, so that the release before still runs on those of the next."""

import shutil
from pathlib import Path
from typing import Any

import pytest
from alembic import command
from alembic.config import Config
from alembic.script import ScriptDirectory
from sqlalchemy import Engine, create_engine, insert, inspect, text

from squash_api.errors import SettingsError
from squash_api.record import versions
from squash_api.record.database import open_database, writing
from squash_api.record.metrics import forget_metrics, note_metrics
from squash_api.record.tables import metadata, user
from squash_api.record.versions import (
    MIGRATIONS,
    NEEDED,
    RELEASES,
    VERSION,
    Tables,
    go_back,
    tables_of,
)
from tests.support.builders import (
    add_test_user,
    make_settings,
    open_new_database,
    open_record,
)

NEXT = """
import sqlalchemy as sa
from alembic import op

revision = "9001"
down_revision = "{}"


def upgrade() -> None:
    op.add_column("job", sa.Column("later", sa.String(16), nullable=True))
    op.create_table("later", sa.Column("id", sa.Integer(), primary_key=True))
"""


def script(folder: Path = MIGRATIONS) -> Config:
    config = Config()
    config.set_main_option("script_location", str(folder))
    return config


def tables_at(path: Path, version: str) -> Engine:
    """Make empty tables as they were with a migration."""
    engine = create_engine(f"sqlite:///{path}")
    with engine.begin() as connection:
        config = script()
        config.attributes["connection"] = connection
        command.upgrade(config, version)
    return engine


def unique(tables: Any, name: str) -> list[list[str]]:
    indexes = [item for item in tables.get_indexes(name) if item["unique"]]
    return [item["column_names"] for item in (*indexes, *tables.get_unique_constraints(name))]


def found(engine: Engine) -> Tables | None:
    with engine.connect() as connection:
        return tables_of(connection)


@pytest.fixture
def url(tmp_path: Path) -> str:
    open_new_database(tmp_path).dispose()
    return make_settings(tmp_path).database_url


@pytest.fixture
def next_release(url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the code be of a release with one migration more, for a record that is there."""
    assert url
    folder = tmp_path / "migrations"
    shutil.copytree(MIGRATIONS, folder)
    (folder / "versions" / "v9001.py").write_text(NEXT.format(VERSION))
    monkeypatch.setattr(versions, "MIGRATIONS", folder)
    monkeypatch.setattr(versions, "VERSION", "9001")


def test_the_version_is_that_of_the_newest_migration() -> None:
    directory = ScriptDirectory.from_config(script())
    assert directory.get_heads() == [VERSION]
    assert NEEDED in {item.revision for item in directory.walk_revisions()}


@pytest.mark.parametrize("version", sorted({*RELEASES.values(), NEEDED}))
def test_what_older_releases_read_and_write_is_as_it_was(tmp_path: Path, version: str) -> None:
    old, new = tables_at(tmp_path / "old.db", version), tables_at(tmp_path / "new.db", "head")
    before, after = inspect(old), inspect(new)
    for table in before.get_table_names():
        has = {item["name"]: item for item in before.get_columns(table)}
        gets = {item["name"]: item for item in after.get_columns(table)}
        for name, column in has.items():
            assert repr(gets[name]["type"]) == repr(column["type"]), (table, name)
            assert gets[name]["nullable"] is column["nullable"], (table, name)
        for name in gets.keys() - has.keys():
            # It inserts rows without them.
            assert gets[name]["nullable"] or gets[name]["default"] is not None, (table, name)
        assert after.get_pk_constraint(table) == before.get_pk_constraint(table)
        keys = {item["name"] for item in before.get_foreign_keys(table)}
        assert {item["name"] for item in after.get_foreign_keys(table)} == keys
        # No rule that it does not know of, but on what it leaves empty.
        known = unique(before, table)
        assert all(item in known or not has.keys() & {*item} for item in unique(after, table))
    old.dispose()
    new.dispose()


@pytest.mark.usefixtures("next_release")
def test_an_expanded_record_says_that_the_release_before_can_use_it(url: str) -> None:
    engine = open_database(url)
    assert found(engine) == Tables("9001", NEEDED)
    assert inspect(engine).has_table("later")
    with engine.connect() as connection:
        asked = connection.execute(text("SELECT version_num FROM alembic_version")).scalars()
        assert list(asked) == [NEEDED]
    engine.dispose()
    # It is there already.
    open_database(url).dispose()


@pytest.mark.usefixtures("next_release")
def test_this_release_uses_a_record_that_the_next_has_expanded(
    url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    open_database(url).dispose()
    monkeypatch.undo()
    engine = open_database(url)
    assert found(engine) == Tables("9001", NEEDED)
    engine.dispose()


def test_a_record_that_a_later_release_has_changed_is_refused_with_what_to_do(url: str) -> None:
    engine = create_engine(url)
    with engine.begin() as connection:
        connection.execute(text("UPDATE alembic_version SET version_num = '9001'"))
    engine.dispose()
    with pytest.raises(SettingsError, match=r"squash\S* is of a later release.* 9001.*Start the"):
        open_database(url)


@pytest.mark.parametrize("release", ["1.2.1", "2.0", "v2.0.0"])
def test_an_older_release_can_use_a_record_and_then_a_newer_one_again(
    url: str, release: str
) -> None:
    engine = open_database(url)
    with writing(engine).begin() as connection:
        done = go_back(connection, release)
    assert done == found(engine) == Tables(VERSION, RELEASES[release.strip("v")[:3]])
    engine.dispose()
    engine = open_database(url)
    assert found(engine) == Tables(VERSION, NEEDED)
    assert set(metadata.tables) <= set(inspect(engine).get_table_names())
    engine.dispose()


def test_users_who_came_with_an_older_release_get_what_their_names_look_like(
    tmp_path: Path, url: str
) -> None:
    record = open_record(tmp_path)
    add_test_user(record, "ada")
    record.write(lambda connection: go_back(connection, "1.2.1"))
    # As that release does it.
    came = [
        {"name": name, "password_hash": "none", "role": "user", "created_ns": 0}
        for name in ("ADA", "bob")
    ]
    record.write(lambda connection: connection.execute(insert(user), came))
    record.close()
    engine = open_database(url)
    with engine.connect() as connection:
        found = connection.execute(text("SELECT name, skeleton FROM user_account ORDER BY id"))
        assert [row.skeleton is None for row in found] == [False, True, False]
    engine.dispose()


def test_a_forgotten_metric_is_a_new_one_for_an_older_release(tmp_path: Path) -> None:
    record = open_record(tmp_path)
    record.write(lambda connection: note_metrics(connection, {"p.a": "mag", "p.b": "mag"}))
    record.write(lambda connection: forget_metrics(connection, ["p.a"]))
    record.write(lambda connection: go_back(connection, "1.2.1"))
    with record.read() as connection:
        names = connection.execute(text("SELECT name FROM metric")).scalars()
        assert list(names) == ["p.b"]
    record.close()


@pytest.mark.parametrize("release", ["1.1", "3.0", "", "x"])
def test_a_release_that_cannot_use_the_tables_is_refused(tmp_path: Path, release: str) -> None:
    record = open_record(tmp_path)
    with pytest.raises(SettingsError, match=r"name one of 1\.2"):
        record.write(lambda connection: go_back(connection, release))
    record.close()
