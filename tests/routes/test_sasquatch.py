"""What analysis_tools' dispatcher and others send, recorded, and what it is answered."""

import gzip
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from squash_api.record import record
from squash_api.record.storing import JobStore
from tests.support.calls import Calls, log_in
from tests.support.in_process import HOST, service
from tests.support.records import in_record

pytestmark = pytest.mark.sqlite

# By the real class, lsst/analysis_tools c74f828, with bundles of lsst.verify's measurements.
CASES: list[dict[str, Any]] = json.loads(
    (Path(__file__).parents[1] / "data" / "sasquatch.json").read_text()
)
AVRO = {"Content-Type": "application/vnd.kafka.avro.v2+json", "Authorization": "Bearer na"}
TOPIC = "/topics/lsst.dm.action"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("sasquatch")


@pytest.fixture(scope="module")
def client(folder: Path) -> Iterator[httpx.Client]:
    namespaces = ("lsst.dm", "lsst.verify")
    with service(folder, anonymous_namespaces=namespaces, max_body_bytes=50_000) as client:
        yield client


@pytest.fixture(scope="module")
def calls(client: httpx.Client) -> Calls:
    return log_in(client, "ada")


def send(client: httpx.Client, request: dict[str, Any]) -> httpx.Response:
    # Joined here, since the client would take two slashes for another host.
    url = f"{HOST}{request['path']}"
    content = request["body"].encode()
    return client.request(request["method"], url, headers=request["headers"], content=content)


def post(
    client: httpx.Client, *values: Any, path: str = TOPIC, headers: Any = AVRO, **others: Any
) -> httpx.Response:
    content = json.dumps({"records": [{"value": value} for value in values], **others})
    return client.post(path, content=content, headers=headers)


def jobs(folder: Path) -> int:
    ((count,),) = in_record(folder, "SELECT count(*) FROM job")
    return int(count)


def values(client: httpx.Client, job_id: int) -> dict[str, Any]:
    found = client.get(f"/job/{job_id}").json()["measurements"]
    return {item["metric"]: item["value"] for item in found}


def id_of(reply: httpx.Response) -> int:
    assert reply.status_code == 200, reply.text
    return int(reply.json()["offsets"][0]["offset"])


# The dispatcher


@pytest.mark.parametrize("case", CASES, ids=lambda case: case["name"])
def test_each_call_of_the_dispatcher_is_answered_and_a_bundle_sent_twice_is_stored_once(
    client: httpx.Client, folder: Path, case: dict[str, Any]
) -> None:
    first, before = [send(client, request) for request in case["requests"]], jobs(folder)
    assert first[0].json()["data"][0]["cluster_id"] == "squash"
    assert [reply.status_code for reply in first] == [200, *[201, 200] * (len(first) // 2)]
    again = [send(client, request) for request in case["requests"]]
    ids = [reply.json()["offsets"] for reply in first[2::2]]
    assert ids == [reply.json()["offsets"] for reply in again[2::2]]
    assert jobs(folder) == before
    ((body, wire, address),) = in_record(
        folder, f"SELECT body, wire, address FROM job WHERE id = {ids[0][0]['offset']}"
    )
    sent = case["requests"][2]
    assert (body, wire) == (sent["body"].encode(), "sasquatch")
    assert sent["path"].endswith(f"/topics/{address}")


def test_what_was_dispatched_is_what_was_measured(client: httpx.Client) -> None:
    by_name = {case["name"]: case["requests"] for case in CASES}
    numbers, counts = (id_of(send(client, by_name["values"][place])) for place in (2, 4))
    package = "repeatability"
    assert values(client, numbers) == {
        f"{package}.g_AM1": 7.25,
        # Which the dispatcher writes for NaN, infinity and null.
        f"{package}.nan": 0.0,
        f"{package}.inf": 0.0,
        f"{package}.f32": 7.099999904632568,
        f"{package}.none": 0.0,
    }
    assert values(client, counts) == {"numSources.count": 12.0}
    bridged = id_of(send(client, by_name["bridge"][2]))
    assert values(client, bridged) == {"validate_drp.AM1": 7.5}
    meta = client.get(f"/job/{bridged}").json()["meta"]
    assert (meta["ci_name"], meta["namespace"]) == ("rc2", "lsst.verify.drp")


def test_extras_of_every_type_are_kept(client: httpx.Client) -> None:
    (case,) = (case for case in CASES if case["name"] == "extras")
    meta = client.get(f"/job/{id_of(send(client, case['requests'][4]))}").json()["meta"]
    expected = {"ci_id": 904, "flag": True, "list": [1, 2], "dict": {"a": 1}}
    assert {key: meta[key] for key in expected} == expected
    assert not {"nothing", "empty", "mixed"} & meta.keys()
    assert meta["tags"] == ["lsst", "srd"]


# What may never be refused


@pytest.mark.parametrize(
    "path", ["/v3/clusters", "//v3/clusters", "/sasquatch-rest-proxy//v3/clusters/"]
)
@pytest.mark.parametrize("token", ["", "Bearer", "Bearer na", "Bearer sq_wrong", "nonsense x y"])
def test_everyone_is_told_the_cluster(client: httpx.Client, path: str, token: str) -> None:
    reply = client.get(f"{HOST}{path}", headers={"Authorization": token} if token else {})
    assert reply.status_code == 200
    assert reply.json()["data"][0]["cluster_id"] == "squash"


def test_the_cluster_is_told_where_only_users_read(tmp_path: Path) -> None:
    with service(tmp_path, read="users") as client:
        for path in ("/v3/clusters", "/brokers", "/topics", "/v3/clusters/squash/topics"):
            assert client.get(path).status_code == 200
        assert client.get("/jobs").status_code == 401


def test_a_wrong_address_is_not_answered_with_json(client: httpx.Client) -> None:
    reply = client.get("/elsewhere/v3/clusters")
    assert reply.status_code == 404
    assert reply.headers["content-type"].startswith("text/plain")
    assert "SQUASH_SASQUATCH_PREFIX" in reply.text


@pytest.mark.parametrize(
    "body",
    [b'{"topic_name": "lsst.dm.a"}', b"", b"[", b"[1]", b'{"topic_name": "\xff"}', b"x" * 100_000],
)
@pytest.mark.parametrize("token", ["Bearer na", "Bearer sq_wrong", "x"])
def test_no_topic_is_refused(client: httpx.Client, body: bytes, token: str) -> None:
    headers = {"Content-Type": "text/plain", "Authorization": token}
    reply = client.post("/v3/clusters/any/topics", content=body, headers=headers)
    assert reply.status_code == 201


def test_a_topic_costs_no_look_at_the_record(
    client: httpx.Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("read", "write", "write_batched"):
        monkeypatch.setattr(record.Record, name, None)
    topic = {"topic_name": "lsst.dm.a", "partitions_count": 1, "replication_factor": 3}
    reply = client.post("/v3/clusters/squash/topics", json=topic)
    assert reply.json()["topic_name"] == "lsst.dm.a"
    assert client.get("/v3/clusters").status_code == 200


@pytest.mark.parametrize("path", ["/topics", "/sasquatch-rest-proxy/topics/", "//topics"])
def test_no_topics_are_listed(client: httpx.Client, path: str) -> None:
    assert client.get(f"{HOST}{path}").json() == []


def test_the_service_is_the_broker(client: httpx.Client) -> None:
    assert client.get("/sasquatch-rest-proxy/brokers").json() == {"brokers": [0]}


# Who may send


def key_for(calls: Calls, *namespaces: str, scope: str = "job:write") -> dict[str, str]:
    made = {"name": "drp", "scopes": [scope], "namespaces": list(namespaces)}
    key = calls("POST", "/keys", made).json()["key"]
    return {**AVRO, "Authorization": f"Bearer {key}"}


@pytest.mark.parametrize(
    ("namespace", "topic", "value", "status"),
    [
        ("lsst.prompt", "lsst.prompt.act", {"m": 1.0}, 200),
        ("lsst.prompt", "lsst.prompt.prod.act", {"m": 1.0}, 200),
        ("lsst.prompt", "lsst.prompter.act", {"m": 1.0}, 403),
        ("lsst.prompt", "lsst.dm.act", {"m": 1.0}, 403),
        ("act", "lsst.dm.act", {"m": 1.0}, 200),
        ("act", "lsst.dm.act", {"m": 1.0, "other.m": 1.0}, 403),
    ],
)
def test_a_key_writes_to_the_topics_of_its_namespaces_or_to_its_packages(
    calls: Calls, namespace: str, topic: str, value: Any, status: int
) -> None:
    client = calls.client
    reply = post(client, value, path=f"/topics/{topic}", headers=key_for(calls, namespace))
    assert reply.status_code == status, reply.text
    if status == 403:
        assert reply.json()["error_code"] == 40301
        place = reply.json()["detail"][0]["loc"]
        assert place[:4] == ["body", "records", 0, "value"]


def test_a_package_that_a_simple_job_is_for_by_default_gives_a_key_no_right_to_others(
    calls: Calls,
) -> None:
    key = calls(
        "POST", "/keys", {"name": "q", "scopes": ["job:write"], "namespaces": ["quicklook"]}
    )
    job = {"name": "run", "measurements": [{"metric": "other.m", "value": 1.0}]}
    reply = calls.client.post("/job", json=job, auth=("ada", key.json()["key"]))
    assert reply.status_code == 403, reply.text


def test_a_key_of_another_scope_is_refused(client: httpx.Client, calls: Calls) -> None:
    headers = key_for(calls, "lsst.dm", scope="job:read")
    assert post(client, {"m": 1.0}, headers=headers).status_code == 403


def test_whoever_has_a_token_sends_as_themselves(
    client: httpx.Client, calls: Calls, folder: Path
) -> None:
    job = id_of(post(client, {"m": 1.0}, headers={**AVRO, "Authorization": f"JWT {calls.token}"}))
    names = "SELECT name FROM user_account WHERE id = (SELECT user_id FROM job WHERE id = {})"
    assert in_record(folder, names.format(job)) == [("ada",)]
    anonymous = id_of(post(client, {"m": 2.0}))
    assert in_record(folder, names.format(anonymous)) == [("sasquatch/anonymous",)]


@pytest.mark.parametrize("token", ["Bearer na", "Bearer ", "bearer NA", None])
@pytest.mark.parametrize(
    ("topic", "status"),
    [("lsst.dm.a", 200), ("lsst.verify.drp.a", 200), ("lsst.prompt.a", 401), ("lsst.dmx.a", 401)],
)
def test_without_a_token_some_namespaces_are_open(
    client: httpx.Client, token: str | None, topic: str, status: int
) -> None:
    headers = {name: text for name, text in AVRO.items() if name != "Authorization"}
    headers |= {"Authorization": token} if token is not None else {}
    reply = post(client, {"m": 1.0}, path=f"/topics/{topic}", headers=headers)
    assert reply.status_code == status
    if status == 401:
        assert reply.json()["error_code"] == 40101
        assert "sq_" in reply.json()["message"]


def test_nobody_logs_in_as_the_anonymous(client: httpx.Client) -> None:
    id_of(post(client, {"m": 3.0}))
    for password in ("!", "na", "a password of tests"):
        credentials = {"username": "sasquatch/anonymous", "password": password}
        assert client.post("/auth", json=credentials).status_code == 401
        assert client.post("/register", json=credentials).status_code == 422


def test_nothing_is_open_unless_it_is_said(tmp_path: Path) -> None:
    with service(tmp_path) as client:
        assert post(client, {"m": 1.0}).status_code == 401


# What is sent


@pytest.mark.parametrize(
    "kind",
    [
        "application/vnd.kafka.avro.v2+json",
        "application/vnd.kafka.json.v2+json",
        "application/vnd.kafka.jsonschema.v2+json; charset=utf-8",
        "application/json",
    ],
)
def test_every_kind_of_json_is_taken_and_kafkas_is_given(client: httpx.Client, kind: str) -> None:
    reply = post(client, {"m": 1.0}, headers={**AVRO, "Content-Type": kind})
    assert reply.headers["content-type"] == "application/vnd.kafka.v2+json"
    assert reply.json()["offsets"][0] | {"offset": 0} == {
        "partition": 0,
        "offset": 0,
        "error_code": None,
        "error": None,
    }


def test_a_body_may_be_compressed(client: httpx.Client) -> None:
    content = gzip.compress(json.dumps({"records": [{"value": {"m": 1.25}}]}).encode())
    headers = {**AVRO, "Content-Encoding": "gzip"}
    assert id_of(client.post(TOPIC, content=content, headers=headers))


@pytest.mark.parametrize(
    ("path", "content", "headers", "codes"),
    [
        (TOPIC, b"{", AVRO, (400, 400)),
        (TOPIC, b"{}", AVRO, (422, 42203)),
        ("/topics/a b", b'{"records": [{"value": {}}]}', AVRO, (422, 42203)),
        (TOPIC, b"x" * 60_000, AVRO, (413, 413)),
        (TOPIC, b"{}", {**AVRO, "Content-Type": "text/plain"}, (415, 415)),
    ],
)
def test_what_is_refused_has_kafkas_number_beside_ours(
    client: httpx.Client, path: str, content: bytes, headers: Any, codes: tuple[int, int]
) -> None:
    headers = {**headers, "Authorization": "Bearer na"}
    if path != TOPIC:
        path = path.replace("/topics/", "/topics/lsst.dm.")
    reply = client.post(path, content=content, headers=headers)
    assert (reply.status_code, reply.json()["error_code"]) == codes, reply.text
    assert reply.json()["code"] in {
        "malformed_json",
        "invalid_input",
        "too_large",
        "unsupported_media_type",
    }


def test_what_is_left_out_is_named(client: httpx.Client) -> None:
    value: dict[str, Any] = {"run": "r", "tags": [], "a": None, "b": "text", "c": 1.0}
    (said,) = post(client, value).json()["jobs"]
    assert said["absent"] == ["action.a"]
    assert said["skipped"] == [{"metric": "action.b", "reason": "the value is text, not a number"}]
    assert said["undeclared"]
    assert said["notes"] == ["no env.date: the time of receipt is used"]


def test_each_of_several_records_becomes_a_job_with_its_own_bytes(
    client: httpx.Client, folder: Path
) -> None:
    reply = post(client, *({"id": f"{n}", "m": n / 2, "visit": n} for n in range(30)), x="y")
    ids = [item["offset"] for item in reply.json()["offsets"]]
    assert len(set(ids)) == 30
    assert [values(client, job)["action.m"] for job in ids[:3]] == [0.0, 0.5, 1.0]
    (body,) = in_record(folder, f"SELECT body FROM job WHERE id = {ids[1]}")[0]
    assert body == b'{"x": "y", "records": [{"value": {"id": "1", "m": 0.5, "visit": 1}}]}'


def test_of_several_records_none_is_stored_if_one_is_wrong(
    client: httpx.Client, folder: Path
) -> None:
    before = jobs(folder)
    reply = post(client, {"m": 1.0, "id": "good"}, 5)
    assert reply.status_code == 422
    assert reply.json()["detail"][0]["loc"] == ["body", "records", 1, "value"]
    assert "$.records[1].value" in reply.json()["message"]
    assert jobs(folder) == before


def test_records_with_one_time_are_jobs_each_with_its_own(client: httpx.Client) -> None:
    first = 1_778_800_000
    values = [{"timestamp": first, "id": f"d{n}", "detector": f"{n}", "m": 1.0} for n in range(189)]
    # In two requests, since they do not fit into one here.
    replies = [
        post(client, *part, path="/topics/lsst.dm.focal") for part in (values[:90], values[90:])
    ]
    ids = [item["offset"] for reply in replies for item in reply.json()["offsets"]]
    times = {client.get(f"/job/{job}").json()["time_ns"] for job in ids}
    assert times == set(range(first * 10**9, first * 10**9 + 189))


def test_the_same_id_with_other_values_is_a_new_job_that_says_so(client: httpx.Client) -> None:
    first, second = (
        post(client, {"id": "redone", "timestamp": 5.0, "m": value}) for value in (1.0, 2.0)
    )
    assert id_of(first) != id_of(second)
    (said,) = second.json()["jobs"]
    assert said["notes"] == [f"same measurements as job {id_of(first)}"]


def test_a_declared_unit_is_the_values(client: httpx.Client, calls: Calls) -> None:
    metric = {"name": "declared.m", "unit": "mmag", "description": "What it is."}
    assert calls("POST", "/metrics", {"metrics": [metric]}).status_code == 201
    job = id_of(post(client, {"m": 5.0}, path="/topics/lsst.dm.declared"))
    (found,) = client.get(f"/job/{job}").json()["measurements"]
    assert (found["value"], found["unit"]) == (5.0, "mmag")


def test_while_nothing_can_be_stored_the_client_is_told_to_try_soon(
    client: httpx.Client, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = jobs(folder)

    def fail(*_: Any, **__: Any) -> Any:
        raise OSError(24, "no files")

    with monkeypatch.context() as patched:
        for way in ("short", "whole"):
            patched.setattr(JobStore, way, fail)
        reply = post(client, {"id": "later", "m": 1.0})
    assert reply.status_code == 503
    assert reply.headers["Retry-After"] == "1"
    assert jobs(folder) == before
    id_of(post(client, {"id": "later", "m": 1.0}))
    assert jobs(folder) == before + 1


def test_other_methods_and_deeper_paths_are_nothing(client: httpx.Client) -> None:
    assert client.post("/topics/a/b", json={}).status_code == 404
    assert client.delete("/topics/a").status_code == 405
    assert client.post("/elsewhere/topics/lsst.dm.a", json={}).status_code == 404
