"""A night of Rubin's detectors over Sasquatch's wire: the calls of analysis_tools' dispatcher.

They are made with `requests`, as that class makes them: its session repeats what is answered with
429 or 5xx, and what finds no connection.
"""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import requests
from requests.adapters import HTTPAdapter
from urllib3.util.retry import Retry

from tests.integration.conftest import MakeSite
from tests.support.site import Site

DETECTORS = 189
RUN = "LSSTCam/runs/nightly/20260515T031245Z"
# By the real class: tests/data/sasquatch.json.
RECORDED = json.loads((Path(__file__).parents[1] / "data" / "sasquatch.json").read_text())
RECORD = RECORDED[0]["requests"][2]


@pytest.fixture(scope="module")
def site(make_site: MakeSite) -> Site:
    """A service that takes bundles, is killed in the middle of a night, and gets all twice."""
    site = make_site(SQUASH_ANONYMOUS_NAMESPACES="lsst.dm")
    with requests.Session() as session:
        retry = Retry(total=5, backoff_factor=0.2, status_forcelist=[429, 500, 502, 503, 504])
        session.mount("http://", HTTPAdapter(max_retries=retry))
        for detector in range(DETECTORS):
            dispatch(site, session, detector, is_killed=detector == DETECTORS // 2)
        for detector in range(DETECTORS):
            dispatch(site, session, detector)
    site.wait_until_idle()
    return site


def dispatch(
    site: Site, session: requests.Session, detector: int, *, is_killed: bool = False
) -> None:
    """Send the bundle of a detector; between its calls the service may be killed."""
    url = site.service.url
    headers = {"Authorization": "Bearer na", "content-type": "application/json"}
    found = session.get(f"{url}/v3/clusters", headers=headers, timeout=60).json()
    topics = f"{url}/v3/clusters/{found['data'][0]['cluster_id']}/topics"
    topic: dict[str, Any] = {"topic_name": "lsst.dm.repeatability", "partitions_count": 1}
    made = session.post(topics, json=topic, headers=headers, timeout=60)
    assert made.ok or made.status_code == 400
    if is_killed:
        site.service.kill()
        site.service.start()
    body = json.dumps(record_of(detector))
    headers |= RECORD["headers"]
    sent = session.post(f"{url}{RECORD['path']}", data=body, headers=headers, timeout=60)
    assert sent.status_code < 400, sent.text


def record_of(detector: int) -> dict[str, Any]:
    """The recorded body, for a detector: all have one run and one timestamp."""
    body = json.loads(RECORD["body"])
    body["records"][0]["value"] |= {
        "id": f"df519659-0f5c-4f6e-9d1a-2b3c4d5e6{detector:03d}",
        "run": RUN,
        "detector": str(detector),
        "g_AM1": 7 + detector / 1000,
    }
    del body["records"][0]["value"]["nan"], body["records"][0]["value"]["inf"]
    return dict(body)


def points(site: Site) -> Iterator[dict[str, Any]]:
    found = site.influxd.points(site.database)
    return (point for point in found if point["measurement"] == "repeatability")


def test_every_detector_is_a_point_of_its_own_once(site: Site) -> None:
    values = {point["tags"]["detector"]: point["fields"]["g_AM1"] for point in points(site)}
    assert values == {str(each): 7 + each / 1000 for each in range(DETECTORS)}
    assert len([*points(site)]) == DETECTORS


def test_they_are_one_run(site: Site) -> None:
    assert {point["fields"]["run_id"] for point in points(site)} == {RUN}


def test_a_bundle_that_was_sent_twice_is_one_job(site: Site) -> None:
    assert len(site.get("/jobs?limit=1000")["ids"]) == DETECTORS
