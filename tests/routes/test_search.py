from typing import Any

import httpx
import pytest

from squash_api.routes.documents import API, Section, anchor_of, documents
from squash_api.routes.search import KINDS, snippet
from tests.support.calls import Calls
from tests.support.site import job_document


@pytest.fixture(scope="module")
def found(shared_calls: Calls) -> Calls:
    """A service with metrics, specifications and runs that have words in common."""
    metrics = [
        {"name": name, "unit": "mmag", "description": description, "tags": ["photometry"]}
        for name, description in (
            ("drp.PA1", "Repeatability of stars"),
            ("drp.PA1_outliers", "Stars far out"),
            ("isr.Bias", "Like PA1, of the bias"),
        )
    ]
    assert shared_calls("POST", "/metrics", {"metrics": metrics}).status_code == 201
    threshold = {"operator": "<=", "value": 5.0, "unit": "mmag"}
    specification = {"name": "drp.PA1.minimum_r", "threshold": threshold, "tags": ["minimum"]}
    specification["metadata_query"] = {"filter_name": "r"}
    assert shared_calls("POST", "/specs", {"specs": [specification]}).status_code == 201
    for run in ("w_2026_46/a%b", "W_2026_47"):
        document = job_document({"drp.PA1": 9.0}, unit="mmag", ci_name="nightly drp", ci_id=run)
        assert shared_calls("POST", "/job", document).status_code == 202
    return shared_calls


def ask(calls: Calls, query: str) -> dict[str, Any]:
    reply = calls("GET", f"/search?{query}")
    assert reply.status_code == 200, reply.text
    body: dict[str, Any] = reply.json()
    return body


def names(calls: Calls, query: str, kind: str, key: str = "name") -> list[Any]:
    return [item[key] for item in ask(calls, query)[kind]]


def test_a_metric_is_found_by_its_last_part_before_others(found: Calls) -> None:
    assert names(found, "q=pa1", "metrics") == ["drp.PA1", "drp.PA1_outliers", "isr.Bias"]


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ("q=STARS", ["drp.PA1", "drp.PA1_outliers"]),
        ("q=stars+far", ["drp.PA1_outliers"]),
        ("q=photometry+bias", ["isr.Bias"]),
        ("q=nothing-has-this", []),
        ("q=stars&kind=runs", []),
        ("q=pa1&limit=1", ["drp.PA1"]),
    ],
)
def test_every_word_must_be_found(found: Calls, query: str, expected: list[str]) -> None:
    assert names(found, query, "metrics") == expected


def test_a_metric_has_its_state_and_its_address(found: Calls) -> None:
    (metric,) = ask(found, "q=drp.PA1&limit=1")["metrics"]
    url = "http://127.0.0.1:8000/metric/drp.PA1"
    assert metric["url"] == url
    assert metric["state"] in {"CRITICAL", "no limit"}


@pytest.mark.parametrize("query", ["q=PA1.minimum", "q=critical", "q=filter_name+r+drp"])
def test_a_specification_is_found_by_name_level_and_query(found: Calls, query: str) -> None:
    assert names(found, query, "specifications") == ["drp.PA1.minimum_r"]


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ("q=nightly", ["W_2026_47", "w_2026_46/a%b"]),
        ("q=w_2026_47", ["W_2026_47"]),
        ("q=W_2026_47", ["W_2026_47"]),
        ("q=drp+46", ["w_2026_46/a%b"]),
        # Signs of LIKE are letters like others.
        ("q=a%25b", ["w_2026_46/a%b"]),
        ("q=%25", ["w_2026_46/a%b"]),
        ("q=wx2026", []),
    ],
)
def test_a_run_is_found_by_pipeline_and_id(found: Calls, query: str, expected: list[str]) -> None:
    assert names(found, query, "runs", "run_id") == expected


def test_addresses_of_runs_lead_there(found: Calls) -> None:
    for run in ask(found, "q=nightly")["runs"]:
        path = run["url"].removeprefix("http://127.0.0.1:8000")
        assert found("GET", path).json()["run_id"] == run["run_id"]


@pytest.mark.parametrize("query", ["q=1", "q=job+1", "q=+1+"])
def test_a_job_is_found_by_its_id(found: Calls, query: str) -> None:
    assert names(found, query, "jobs", "id") == [1]


@pytest.mark.parametrize("query", ["q=999", "q=0", "q=1+2", "q=1+stars", f"q={2**63}", "q=\u0661"])
def test_what_is_no_job_is_not_found(found: Calls, query: str) -> None:
    assert names(found, query, "jobs", "id") == []


def test_deleted_jobs_and_their_runs_are_not_found(calls: Calls) -> None:
    document = job_document({"p.a": 1.0}, ci_name="pipe", ci_id="904")
    assert calls("POST", "/job", document).status_code == 202
    assert names(calls, "q=904", "runs", "run_id") == ["904"]
    assert calls("DELETE", "/job/1").status_code == 200
    assert (ask(calls, "q=904")["runs"], ask(calls, "q=1")["jobs"]) == ([], [])


def test_a_section_of_the_documentation_is_found_by_its_heading_first(found: Calls) -> None:
    section = ask(found, "q=late+values")["documentation"][0]
    assert (section["document"], section["title"]) == ("alerts", "Late values")
    assert section["url"] == "http://127.0.0.1:8000/docs/alerts#late-values"
    assert section["text"]


@pytest.mark.parametrize(
    "query", ["", "q=", "q=+", "q=a&kind=users", "q=a&limit=0", f"q={'a' * 201}", "q=a&x=1"]
)
def test_a_wrong_question_is_refused(found: Calls, query: str) -> None:
    reply = found("GET", f"/search?{query}")
    assert (reply.status_code, reply.json()["code"]) == (422, "invalid_input")


def test_a_kind_alone_leaves_the_others_empty(found: Calls) -> None:
    body = ask(found, "q=pa1&kind=documentation")
    assert set(body) == set(KINDS)
    assert not body["metrics"]


@pytest.mark.usefixtures("found")
def test_searching_is_the_same_at_the_page(shared_client: httpx.Client) -> None:
    text = shared_client.get("/search?q=stars", headers={"Accept": "text/html"}).text
    assert 'href="/metric/drp.PA1"' in text


def test_documents_are_those_of_the_repository() -> None:
    assert {API, "quickstart", "alerts", "glossary"} <= set(documents())
    assert next(iter(documents())) == "quickstart"


def test_code_has_no_headings() -> None:
    titles = {section.title for item in documents()["quickstart"] for section in [item]}
    assert not [title for title in titles if title.startswith(("squash ", "curl "))]


def test_anchors_are_spelled_as_on_github() -> None:
    assert anchor_of("`GET /job/{job_id}`") == "get-jobjob_id"


def test_a_snippet_is_plain_text_around_the_word() -> None:
    text = f"{'before ' * 50}**a [needle](x.md#y)** in `code` {'after ' * 50}"
    section = Section("alerts", "T", "t", 2, text)
    shown = snippet(section, "Needle nothing")
    assert "a needle in code" in shown
    assert shown.startswith("… before")
    assert shown.endswith("after …")
