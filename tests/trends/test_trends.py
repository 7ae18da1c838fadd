from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from squash_api.errors import NotFoundError
from squash_api.index.derived import mark_for_rederivation
from squash_api.pages.metric import picture_of
from squash_api.trends.trends import Asked, Trend, Trends
from tests.support.builders import make_body, measured, store_job
from tests.support.definitions import ADA, metric, spec
from tests.support.observatory import DAY_NS, HOUR_NS, NOW_NS, Observatory


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Observatory]:
    with Observatory(tmp_path) as site:
        yield site


def trends_of(site: Observatory) -> Trends:
    return site.trends


def read(site: Observatory, **asked: Any) -> Trend:
    return trends_of(site).read("p.a", Asked(**asked))


def values(trend: Trend) -> list[list[float | None]]:
    return [[item.value for item in line.values] for line in trend.lines]


def packages(**shas: str) -> dict[str, Any]:
    return {name: {"git_sha": sha, "git_url": "https://x"} for name, sha in shas.items()}


def test_a_metric_is_shown_by_series(site: Observatory) -> None:
    site.job(1.0, filter="g", ago_ns=HOUR_NS)
    site.job(2.0, filter="r")
    site.job(3.0, filter="g")
    trend = read(site)
    assert values(trend) == [[1.0, 3.0], [2.0]]
    assert (trend.count, trend.common) == (3, (("instrument", "HSC"),))


def test_a_job_is_seen_before_it_is_derived(site: Observatory) -> None:
    site.job(1.0)
    body = make_body(measured("p.a", 2.0))
    store_job(site.record, body=body, revision=site.revision)
    assert read(site).count == 2
    assert trends_of(site).newest_job("p.a") == 2


def test_a_metric_that_nobody_knows_is_not_found(site: Observatory) -> None:
    with pytest.raises(NotFoundError):
        trends_of(site).read("p.nothing", Asked())


def test_a_metric_without_values_has_no_lines(site: Observatory) -> None:
    assert read(site).lines == []
    assert trends_of(site).newest_job("p.a") == 0
    assert trends_of(site).last("p.a", {}, limit=5) == []


def test_values_since_a_time(site: Observatory) -> None:
    site.job(1.0, ago_ns=3 * DAY_NS)
    site.job(2.0, ago_ns=DAY_NS)
    assert values(read(site, since_ns=NOW_NS - 2 * DAY_NS)) == [[2.0]]


def test_values_that_arrived_before_their_time_are_not_missed(site: Observatory) -> None:
    site.job(1.0, ago_ns=0, received_ago_ns=DAY_NS - HOUR_NS)
    assert values(read(site, since_ns=NOW_NS)) == [[1.0]]


def test_values_of_jobs_with_a_tag(site: Observatory) -> None:
    site.job(1.0, filter="g")
    site.job(2.0, filter="r")
    assert values(read(site, tags={"filter": "r"})) == [[2.0]]
    assert read(site, tags={"filter": "z"}).count == 0


def test_values_are_judged_by_todays_limits(site: Observatory) -> None:
    site.job(6.0)
    site.define(spec("p.a.design", value=5.0), spec("p.a.minimum", value=9.0, tags=["minimum"]))
    trend = read(site)
    (item,) = trend.lines[0].values
    assert [limit.label for limit in item.broken] == ["design"]
    assert [limit.label for limit, _ in trend.limits] == ["minimum", "design"]


def test_only_limits_of_what_is_shown_are_given(site: Observatory) -> None:
    site.define(spec("p.a.design", value=5.0, metadata_query={"filter": "r"}))
    site.job(6.0, filter="g")
    (item,) = read(site).lines[0].values
    assert (item.is_limited, read(site).limits) == (False, [])


def test_values_over_metadata(site: Observatory) -> None:
    site.job(1.0, airmass=1.8)
    site.job(2.0, airmass=1.1)
    site.job(3.0)
    trend = read(site, x="meta.airmass")
    assert [item.x for item in trend.lines[0].values] == [1.1, 1.8]
    assert (trend.count, trend.outside) == (2, 1)


def test_values_over_a_tag(site: Observatory) -> None:
    site.job(1.0, ccdnum=12)
    assert read(site, x="ccdnum").lines[0].values[0].x == 12.0


def test_values_over_another_metric_of_the_same_job(site: Observatory) -> None:
    body = make_body(measured("p.a", 1.0), measured("p.b", 7.0))
    store_job(site.record, body=body, revision=site.revision)
    site.job(2.0)
    trend = read(site, x="p.b")
    assert [(item.value, item.x) for item in trend.lines[0].values] == [(1.0, 7.0)]
    assert trend.outside == 1


def test_a_metric_over_itself(site: Observatory) -> None:
    site.job(2.0)
    assert read(site, x="p.a").lines[0].values[0].x == 2.0


@pytest.mark.parametrize("x", ["nothing", "p.nothing", "meta.", "filter", "run_id"])
def test_what_is_no_axis_has_no_values(site: Observatory, x: str) -> None:
    site.job(2.0, filter="r", run_id="7")
    assert (read(site, x=x).count, read(site, x=x).outside) == (0, 1)


def test_code_changes_of_the_run(site: Observatory) -> None:
    for run, sha in (("A", "1"), ("B", "2")):
        site.job(1.0, ci_name="drp", run_id=run, packages=packages(afw=sha, daf="1"))
    first, second = read(site).lines[0].values
    assert first.changes is None
    assert second.changes is not None
    assert [item.name for item in second.changes.packages or ()] == ["afw"]


def test_the_last_values_are_those_that_came_last(site: Observatory) -> None:
    site.job(1.0)
    site.job(2.0, ago_ns=DAY_NS)
    found = trends_of(site).last("p.a", {}, limit=1)
    assert [item.value for item in found] == [2.0]


def test_the_last_values_of_a_tag(site: Observatory) -> None:
    site.job(1.0, filter="g")
    site.job(2.0, filter="r")
    found = trends_of(site).last("p.a", {"filter": "g"}, limit=5)
    assert [item.value for item in found] == [1.0]


def test_values_that_wait_for_another_unit_are_converted_first(site: Observatory) -> None:
    job_id = site.job(1000.0)
    site.definitions.put("metric", "p.a", metric("p.a", unit="mag"), ADA)
    site.record.write(lambda connection: mark_for_rederivation(connection, [job_id]))
    assert values(read(site)) == [[1.0]]
    assert [item.value for item in trends_of(site).last("p.a", {}, limit=1)] == [1.0]


def test_a_deleted_job_is_not_shown(site: Observatory) -> None:
    site.delete(site.job(1.0))
    assert read(site).count == 0
    assert trends_of(site).last("p.a", {}, limit=5) == []


def test_choices_are_the_values_of_each_tag_also_of_jobs_to_come(site: Observatory) -> None:
    site.job(1.0, filter="g")
    trends = trends_of(site)
    assert trends.choices("p.a") == {"instrument": ["HSC"], "filter": ["g"]}
    site.job(1.0, filter="r")
    assert trends.choices("p.a")["filter"] == ["g", "r"]


def test_axes_are_what_has_numbers(site: Observatory) -> None:
    body = make_body(
        measured("p.a"), measured("p.b"), ccdnum=3, airmass=1.2, operator="x", filter="r"
    )
    store_job(site.record, body=body, revision=site.revision)
    trends = trends_of(site)
    assert trends.axes("p.a", trends.last("p.a", {}, limit=5)) == (
        ["ccdnum", "meta.airmass"],
        ["p.b"],
    )


def test_without_values_there_are_no_axes(site: Observatory) -> None:
    assert trends_of(site).axes("p.a", []) == ([], [])


def test_values_are_judged_by_those_before_them(site: Observatory) -> None:
    limits = {"n": 4, "min_history": 3, "floor": 1.0, "unit": "mmag"}
    site.definitions.post("metric", [metric()], ADA)
    site.definitions.post("spec", [{"name": "p.a.drift", "trend": limits}], ADA)
    for hours, value in enumerate([1.0, 1.0, 1.0, 9.0]):
        site.job(value, ago_ns=(9 - hours) * HOUR_NS)
    (line,) = read(site).lines
    assert [item.state for item in line.values] == ["no limit"] * 3 + ["WARNING"]
    assert [[limit.criterion.numbers for limit in item.settled] for item in line.values] == [
        [],
        [],
        [],
        [(0.0, 2.0)],
    ]
    newest, *_ = trends_of(site).last("p.a", {}, limit=5)
    assert [limit.label for limit in newest.broken] == ["drift"]
    # There is no line across the plot: the limit moves.
    assert read(site).limits == []
    picture = picture_of(read(site), name="p.a", unit="mmag", x="time", x_unit=None)
    low, high = picture.moving
    assert (low.level, low.ys, high.ys) == ("WARNING", (0.0,), (2.0,))
