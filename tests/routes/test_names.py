"""Names that do not exist: every 404 of a name suggests the nearest."""

from typing import Any
from urllib.parse import quote, urlsplit

import httpx
import pytest

from squash_api.pages.addresses import PAGES
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


# Clients read `.` and `..` as steps, however they are quoted.
ODD_NAMES = ["a/b", "a//b", "a\nb", "a\n", "\n", " ", "a?b=c&d#e", "%2F", "\r\n", "\u2028", "..."]


@pytest.mark.parametrize("name", ODD_NAMES)
def test_whatever_a_blob_is_called_its_url_leads_to_it(shared_calls: Calls, name: str) -> None:
    blob = {"identifier": name, "name": "x", "data": {}}
    job = shared_calls("POST", "/job", {"blobs": [blob]}).json()["id"]
    (listed,) = shared_calls("GET", f"/job/{job}/blobs").json()["blobs"]
    reply = shared_calls("GET", urlsplit(listed["url"]).path)
    assert (reply.status_code, reply.json()) == (200, blob)


@pytest.mark.parametrize("name", ["", ".", "..", None, 3, ["a"], {"a": 1}])
def test_a_blob_that_no_url_can_name_has_none(shared_calls: Calls, name: Any) -> None:
    blobs = [{"identifier": name, "name": "x", "data": {}}]
    job = shared_calls("POST", "/job", {"blobs": blobs}).json()["id"]
    (listed,) = shared_calls("GET", f"/job/{job}/blobs").json()["blobs"]
    assert (listed["identifier"], listed["url"]) == (name, None)


@pytest.mark.parametrize("name", ODD_NAMES)
def test_whatever_a_run_is_called_it_is_found(shared_calls: Calls, name: str) -> None:
    env = {"ci_name": f"x{name}x", "ci_id": f"x{name}x"}
    job = shared_calls("POST", "/job", {"meta": {"env": env}}).json()["id"]
    runs = shared_calls("GET", "/runs?limit=1000").json()["runs"]
    (run,) = (item for item in runs if item["newest_job"] == job)
    for accept in ("application/json", "text/html"):
        reply = shared_calls("GET", urlsplit(run["url"]).path, headers={"Accept": accept})
        assert reply.status_code == 200, reply.text


@pytest.mark.parametrize("path", ["/jenkins/{}", "/code_changes/{}", "/runs/x/{}", "/badge/{}.svg"])
@pytest.mark.parametrize("name", ODD_NAMES)
def test_no_name_is_taken_for_another_path(shared_calls: Calls, path: str, name: str) -> None:
    reply = shared_calls("GET", path.format(f"x{quote(name, safe='')}x"))
    assert "There is nothing at" not in reply.text


@pytest.mark.parametrize("method", ["GET", "POST", "PUT"])
@pytest.mark.parametrize("path", [path for path, *_ in PAGES if "{" not in path])
def test_no_path_is_suggested_in_place_of_itself(filled: Calls, method: str, path: str) -> None:
    message = filled(method, path).text
    assert f"did you mean `{path}`" not in message


@pytest.mark.parametrize("path", ["/account", "/login", "/logout"])
def test_a_program_is_told_that_an_address_is_a_page(filled: Calls, path: str) -> None:
    reply = filled("GET", path)
    assert reply.status_code in {404, 405}
    assert f"{path} is a page" in reply.json()["message"]


@pytest.mark.parametrize("path", ["/auth", "/register", "/topics/lsst.dm.x"])
def test_a_program_is_told_by_which_method_an_address_is_asked(filled: Calls, path: str) -> None:
    assert filled("GET", path).json()["message"] == f"GET is not possible at {path}: use POST."
