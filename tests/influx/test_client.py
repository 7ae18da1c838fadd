from collections.abc import Iterator

import httpx
import pytest
from pydantic import SecretStr

from squash_api.influx import client as errors
from squash_api.influx.client import (
    InfluxClient,
    quote_identifier,
)
from squash_api.influx.writing import deliver
from squash_api.settings import InfluxTarget
from tests.support.influx_wire import (
    mocked,
    stored_values,
)
from tests.support.influxd import ADMIN, ADMIN_PASSWORD, Influxd


def test_written_points_come_out_of_a_query(client: InfluxClient) -> None:
    client.write(["m,t=a v=1.5 5", 'm,t=b s="x" 6'])
    assert client.query('SELECT * FROM "m" GROUP BY *') == [
        {
            "name": "m",
            "tags": {"t": "a"},
            "columns": ["time", "s", "v"],
            "values": [[5, None, 1.5]],
        },
        {
            "name": "m",
            "tags": {"t": "b"},
            "columns": ["time", "s", "v"],
            "values": [[6, "x", None]],
        },
    ]


def test_influxdb_reads_what_is_compressed_for_the_way_to_another_machine(
    client: InfluxClient,
) -> None:
    client._is_near = False
    client.write(["m v=1.5 5"])
    assert client.query("SELECT v FROM m")[0]["values"] == [[5, 1.5]]


@pytest.mark.parametrize(
    ("url", "encoding"), [("http://localhost:1", None), ("http://influx.invalid", "gzip")]
)
def test_lines_are_compressed_unless_influxdb_is_on_this_machine(
    url: str, encoding: str | None
) -> None:
    seen: list[str | None] = []

    def reply(request: httpx.Request) -> httpx.Response:
        seen.append(request.headers.get("Content-Encoding"))
        return httpx.Response(204)

    target = InfluxTarget(url=url, database="d")
    with InfluxClient(target, transport=httpx.MockTransport(reply)) as client:
        client.write(["m v=1 5"])
    assert seen == [encoding]


def test_bound_parameters_are_values_and_never_code(client: InfluxClient) -> None:
    client.write(["m,t=a v=1 5", "m,t=b v=2 6"])
    statement = "SELECT v FROM m WHERE t = $t"
    assert client.query(statement, params={"t": "b"})[0]["values"] == [[6, 2]]
    assert client.query(statement, params={"t": "a' OR t = 'b"}) == []


def test_the_series_of_several_statements_come_in_order(client: InfluxClient) -> None:
    client.write(["m v=1 5", "n v=2 6"])
    assert [series["name"] for series in client.query("SELECT * FROM n; SELECT * FROM m")] == [
        "n",
        "m",
    ]


def test_ping_returns_the_version(client: InfluxClient) -> None:
    assert client.ping()["X-Influxdb-Version"][0].isdigit()


def test_a_database_is_empty_until_something_is_written(influx_target: InfluxTarget) -> None:
    with InfluxClient(influx_target) as client:
        assert client.is_empty()
        client.create_database()
        assert client.is_empty()
        client.write(["m v=1 5"])
        assert not client.is_empty()


@pytest.mark.parametrize("name", ["m", 'a"b', "a\\\\b", "a'b c", "Ω=Λ", "a;drop database x"])
def test_points_are_deleted_by_exact_time(
    influxd: Influxd, influx_target: InfluxTarget, client: InfluxClient, name: str
) -> None:
    escaped = name.replace(" ", "\\ ")
    client.write([f"{escaped} v=1 5", f"{escaped} v=2 6", "other v=3 5"])
    client.delete_points([(name, 5)])
    assert stored_values(influxd, influx_target) == [2.0, 3.0]
    client.delete_points([(name, 5)])


def test_deleting_what_never_was_is_no_error(influx_target: InfluxTarget) -> None:
    with InfluxClient(influx_target) as client:
        client.delete_points([("m", 5)])
        client.create_database()
        client.delete_points([("m", 5)])


def test_many_points_are_deleted_at_once(
    influxd: Influxd, influx_target: InfluxTarget, client: InfluxClient
) -> None:
    client.write(["m v=1 5", "m v=2 6", "n v=3 5", "n v=4 6"])
    client.delete_points([("m", 5), ("n", 6), ("none", 1)])
    assert stored_values(influxd, influx_target) == [2.0, 3.0]


def test_deleting_many_points_of_no_database_is_no_error(influx_target: InfluxTarget) -> None:
    with InfluxClient(influx_target) as client:
        client.delete_points([("m", 5), ("n", 5)])
        assert client.is_empty()


def test_a_database_may_have_any_name_that_influxdb_allows(influx_target: InfluxTarget) -> None:
    target = influx_target.model_copy(
        update={"database": f'a "b" & c=d? Ω {influx_target.database}'}
    )
    with InfluxClient(target) as client:
        client.create_database()
        client.create_database()
        client.write(["m v=1 5"])
        assert client.query("SELECT v FROM m")[0]["values"] == [[5, 1]]


def test_an_identifier_is_quoted() -> None:
    assert quote_identifier('a"b\\c\nd') == '"a\\"b\\\\c\\nd"'


def test_the_path_of_the_address_is_kept() -> None:
    paths = []

    def reply(request: httpx.Request) -> httpx.Response:
        paths.append(request.url.path)
        return httpx.Response(204, headers={"X-Influxdb-Version": "1.8.10"})

    with mocked(reply) as client:
        client.write(["m v=1 5"])
        assert client.ping()["X-Influxdb-Version"] == "1.8.10"
    assert paths == ["/path/write", "/path/ping"]


@pytest.fixture(scope="module")
def locked_influxd(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Influxd]:
    with Influxd(tmp_path_factory.mktemp("locked"), auth=True) as server:
        yield server


def test_basic_authentication_opens_a_locked_influxdb(locked_influxd: Influxd) -> None:
    target = InfluxTarget(
        url=locked_influxd.url, database="d", user=ADMIN, password=SecretStr(ADMIN_PASSWORD)
    )
    with InfluxClient(target) as client:
        assert deliver(client, ["m v=1 5"]) == []
        assert client.query("SELECT v FROM m")[0]["values"] == [[5, 1]]


@pytest.mark.parametrize(
    "credentials",
    [
        {},
        {"user": ADMIN},
        {"user": ADMIN, "password": SecretStr("wrong")},
        {"token": SecretStr(f"{ADMIN}:{ADMIN_PASSWORD}")},
    ],
)
def test_wrong_credentials_are_refused_and_never_shown(
    locked_influxd: Influxd, credentials: dict[str, str | SecretStr]
) -> None:
    target = InfluxTarget.model_validate({"url": locked_influxd.url, **credentials})
    with InfluxClient(target) as client:
        for attempt in (
            lambda: deliver(client, ["m v=1 5"]),
            client.is_empty,
            client.create_database,
            lambda: client.delete_points([("m", 5)]),
        ):
            with pytest.raises(errors.InfluxRefusedError) as caught:
                attempt()
            assert ADMIN_PASSWORD not in f"{caught.value!r}{caught.value.reason}"


def test_a_missing_right_is_refused(locked_influxd: Influxd) -> None:
    locked_influxd.create_database("rights")
    locked_influxd.query("CREATE USER reader WITH PASSWORD 'r'; GRANT READ ON rights TO reader")
    target = InfluxTarget(
        url=locked_influxd.url, database="rights", user="reader", password=SecretStr("r")
    )
    with InfluxClient(target) as client:
        assert client.is_empty()
        with pytest.raises(errors.InfluxRefusedError, match="not authorized"):
            client.write(["m v=1 5"])
        with pytest.raises(errors.InfluxRefusedError):
            client.create_database()


def test_a_token_wins_over_user_and_password() -> None:
    seen = []

    def reply(request: httpx.Request) -> httpx.Response:
        seen.append(request.headers["Authorization"])
        return httpx.Response(204)

    target = InfluxTarget(
        url="http://u:p@influx.invalid",
        user="u",
        password=SecretStr("p"),
        token=SecretStr("secret-token"),
    )
    with InfluxClient(target, transport=httpx.MockTransport(reply)) as client:
        client.write(["m v=1 5"])
    assert seen == ["Token secret-token"]
