from typing import Any

import pytest

from squash_api.index.code_changes import PackageChange, changes_link, changes_text, package_changes
from squash_api.schema.text import MAX_FIELD_TEXT_BYTES

AFW = "https://github.com/lsst/afw.git"


def package(name: str, sha: str | None = "a1", url: str | None = AFW) -> dict[str, Any]:
    return {"name": name, "git_sha": sha, "git_url": url, "eups_version": "1"}


def test_equal_packages_do_not_differ() -> None:
    assert package_changes([package("afw")], [{**package("afw"), "eups_version": "2"}]) == ()


def test_what_came_went_and_changed_is_named_in_order() -> None:
    before = [package("z", "1"), package("gone", "2"), package("same")]
    after = [package("z", "3"), package("came", "4"), package("same")]
    assert package_changes(before, after) == (
        PackageChange("came", None, "4", AFW, is_new=True),
        PackageChange("z", "1", "3", AFW),
        PackageChange("gone", "2", None, AFW, is_gone=True),
    )


def test_another_repository_is_a_difference() -> None:
    (found,) = package_changes([package("a", url="https://x/a")], [package("a", url="https://y/a")])
    assert (found.before, found.after, found.git_url) == ("a1", "a1", "https://y/a")


def test_a_repository_that_is_not_named_any_more_is_remembered() -> None:
    (found,) = package_changes([package("a", url="https://x/a")], [package("a", "b2", url=None)])
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
