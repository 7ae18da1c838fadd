from dataclasses import replace
from random import Random
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from squash_api.alerts.freshness import combination_of
from squash_api.index.contexts import JobContext
from squash_api.index.derived import requeue_metrics
from squash_api.index.jobs import post_measurement
from squash_api.judging.limits import limits_of
from squash_api.judging.specifications import specification_from_json
from squash_api.record.metrics import MetricRow, declare_metrics
from squash_api.schema.names import Context, Schema
from squash_api.standings.standing import Standing, Standings, stand
from tests.support.definitions import ADA, metric, spec
from tests.support.observatory import DAY_NS, HOUR_NS, NOW_NS, Observatory

HSC = (("instrument", "HSC"),)
METRIC = MetricRow("mmag", is_declared=True, metric_id=1, name="p.a", version=1)


# One standing


def judged(
    value: float, *documents: dict[str, Any], row: MetricRow = METRIC, **meta: str
) -> Standing:
    specifications = [specification_from_json(item) for item in documents]
    job = JobContext(7, 5, 6, Context({"instrument": "HSC", **meta}, {"run_id": "R17"}))
    limits = limits_of(specifications, unit=row.unit, schema=Schema())
    return stand(row, HSC, value, job, limits)


def limit(last: str, value: float, **changes: Any) -> dict[str, Any]:
    return spec(f"p.a.{last}", value=value, tags=[last], **changes)


def test_a_value_without_limits_stands_without_margin() -> None:
    assert judged(4.0) == Standing("p.a", HSC, 4.0, "mmag", 5, 7, run_id="R17")


def test_the_nearest_limit_gives_the_margin() -> None:
    found = judged(4.0, limit("minimum", 8.0), limit("design", 5.0))
    assert found.margin == pytest.approx(0.2)
    assert (found.limit, found.severity) == ("p.a.design", 0)


@pytest.mark.parametrize(
    ("value", "severity", "broken"),
    [
        (2.0, 0, ()),
        (4.0, 1, ("p.a.stretch",)),
        (6.0, 2, ("p.a.design", "p.a.stretch")),
        (9.0, 3, ("p.a.minimum", "p.a.design", "p.a.stretch")),
    ],
)
def test_the_worst_level_that_is_broken_counts(
    value: float, severity: int, broken: tuple[str, ...]
) -> None:
    found = judged(value, limit("stretch", 3.0), limit("design", 5.0), limit("minimum", 8.0))
    assert (found.severity, found.broken) == (severity, broken)


def test_a_specification_that_does_not_apply_says_nothing() -> None:
    found = judged(9.0, limit("minimum", 8.0, metadata_query={"instrument": "DECam"}))
    assert (found.severity, found.margin) == (0, None)


def test_a_limit_in_another_unit_is_converted() -> None:
    found = judged(4.0, limit("design", 0.005, unit="mag"))
    assert found.margin == pytest.approx(0.2)
    assert found.severity == 0


def test_a_limit_in_per_cent_is_compared_with_a_fraction() -> None:
    fraction = replace(METRIC, unit="")
    found = judged(0.05, limit("design", 10.0, unit="%"), row=fraction)
    assert found.severity == 0
    assert found.margin == pytest.approx(0.5)
    assert judged(0.2, limit("design", 10.0, unit="%"), row=fraction).severity == 2


def test_a_limit_whose_unit_does_not_convert_says_nothing() -> None:
    assert judged(4.0, limit("design", 1.0, unit="s")).severity == 0


def test_a_combination_has_the_tags_that_have_a_value_in_a_fixed_order() -> None:
    tags = {"status": "new", "filter": "r", "instrument": "HSC"}
    assert combination_of(tags) == (("instrument", "HSC"), ("filter", "r"))


# All standings


def test_without_jobs_nothing_stands(site: Observatory) -> None:
    assert site.stand() == {}


def test_the_latest_value_by_time_stands_whatever_came_last(site: Observatory) -> None:
    site.job(1.0, ago_ns=HOUR_NS)
    new = site.job(2.0)
    site.job(3.0, ago_ns=2 * HOUR_NS, received_ago_ns=0)
    (found,) = site.stand().values()
    assert (found.value, found.job_id, found.time_ns) == (2.0, new, NOW_NS)


def test_every_combination_of_the_tags_stands_by_itself(site: Observatory) -> None:
    site.job(1.0, filter="r")
    site.job(2.0, filter="i")
    site.job(3.0, filter="i", status="again")
    assert site.values() == [1.0, 3.0]


def test_every_metric_stands_by_itself(site: Observatory) -> None:
    site.job(1.0)
    site.job(2.0, name="p.b")
    assert sorted(site.stand()) == [("p.a", HSC), ("p.b", HSC)]


def test_what_is_new_is_taken_in(site: Observatory) -> None:
    site.job(1.0)
    assert site.values() == [1.0]
    site.job(2.0, filter="r")
    assert site.values() == [1.0, 2.0]


def test_an_older_value_does_not_hide_that_the_newest_is_absent(site: Observatory) -> None:
    site.define(spec(value=5.0))
    site.job(1.0)
    assert [item.state for item in site.stand().values()] == ["passed"]
    job = site.job(None)
    (found,) = site.stand().values()
    assert (found.state, found.value, found.job_id) == ("not measured", None, job)
    assert (found.severity, found.broken, found.margin) == (0, (), None)
    assert found.verdict is not None


def test_an_absent_value_counts_from_the_start_too(site: Observatory) -> None:
    site.job(1.0, ago_ns=5)
    site.job(None)
    assert [item.state for item in site.stand().values()] == ["not measured"]


def test_an_old_job_without_a_value_that_arrives_late_hides_nothing(site: Observatory) -> None:
    site.job(1.0)
    site.stand()
    site.job(None, ago_ns=5, received_ago_ns=0)
    assert [item.state for item in site.stand().values()] == ["no limit"]


def test_a_metric_that_a_job_does_not_name_stays_as_it_is(site: Observatory) -> None:
    site.job(1.0)
    site.stand()
    site.job(None, name="p.b")
    states = {item.metric: item.state for item in site.stand().values()}
    assert states == {"p.a": "no limit", "p.b": "not measured"}


def test_a_withdrawn_value_is_not_measured_and_a_later_one_is_again(site: Observatory) -> None:
    site.job(1.0, ago_ns=5)
    job = site.job(2.0)
    site.stand()
    for value, state in ((None, "not measured"), (3.0, "no limit"), (None, "not measured")):
        document = {"metric": "p.a", "value": value, "unit": "mmag"}
        post_measurement(site.record, site.metrics, job_id=job, document=document, account=ADA)
        site.derive()
        (found,) = site.stand().values()
        assert (found.value, found.state, found.job_id) == (value, state, job)


@settings(max_examples=20)
@given(
    st.lists(
        st.tuples(st.sampled_from(["p.a", "p.b"]), st.sampled_from([None, 1.0, 2.0])),
        min_size=1,
        max_size=8,
    ),
    st.randoms(use_true_random=False),
)
def test_whatever_arrives_when_the_newest_job_of_each_metric_counts(
    tmp_path_factory: pytest.TempPathFactory,
    jobs: list[tuple[str, float | None]],
    random: Random,
) -> None:
    arrivals = list(enumerate(jobs))
    random.shuffle(arrivals)
    with Observatory(tmp_path_factory.mktemp("record")) as site:
        for place, (name, value) in arrivals:
            site.job(value, name=name, ago_ns=100 - place, received_ago_ns=0)
            if random.getrandbits(1):
                site.stand()
        found = {item.metric: item.value for item in site.stand().values()}
        assert found == dict(jobs)
        # One that starts now sees the same.
        fresh = Standings(site.reader, site.definitions.in_force)
        fresh.refresh(now_ns=site.now_ns)
        assert {item.metric: item.value for item in fresh.present()} == dict(jobs)


def test_a_deleted_job_without_a_value_hides_nothing_any_more(site: Observatory) -> None:
    site.job(1.0, ago_ns=5)
    job = site.job(None)
    site.stand()
    site.delete(job)
    assert [item.state for item in site.stand().values()] == ["no limit"]


def test_what_does_not_change_stays_the_same_object(site: Observatory) -> None:
    site.job(1.0)
    site.job(2.0, filter="r")
    before = site.stand()
    site.job(3.0, filter="r")
    after = site.stand()
    assert [after[key] is before[key] for key in sorted(before)] == [True, False]


def test_a_value_of_more_than_thirty_days_does_not_stand(site: Observatory) -> None:
    site.job(1.0, ago_ns=31 * DAY_NS)
    site.job(2.0, ago_ns=29 * DAY_NS)
    assert site.values() == [2.0]


def test_an_old_value_that_comes_now_does_not_stand(site: Observatory) -> None:
    site.stand()
    site.job(1.0, ago_ns=31 * DAY_NS, received_ago_ns=0)
    assert site.values() == []


def test_what_gets_too_old_stands_no_more(site: Observatory) -> None:
    site.job(1.0)
    site.job(2.0, filter="r", ago_ns=10 * DAY_NS)
    assert site.values() == [1.0, 2.0]
    site.now_ns += 25 * DAY_NS
    assert site.values() == [1.0]


def test_after_a_deletion_the_value_before_stands(site: Observatory) -> None:
    site.job(1.0, ago_ns=2)
    site.job(2.0, ago_ns=1, status="again")
    last = site.job(3.0)
    assert site.values() == [3.0]
    site.delete(last)
    assert site.values() == [2.0]


def test_after_the_deletion_of_the_only_value_nothing_stands(site: Observatory) -> None:
    last = site.job(3.0)
    assert site.values() == [3.0]
    site.delete(last)
    assert site.values() == []


def test_a_deletion_of_another_job_changes_nothing(site: Observatory) -> None:
    first = site.job(1.0, ago_ns=1)
    site.job(2.0)
    before = site.stand()
    site.delete(first)
    assert site.stand() == before


def test_another_limit_is_judged_by_at_once(site: Observatory) -> None:
    site.define(spec(value=5.0))
    site.job(4.0)
    assert site.stand()["p.a", HSC].severity == 0
    site.redefine("p.a.design", spec(value=3.0))
    assert site.stand()["p.a", HSC].severity == 2
    site.definitions.delete("spec", "p.a.design", ADA)
    assert site.stand()["p.a", HSC].limit is None


def test_another_unit_converts_value_and_limit(site: Observatory) -> None:
    site.define(spec(value=5.0))
    site.job(4.0)
    before = site.stand()["p.a", HSC]
    site.definitions.put("metric", "p.a", metric("p.a", unit="mag"), ADA)
    site.derive()
    after = site.stand()["p.a", HSC]
    assert after.value == pytest.approx(0.004)
    assert after.margin == pytest.approx(before.margin)
    assert (after.unit, after.severity) == ("mag", 0)


def test_a_value_whose_unit_has_just_changed_is_converted_before_it_is_judged(
    site: Observatory,
) -> None:
    site.define(spec(value=5.0))
    site.job(4.0)
    before = site.stand()["p.a", HSC]
    site.record.write(lambda c: declare_metrics(c, {"p.a": "mag"}))
    site.record.write(lambda c: requeue_metrics(c, ["p.a"], request=9))
    after = site.stand()["p.a", HSC]
    assert (before.unit, before.value) == ("mmag", 4.0)
    assert (after.unit, after.value) == ("mag", 0.004)


def test_a_specification_may_ask_for_other_metadata_than_tags(site: Observatory) -> None:
    site.define(spec(value=3.0, metadata_query={"visit": 7}))
    site.job(4.0, visit=8)
    site.job(5.0, visit=7, filter="r")
    assert sorted(item.severity for item in site.stand().values()) == [0, 2]


def test_another_process_sees_the_same(site: Observatory) -> None:
    site.define(spec(value=3.0))
    doomed = site.job(4.0, filter="r")
    site.job(5.0, name="p.b")
    site.stand()
    site.job(1.0, filter="r")
    site.delete(doomed)
    before = site.stand()
    site.standings = Standings(site.reader, site.definitions.in_force)
    assert site.stand() == before
