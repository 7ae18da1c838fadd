from pathlib import Path

import httpx
import pytest

from squash_api.demo.influxdb import DATABASE, find_influxd, given_influx, private_influxd
from squash_api.demo.processes import DemoError, Stop

URL = "http://influx.example:8086"


def make_program(folder: Path, text: str) -> Path:
    program = folder / "influxd"
    program.write_text(f"#!/bin/sh\n{text}\n")
    program.chmod(0o755)
    return program


def test_without_a_url_no_influxdb_is_given() -> None:
    assert given_influx({"SQUASH_INFLUX_URL": "", "SQUASH_INFLUX_DATABASE": "real"}) is None


def test_a_given_influxdb_gets_a_database_of_the_demos_own() -> None:
    influx = given_influx({"SQUASH_INFLUX_URL": URL + "/"})
    assert influx is not None
    assert (influx.url, influx.database) == (URL, DATABASE)


def test_a_given_influxdb_keeps_the_database_that_is_named() -> None:
    influx = given_influx({"SQUASH_INFLUX_URL": URL, "SQUASH_INFLUX_DATABASE": "mine"})
    assert influx is not None
    assert influx.database == "mine"


def test_the_service_gets_the_credentials_but_no_further_targets() -> None:
    credentials = {
        "SQUASH_INFLUX_USER": "u",
        "SQUASH_INFLUX_PASSWORD": "p",
        "SQUASH_INFLUX_TOKEN": "t",
    }
    influx = given_influx(
        {"SQUASH_INFLUX_URL": URL, "SQUASH_INFLUX_TARGETS": "[]", "HOME": "/"} | credentials
    )
    assert influx is not None
    assert influx.variables == credentials | {
        "SQUASH_INFLUX_URL": URL,
        "SQUASH_INFLUX_DATABASE": DATABASE,
    }


def test_where_no_influxd_is_the_reason_names_the_package(tmp_path: Path) -> None:
    program, reason = find_influxd(str(tmp_path))
    assert program is None
    assert "Debian's package influxdb" in reason


@pytest.mark.parametrize("version", ["InfluxDB v1.6.7~rc0", "InfluxDB v1.11.8"])
def test_an_influxd_of_line_1_is_found_with_its_version(tmp_path: Path, version: str) -> None:
    program = make_program(tmp_path, f"echo '{version} (git: unknown unknown)'")
    assert find_influxd(str(tmp_path)) == (str(program), version)


def test_an_influxd_of_line_2_is_not_used(tmp_path: Path) -> None:
    make_program(tmp_path, "echo 'InfluxDB v2.7.1 (git: 407fa622e9)'")
    program, reason = find_influxd(str(tmp_path))
    assert program is None
    assert "not InfluxDB 1.x" in reason


def test_an_influxd_that_cannot_run_is_not_used(tmp_path: Path) -> None:
    (tmp_path / "influxd").write_bytes(b"\x7fELF")
    (tmp_path / "influxd").chmod(0o755)
    program, reason = find_influxd(str(tmp_path))
    assert program is None
    assert "does not run" in reason


def test_a_private_influxd_that_does_not_start_shows_its_log(tmp_path: Path) -> None:
    program = make_program(tmp_path, "echo no room; exit 3")
    with (
        pytest.raises(DemoError, match="no room"),
        private_influxd(str(program), directory=tmp_path, stop=Stop()),
    ):
        pass


def test_a_private_influxd_answers_until_the_context_ends(
    influxd_binary: str, tmp_path: Path
) -> None:
    with private_influxd(influxd_binary, directory=tmp_path, stop=Stop()) as influx:
        assert httpx.get(f"{influx.url}/ping", trust_env=False, timeout=60).status_code == 204
        assert influx.database == DATABASE
        assert (tmp_path / "data").is_dir()
    with pytest.raises(httpx.ConnectError):
        httpx.get(f"{influx.url}/ping", trust_env=False, timeout=60)


def test_a_private_influxd_listens_on_loopback_only(influxd_binary: str, tmp_path: Path) -> None:
    with private_influxd(influxd_binary, directory=tmp_path, stop=Stop()):
        config = (tmp_path / "influxdb.conf").read_text()
    addresses = [line for line in config.splitlines() if "bind-address" in line]
    assert len(addresses) == 2
    assert all('"127.0.0.1:' in line for line in addresses)
