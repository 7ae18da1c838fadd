from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from squash_api.index.since_good import changes_since_good, changes_words
from tests.support.observatory import HOUR_NS, Observatory


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Observatory]:
    with Observatory(tmp_path) as made:
        yield made


def add(site: Observatory, value: float | None, hours: int, *shas: str, **meta: Any) -> int:
    """Add a run of so many hours ago with the packages afw, ip_isr and so on at these commits."""
    packages = [
        {"name": name, "git_sha": sha * 40, "git_url": f"https://github.com/lsst/{name}"}
        for name, sha in zip(("afw", "ip_isr"), shas, strict=False)
    ]
    return site.job(
        value,
        ago_ns=hours * HOUR_NS,
        ci_id=f"R{hours}",
        ci_name="night",
        **(meta | ({"packages": packages} if shas else {})),
    )


def since_good(site: Observatory, job_id: int) -> str:
    """Return what is said of the series without a filter; values up to 5 are good."""
    with site.reader.view() as view:
        job = view.contexts.of([job_id])[job_id]
        sets = view.contexts.tag_sets_where({"instrument": ["HSC"]}, lambda t: "filter" not in t)
        return changes_since_good(
            view,
            view.metrics.by_name["p.a"].metric_id,
            list(sets),
            job_id=job_id,
            time_ns=job.time_ns,
            is_good=lambda value: value <= 5.0,
        )


def test_packages_that_changed_since_the_last_good_run_are_named(site: Observatory) -> None:
    add(site, 1.0, 9, "a", "a")
    bad = add(site, 9.0, 8, "b", "b")
    assert since_good(site, bad) == "afw, ip_isr"


def test_commits_that_runs_have_used_since_are_counted(site: Observatory) -> None:
    add(site, 1.0, 9, "a", "a")
    add(site, 9.0, 8, "b", "a")
    add(site, 9.0, 7, "c", "a")
    bad = add(site, 9.0, 6, "d", "b")
    assert since_good(site, bad) == "afw 3 commits, ip_isr"


def test_a_bad_run_or_one_without_value_is_not_good(site: Observatory) -> None:
    add(site, 1.0, 9, "a", "a")
    add(site, None, 8, "b", "a")
    bad = add(site, 9.0, 7, "b", "a")
    assert since_good(site, bad) == "afw"


def test_a_run_of_another_series_is_not_looked_at(site: Observatory) -> None:
    add(site, 1.0, 9, "a", "a")
    add(site, 1.0, 8, "b", "b", filter="r")
    bad = add(site, 9.0, 7, "b", "a")
    assert since_good(site, bad) == "afw"


def test_a_later_good_run_is_not_before_it(site: Observatory) -> None:
    add(site, 1.0, 9, "a", "a")
    bad = add(site, 9.0, 8, "b", "a")
    add(site, 1.0, 7, "b", "a")
    assert since_good(site, bad) == "afw"


def test_that_nothing_has_changed_is_said(site: Observatory) -> None:
    add(site, 1.0, 9, "a", "a")
    assert since_good(site, add(site, 9.0, 8, "a", "a")) == "nothing"


def test_a_package_that_is_gone_has_a_minus_sign(site: Observatory) -> None:
    add(site, 1.0, 9, "a", "a")
    assert since_good(site, add(site, 9.0, 8, "a")) == "-ip_isr"


def test_what_is_not_known_is_not_said(site: Observatory) -> None:
    bad = add(site, 9.0, 9, "a", "a")
    assert since_good(site, bad) == ""
    add(site, 1.0, 8)
    assert since_good(site, add(site, 9.0, 7, "b", "b")) == ""


def test_of_many_packages_some_are_counted() -> None:
    names = [(f"p{number}", number) for number in range(8)]
    said = "p0, p1, p2 2 commits, p3 3 commits, p4 4 commits, p5 5 commits and 2 more"
    assert changes_words(names) == said
