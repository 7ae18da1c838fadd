import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import pytest

from squash_api.generate.comparison import Comparison, Step, compare, push
from squash_api.generate.files import make_files, write_files
from squash_api.generate.grafana.connections import FOLDER_UID, SOURCE_UID
from squash_api.generate.grafana.server import Grafana, GrafanaDashboard
from squash_api.generate.servers import ServerError, UnreachableError
from squash_api.metrics_packages.loading import load_metrics_package
from squash_api.schema.names import Schema
from tests.support.fake_grafana import TOKEN, FakeGrafana
from tests.support.metrics_packages import write_metrics_package

pytestmark = pytest.mark.sqlite

KIND = "Grafana dashboard"
UIDS = ["squash-overview", "squash-package-validate", "squash-service"]


def connected(fake: FakeGrafana, *, token: str = TOKEN) -> Grafana:
    return Grafana("http://g:3000", token=token, transport=httpx.MockTransport(fake))


@pytest.fixture
def files(tmp_path: Path) -> dict[str, str]:
    package = load_metrics_package(write_metrics_package(tmp_path / "specs"))
    place: dict[str, Any] = {"database": "squash", "retention_policy": "autogen"}
    found = make_files(package, schema=Schema(), **place)
    write_files(found, tmp_path)
    return found


@pytest.fixture
def compared(files: dict[str, str], tmp_path: Path) -> Callable[[Grafana], Comparison]:
    return lambda server: compare(files, tmp_path, server.things(), [KIND])


def states(comparison: Comparison) -> dict[str, str]:
    return {item.name: item.server for item in comparison.differences}


def test_what_is_pushed_to_an_empty_grafana_is_there_in_its_folder_and_the_same(
    compared: Callable[[Grafana], Comparison],
) -> None:
    fake = FakeGrafana()
    server = connected(fake)
    assert states(compared(server)) == dict.fromkeys(UIDS, "missing")
    steps = [*push(compared(server), {"grafana": server}, prune=False)]
    assert steps == [Step(KIND, uid, "created") for uid in UIDS]
    assert fake.folder_of == dict.fromkeys(UIDS, FOLDER_UID)
    assert fake.requests.count(("POST", "/api/folders")) == 1
    assert states(compared(server)) == {}
    assert [*push(compared(server), {"grafana": server}, prune=False)] == []


def test_a_dashboard_that_was_changed_is_put_back(
    compared: Callable[[Grafana], Comparison],
) -> None:
    fake = FakeGrafana()
    server = connected(fake)
    [*push(compared(server), {"grafana": server}, prune=False)]
    panel = fake.dashboards["squash-service"]["panels"][0]
    panel["fieldConfig"]["defaults"]["thresholds"]["steps"][1]["value"] = 9e9
    assert states(compared(server)) == {"squash-service": "changed"}
    assert [*push(compared(server), {"grafana": server}, prune=False)] == [
        Step(KIND, "squash-service", "updated")
    ]
    assert states(compared(server)) == {}


def test_only_generated_ones_that_are_no_longer_needed_are_removed(
    compared: Callable[[Grafana], Comparison],
) -> None:
    fake = FakeGrafana()
    server = connected(fake)
    old = {"title": "Old", "tags": ["squash"], "description": "Made by squash generate: x"}
    fake.dashboards["squash-package-old"] = {**old, "uid": "squash-package-old"}
    fake.dashboards["mine"] = {"uid": "mine", "title": "Mine", "tags": ["squash"]}
    assert states(compared(server))["squash-package-old"] == "orphaned"
    steps = [*push(compared(server), {"grafana": server}, prune=True)]
    assert Step(KIND, "squash-package-old", "removed") in steps
    assert set(fake.dashboards) == {*UIDS, "mine"}


def test_one_that_grafana_reads_from_a_file_is_left_with_what_to_do(
    compared: Callable[[Grafana], Comparison],
) -> None:
    fake = FakeGrafana()
    server = connected(fake)
    [*push(compared(server), {"grafana": server}, prune=False)]
    fake.dashboards["squash-service"]["title"] = "Other"
    fake.of_files = {"squash-service"}
    (step,) = push(compared(server), {"grafana": server}, prune=True)
    assert step.outcome == "failed"
    assert "reads it from a file: update that" in step.words
    thing = GrafanaDashboard("squash-service", {}, is_of_file=True)
    with pytest.raises(ServerError, match="remove that"):
        server.remove(thing)


def test_a_refusal_is_told_in_the_words_of_grafana() -> None:
    server = connected(FakeGrafana())
    thing = GrafanaDashboard("squash-x", {"uid": "squash-x", "title": ""})
    with pytest.raises(ServerError, match="Dashboard title cannot be empty"):
        server.put(thing, None)


def test_the_token_is_sent_and_a_wrong_one_is_told_with_what_to_do() -> None:
    with pytest.raises(UnreachableError, match="SQUASH_GRAFANA_TOKEN") as raised:
        connected(FakeGrafana(), token="wrong").things()
    assert "wrong" not in str(raised.value)


@pytest.mark.parametrize(
    "reply",
    [
        httpx.Response(200, text="<!DOCTYPE html>"),
        httpx.Response(200, json={"version": "1"}),
        httpx.Response(200, json=[]),
    ],
)
def test_what_does_not_answer_as_grafana_is_not_taken_for_one(reply: httpx.Response) -> None:
    with pytest.raises(UnreachableError, match="there is no Grafana at http://g"):
        Grafana("http://g", transport=httpx.MockTransport(lambda _: reply))


@pytest.mark.parametrize("version", ["11.6.0", ""])
def test_it_introduces_itself_with_its_version_unless_that_is_hidden(version: str) -> None:
    assert connected(FakeGrafana(version=version)).greeting["X-Grafana-Version"] == version


def test_a_missing_data_source_is_noted() -> None:
    fake = FakeGrafana()
    (note,) = connected(fake).notes()
    assert SOURCE_UID in note.what
    fake.sources[SOURCE_UID] = {"uid": SOURCE_UID}
    assert connected(fake).notes() == []


def test_what_the_server_adds_is_no_difference(files: dict[str, str]) -> None:
    document: dict[str, Any] = json.loads(files["grafana/dashboards/squash-overview.json"])
    ours = GrafanaDashboard("squash-overview", document)
    theirs = {**document, "id": 7, "version": 3, "preload": False}
    assert ours.equals(GrafanaDashboard("squash-overview", theirs))
    assert not ours.equals(GrafanaDashboard("squash-overview", {**theirs, "title": "x"}))
