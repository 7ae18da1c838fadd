from typing import Any

import pytest

from squash_api.index.code_changes import (
    CodeChangeReader,
    CodeChanges,
    PackageChange,
    changes_link,
    changes_text,
    package_changes,
)
from squash_api.index.runs import Run, Runs, runs_through, store_runs
from squash_api.record.record import Record
from squash_api.schema.text import MAX_FIELD_TEXT_BYTES
from tests.support.builders import store_job


def plain_package(
    name: str, sha: str | None = "1", url: str | None = "https://x"
) -> dict[str, Any]:
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
    run(record, "A", plain_package("afw"))
    assert changes(record, 1) is None


def test_packages_that_stay_are_no_change(record: Record) -> None:
    run(record, "A", plain_package("afw"))
    run(record, "B", plain_package("afw"))
    assert changes(record, 2) == CodeChanges("A", ())


@pytest.mark.parametrize("now", [plain_package("afw", "2"), plain_package("afw", "1", "https://y")])
def test_a_package_with_another_commit_or_place_is_a_change(
    record: Record, now: dict[str, Any]
) -> None:
    run(record, "A", plain_package("afw"))
    run(record, "B", now)
    assert changes(record, 2) == CodeChanges(
        "A", (PackageChange("afw", "1", now["git_sha"], now["git_url"]),)
    )


def test_a_package_that_comes_or_goes_is_a_change(record: Record) -> None:
    run(record, "A", plain_package("afw"), plain_package("old"))
    run(record, "B", plain_package("afw"), plain_package("new"))
    assert changes(record, 2) == CodeChanges(
        "A",
        (
            PackageChange("new", None, "1", "https://x", is_new=True),
            PackageChange("old", "1", None, "https://x", is_gone=True),
        ),
    )


@pytest.mark.parametrize(
    ("before", "now"), [([], [plain_package("afw")]), ([plain_package("afw")], []), ([], [])]
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
        run(record, f"R{number}", plain_package("afw", str(number)))
    for job_id in (*range(2, 131), 2):
        found = changes(record, job_id, reader)
        assert found is not None
        assert found.packages is not None
        assert [item.git_sha for item in found.packages] == [str(job_id - 1)]


def test_many_jobs_are_compared_as_each_by_itself(record: Record) -> None:
    run(record, "A", plain_package("afw"))
    run(record, "B", plain_package("afw", "2"))
    run(record, "C", plain_package("afw", "2"))
    with record.read() as connection:
        found = CodeChangeReader(remembers=1).since_previous_run(Runs(connection), [1, 2, 3, 99])
    assert found == {number: changes(record, number) for number in (1, 2, 3)}


@pytest.mark.parametrize("at_once", [1, 7, 49, 130])
def test_many_sets_are_compared_as_each_by_itself(record: Record, at_once: int) -> None:
    for number in range(130):
        run(
            record,
            f"R{number}",
            *([] if number % 9 == 8 else [plain_package("afw", str(number // 2))]),
        )
    reader = CodeChangeReader(remembers=60)
    found: dict[int, CodeChanges | None] = {}
    for first in range(1, 131, at_once):
        with record.read() as connection:
            found |= reader.since_previous_run(
                Runs(connection), range(first, min(first + at_once, 131))
            )
    assert found == {number: changes(record, number) for number in range(1, 131)}


AFW = "https://github.com/lsst/afw.git"


def package(name: str, sha: str | None = "a1", url: str | None = AFW) -> dict[str, Any]:
    return {"name": name, "git_sha": sha, "git_url": url, "eups_version": "1"}


def test_equal_packages_do_not_differ() -> None:
    assert package_changes([package("afw")], [{**package("afw"), "eups_version": "2"}]) == ((), ())


def test_what_came_went_and_changed_is_named_in_order() -> None:
    before = [package("z", "1"), package("gone", "2"), package("same")]
    after = [package("z", "3"), package("came", "4"), package("same")]
    assert package_changes(before, after).packages == (
        PackageChange("came", None, "4", AFW, is_new=True),
        PackageChange("z", "1", "3", AFW),
        PackageChange("gone", "2", None, AFW, is_gone=True),
    )


def differs(was: dict[str, Any], now: dict[str, Any]) -> bool | None:
    """Return whether a package has changed; None if that is not known."""
    found = package_changes([{"name": "a", **was}], [{"name": "a", **now}])
    return None if found.unknown else bool(found.packages)


SHA = "a1b2c3d4e5f60718293a4b5c6d7e8f9001122334"


@pytest.mark.parametrize(
    ("was", "now", "has_changed"),
    [
        ({"git_sha": SHA, "git_url": AFW}, {"git_sha": SHA}, False),
        ({"git_sha": SHA}, {"git_sha": SHA, "git_url": AFW}, False),
        ({"git_sha": SHA, "git_url": AFW}, {"git_sha": SHA, "git_url": ""}, False),
        ({"git_sha": SHA, "git_url": AFW}, {"git_sha": SHA, "git_url": AFW[:-4] + "/"}, False),
        (
            {"git_sha": SHA, "git_url": AFW},
            {"git_sha": SHA, "git_url": "git@github.com:LSST/afw.git"},
            False,
        ),
        ({"git_sha": SHA}, {"git_sha": SHA[:7]}, False),
        ({"git_sha": SHA}, {"git_sha": SHA[:6]}, True),
        ({"git_sha": SHA, "git_url": AFW}, {"git_url": AFW}, None),
        ({"git_sha": SHA}, {"git_branch": "main"}, None),
        ({}, {}, None),
        ({"git_url": AFW}, {"git_url": AFW}, None),
        ({"git_url": AFW}, {"git_url": "https://y"}, True),
        ({"git_sha": SHA, "eups_version": "1"}, {"eups_version": "1"}, False),
        ({"eups_version": "1"}, {"eups_version": "2"}, True),
        ({"git_sha": SHA, "eups_version": "1"}, {"git_sha": SHA, "eups_version": "2"}, False),
    ],
)
def test_what_is_left_out_is_no_change(
    was: dict[str, Any], now: dict[str, Any], *, has_changed: bool | None
) -> None:
    assert differs(was, now) is has_changed


def test_a_point_has_no_changes_where_none_is_known() -> None:
    assert CodeChanges("A", (), ("a",)).in_point is None
    assert CodeChanges("A", (), ()).in_point == ("", 0)
    change = PackageChange("b", "1", "2", None)
    assert CodeChanges("A", (change,), ("a",)).in_point == ("b", 1)


def test_another_repository_is_a_difference() -> None:
    ((found,), _) = package_changes(
        [package("a", url="https://x/a")], [package("a", url="https://y/a")]
    )
    assert (found.before, found.after, found.git_url) == ("a1", "a1", "https://y/a")


def test_a_repository_that_is_not_named_any_more_is_remembered() -> None:
    ((found,), _) = package_changes(
        [package("a", url="https://x/a")], [package("a", "b2", url=None)]
    )
    assert (found.git_url, found.repository) == (None, "https://x/a")
    assert found.link == "https://x/a/commit/b2"


@pytest.mark.parametrize(
    "url",
    [
        AFW,
        "https://github.com/lsst/afw",
        "http://www.github.com/lsst/afw/",
        "git@github.com:lsst/afw.git",
        "ssh://git@github.com/lsst/afw.git",
    ],
)
def test_github_compares(url: str) -> None:
    assert changes_link(url, "a1", "b2") == "https://github.com/lsst/afw/compare/a1...b2"


def test_github_shows_the_one_commit_that_there_is() -> None:
    assert changes_link(AFW, None, "b2") == "https://github.com/lsst/afw/commit/b2"
    assert changes_link(AFW, "a1", None) == "https://github.com/lsst/afw/commit/a1"
    assert changes_link(AFW, "a1", "a1") == "https://github.com/lsst/afw/commit/a1"


def test_other_servers_than_github_get_a_link_to_the_commit() -> None:
    assert changes_link("https://git.example/a.git", "1", "2") == "https://git.example/a/commit/2"


@pytest.mark.parametrize(
    "url",
    [
        None,
        "",
        "javascript:alert(1)//github.com/a/b",
        "git@elsewhere.example:a/b.git",
        "https://x y",
        "file:///a",
    ],
)
def test_nothing_else_is_linked(url: str | None) -> None:
    assert changes_link(url, "1", "2") is None


def test_a_commit_cannot_leave_its_place_in_the_link() -> None:
    link = changes_link(AFW, "../../x", 'a"b?c#d')
    assert link == "https://github.com/lsst/afw/compare/..%2F..%2Fx...a%22b%3Fc%23d"


def test_without_commits_there_is_no_link() -> None:
    assert changes_link(AFW, None, None) is None


def test_code_changes_are_links_to_commits() -> None:
    changes = [
        PackageChange("afw", None, "a1b2", "https://github.com/lsst/afw.git"),
        PackageChange("meas", None, "c3", "http://github.com/lsst/meas"),
        PackageChange("old", "d4", None, "https://github.com/lsst/old.git", is_gone=True),
    ]
    text = (
        "[afw](https://github.com/lsst/afw/commit/a1b2), "
        "[meas](http://github.com/lsst/meas/commit/c3), -old"
    )
    assert changes_text(changes) == text


@pytest.mark.parametrize(
    ("sha", "url"),
    [
        ("a1", None),
        ("a1", "git@github.com:lsst/afw.git"),
        ("a1", "javascript:alert(1)"),
        ("a1", "https://with space/x"),
        (None, "https://github.com/lsst/afw.git"),
        ("", "https://github.com/lsst/afw.git"),
    ],
)
def test_a_package_without_a_web_address_or_commit_is_only_named(
    sha: str | None, url: str | None
) -> None:
    assert changes_text([PackageChange("afw", None, sha, url)]) == "afw"


def test_a_package_cannot_smuggle_in_another_link() -> None:
    name = 'x](javascript:alert(1)) [y"\n<javascript:z>'
    url = 'https://h/a)[b](javascript:c)"\\'
    text = changes_text([PackageChange(name, None, "s)](javascript:d", url)])
    assert text == (
        '[x(javascript:alert(1)) y"javascript:z]'
        "(https://h/a%29%5Bb%5D%28javascript:c%29%22/commit/s%29%5D%28javascript:d)"
    )


def test_more_changes_than_a_text_can_hold_are_counted() -> None:
    changes = [PackageChange("p" * 95, None, None, None)] * 1000
    text = changes_text(changes)
    assert len(text.encode()) <= MAX_FIELD_TEXT_BYTES
    assert text.count("p" * 95) + int(text.rpartition("and ")[2].removesuffix(" more")) == 1000
