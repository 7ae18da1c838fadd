from datetime import date, timedelta
from random import Random

from squash_api.demo.history import CULPRIT, daily_packages, version_tag

DATES = [date(2026, 10, 1) + timedelta(days=index) for index in range(40)]
DAYS = list(daily_packages(Random(5), dates=DATES, culprit_changes={20, 24}))


def changed(index: int) -> set[str]:
    before, now = DAYS[index - 1], DAYS[index]
    return {name for name in now if now[name]["git_sha"] != before[name]["git_sha"]}


def test_a_build_is_named_after_its_day() -> None:
    assert version_tag(date(2026, 3, 1)) == "d_2026_03_01"


def test_there_are_packages_for_each_day() -> None:
    assert len(DAYS) == len(DATES)


def test_some_days_change_packages_and_some_do_not() -> None:
    assert {bool(changed(index)) for index in range(1, 40)} == {True, False}


def test_the_culprit_changes_on_its_days_only() -> None:
    assert [index for index in range(1, 40) if CULPRIT in changed(index)] == [20, 24]


def test_a_changed_package_has_the_version_of_the_day() -> None:
    assert DAYS[20][CULPRIT]["eups_version"] == version_tag(DATES[20])


def test_a_package_has_what_a_link_to_its_commit_needs() -> None:
    package = DAYS[0]["afw"]
    assert package["name"] == "afw"
    assert package["git_url"].startswith("https://example.org/")
    assert len(package["git_sha"]) == 40


def test_equal_random_numbers_give_equal_packages() -> None:
    again = daily_packages(Random(5), dates=DATES, culprit_changes={20, 24})
    assert list(again) == DAYS
