"""What the client reads and does, against a real app; each answer has what its type says."""

from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import astropy.units as u
import httpx
import pytest

from squash_api.accounts.accounts import Account
from squash_api.client import (
    Alert,
    AlertDetails,
    ChangedAlert,
    Job,
    Measurement,
    NewSilence,
    Run,
    Silence,
    Squash,
    SquashClientError,
    Standing,
)
from squash_api.client import connection as paging
from squash_api.site import Site
from tests.support.builders import make_settings, with_record
from tests.support.calls import PASSWORD
from tests.support.in_process import HOST, service
from tests.support.made_alerts import METRIC, open_alerts

pytestmark = pytest.mark.sqlite
SCOPES = ["job:write", "job:read", "alerts:write"]


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    folder: Path = tmp_path_factory.mktemp("site")
    with Site(with_record(make_settings(folder, url=HOST, read="users"))) as site:
        site.accounts.add("ada", PASSWORD)
        site.accounts.add("root", PASSWORD, role="admin")
        admin = Account(2, "root", "admin", 1)
        site.definitions.post_one("metric", METRIC, {"description": "d", "unit": "mmag"}, admin)
        limit = {"threshold": {"operator": "<=", "value": 8, "unit": "mmag"}, "tags": ["minimum"]}
        site.definitions.post_one("spec", f"{METRIC}.minimum", limit, admin)
        yield site


@pytest.fixture(scope="module")
def squash(site: Site) -> Iterator[Squash]:
    """A client with a key, of a service that only users may read."""
    _, key = site.keys.create(
        owner="ada", name="client", scopes=SCOPES, by=site.accounts.get("root")
    )
    folder = Path(site.settings.database_url.removeprefix("sqlite:///")).parent
    with service(folder, url=HOST, read="users") as client:
        squash = Squash(HOST, key=key, transport=client._transport)
        for run in ("1041", "1042"):
            job = Job(
                [Measurement(METRIC, 9.5 * u.mmag)],
                meta={"env": {"env_name": "local", "run_id": run}, "pipeline": "nightly"},
            )
            job.link("plots", f"https://plots.example.org/{run}.png", type="image/png")
            squash.send(job)
        yield squash


@pytest.fixture
def alert_id(site: Site) -> int:
    return open_alerts(site.record, {"detector": "42"})[0]


def has(answer: Any, kind: Any) -> bool:
    """Tell whether an answer has the keys of a type, and no others."""
    assert set(answer) == set(kind.__annotations__)
    return True


def test_alerts_are_read_by_what_is_asked_and_one_with_its_history(
    squash: Squash, alert_id: int
) -> None:
    found = list(squash.alerts(state=["open"], tags={"detector": 42}, metric=METRIC, trial=False))
    assert alert_id in [item["id"] for item in found]
    assert all(has(item, Alert) for item in found)
    assert list(squash.alerts(state="resolved")) == []
    whole = squash.alert(alert_id)
    assert has(whole, AlertDetails)
    assert [item["kind"] for item in whole["history"]] == ["opened"]


def test_an_alert_is_acknowledged_released_and_acknowledged_for_its_group(
    squash: Squash, alert_id: int
) -> None:
    seen = squash.acknowledge(alert_id, "CRITICAL", "I look at the flats", until="8h")
    assert has(seen, ChangedAlert)
    assert (seen["state"], seen["changed"]) == ("acknowledged", [alert_id])
    assert seen["acknowledged"] is not None
    assert seen["acknowledged"]["by"] == "ada"
    assert squash.release(alert_id)["state"] == "open"
    assert squash.acknowledge(alert_id, "CRITICAL", "again", group=True)["changed"] == [alert_id]


def test_what_has_become_worse_is_not_acknowledged(squash: Squash, alert_id: int) -> None:
    with pytest.raises(SquashClientError) as error:
        squash.acknowledge(alert_id, "INFO", "I have seen it")
    assert (error.value.status_code, error.value.code) == (409, "alert_changed")
    assert "CRITICAL" in str(error.value)


def test_a_silence_is_made_listed_and_ended(squash: Squash) -> None:
    made = squash.silence("8h", "the shutter is being replaced", metric=METRIC)
    assert set(made) == set(NewSilence.__annotations__)
    (found,) = squash.silences(state="active")
    assert set(found) == set(Silence.__annotations__)
    assert found["id"] == made["id"]
    assert squash.end_silence(made["id"])["state"] == "over"
    assert list(squash.silences(state="active")) == []


def test_runs_are_read_and_one_with_all_its_jobs(squash: Squash) -> None:
    runs = list(squash.runs(pipeline="nightly"))
    assert [item["run_id"] for item in runs] == ["1042", "1041"]
    assert all(has(item, Run) for item in runs)
    assert runs[0]["state"] == "CRITICAL"
    whole = squash.run("nightly", "1042")
    assert [item["id"] for item in whole["jobs"]] == [2]
    assert whole["run_before"] is not None
    assert whole["run_before"]["run_id"] == "1041"


def test_lists_are_followed_to_their_end(squash: Squash, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(paging, "_MOST_ENTRIES", 1)
    assert list(squash.jobs()) == [1, 2]
    assert list(squash.jobs(after=1)) == [2]
    assert len(list(squash.runs())) == 2


def test_standings_jobs_artifacts_and_verdicts_are_read(squash: Squash) -> None:
    (standing,) = squash.standings(package="demo")
    assert has(standing, Standing)
    assert standing["state"] == "CRITICAL"
    assert squash.job(1)["measurements"][0]["value"] == 9.5
    (artifact,) = squash.artifacts(2)
    assert artifact["url"] == "https://plots.example.org/1042.png"
    assert [item["status"] for item in squash.report(1)] == ["failed"]


def test_a_report_on_a_run_is_read(squash: Squash) -> None:
    report = squash.report_on(run="1042", compare_run="1041")
    assert report["summary"]["jobs"] == 1
    assert report["worst"][0]["metric"] == METRIC


def test_a_measurement_is_added_to_a_job(squash: Squash) -> None:
    squash.add(1, Measurement("demo.other", 3.0 * u.mmag))
    values = squash.measurements("demo.other")
    assert values["value"].value.tolist() == [3.0]


def test_a_key_is_refused_what_it_is_not_for_in_the_words_of_the_service(
    site: Site, squash: Squash
) -> None:
    _, key = site.keys.create(
        owner="ada", name="reads", scopes=["job:read"], by=site.accounts.get("root")
    )
    reading = Squash(HOST, key=key, transport=squash._wire._http._transport)
    with pytest.raises(SquashClientError, match="needs a key with the scope `alerts:write`"):
        reading.silence("8h", "no reason")


# Requests that come to nothing


def a_service(*answers: httpx.Response | Exception) -> Any:
    """Return a client of a service that answers so, one after the other; `asked` are requests."""
    left, asked = list(answers), list[httpx.Request]()
    pauses = list[float]()

    def answer(request: httpx.Request) -> httpx.Response:
        asked.append(request)
        if request.url.path == "/":
            names = ("alerts", "silences", "job")
            return httpx.Response(200, json={name: f"{HOST}/{name}" for name in names})
        found = left.pop(0)
        if isinstance(found, Exception):
            raise found
        return found

    transport = httpx.MockTransport(answer)
    client = Squash(HOST, key="sq_x", transport=transport, sleep=pauses.append)
    return SimpleNamespace(client=client, asked=asked, pauses=pauses)


def busy(seconds: str = "7") -> httpx.Response:
    return httpx.Response(503, headers={"Retry-After": seconds}, json={"message": "Busy."})


def test_a_busy_service_is_asked_again_when_it_says() -> None:
    found = a_service(busy(), httpx.Response(200, json={"alerts": [], "next": None}))
    assert list(found.client.alerts()) == []
    assert found.pauses == [7.0]


def test_a_service_that_only_reads_is_not_asked_again_and_says_where_to_write() -> None:
    words = "This service only reads. Write to https://squash.summit.example.org."
    refusal = {"message": words, "code": "only_reads", "status_code": 503, "detail": []}
    found = a_service(httpx.Response(503, headers={"Retry-After": "60"}, json=refusal))
    with pytest.raises(SquashClientError, match=r"Write to https://squash\.summit") as error:
        found.client.send(Job([Measurement("p.m", 1.0)]))
    assert (error.value.code, found.pauses) == ("only_reads", [])


@pytest.mark.parametrize(
    ("failure", "times"),
    [
        (busy(), 2),
        (httpx.ConnectError("refused"), 2),
        (httpx.ReadError("gone"), 1),
        (httpx.Response(502, json={}), 1),
    ],
)
def test_what_would_count_twice_is_sent_again_only_if_it_was_surely_not_done(
    failure: httpx.Response | Exception, times: int
) -> None:
    found = a_service(failure, httpx.Response(201, json={"id": 1}))
    if times == 1:
        with pytest.raises(SquashClientError):
            found.client.silence("8h", "why")
    else:
        assert found.client.silence("8h", "why")["id"] == 1
    assert len([item for item in found.asked if item.method == "POST"]) == times
