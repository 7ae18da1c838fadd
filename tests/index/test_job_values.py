from collections.abc import Iterator
from pathlib import Path

import pytest

from squash_api.index.contexts import Contexts
from squash_api.index.values import Values
from squash_api.record.metrics import metric_ids
from tests.support.observatory import Observatory


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Observatory]:
    with Observatory(tmp_path) as site:
        yield site


def values(site: Observatory, names: list[str], jobs: list[int]) -> set[tuple[str, int, object]]:
    with site.record.read() as connection:
        ids = metric_ids(connection, names)
        shown = {number: name for name, number in ids.items()}
        found = list(Values(connection).in_jobs(list(ids.values()), jobs))
    assert len(found) == len(set(found))
    return {(shown[metric_id], job_id, value) for metric_id, job_id, value in found}


def test_values_are_those_of_the_metrics_in_the_jobs(site: Observatory) -> None:
    first, second, absent = site.job(1.0), site.job(2.0, name="p.b"), site.job(None)
    assert values(site, ["p.a", "p.b"], [first, second, absent]) == {
        ("p.a", first, 1.0),
        ("p.b", second, 2.0),
        ("p.a", absent, None),
    }
    assert values(site, ["p.b"], [first, second]) == {("p.b", second, 2.0)}


def test_of_jobs_between_those_that_are_asked_for_values_may_come(site: Observatory) -> None:
    jobs = [site.job(float(number)) for number in range(20)]
    near = {("p.a", jobs[0], 0.0), ("p.a", jobs[2], 2.0)}
    far = {("p.a", jobs[0], 0.0), ("p.a", jobs[19], 19.0)}
    assert values(site, ["p.a"], [jobs[0], jobs[2]]) == near | {("p.a", jobs[1], 1.0)}
    assert values(site, ["p.a"], [jobs[0], jobs[19]]) == far


def test_of_nothing_there_is_nothing(site: Observatory) -> None:
    assert values(site, [], [site.job()]) == set()
    assert values(site, ["p.a"], []) == set()


def test_a_job_keeps_the_revision_of_its_receipt(site: Observatory) -> None:
    before, first = site.revision, site.job()
    site.define({"name": "p.a.x", "threshold": {"value": 5.0, "unit": "mmag", "operator": "<"}})
    second = site.job()
    with site.record.read() as connection:
        assert Contexts(connection).revisions([first, second, 99]) == {
            first: before,
            second: site.revision,
        }


def test_a_job_that_is_derived_anew_has_a_higher_version(site: Observatory) -> None:
    first, second = site.job(), site.job()
    with site.record.read() as connection:
        before = Contexts(connection).versions([first, second])
    site.deriver.rederive([first])
    with site.record.read() as connection:
        after = Contexts(connection).versions([first, second])
    assert after[first] > before[first]
    assert after[second] == before[second]


def test_a_deleted_job_has_no_version(site: Observatory) -> None:
    job = site.job()
    site.delete(job)
    with site.record.read() as connection:
        assert Contexts(connection).versions([job]) == {}
