from typing import Any

import pytest

from tests.support.calls import Calls


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
