from typing import Any

import pytest

from squash_api.index.code_changes import PackageDifference, changes_link, differences

AFW = "https://github.com/lsst/afw.git"


def package(name: str, sha: str | None = "a1", url: str | None = AFW) -> dict[str, Any]:
    return {"name": name, "git_sha": sha, "git_url": url, "eups_version": "1"}


def test_equal_packages_do_not_differ() -> None:
    assert differences([package("afw")], [{**package("afw"), "eups_version": "2"}]) == []


def test_what_came_went_and_changed_is_named_in_order() -> None:
    before = [package("z", "1"), package("gone", "2"), package("same")]
    after = [package("z", "3"), package("came", "4"), package("same")]
    assert differences(before, after) == [
        PackageDifference("came", None, "4", AFW, is_new=True),
        PackageDifference("gone", "2", None, AFW, is_gone=True),
        PackageDifference("z", "1", "3", AFW),
    ]


def test_another_repository_is_a_difference() -> None:
    (found,) = differences([package("a", url="https://x/a")], [package("a", url="https://y/a")])
    assert (found.before, found.after, found.git_url) == ("a1", "a1", "https://y/a")


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


def test_of_other_servers_the_commit_is_linked() -> None:
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
