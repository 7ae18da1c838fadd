"""A job file of the pipeline, 1.6 MB with blobs and bare NaN, sent as it lies on the disk."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.integration.conftest import MakeSite
from tests.support.metrics_packages import ROOT, shared
from tests.support.site import AS_JSON, Site

# The record's part of this is tried with both engines elsewhere.
pytestmark = pytest.mark.sqlite


@dataclass(frozen=True)
class Sent:
    """The service, the file as Python reads it with NaN as None, and the reply to it."""

    site: Site
    document: dict[str, Any]
    reply: dict[str, Any]

    @property
    def kept(self) -> dict[str, float]:
        """Values by metric, those that are NaN left out."""
        return {
            item["metric"]: item["value"]
            for item in self.document["measurements"]
            if item["value"] is not None
        }

    @property
    def fields(self) -> dict[str, Any]:
        """Fields of the one point in InfluxDB."""
        (point,) = self.site.points()
        fields: dict[str, Any] = point["fields"]
        return fields


@pytest.fixture(scope="module")
def path() -> Path:
    return shared("jobs/cfht_r.verify.json")


@pytest.fixture(scope="module")
def sent(path: Path, make_site: MakeSite) -> Sent:
    site = make_site(SQUASH_SPECS=str(ROOT / "specs" / "srd"))
    reply = site.calls("POST", "/job", content=path.read_bytes(), headers=AS_JSON)
    assert reply.status_code == 202, reply.text
    site.wait_until_delivered([reply.json()["id"]])
    document = json.loads(path.read_text(), parse_constant=lambda _: None)
    return Sent(site, document, reply.json())


def test_23_values_are_in_influxdb_to_the_last_bit(sent: Sent) -> None:
    assert len(sent.kept) == 23
    stored = {f"validate_drp.{key}": value for key, value in sent.fields.items()}
    assert {name: stored.get(name) for name in sent.kept} == sent.kept


def test_the_seven_that_are_nan_are_named_as_absent(sent: Sent) -> None:
    names = {item["metric"] for item in sent.document["measurements"]}
    assert len(sent.reply["absent"]) == 7
    assert set(sent.reply["absent"]) == names - set(sent.kept)


def test_what_is_absent_is_no_field(sent: Sent) -> None:
    keys = {name.partition(".")[2] for name in sent.reply["absent"]}
    assert not keys & set(sent.fields)


def test_nothing_else_is_left_out_or_undeclared(sent: Sent) -> None:
    assert (sent.reply["skipped"], sent.reply["undeclared"]) == ([], [])


def test_the_reply_counts_the_bare_nan(sent: Sent, path: Path) -> None:
    count = path.read_text().count("NaN")
    assert any(note.startswith(f"{count} bare NaN") for note in sent.reply["notes"])


def test_every_blob_is_listed(sent: Sent) -> None:
    found = sent.site.get(f"/job/{sent.reply['id']}/blobs")
    assert [blob["identifier"] for blob in found["blobs"]] == [
        blob["identifier"] for blob in sent.document["blobs"]
    ]


def test_every_blob_is_read_again_as_it_was_sent(sent: Sent) -> None:
    read = [
        sent.site.get(f"/job/{sent.reply['id']}/blob/{blob['identifier']}")
        for blob in sent.document["blobs"]
    ]
    assert read == sent.document["blobs"]


def test_measurements_point_to_their_blobs(sent: Sent) -> None:
    shown = sent.site.get(f"/measurement/{sent.reply['id']}")["measurements"]
    assert {item["metric"]: {blob["identifier"] for blob in item["blobs"]} for item in shown} == {
        item["metric"]: set(item["blob_refs"]) for item in sent.document["measurements"]
    }


def test_there_are_verdicts_passed_failed_and_not_measured(sent: Sent) -> None:
    report = sent.site.get(f"/job/{sent.reply['id']}/report")
    assert {verdict["status"] for verdict in report} == {"passed", "failed", "not measured"}


def test_the_same_file_again_is_the_same_job(sent: Sent, path: Path) -> None:
    reply = sent.site.calls("POST", "/job", content=path.read_bytes(), headers=AS_JSON)
    assert (reply.status_code, reply.json()["id"]) == (200, sent.reply["id"])
