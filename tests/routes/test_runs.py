from typing import Any

import pytest
from starlette.types import Scope

from squash_api.routes.runs import readings_of, run_path
from tests.support.calls import Calls, follow


def post_run(
    calls: Calls, run: str, pipeline: str = "drp", *, env_name: str = "jenkins", **packages: str
) -> int:
    """Post a job of a run; `packages` maps names to SHAs."""
    listed = {
        name: {"name": name, "git_sha": sha, "git_url": f"https://git.example/{name}.git"}
        for name, sha in packages.items()
    }
    env = {"env_name": env_name, "ci_id": run, "ci_name": pipeline}
    document = {
        "measurements": [{"metric": "p.a", "value": 1, "unit": "m"}],
        "meta": {"env": env, "packages": listed},
    }
    reply = calls("POST", "/job", document)
    assert reply.status_code == 202, reply.text
    job: int = reply.json()["id"]
    return job


def changes(calls: Calls, run: str, query: str = "") -> dict[str, Any]:
    reply = calls("GET", f"/code_changes/{run}{query}")
    assert reply.status_code == 200, reply.text
    body: dict[str, Any] = reply.json()
    return body


def url(name: str) -> str:
    return f"https://git.example/{name}.git"


@pytest.fixture(scope="module")
def history(shared_calls: Calls) -> Calls:
    """Two pipelines, whose runs have the same numbers."""
    post_run(shared_calls, "1", afw="a1", obs="o1", base="b1")
    post_run(shared_calls, "1", "ap", afw="z1")
    post_run(shared_calls, "2", afw="a2", obs="o1", new="n1")
    post_run(shared_calls, "2", afw="a2", obs="o1", new="n1")
    post_run(shared_calls, "2", "ap", afw="z1")
    return shared_calls


def test_changes_are_those_since_the_run_before_of_the_pipeline(history: Calls) -> None:
    assert changes(history, "2", "?ci_name=drp") == {
        "id": "2",
        "previous_id": "1",
        "packages": [["afw", "a2", url("afw")], ["new", "n1", url("new")]],
        "removed": [["base", "b1", url("base")]],
        "unknown": [],
        "counts": 3,
    }


def test_nothing_has_changed_where_packages_are_equal(history: Calls) -> None:
    body = changes(history, "2", "?ci_name=ap")
    assert (body["previous_id"], body["packages"], body["counts"]) == ("1", [], 0)


def test_the_first_run_has_none_before_it(history: Calls) -> None:
    body = changes(history, "1", "?ci_name=drp")
    assert (body["id"], body["previous_id"], body["packages"], body["counts"]) == ("1", None, [], 0)


def test_a_plain_get_is_enough(history: Calls) -> None:
    assert changes(history, "2")["id"] == "2"


@pytest.mark.parametrize(("run", "query"), [("99", ""), ("2", "?ci_name=other"), ("%00", "")])
def test_an_unknown_run_has_nulls_and_empty_lists(history: Calls, run: str, query: str) -> None:
    assert changes(history, run, query) == {
        "id": None,
        "previous_id": None,
        "packages": [],
        "removed": [],
        "unknown": [],
        "counts": 0,
    }


def test_the_run_before_stays_the_one_that_was_received_before(shared_calls: Calls) -> None:
    post_run(shared_calls, "10", "kept", afw="1")
    post_run(shared_calls, "11", "kept", afw="2")
    assert changes(shared_calls, "11", "?ci_name=kept")["previous_id"] == "10"
    post_run(shared_calls, "10", "kept", afw="3")
    assert changes(shared_calls, "11", "?ci_name=kept")["previous_id"] == "10"


def test_a_run_without_packages_has_a_run_before_and_no_changes(shared_calls: Calls) -> None:
    post_run(shared_calls, "20", "bare", afw="1")
    post_run(shared_calls, "21", "bare")
    body = changes(shared_calls, "21", "?ci_name=bare")
    assert (body["previous_id"], body["packages"], body["removed"]) == ("20", [], [])


def test_a_jenkins_run_is_its_first_job_and_the_ids_of_all(shared_calls: Calls) -> None:
    jobs = [post_run(shared_calls, "30", "first") for _ in range(2)]
    shown = shared_calls("GET", "/jenkins/30").json()
    assert shown.pop("jobs") == jobs
    assert shown == shared_calls("GET", f"/job/{jobs[0]}").json()


def test_a_jenkins_run_is_looked_for_in_its_pipeline(shared_calls: Calls) -> None:
    post_run(shared_calls, "40", "one")
    job = post_run(shared_calls, "40", "two")
    assert shared_calls("GET", "/jenkins/40?ci_name=two").json()["id"] == job
    assert shared_calls("GET", "/jenkins/40?ci_name=three").status_code == 404


def test_runs_of_other_environments_are_none_of_jenkins(shared_calls: Calls) -> None:
    post_run(shared_calls, "50", env_name="ldf")
    assert shared_calls("GET", "/jenkins/50").status_code == 404
    assert changes(shared_calls, "50")["id"] == "50"


def test_deleted_jobs_are_in_no_run(shared_calls: Calls) -> None:
    first, second = (post_run(shared_calls, "60", "del") for _ in range(2))
    shared_calls("DELETE", f"/job/{first}")
    assert shared_calls("GET", "/jenkins/60").json()["jobs"] == [second]


@pytest.mark.parametrize("run", ["run 5", "Ω/7", "a,b=c", "x\\"])
def test_a_run_is_found_by_the_name_it_was_posted_with(shared_calls: Calls, run: str) -> None:
    job = post_run(shared_calls, run, "my pipe")
    name = run.replace(" ", "%20").replace("/", "%2F").replace("\\", "%5C")
    reply = shared_calls("GET", f"/jenkins/{name}?ci_name=my%20pipe")
    assert (reply.status_code, reply.json()["id"]) == (200, job)


# Runs and how they stand


def declare(calls: Calls, name: str, limit: float) -> None:
    calls("POST", f"/metric/{name}", {"unit": "m", "description": "What it is."})
    threshold = {"value": limit, "unit": "m", "operator": "<"}
    document = {"threshold": threshold, "tags": ["minimum"]}
    assert calls("POST", f"/spec/{name}.minimum", document).status_code == 201


def post(calls: Calls, value: float, *, metric: str = "runs.a", **env: Any) -> int:
    reply = calls(
        "POST",
        "/job",
        {
            "measurements": [{"metric": metric, "value": value, "unit": "m"}],
            "meta": {"env": env, "packages": env.pop("packages", {})},
        },
    )
    assert reply.status_code == 202, reply.text
    job: int = reply.json()["id"]
    return job


@pytest.fixture
def nights(calls: Calls) -> Calls:
    """Three runs, the second of which breaks a limit on one of two datasets."""
    declare(calls, "runs.a", 5.0)
    for run, day, values in (("1", 1, (1, 1)), ("2", 2, (9, 1)), ("3", 3, (1, 1))):
        for dataset, value in zip("xy", values, strict=True):
            post(
                calls,
                value,
                run_id=run,
                ci_name="nightly",
                dataset=dataset,
                date=f"2026-03-0{day}T0{'xy'.index(dataset)}:00:00Z",
            )
    return calls


def test_runs_are_listed_with_their_worst_state(nights: Calls) -> None:
    runs = nights("GET", "/runs").json()["runs"]
    assert [(run["run_id"], run["dataset"], run["state"]) for run in runs] == [
        ("3", "y", "passed"),
        ("3", "x", "passed"),
        ("2", "y", "passed"),
        ("2", "x", "CRITICAL"),
        ("1", "y", "passed"),
        ("1", "x", "passed"),
    ]
    assert runs[3]["failed"] == {"INFO": 0, "WARNING": 0, "CRITICAL": 1}
    assert runs[3]["url"].endswith("/runs/nightly/2")


def test_runs_come_page_by_page(nights: Calls) -> None:
    pages = follow(nights, "/runs?limit=4&pipeline=nightly", "runs")
    assert [len(page) for page in pages] == [4, 2]
    assert follow(nights, "/runs?limit=6", "runs")[0] == [*pages[0], *pages[1]]


@pytest.mark.parametrize(
    ("query", "found"),
    [
        ("dataset=x&pipeline=nightly", ["3", "2", "1"]),
        ("dataset=x&filter=", ["3", "2", "1"]),
        ("filter=r", []),
        ("pipeline=other", []),
    ],
)
def test_runs_are_chosen_by_tags(nights: Calls, query: str, found: list[str]) -> None:
    assert [run["run_id"] for run in nights("GET", f"/runs?{query}").json()["runs"]] == found


@pytest.mark.parametrize("after", ["x", "-1", "1.5", "9" * 19, "9" * 30])
def test_a_cursor_of_runs_is_a_time(shared_calls: Calls, after: str) -> None:
    assert shared_calls("GET", f"/runs?after={after}").status_code == 422


def test_a_run_has_its_jobs_and_what_it_is_compared_with(nights: Calls) -> None:
    run = nights("GET", "/runs/nightly/3").json()
    assert (run["pipeline"], run["run_id"], run["state"]) == ("nightly", "3", "passed")
    assert (run["number_of_jobs"], run["complete"], run["measurements"]) == (2, True, 2)
    assert [job["tags"]["dataset"] for job in run["jobs"]] == ["x", "y"]
    assert (run["run_before"]["run_id"], run["last_passing"]["run_id"]) == ("2", "1")
    assert run["next"] is None


def test_the_jobs_of_a_run_come_page_by_page(nights: Calls) -> None:
    pages = follow(nights, "/runs/nightly/2?limit=1", "jobs")
    assert [[job["state"] for job in page] for page in pages] == [["CRITICAL"], ["passed"]]


def test_changed_packages_have_a_link_that_compares(calls: Calls) -> None:
    url = "https://github.com/lsst/afw.git"
    for run, sha in (("1", "a1"), ("2", "b2")):
        packages = {"afw": {"name": "afw", "git_sha": sha, "git_url": url}}
        post(calls, 1.0, run_id=run, ci_name="ci", packages=packages)
    (package,) = calls("GET", "/runs/ci/2").json()["run_before"]["packages"]
    assert package == {
        "name": "afw",
        "before": "a1",
        "after": "b2",
        "git_url": url,
        "new": False,
        "gone": False,
        "compare": "https://github.com/lsst/afw/compare/a1...b2",
    }


@pytest.mark.parametrize(
    ("pipeline", "run"),
    [
        ("my pipe", "RC2/w_1/DM-1"),
        ("a/b", ".."),
        (None, "-"),
        ("<b>", 'x"?#'),
        ("Ω", "/x"),
        ("x/", "y//"),
    ],
)
def test_a_run_is_at_the_address_that_the_list_gives(
    calls: Calls, pipeline: str | None, run: str
) -> None:
    env = {} if pipeline is None else {"ci_name": pipeline}
    job = post(calls, 1.0, run_id=run, **env)
    (listed,) = calls("GET", "/runs").json()["runs"]
    path = listed["url"].partition("//")[2].partition("/")[2]
    found = calls("GET", f"/{path}").json()
    assert [item["id"] for item in found["jobs"]] == [job]


def test_an_unknown_run_is_not_found(shared_calls: Calls) -> None:
    for path in ("/runs/a/b", "/runs/a%2Fb/c", "/runs/-/%00"):
        assert shared_calls("GET", path).status_code == 404


def test_todays_specifications_may_judge_runs(calls: Calls) -> None:
    calls("POST", "/metric/runs.b", {"unit": "m", "description": "What it is."})
    post(calls, 9.0, metric="runs.b", run_id="1", ci_name="ci")
    declare(calls, "runs.b", 5.0)
    states = [
        calls("GET", path).json()
        for path in ("/runs", "/runs?specs=now", "/runs/ci/1", "/runs/ci/1?specs=now")
    ]
    assert [(item.get("runs") or [item])[0]["state"] for item in states] == [
        "no limit",
        "CRITICAL",
        "no limit",
        "CRITICAL",
    ]


NAMES = ["drp", "a/b", "/", "a//b/", ".", "..", "-", "--", "-x", "Ω%2F", "a?b#c", '"<b>', "…"]


def scope_of(path: str, *, is_unquoted: bool = False) -> Scope:
    from urllib.parse import unquote

    raw = b"" if is_unquoted else path.encode()
    return {"path": unquote(path), "raw_path": raw}


@pytest.mark.parametrize("pipeline", [None, *NAMES])
@pytest.mark.parametrize("run_id", NAMES)
def test_pipeline_and_run_are_read_from_the_path_made_of_them(
    pipeline: str | None, run_id: str
) -> None:
    assert readings_of(scope_of(run_path(pipeline, run_id)))[0] == (pipeline, run_id)


@pytest.mark.parametrize(("pipeline", "run_id"), [("a/b", "c"), ("a", "b/c"), (None, "b/c")])
def test_they_are_among_the_readings_of_a_path_that_lost_its_quoting(
    pipeline: str | None, run_id: str
) -> None:
    path = run_path(pipeline, run_id)
    assert (pipeline, run_id) in readings_of(scope_of(path, is_unquoted=True))


def test_a_browser_meets_no_folders_and_no_empty_parts() -> None:
    for name in NAMES:
        parts = run_path(name, name).split("/")
        assert parts[:2] == ["", "runs"]
        assert len(parts) == 4
        assert not {"", ".", ".."} & set(parts[2:])


def test_names_are_read_as_the_record_keeps_them() -> None:
    assert readings_of(scope_of("/runs/my%20pipe/run%205")) == [("my_pipe", "run_5")]


def test_the_root_of_the_service_makes_no_difference() -> None:
    scope = {"path": "/runs/a/b/c", "raw_path": b"/api/runs/a%2Fb/c"}
    assert readings_of(scope)[0] == ("a/b", "c")
