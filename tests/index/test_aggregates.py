from collections.abc import Iterator
from pathlib import Path
from statistics import median
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import delete, select

from squash_api.index.aggregates import Aggregates
from squash_api.index.jobs import post_measurement
from squash_api.record.tables import job, state
from tests.support.builders import make_body, measured, store_job
from tests.support.definitions import ADA, metric
from tests.support.observatory import HOUR_NS, Observatory

RULE: dict[str, Any] = {"of": "p.a", "over": ["fiber"], "by": "median"}


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Observatory]:
    with Observatory(tmp_path, tags=("spectrograph", "fiber")) as site:
        define(site)
        yield site


def define(site: Observatory, name: str = "p.m", **changes: Any) -> None:
    document = metric(name, unit="mag", aggregate={**RULE, **changes})
    known = site.definitions.in_force.at(None).metrics
    (site.definitions.put if name in known else site.definitions.post_one)(
        "metric", name, document, ADA
    )
    site.derive()


def fiber(site: Observatory, number: int, value: float | None, **changes: Any) -> int:
    meta: dict[str, Any] = {"ci_id": "r1", "ci_name": "ql", "fiber": number, "filter": "r"}
    return site.job(value, **(meta | changes))


def found(site: Observatory, name: str = "p.m") -> dict[tuple[str, ...], float | None]:
    """Return the newest values of an aggregate by the values of its tags."""
    return {
        tuple(text for _, text in tags): item.value
        for (metric_name, tags), item in site.stand().items()
        if metric_name == name
    }


def number_of_jobs(site: Observatory) -> int:
    with site.record.read() as connection:
        return len(connection.execute(select(job.c.id).where(job.c.deleted_ns.is_(None))).all())


USUAL = ("HSC", "r", "ql")


def test_a_run_has_one_value_for_all_its_fibers_in_the_unit_of_its_metric(
    site: Observatory,
) -> None:
    for number, value in enumerate((1000.0, 3000.0, 2500.0)):
        fiber(site, number, value)
    assert found(site) == {USUAL: 2.5}


@pytest.mark.sqlite
def test_the_newest_value_of_a_fiber_counts_by_its_time(site: Observatory) -> None:
    fiber(site, 1, 1000.0)
    fiber(site, 1, 5000.0, ago_ns=HOUR_NS)
    assert found(site) == {USUAL: 1.0}
    fiber(site, 1, None)
    fiber(site, 2, 4000.0)
    assert found(site) == {USUAL: 4.0}


def test_late_corrected_and_deleted_values_change_it(site: Observatory) -> None:
    first = fiber(site, 1, 1000.0)
    second = fiber(site, 2, 3000.0, ago_ns=HOUR_NS)
    assert found(site) == {USUAL: 2.0}
    other = {**measured("p.a", 7000.0), "identifier": None}
    post_measurement(site.record, site.metrics, job_id=first, document=other, account=ADA)
    site.derive()
    assert found(site) == {USUAL: 5.0}
    site.delete(second)
    site.derive()
    assert found(site) == {USUAL: 7.0}


@pytest.mark.sqlite
def test_it_is_one_job_of_the_run_however_often_it_changes(site: Observatory) -> None:
    for number in range(5):
        fiber(site, number, 1000.0 * number)
    assert number_of_jobs(site) == 6
    with site.reader.view() as view:
        contexts = view.contexts.of(range(1, 8)).values()
    assert {item.context.fields["run_id"] for item in contexts} == {"r1"}


@pytest.mark.sqlite
def test_without_values_it_is_absent_and_without_jobs_it_is_gone(site: Observatory) -> None:
    job_id = fiber(site, 1, 1000.0)
    nothing = {**measured("p.a", None), "identifier": None}
    post_measurement(site.record, site.metrics, job_id=job_id, document=nothing, account=ADA)
    site.derive()
    assert found(site) == {USUAL: None}
    site.delete(job_id)
    site.derive()
    assert (found(site), number_of_jobs(site)) == ({}, 0)


@pytest.mark.sqlite
def test_other_runs_and_tags_have_values_of_their_own(site: Observatory) -> None:
    fiber(site, 1, 1000.0)
    fiber(site, 2, 2000.0, filter="g")
    fiber(site, 3, 3000.0, spectrograph="b1")
    fiber(site, 4, 9000.0, ci_id="r0", ago_ns=HOUR_NS)
    assert found(site) == {USUAL: 1.0, ("HSC", "g", "ql"): 2.0, (*USUAL, "b1"): 3.0}
    assert number_of_jobs(site) == 8


def test_it_can_be_over_several_keys_that_are_no_tags_too(site: Observatory) -> None:
    define(site, over=["fiber", "exposure", "filter_name"], by="count")
    for number, exposure, band in ((1, 7, "r"), (1, 8, "r"), (2, 7, "g"), (2, 7, "g")):
        fiber(site, number, 1000.0, exposure=exposure, filter=band)
    fiber(site, 9, 1.0)
    assert found(site) == {("HSC", "ql"): 3.0}


@pytest.mark.sqlite
def test_with_too_few_values_it_is_not_there_yet(site: Observatory) -> None:
    define(site, at_least=2)
    fiber(site, 1, 1000.0)
    assert found(site) == {}
    fiber(site, 2, 2000.0)
    assert found(site) == {USUAL: 1.5}


@pytest.mark.sqlite
def test_jobs_without_a_run_or_the_key_have_no_part_in_it(site: Observatory) -> None:
    fiber(site, 1, 1000.0, ci_id="unknown")
    site.job(1000.0, ci_id="r1", ci_name="ql")
    assert found(site) == {}


def test_its_value_is_made_anew_when_its_definition_changes_and_dropped_with_it(
    site: Observatory,
) -> None:
    for number, value in enumerate((1000.0, 2000.0, 6000.0)):
        fiber(site, number, value)
    define(site, by="max")
    assert found(site) == {USUAL: 6.0}
    define(site, over=["fiber", "filter"])
    assert found(site) == {("HSC", "ql"): 2.0}
    site.definitions.delete("metric", "p.m", ADA)
    site.derive()
    assert (found(site), number_of_jobs(site)) == ({}, 3)


@pytest.mark.sqlite
def test_runs_from_before_the_definition_have_it_too(site: Observatory) -> None:
    fiber(site, 1, 1000.0)
    define(site, "q.late", by="max")
    assert found(site, "q.late") == {USUAL: 1.0}


def test_whoever_begins_anew_finds_what_is_there(site: Observatory) -> None:
    fiber(site, 1, 1000.0)
    before = number_of_jobs(site)
    site.record.write(
        lambda connection: connection.execute(delete(state).where(state.c.key == "aggregates"))
    )
    site.derive()
    assert number_of_jobs(site) == before


def test_of_two_processes_only_one_makes_it(
    site: Observatory, monkeypatch: pytest.MonkeyPatch
) -> None:
    body = make_body(measured("p.a", 1000.0), ci_id="r1", ci_name="ql", fiber=1)
    store_job(site.record, body=body, revision=site.revision)
    site.deriver.catch_up()
    write = site.record.write

    def late(work: Any) -> Any:
        # The other one has looked at the same state of the record.
        monkeypatch.undo()
        assert Aggregates(site.record, site.metrics).step()
        return write(work)

    monkeypatch.setattr(site.record, "write", late)
    assert Aggregates(site.record, site.metrics).step()
    assert number_of_jobs(site) == 2


@given(
    steps=st.lists(
        st.tuples(st.integers(0, 3), st.sampled_from([1.0, 4.0, None, "delete"])), max_size=8
    )
)
@settings(max_examples=10, suppress_health_check=[HealthCheck.function_scoped_fixture])
@pytest.mark.sqlite
def test_whatever_comes_and_goes_it_is_made_from_what_is_there(
    tmp_path_factory: pytest.TempPathFactory, steps: list[tuple[int, Any]]
) -> None:
    with Observatory(tmp_path_factory.mktemp("site"), tags=("fiber",)) as site:
        define(site)
        there: dict[int, tuple[int, float | None]] = {}
        for number, value in steps:
            if value == "delete":
                if number in there:
                    site.delete(there.pop(number)[0])
                    site.derive()
            elif number not in there:
                there[number] = fiber(site, number, value), value
        values = [value / 1000 for _, value in there.values() if value is not None]
        expected = {USUAL: median(values) if values else None}
        newest = found(site)
        assert newest == (expected if values or newest else {})
