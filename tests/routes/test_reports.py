from xml.etree import ElementTree as ET

import httpx
import pytest

from tests.support.calls import Calls
from tests.support.reporting import HOSTILE

SVG = "{http://www.w3.org/2000/svg}"


def post_job(calls: Calls, value: float, **meta: str) -> None:
    reply = calls(
        "POST",
        "/job",
        {
            "measurements": [{"metric": "p.a", "value": value, "unit": "mmag"}],
            "blobs": [],
            "meta": meta,
        },
    )
    assert reply.status_code == 202, reply.text


def define(calls: Calls) -> None:
    metric = {"name": "p.a", "unit": "mmag", "description": "What it is."}
    assert calls("POST", "/metric/p.a", metric).status_code == 201
    threshold = {"value": 5.0, "unit": "mmag", "operator": "<"}
    spec = {"name": "p.a.design", "threshold": threshold, "tags": ["design"]}
    assert calls("POST", "/spec/p.a.design", spec).status_code == 201


def test_a_report_is_json(calls: Calls) -> None:
    define(calls)
    post_job(calls, 9.0, filter="r")
    reply = calls("GET", "/report")
    assert reply.headers["content-type"] == "application/json"
    found = reply.json()
    assert found["summary"]["headline"] == "1 of 1 series breaks a limit: 1 WARNING."
    assert found["worst"][0]["specification"] == "p.a.design"
    assert found["columns"] == [{"dataset": None, "filter": "r", "instrument": None}]


def test_a_report_has_the_job_that_was_just_posted(calls: Calls) -> None:
    assert calls("GET", "/report").json()["summary"]["jobs"] == 0
    post_job(calls, 9.0)
    assert calls("GET", "/report").json()["summary"]["jobs"] == 1


def test_a_report_comes_as_markdown_and_as_xml(calls: Calls) -> None:
    define(calls)
    post_job(calls, 9.0, filter="r")
    text = calls("GET", "/report?format=md")
    assert text.headers["content-type"] == "text/markdown; charset=utf-8"
    assert "p.a.design" in text.text
    xml = calls("GET", "/report?format=xml")
    assert xml.headers["content-type"] == "application/xml"
    assert ET.fromstring(xml.content).get("failures") == "1"


def test_the_level_leaves_out_milder_limits(calls: Calls) -> None:
    define(calls)
    post_job(calls, 9.0, filter="r")
    assert calls("GET", "/report?level=critical").json()["summary"]["state"] == "no limit"
    xml = calls("GET", "/report?level=critical&format=xml")
    assert ET.fromstring(xml.content).get("failures") == "1"


@pytest.mark.parametrize(
    "query", ["format=pdf", "datset=x", "since=never", "package=none", "tag=%00"]
)
def test_wrong_parameters_are_422(shared_client: httpx.Client, query: str) -> None:
    reply = shared_client.get(f"/report?{query}")
    assert (reply.status_code, reply.json()["code"]) == (422, "invalid_input")
    assert reply.json()["detail"][0]["loc"] == ["query", query.partition("=")[0]]


def badge(client: httpx.Client, address: str) -> str:
    reply = client.get(address)
    assert reply.status_code == 200, reply.text
    assert reply.headers["content-type"] == "image/svg+xml"
    assert reply.headers["cache-control"] == "public, max-age=60"
    title = ET.fromstring(reply.text).findtext(f"{SVG}title")
    assert title is not None
    return title


def test_a_badge_says_how_a_package_stands(calls: Calls) -> None:
    assert badge(calls.client, "/badge/p.svg") == "p: never seen"
    define(calls)
    post_job(calls, 1.0, filter="r", dataset="RC2")
    assert badge(calls.client, "/badge/p.svg") == "p: passed"
    post_job(calls, 9.0, filter="r", dataset="RC2")
    post_job(calls, 1.0, filter="g", dataset="RC2")
    assert badge(calls.client, "/badge/p.svg") == "p: 1 metric WARNING"
    assert badge(calls.client, "/badge/p.svg?filter=g") == "p: passed"
    assert (
        badge(calls.client, "/badge/p.svg?dataset=RC2&filter=r&label=RC2")
        == "RC2: 1 metric WARNING"
    )
    assert badge(calls.client, "/badge/p.svg?instrument=HSC") == "p: never seen"


def test_a_badge_of_a_hostile_name_is_a_badge(shared_client: httpx.Client) -> None:
    from urllib.parse import quote

    title = badge(shared_client, f"/badge/{quote(HOSTILE[:900], safe='')}.svg")
    assert title.endswith("\u2026: never seen")
