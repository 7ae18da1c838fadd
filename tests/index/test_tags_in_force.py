from collections.abc import Iterator
from pathlib import Path

import pytest

from squash_api.errors import SettingsError
from squash_api.index.derived import (
    check_tags,
    jobs_to_rederive,
    put_tags,
    schema_of,
    store_derived,
)
from squash_api.record.deliveries import ensure_targets, mark_taken
from squash_api.record.record import Record
from squash_api.schema.names import Schema
from tests.support.builders import add_test_user, open_record, store_job

SITE = Schema(("site",))


@pytest.fixture
def record(tmp_path: Path) -> Iterator[Record]:
    """A record that was used with the tag `site`."""
    record = open_record(tmp_path)
    check_tags(record, SITE)
    record.write(lambda connection: ensure_targets(connection, ["base"]))
    yield record
    record.close()


def begin_sending(record: Record) -> None:
    record.write(lambda connection: mark_taken(connection, "base", after=0, through=1))


def test_the_same_list_is_accepted_at_every_start(record: Record) -> None:
    begin_sending(record)
    check_tags(record, SITE)
    check_tags(record, SITE)


def test_the_order_of_the_list_does_not_matter(record: Record) -> None:
    record.write(lambda connection: put_tags(connection, Schema(("a", "b"))))
    begin_sending(record)
    check_tags(record, Schema(("b", "a")))


@pytest.mark.parametrize("other", [Schema(), Schema(("telescope",)), Schema(("site", "telescope"))])
def test_another_list_is_refused_once_points_may_have_been_written(
    record: Record, other: Schema
) -> None:
    begin_sending(record)
    with pytest.raises(SettingsError, match="squash replay --into-empty"):
        check_tags(record, other)
    check_tags(record, SITE)


def test_before_any_point_was_written_another_list_is_taken(record: Record) -> None:
    check_tags(record, Schema())
    begin_sending(record)
    check_tags(record, Schema())
    with pytest.raises(SettingsError):
        check_tags(record, SITE)


def test_a_list_that_was_put_is_in_force(record: Record) -> None:
    begin_sending(record)
    record.write(lambda connection: put_tags(connection, Schema()))
    check_tags(record, Schema())


def jobs_to_derive_again(record: Record) -> list[int]:
    with record.read() as connection:
        return jobs_to_rederive(connection, limit=9)


def test_with_another_list_every_job_in_the_index_is_derived_again(record: Record) -> None:
    add_test_user(record)
    for _ in range(3):
        store_job(record)
    record.write(lambda connection: store_derived(connection, [], after=0, through=2))
    record.write(lambda connection: put_tags(connection, Schema(("site", "telescope"))))
    assert jobs_to_derive_again(record) == [1, 2]


def test_with_the_same_list_no_job_is_derived_again(record: Record) -> None:
    add_test_user(record)
    store_job(record)
    record.write(lambda connection: store_derived(connection, [], after=0, through=1))
    record.write(lambda connection: put_tags(connection, SITE))
    assert jobs_to_derive_again(record) == []


def test_who_only_reads_takes_the_records_list_and_changes_nothing(record: Record) -> None:
    assert schema_of(record, Schema()) == SITE
    check_tags(record, SITE)


def test_a_new_record_is_read_by_the_settings(tmp_path: Path) -> None:
    new = open_record(tmp_path / "new")
    assert schema_of(new, SITE) == SITE
    new.close()
