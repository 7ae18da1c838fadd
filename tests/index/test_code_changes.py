from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from squash_api.index.code_changes import CodeChangeReader, CodeChanges, PackageChange
from squash_api.index.runs import Run, Runs, runs_through, store_runs
from squash_api.record.record import Record
from tests.support.builders import add_test_user, open_record, store_job


@pytest.fixture
def record(tmp_path: Path) -> Iterator[Record]:
    record = open_record(tmp_path)
    add_test_user(record)
    yield record
    record.close()


def package(name: str, sha: str | None = "1", url: str | None = "https://x") -> dict[str, Any]:
    return {"name": name, "git_sha": sha, "git_url": url}


def run(record: Record, run_id: str, *packages: dict[str, Any]) -> None:
    """Store a job, and the run that it is of."""
    job_id = store_job(record)
    item = Run(job_id, "jenkins", "drp", run_id, None, packages)
    with record.read() as connection:
        after = runs_through(connection)
    assert record.write(
        lambda connection: store_runs(connection, [item], after=after, through=job_id)
    )


def changes(
    record: Record, job_id: int, reader: CodeChangeReader | None = None
) -> CodeChanges | None:
    with record.read() as connection:
        found = (reader or CodeChangeReader()).since_previous_run(Runs(connection), [job_id])
    return found[job_id]


def test_a_first_run_has_no_changes(record: Record) -> None:
    run(record, "A", package("afw"))
    assert changes(record, 1) is None


def test_packages_that_stay_are_no_change(record: Record) -> None:
    run(record, "A", package("afw"))
    run(record, "B", package("afw"))
    assert changes(record, 2) == CodeChanges("A", ())


@pytest.mark.parametrize("now", [package("afw", "2"), package("afw", "1", "https://y")])
def test_a_package_with_another_commit_or_place_is_a_change(
    record: Record, now: dict[str, Any]
) -> None:
    run(record, "A", package("afw"))
    run(record, "B", now)
    assert changes(record, 2) == CodeChanges(
        "A", (PackageChange("afw", "1", now["git_sha"], now["git_url"]),)
    )


def test_a_package_that_comes_or_goes_is_a_change(record: Record) -> None:
    run(record, "A", package("afw"), package("old"))
    run(record, "B", package("afw"), package("new"))
    assert changes(record, 2) == CodeChanges(
        "A",
        (
            PackageChange("new", None, "1", "https://x", is_new=True),
            PackageChange("old", "1", None, "https://x", is_gone=True),
        ),
    )


@pytest.mark.parametrize(
    ("before", "now"), [([], [package("afw")]), ([package("afw")], []), ([], [])]
)
def test_where_packages_are_not_known_neither_are_the_changes(
    record: Record, before: list[dict[str, Any]], now: list[dict[str, Any]]
) -> None:
    run(record, "A", *before)
    run(record, "B", *now)
    assert changes(record, 2) == CodeChanges("A", None)


def test_a_reader_that_has_read_many_sets_still_reads_the_right_one(record: Record) -> None:
    reader = CodeChangeReader()
    for number in range(130):
        run(record, f"R{number}", package("afw", str(number)))
    for job_id in (*range(2, 131), 2):
        found = changes(record, job_id, reader)
        assert found is not None
        assert found.packages is not None
        assert [item.git_sha for item in found.packages] == [str(job_id - 1)]


def test_many_jobs_are_compared_as_each_by_itself(record: Record) -> None:
    run(record, "A", package("afw"))
    run(record, "B", package("afw", "2"))
    run(record, "C", package("afw", "2"))
    with record.read() as connection:
        found = CodeChangeReader(remembers=1).since_previous_run(Runs(connection), [1, 2, 3, 99])
    assert found == {number: changes(record, number) for number in (1, 2, 3)}


@pytest.mark.parametrize("at_once", [1, 7, 49, 130])
def test_many_sets_are_compared_as_each_by_itself(record: Record, at_once: int) -> None:
    for number in range(130):
        run(record, f"R{number}", *([] if number % 9 == 8 else [package("afw", str(number // 2))]))
    reader = CodeChangeReader(remembers=60)
    found: dict[int, CodeChanges | None] = {}
    for first in range(1, 131, at_once):
        with record.read() as connection:
            found |= reader.since_previous_run(
                Runs(connection), range(first, min(first + at_once, 131))
            )
    assert found == {number: changes(record, number) for number in range(1, 131)}
