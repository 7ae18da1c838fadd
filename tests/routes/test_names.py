"""Names that do not exist: every 404 of a name suggests the nearest."""

import httpx
import pytest

from tests.support.calls import Calls
from tests.support.site import job_document


@pytest.fixture(scope="module")
def filled(shared_calls: Calls) -> Calls:
    metrics = {"metrics": [{"name": "photometry.PA1", "unit": "mmag"}]}
    assert shared_calls("POST", "/metrics", metrics).status_code == 201
    threshold = {"value": 1, "unit": "mmag", "operator": "<"}
    spec = {"threshold": threshold}
    assert shared_calls("POST", "/spec/photometry.PA1.design", spec).status_code == 201
    job = job_document({"photometry.PA1": 1.0})
    job["meta"] = {"env": {"run_id": "weekly_47", "ci_name": "nightly"}}
    job["blobs"] = [{"identifier": "blob-one", "name": "x"}]
    assert shared_calls("POST", "/job", job).status_code == 202
    return shared_calls


@pytest.mark.parametrize(
    ("method", "path", "near"),
    [
        ("GET", "/metric/photometry.PA2", "photometry.PA1"),
        ("PUT", "/metric/photometry.PA2", "photometry.PA1"),
        ("DELETE", "/metric/photometry.PA2", "photometry.PA1"),
        ("GET", "/spec/photometry.PA1.desing", "photometry.PA1.design"),
        ("DELETE", "/spec/photometry.PA1.desing", "photometry.PA1.design"),
        ("GET", "/runs/nightly/weekly_48", "weekly_47"),
        ("GET", "/job/1/blob/blob-two", "blob-one"),
        ("GET", "/user/adda", "ada"),
        ("GET", "/reprot", "/report"),
        ("GET", "/metric/", "/metrics"),
        ("GET", "/job/1/reprot", "/job/1/report"),
    ],
)
def test_the_nearest_name_is_suggested(filled: Calls, method: str, path: str, near: str) -> None:
    body = {"unit": "mmag", "description": "x"} if method == "PUT" else None
    reply = filled(method, path, body)
    assert (reply.status_code, reply.json()["code"]) == (404, "not_found")
    assert f"did you mean `{near}`?" in reply.json()["message"]


@pytest.mark.parametrize("path", ["/metric/photometry.PA2", "/runs/nightly/weekly_48"])
def test_pages_suggest_it_too(filled: Calls, path: str) -> None:
    reply = filled("GET", path, headers={"Accept": "text/html"})
    assert reply.status_code == 404
    assert "did you mean" in httpx.Response(200, text=reply.text).text


def test_nothing_is_suggested_where_nothing_is_near(filled: Calls) -> None:
    message = filled("GET", "/metric/zzzz").json()["message"]
    assert message == "There is no metric `zzzz`."


def test_a_very_long_name_is_cut(filled: Calls) -> None:
    assert len(filled("GET", f"/metric/{'x' * 5000}").json()["message"]) < 300
