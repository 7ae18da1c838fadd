"""The queries of docs/queries.md give what the page says, on a real InfluxDB."""

import re
import statistics
import time
from collections.abc import Callable, Iterator
from functools import cache
from itertools import pairwise
from pathlib import Path
from typing import Any

import httpx
import pytest

from squash_api.influx.points import freshness_line, heartbeat_line, standing_line
from squash_api.judging.states import RANKS, STATES, state_of
from tests.support.influxd import Influxd
from tests.support.query_data import (
    CCDS,
    DATASETS,
    DAY_NS,
    DAYS,
    FILTERS,
    HOUR_NS,
    Sample,
    lines_of,
    samples,
)

PAGE = (Path(__file__).parent.parent / "docs" / "queries.md").read_text("utf-8")
URL = "https://squash.example.org/job/"
_MINUTE_NS = 60 * 10**9

Series = list[dict[str, Any]]


@cache
def _now_ns() -> int:
    """Return when the first test began; the file may have been read much earlier."""
    return time.time_ns()


@cache
def _samples() -> list[Sample]:
    return samples(_now_ns())


def _blocks(language: str) -> Iterator[tuple[str, str]]:
    """Yield the blocks of a language with the heading each stands under."""
    for part in re.split(r"^##+ ", PAGE, flags=re.MULTILINE)[1:]:
        for body in re.findall(rf"^```{language}\n(.*?)^```$", part, re.MULTILINE | re.DOTALL):
            yield part.splitlines()[0], body.strip()


def _watch_lines() -> list[str]:
    """Return what the service says of itself: one series late, one broken, one near its limit."""
    now_ns = _now_ns()
    lines = []
    for name, late_s in (("r", 7200.0), ("g", -3600.0)):
        # A minute before it was not late yet.
        for time_ns, shown_s in ((now_ns - 2 * _MINUTE_NS, -60.0), (now_ns - _MINUTE_NS, late_s)):
            lines.append(
                freshness_line(
                    "validate_drp.PA1.design",
                    (("dataset", "HSC_RC2"), ("filter", name)),
                    late_s=shown_s,
                    age_s=shown_s + 86_400,
                    since="3 days",
                    run_id="R1",
                    squash_url=f"{URL}219",
                    time_ns=time_ns,
                )
            )
    # It was worse, or better, an hour before; TE2 stands no more.
    for metric, before, after in (
        ("PA1", (0.5, 0), (-0.5, 2)),
        ("AM1", (-0.1, 2), (0.1, 0)),
        ("TE1", (-0.75, 2), (0.75, 0)),
        ("TE2", (-0.9, 2), (None, 0)),
    ):
        lines.append(_standing(metric, *before, time_ns=now_ns - HOUR_NS))
        lines.append(_standing(metric, *after, time_ns=now_ns - _MINUTE_NS))
    hour_ns = now_ns // HOUR_NS * HOUR_NS - 2 * HOUR_NS
    return lines + [heartbeat_line(hour_ns + minute * _MINUTE_NS) for minute in range(45)]


def _standing(metric: str, margin: float | None, severity: int, *, time_ns: int) -> str:
    name = f"validate_drp.{metric}"
    rank = RANKS[state_of(severity, is_limited=True, is_measured=margin is not None)]
    return standing_line(
        name,
        (("dataset", "HSC_RC2"), ("filter", "r")),
        state=STATES[rank],
        rank=rank,
        value=None if margin is None else 7.5,
        margin=margin,
        limit=f"{name}.design",
        severity=severity,
        broken=[f"{name}.design"] if severity else [],
        run_id="R1",
        squash_url=f"{URL}219",
        time_ns=time_ns,
    )


@pytest.fixture(scope="module")
def ask(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[[str], Series]]:
    """Run a query on an InfluxDB that holds six weeks of jobs in a database named `squash`."""
    with Influxd(tmp_path_factory.mktemp("influxd")) as server:
        server.create_database("squash")
        reply = httpx.post(
            f"{server.url}/write",
            params={"db": "squash"},
            content="\n".join([*lines_of(_samples()), *_watch_lines()]),
            trust_env=False,
            timeout=60,
        )
        assert reply.status_code == 204, reply.text
        yield server.query


def _rows(series: Series) -> list[dict[str, Any]]:
    """Return all rows with their tags, by column."""
    return [
        {**item.get("tags", {}), **dict(zip(item["columns"], row, strict=True))}
        for item in series
        for row in item["values"]
    ]


def _by(series: Series, *keys: str, value: str) -> dict[Any, Any]:
    """Return a column by others; no two rows have the same of these."""
    found = {tuple(row[key] for key in keys): row[value] for row in _rows(series)}
    assert len(found) == len(_rows(series))
    return {key[0] if len(keys) == 1 else key: value for key, value in found.items()}


def _jobs(
    metric: str, *, days: int = 30, dataset: str | None = None, name: str | None = None
) -> list[Sample]:
    return [
        item
        for item in _samples()
        if metric in item.values
        and item.days <= days
        and dataset in {None, item.meta.get("ci_dataset")}
        and name in {None, item.meta.get("filter_name")}
    ]


def _pa1(**selection: Any) -> list[float]:
    return [item.values["validate_drp.PA1"] for item in _jobs("validate_drp.PA1", **selection)]


def _day(item: Sample) -> int:
    return item.time_ns // DAY_NS * DAY_NS


def _series_key(item: Sample) -> tuple[str, str]:
    return item.meta["ci_dataset"].replace(" ", "_"), item.meta["filter_name"]


def _check_trend(series: Series) -> None:
    for name in FILTERS:
        jobs = _jobs("validate_drp.PA1", dataset="HSC RC2", name=name)
        (found,) = [item for item in series if item["tags"] == {"filter": name}]
        assert found["values"] == [[_day(job), job.values["validate_drp.PA1"]] for job in jobs]


def _check_limits(series: Series) -> None:
    rows = _rows(series)
    assert [row["PA1"] for row in rows] == _pa1(dataset="HSC RC2", name="r")
    assert {(row["design"], row["minimum"]) for row in rows} == {(5, 8)}


def _check_smoothed(series: Series) -> None:
    for name in FILTERS:
        jobs = _jobs("validate_drp.PA1", days=DAYS, dataset="HSC RC2", name=name)
        weeks = [jobs[end - 7 : end] for end in range(7, len(jobs) + 1)]
        means = {
            _day(week[-1]): statistics.fmean(job.values["validate_drp.PA1"] for job in week)
            for week in weeks
        }
        (found,) = [item for item in series if item["tags"] == {"filter": name}]
        # InfluxDB looks a step back beyond the time asked for.
        assert len(found["values"]) in {24, 25}
        assert [row[1] for row in found["values"]] == pytest.approx(
            [means[row[0]] for row in found["values"]]
        )


def _check_percentiles(series: Series) -> None:
    weeks: dict[int, list[float]] = {}
    for job in _jobs("validate_drp.PA1", dataset="HSC RC2"):
        # 1970 began on a Thursday; four days later was a Monday.
        week = (job.time_ns // DAY_NS - 4) // 7 * 7 + 4
        weeks.setdefault(week * DAY_NS, []).append(job.values["validate_drp.PA1"])
    assert {row["time"]: row["50 %"] for row in _rows(series)} == {
        week: sorted(values)[int(len(values) * 0.5 + 0.5) - 1] for week, values in weeks.items()
    }
    assert {row["time"]: row["95 %"] for row in _rows(series)} == {
        week: sorted(values)[int(len(values) * 0.95 + 0.5) - 1] for week, values in weeks.items()
    }
    assert {time.gmtime(week // 10**9).tm_wday for week in weeks} == {0}


def _check_jobs_per_day(series: Series) -> None:
    counts: dict[tuple[str, int], int] = {}
    for job in _jobs("validate_drp.PA1", days=7):
        key = (job.meta["ci_name"], _day(job))
        counts[key] = counts.get(key, 0) + 1
    found = _by(series, "pipeline", "time", value="jobs")
    assert {key: count for key, count in found.items() if count} == counts
    assert set(counts.values()) == {4}


def _check_two_packages(series: Series) -> None:
    camera, validate = (item for item in series if item["name"] in {"camera", "validate_drp"})
    temperatures = [
        job.values["camera.AvgCameraBodySurfaceTemp"]
        for job in _jobs("camera.AvgCameraBodySurfaceTemp")
    ]
    assert [row[1] for row in camera["values"]] == temperatures
    assert [row[2] for row in validate["values"]] == [
        statistics.fmean(_pa1(days=day)[:4]) for day in range(30, 0, -1)
    ]


def _check_run_to_run(series: Series) -> None:
    assert len(series) == 4
    for dataset in DATASETS:
        for name in FILTERS:
            tags = {"dataset": dataset.replace(" ", "_"), "filter": name}
            values = _pa1(dataset=dataset, name=name)
            (found,) = [item for item in series if item["tags"] == tags]
            changes = [new - old for old, new in pairwise(values)]
            assert [row[1] for row in found["values"]] == pytest.approx(changes)


def _check_one_run(series: Series) -> None:
    jobs = [job for job in _jobs("validate_drp.PA1") if job.days == 3]
    assert _by(series, "dataset", "filter", value="squash_url") == {
        _series_key(job): f"{URL}{job.job_id}" for job in jobs
    }


def _check_code_changes(series: Series) -> None:
    rows = _rows(series)
    assert {(row["version_tag"], row["code_changes_counts"]) for row in rows} == {
        ("d_3", 1),
        ("d_12", 2),
    }
    assert len(rows) == 8
    assert "[pipe_tasks](https://example.org/pipe_tasks/commit/000" in rows[-1]["code_changes"]


def _check_airmass(series: Series) -> None:
    jobs = _jobs("validate_drp.PA1", dataset="HSC RC2", name="r")
    assert [(row["airmass"], row["PA1"]) for row in _rows(series)] == [
        (job.meta["airmass"], job.values["validate_drp.PA1"]) for job in jobs
    ]


def _check_zenith(series: Series) -> None:
    assert _by(series, "filter", value="PA1") == {
        name: pytest.approx(
            statistics.fmean(
                job.values["validate_drp.PA1"]
                for job in _jobs("validate_drp.PA1", dataset="HSC RC2", name=name)
                if job.meta["airmass"] < 1.25
            )
        )
        for name in FILTERS
    }


def _check_two_metrics(series: Series) -> None:
    pairs = [
        (job.values["validate_drp.PA1"], job.values["validate_drp.AM1"])
        for job in _jobs("validate_drp.PA1", dataset="HSC RC2", name="r")
    ]
    assert [(row["PA1"], row["AM1"]) for row in _rows(series)] == pairs
    assert [row["ratio"] for row in _rows(series)] == pytest.approx([b / a for a, b in pairs])


def _check_ccds(series: Series) -> None:
    assert _by(series, "ccdnum", value="pixels") == {str(ccd): 10 * ccd + 1 for ccd in CCDS}
    assert {row["run_id"] for row in _rows(series)} == {"R1"}


def _check_last(series: Series) -> None:
    last = _jobs("validate_drp.PA1", days=1)
    for column, expected in (
        ("PA1", lambda job: job.values["validate_drp.PA1"]),
        ("squash_url", lambda job: f"{URL}{job.job_id}"),
    ):
        found = _by(series, "dataset", "filter", value=column)
        assert found == {_series_key(job): expected(job) for job in last}


def _check_worst(series: Series) -> None:
    jobs = sorted(
        _jobs("validate_drp.PA1", days=7), key=lambda job: -job.values["validate_drp.PA1"]
    )
    assert sorted((row["PA1"], row["squash_url"]) for row in _rows(series)) == sorted(
        (job.values["validate_drp.PA1"], f"{URL}{job.job_id}") for job in jobs[:5]
    )


def _check_beyond(series: Series) -> None:
    jobs = [job for job in _jobs("validate_drp.PA1") if job.values["validate_drp.PA1"] > 7.5]
    assert [row["squash_url"] for row in _rows(series)] == [f"{URL}{job.job_id}" for job in jobs]
    assert jobs


def _check_how_often(series: Series) -> None:
    counts: dict[tuple[str, str], int] = {}
    for job in _jobs("validate_drp.PA1"):
        if job.values["validate_drp.PA1"] > 7.5:
            counts[_series_key(job)] = counts.get(_series_key(job), 0) + 1
    assert _by(series, "dataset", "filter", value="beyond") == counts


def _check_scatter(series: Series) -> None:
    for row in _rows(series):
        dataset = row["dataset"].replace("_", " ")
        values = _pa1(days=37, dataset=dataset, name=row["filter"])[:-7]
        assert row["values"] == len(values) == 30
        assert row["mean"] == pytest.approx(statistics.fmean(values))
        assert row["scatter"] == pytest.approx(statistics.stdev(values))
    assert len(series) == 4


def _check_broken(series: Series) -> None:
    (row,) = _rows(series)
    assert (row["metric"], row["dataset"], row["filter"]) == ("validate_drp.PA1", "HSC_RC2", "r")
    assert row["broken"] == "validate_drp.PA1.design"
    assert row["value"] == 7.5


def _check_near(series: Series) -> None:
    assert [(row["metric"], row["margin"]) for row in _rows(series)] == [
        ("validate_drp.PA1", -0.5),
        ("validate_drp.AM1", 0.1),
        ("validate_drp.TE1", 0.75),
    ]


def _check_late(series: Series) -> None:
    (row,) = _rows(series)
    assert (row["specification"], row["dataset"], row["filter"], row["hours"], row["since"]) == (
        "validate_drp.PA1.design",
        "HSC_RC2",
        "r",
        2,
        "3 days",
    )


def _check_up(series: Series) -> None:
    counts = [row["minutes"] for row in _rows(series)]
    assert sum(counts) == max(counts) == 45
    assert len(counts) == 7


CHECKS: dict[str, Callable[[Series], None]] = {
    "Trend by filter": _check_trend,
    "Trend with its limits": _check_limits,
    "Smoothed over a week": _check_smoothed,
    "Percentiles by week": _check_percentiles,
    "Jobs per pipeline per day": _check_jobs_per_day,
    "Two packages on one graph": _check_two_packages,
    "Run to run": _check_run_to_run,
    "One run": _check_one_run,
    "Values after a code change": _check_code_changes,
    "Against airmass": _check_airmass,
    "Near the zenith only": _check_zenith,
    "Two metrics against each other": _check_two_metrics,
    "Per CCD": _check_ccds,
    "Last value per dataset": _check_last,
    "Worst of the week": _check_worst,
    "Points beyond a limit": _check_beyond,
    "How often beyond a limit": _check_how_often,
    "Mean and scatter": _check_scatter,
    "What is broken now": _check_broken,
    "What is near its limit": _check_near,
    "What is late": _check_late,
    "Whether the service was up": _check_up,
}
_WITH_VARIABLES = {"In a dashboard", "Grafana"}


def test_every_query_of_the_page_is_checked() -> None:
    assert [heading for heading, _ in _blocks("sql") if heading not in _WITH_VARIABLES] == [*CHECKS]


@pytest.mark.parametrize("heading", CHECKS)
def test_query_gives_what_the_page_says(heading: str, ask: Callable[[str], Series]) -> None:
    (query,) = [body for found, body in _blocks("sql") if found == heading]
    CHECKS[heading](ask(query))


def _ask_with(
    ask: Callable[[str], Series], heading: str, number: int, values: dict[str, str]
) -> Series:
    """Run a query with the variables filled in, as the page's program does it."""
    query = [body for found, body in _blocks("sql") if found == heading][number]
    for name, value in values.items():
        assert name in query
        query = query.replace(name, value)
    assert not re.search(r":\w+:|\$\w|\$\{", query)
    return ask(query)


def test_variables_of_a_dashboard_make_the_trend(ask: Callable[[str], Series]) -> None:
    values = {
        ":dashboardTime:": "now() - 30d",
        ":upperDashboardTime:": "now()",
        ":dataset:": "'HSC_RC2'",
        ":interval:": "1d",
    }
    rows = [row for row in _rows(_ask_with(ask, "In a dashboard", 0, values)) if row["PA1"]]
    assert sorted(row["PA1"] for row in rows) == sorted(_pa1(dataset="HSC RC2"))


def test_variable_of_tag_values_offers_the_datasets(ask: Callable[[str], Series]) -> None:
    rows = _rows(_ask_with(ask, "In a dashboard", 1, {}))
    assert [row["value"] for row in rows] == ["CFHT_nightly", "HSC_RC2"]


def test_variables_choose_the_metric_and_filters(ask: Callable[[str], Series]) -> None:
    values = {
        ":dashboardTime:": "now() - 30d",
        ":upperDashboardTime:": "now()",
        ":metric:": '"AM1"',
        ":filters:": "r|i",
    }
    found = _by(_ask_with(ask, "In a dashboard", 2, values), "dataset", value="value")
    jobs = _jobs("validate_drp.AM1", days=1, name="r")
    assert found == {_series_key(job)[0]: job.values["validate_drp.AM1"] for job in jobs}


def test_words_of_grafana_make_the_trend(ask: Callable[[str], Series]) -> None:
    start_ms = (_now_ns() - 30 * DAY_NS) // 10**6
    values = {
        "$timeFilter": f"time >= {start_ms}ms and time <= {_now_ns() // 10**6}ms",
        "${dataset:regex}": "(HSC_RC2|other)",
        "$__interval": "1d",
    }
    rows = _rows(_ask_with(ask, "Grafana", 0, values))
    assert sorted(row["PA1"] for row in rows) == sorted(_pa1(dataset="HSC RC2"))


def test_annotations_of_grafana_are_the_code_changes(ask: Callable[[str], Series]) -> None:
    rows = _rows(_ask_with(ask, "Grafana", 1, {"$timeFilter": "time > now() - 30d"}))
    assert {row["run_id"] for row in rows} == {"R3", "R12"}


def test_names_in_single_quotes_compare_nothing(ask: Callable[[str], Series]) -> None:
    found = ask(
        """SELECT "PA1" FROM "squash"."autogen"."validate_drp" WHERE "dataset" = "HSC_RC2" """
    )
    assert found == []


def test_grouping_by_run_gives_one_group_without_a_name(ask: Callable[[str], Series]) -> None:
    (found,) = ask('SELECT mean("PA1") FROM "squash"."autogen"."validate_drp" GROUP BY "run_id"')
    assert found["tags"] == {"run_id": ""}


def test_the_samples_reach_back_as_far_as_any_query() -> None:
    reach = max(int(days) for days in re.findall(r"now\(\) - (\d+)d", PAGE))
    assert reach < DAYS
