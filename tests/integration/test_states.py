"""One state of each metric, whatever page, route, badge, report or command says it."""

import re
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from html import unescape
from pathlib import Path
from typing import Any

import httpx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from squash_api.judging.states import STATES
from tests.support.calls import Calls, log_in
from tests.support.definitions import metric, spec
from tests.support.in_process import service

HTML = {"Accept": "text/html"}
ABSENT: list[dict[str, Any]] = [
    {"value": None, "unit": "mmag"},
    {"value": 1.0, "unit": "kg"},
    {"value": "fine", "unit": "mmag"},
]
LEVELS = {"minimum": 8.0, "design": 5.0, "stretch": 3.0}


@pytest.fixture
def calls(tmp_path: Path) -> Iterator[Calls]:
    """A service in which p.a and p.b have limits, of a different level at 3, 5 and 8 mmag."""
    with service(tmp_path) as client:
        calls = log_in(client, "ada")
        calls("POST", "/metrics", {"metrics": [metric("p.a"), metric("p.b"), metric("q.c")]})
        limits = [
            spec(f"{name}.{level}", value=value, tags=[level])
            for name in ("p.a", "p.b")
            for level, value in LEVELS.items()
        ]
        assert calls("POST", "/specs", {"specs": limits}).status_code == 201
        yield calls


def post(calls: Calls, *measurements: dict[str, Any], day: int = 1, run_id: str = "1") -> int:
    """Send a job, of a day of this month's past, and return its id."""
    env = {"run_id": run_id, "ci_name": "drp", "date": days_ago(31 - day)}
    document = {
        "measurements": [{"metric": "p.a", "unit": "mmag", **item} for item in measurements],
        "meta": {"env": env, "instrument": "HSC"},
    }
    reply = calls("POST", "/job", document)
    assert reply.status_code == 202, reply.text
    job_id: int = reply.json()["id"]
    return job_id


def days_ago(days: int) -> str:
    return (datetime.now(UTC) - timedelta(days=days - 1)).isoformat()


def text_of(client: httpx.Client, path: str) -> str:
    reply = client.get(path, headers=HTML)
    assert reply.status_code == 200, reply.text
    return " ".join(unescape(re.sub(r"<[^>]*>", " ", reply.text)).split())


def states(calls: Calls) -> dict[str, str]:
    """Return the state of p.a, or of what only it is in, by who says it."""
    client = calls.client
    front = client.get("/", headers=HTML).text
    (line,) = re.findall(
        r'<div class="b-state">(.*?)</div>\s*<div class="b-name">\s*<a id="m\d+" '
        r'href="/metric/p.a"',
        front,
        re.DOTALL,
    )
    metric_page = client.get("/metric/p.a", headers=HTML).text.partition('id="standings"')[2]
    badge = client.get("/badge/p.svg").text
    run = client.get("/runs/drp/1").json()
    report = client.get("/report?since=60d&metric=p.a").json()
    (entry,) = client.get("/standings?q=p.a").json()["standings"]
    pages = {
        "front": line,
        "metric": metric_page,
        "run page": client.get("/runs/drp/1", headers=HTML).text,
        "runs page": client.get("/runs", headers=HTML).text.partition("<tbody>")[2],
    }
    first = re.compile(r'class="state state-[a-z-]+">([^<]*)<')
    found = {name: first.findall(text)[0] for name, text in pages.items()}
    title = re.search(r"<title>p: (?:\d+ metrics? )?(.*?)</title>", badge)
    assert title is not None
    return {
        **found,
        "badge": title[1],
        "standings": entry["state"],
        "series": entry["series"][0]["state"],
        "run": run["state"],
        "runs": client.get("/runs").json()["runs"][0]["state"],
        "report": report["summary"]["state"],
        "row of the report": report["rows"][0]["state"],
    }


@pytest.mark.parametrize("absent", ABSENT)
def test_what_the_newest_job_has_no_value_for_is_not_measured_anywhere(
    calls: Calls, absent: dict[str, Any]
) -> None:
    post(calls, {"value": 1.0}, day=10)
    post(calls, absent, day=20)
    assert set(states(calls).values()) == {"not measured"}


def test_newest_is_by_the_date_of_the_job(calls: Calls) -> None:
    post(calls, {"value": None}, day=20)
    post(calls, {"value": 1.0}, day=10)
    said = states(calls)
    assert said["front"] == said["metric"] == said["badge"] == said["report"] == "not measured"
    post(calls, {"value": 1.0}, day=25)
    said = states(calls)
    assert said["front"] == said["metric"] == said["badge"] == said["report"] == "passed"


def test_a_metric_without_a_value_in_any_job_is_not_never_seen(calls: Calls) -> None:
    for day in (10, 20):
        post(calls, {"value": None}, day=day)
    assert set(states(calls).values()) == {"not measured"}
    assert "never seen" in text_of(calls.client, "/metric/q.c")


def test_also_if_its_jobs_are_old(calls: Calls) -> None:
    document = {
        "measurements": [{"metric": "p.a", "value": None, "unit": "mmag"}],
        "meta": {"env": {"date": days_ago(90)}},
    }
    assert calls("POST", "/job", document).status_code == 202
    assert "not measured" in text_of(calls.client, "/metric/p.a").partition("Current state")[2]


def test_the_page_of_a_metric_lists_the_job_without_a_value(calls: Calls) -> None:
    post(calls, {"value": 1.0}, day=10)
    job = post(calls, {"value": None}, day=20)
    page = calls.client.get("/metric/p.a", headers=HTML).text.partition('id="values"')[2]
    assert re.findall(r'href="/job/(\d+)"', page) == [str(job), str(job - 1)]
    assert "not measured" in page


def test_standings_are_those_of_the_page_and_in_pages_of_their_own(calls: Calls) -> None:
    job = post(calls, {"value": 9.0}, {"metric": "p.b", "value": None}, day=20)
    found = calls("GET", "/standings").json()
    assert found["metrics"] == {"CRITICAL": 1, "not measured": 1, "never seen": 1}
    assert [item["metric"] for item in found["standings"]] == ["p.a", "p.b", "q.c"]
    (series,) = found["standings"][0]["series"]
    assert (series["value"], series["state"]) == (9.0, "CRITICAL")
    assert series["broken"] == ["p.a.minimum", "p.a.design", "p.a.stretch"]
    assert series["verdict"]["specification"] == "p.a.minimum"
    assert series["job"].endswith(f"/job/{job}")
    assert found["standings"][2]["series"] == []
    first = calls("GET", "/standings?limit=2").json()
    assert (len(first["standings"]), first["next"].endswith("limit=2&after=2")) == (2, True)
    rest = calls("GET", "/standings?limit=2&after=2").json()
    assert ([item["metric"] for item in rest["standings"]], rest["next"]) == (["q.c"], None)
    wanted = calls("GET", "/standings?state=not%20measured").json()["standings"]
    assert [item["metric"] for item in wanted] == ["p.b"]
    assert calls("GET", "/standings?state=green").status_code == 422


JOBS = st.lists(
    st.fixed_dictionaries(
        {
            "run": st.sampled_from("12"),
            "values": st.dictionaries(
                st.sampled_from(["p.a", "p.b", "q.c"]),
                st.sampled_from([None, 1.0, 4.0, 6.0, 9.0]),
                min_size=1,
            ),
            "filter": st.sampled_from("rg"),
        }
    ),
    min_size=1,
    max_size=6,
)


@settings(max_examples=6)
@given(JOBS)
def test_totals_add_up(tmp_path_factory: pytest.TempPathFactory, jobs: list[Any]) -> None:
    with service(tmp_path_factory.mktemp("service")) as client:
        calls = log_in(client, "ada")
        calls("POST", "/metrics", {"metrics": [metric("p.a"), metric("p.b"), metric("q.c")]})
        limits = [
            spec(f"{name}.{level}", value=value, tags=[level])
            for name in ("p.a", "p.b")
            for level, value in LEVELS.items()
        ]
        assert calls("POST", "/specs", {"specs": limits}).status_code == 201
        for job in jobs:
            document = {
                "measurements": [
                    {"metric": name, "value": value, "unit": "mmag"}
                    for name, value in job["values"].items()
                ],
                "meta": {"filter_name": job["filter"], "env": {"run_id": job["run"]}},
            }
            assert calls("POST", "/job", document).status_code == 202
        _check_report(client.get("/report").json(), jobs)
        for run in client.get("/runs").json()["runs"]:
            _check_run(run)
            _check_run(client.get(f"/runs/-/{run['run_id']}").json())
        _check_front(client.get("/", headers=HTML).text)


def _check_report(report: dict[str, Any], jobs: list[Any]) -> None:
    summary = report["summary"]
    parts = ("passed", "info", "warning", "critical", "not_measured", "no_limit")
    assert sum(summary[part] for part in parts) == summary["results"]
    assert sum(summary["metrics"].values()) == len({name for job in jobs for name in job["values"]})
    assert summary["values"] == sum(len(job["values"]) for job in jobs)
    assert sum(summary["beyond"].values()) == summary["failed"]
    assert summary["jobs"] == len(jobs)
    cells = [cell for row in report["rows"] for cell in row["cells"]]
    for cell in cells:
        assert sum(cell["states"].values()) == cell["results"]
        assert next(iter(cell["states"])) == cell["state"]
    assert sum(cell["broken"] for cell in cells) == report["violations"]
    limited = {name: count for name, count in summary["metrics"].items() if name != "no limit"}
    assert sum(limited.values()) == len(report["rows"])
    for finding in report["worst"]:
        assert finding["broken"] <= finding["judged"] <= finding["values"] - finding["absent"]
        assert sum(finding["beyond"].values()) == finding["failed"]
    numbers = [int(number) for number in re.findall(r"\d+", summary["headline"])]
    if summary["state"] in ("CRITICAL", "WARNING", "INFO"):
        assert numbers[0] == summary["info"] + summary["warning"] + summary["critical"]


def _check_run(run: dict[str, Any]) -> None:
    verdicts = sum(run["failed"].values()) + run["passed"] + run["not_measured"]
    assert verdicts == run["verdicts"]
    states = list(run["metrics"])
    assert states == sorted(states, key=STATES.index)
    assert run["state"] == (states[0] if states else "no limit")
    if "faults" in run:
        wrong = sum(run["metrics"].get(state, 0) for state in STATES[:5])
        assert len(run["faults"]) == wrong


def _check_front(page: str) -> None:
    chips = page.partition('aria-label="States"')[2].partition("</nav>")[0]
    total = re.search(r">all (\d+) metrics?<", chips)
    counts = re.findall(r'class="state state-[a-z-]+">[^<]*</span> (\d+)', chips)
    assert total is not None
    assert sum(map(int, counts)) == int(total[1]) == 3
