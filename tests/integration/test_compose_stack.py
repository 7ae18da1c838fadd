"""The four programs work together with the variables of docker-compose.yml.

Without Docker: each is started on a loopback port with what Compose would give it, with addresses
and folders of this machine in place of those of the containers.
"""

import json
import os
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml

from tests.support.calls import log_in
from tests.support.programs import find_program
from tests.support.server import Server, free_port, is_up, local_url
from tests.support.service import Service
from tests.support.site import AS_JSON, job_document, wait_for

# What Kapacitor does with points does not depend on where the record is.
pytestmark = pytest.mark.sqlite

ROOT = Path(__file__).parents[2]
ADMIN = {"INFLUXDB_ADMIN_USER": "squash", "INFLUXDB_ADMIN_PASSWORD": "onlyfortests"}
PROGRAMS = ("influxd", "kapacitord", "chronograf", "docker-compose")


class Given(Server):
    """A program with these variables, which answers at an address once it is ready."""

    def __init__(self, folder: Path, name: str, url: str, variables: Mapping[str, str]) -> None:
        super().__init__(folder, name=name)
        self._url = url
        self._variables = variables

    def command(self) -> Sequence[str]:
        return [find_program(self.name)]

    def variables(self) -> Mapping[str, str]:
        return {"PATH": os.environ["PATH"], **super().variables(), **self._variables}

    def is_ready(self) -> bool:
        return is_up(self._url)


class Stack:
    """The programs, running; `given` is the environment that Compose gives to each."""

    def __init__(self, folder: Path, given: Mapping[str, Mapping[str, str]]) -> None:
        self.folder = folder
        self.given = given
        self.influxdb = f"{local_url(free_port())}"
        self.kapacitor = f"{local_url(free_port())}/kapacitor/v1"
        self.chronograf = f"{local_url(free_port())}"
        user, password = (
            given["squash_api"][f"SQUASH_INFLUX_{key}"] for key in ("USER", "PASSWORD")
        )
        self.auth = (user, password) if user else None

    @contextmanager
    def run(self) -> Iterator[Service]:
        """Start all in the order that Compose would, and end them."""
        with ExitStack() as stack:
            stack.enter_context(self._influxdb())
            stack.enter_context(self._kapacitor())
            stack.enter_context(self._chronograf())
            yield stack.enter_context(self._service())

    @contextmanager
    def _influxdb(self) -> Iterator[None]:
        place = {
            "INFLUXDB_META_DIR": str(self.folder / "meta"),
            "INFLUXDB_DATA_DIR": str(self.folder / "data"),
            "INFLUXDB_DATA_WAL_DIR": str(self.folder / "wal"),
            "INFLUXDB_HTTP_BIND_ADDRESS": self.influxdb.removeprefix("http://"),
            "INFLUXDB_BIND_ADDRESS": f"127.0.0.1:{free_port()}",
            # As Debian's package spells it.
            "INFLUXDB_REPORTING_ENABLED": "false",
        }
        variables = {**self.given["influxdb"], **place}
        with Given(self.folder, "influxd", f"{self.influxdb}/ping", variables):
            # What the image's entrypoint does with its variables.
            if self.auth:
                user, password = self.auth
                self.query(f"CREATE USER {user} WITH PASSWORD '{password}' WITH ALL PRIVILEGES")
            self.query(f"CREATE DATABASE {self.given['influxdb']['INFLUXDB_DB']}")
            yield

    @contextmanager
    def _kapacitor(self) -> Iterator[None]:
        given = self.given["kapacitor"]
        port = self.kapacitor.split(":")[2].split("/")[0]
        place = {
            "KAPACITOR_HOSTNAME": "127.0.0.1",
            "KAPACITOR_INFLUXDB_0_URLS_0": self.influxdb,
            "KAPACITOR_LOAD_DIR": str(ROOT / "kapacitor"),
            "KAPACITOR_DATA_DIR": str(self.folder),
            "KAPACITOR_STORAGE_BOLTDB": str(self.folder / "kapacitor.db"),
            "KAPACITOR_REPLAY_DIR": str(self.folder / "replay"),
            "KAPACITOR_HTTP_BIND_ADDRESS": f"127.0.0.1:{port}",
        }
        with Given(self.folder, "kapacitord", f"{self.kapacitor}/ping", {**given, **place}):
            yield

    @contextmanager
    def _chronograf(self) -> Iterator[None]:
        resources = self.folder / "chronograf"
        resources.mkdir()
        for path in (ROOT / "chronograf").iterdir():
            text = path.read_text("utf-8").replace("http://influxdb:8086", self.influxdb)
            (resources / path.name).write_text(text, "utf-8")
        place = {
            "RESOURCES_PATH": str(resources),
            "BOLT_PATH": str(self.folder / "chronograf.db"),
            "HOST": "127.0.0.1",
            "PORT": self.chronograf.rpartition(":")[2],
        }
        variables = {**self.given["chronograf"], **place}
        with Given(self.folder, "chronograf", f"{self.chronograf}/ping", variables):
            yield

    @contextmanager
    def _service(self) -> Iterator[Service]:
        given = dict(self.given["squash_api"])
        packages = given["SQUASH_SPECS"].split(":")
        place = {
            "SQUASH_SPECS": ":".join(f"{ROOT / path}" for path in packages),
            "SQUASH_INFLUX_URL": self.influxdb,
            "SQUASH_KAPACITOR_URL": self.kapacitor.removesuffix("/kapacitor/v1"),
            "SQUASH_REGISTRATION": "open",
        }
        # The address and the record are the test's own.
        del given["SQUASH_URL"], given["SQUASH_DATABASE_URL"]
        with Service(self.folder, **{**given, **place}) as service:
            yield service

    def query(self, influxql: str) -> Any:
        """Run a statement in InfluxDB."""
        reply = httpx.post(
            f"{self.influxdb}/query",
            params={"db": "squash"},
            data={"q": influxql},
            auth=self.auth,
            trust_env=False,
            timeout=60,
        )
        assert reply.is_success, reply.text
        return reply.json()["results"][0]

    def triggered(self) -> int:
        """Return how many alerts the task of PA1 has raised."""
        task = httpx.get(
            f"{self.kapacitor}/tasks/validate_drp.PA1", trust_env=False, timeout=60
        ).json()
        assert (task["executing"], task["error"]) == (True, "")
        return sum(
            int(node.get("alerts_triggered", 0)) for node in task["stats"]["node-stats"].values()
        )


@pytest.fixture(scope="module", params=["open", "password"])
def stack(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[Stack, Service]]:
    """All four, without and with a password in InfluxDB."""
    compose = [find_program(name) for name in PROGRAMS][-1]
    folder = tmp_path_factory.mktemp("stack")
    secrets = {"SQUASH_SECRET": "a secret of tests, longer than 32 bytes"}
    if request.param == "password":
        secrets |= {"INFLUXDB_HTTP_AUTH_ENABLED": "true", **ADMIN}
    shown = subprocess.run(
        [compose, "--file", str(ROOT / "docker-compose.yml"), "config"],
        cwd=folder,
        env={"PATH": "/usr/bin:/bin", "HOME": str(folder), **secrets},
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    services = yaml.safe_load(shown.stdout)["services"]
    made = Stack(folder, {name: item["environment"] for name, item in services.items()})
    with made.run() as service:
        yield made, service


def _dispatch(service: Service, value: float) -> None:
    with httpx.Client(base_url=service.url, timeout=60, trust_env=False) as client:
        document = job_document(
            {"validate_drp.PA1": value}, unit="mmag", filter_name="r", ci_dataset="d"
        )
        reply = log_in(client, "ada")("POST", "/job", content=json.dumps(document), headers=AS_JSON)
        assert reply.status_code == 202, reply.text


def test_a_bad_value_goes_all_the_way_to_an_alert(stack: tuple[Stack, Service]) -> None:
    running, service = stack
    assert running.triggered() == 0
    _dispatch(service, 9.0)
    wait_for(lambda: running.triggered() == 1)
    _dispatch(service, 1.0)
    wait_for(lambda: running.triggered() == 2)
    assert len(running.query('SELECT "PA1" FROM "validate_drp"')["series"][0]["values"]) == 2


def test_kapacitor_does_not_subscribe_to_what_the_service_tells_it(
    stack: tuple[Stack, Service],
) -> None:
    assert "series" not in stack[0].query("SHOW SUBSCRIPTIONS")


def test_every_task_of_the_repository_is_executing(stack: tuple[Stack, Service]) -> None:
    running, _ = stack
    tasks = httpx.get(
        f"{running.kapacitor}/tasks", params={"limit": "-1"}, trust_env=False, timeout=60
    ).json()["tasks"]
    files = {path.stem for path in (ROOT / "kapacitor" / "tasks").glob("*.tick")}
    assert {task["id"] for task in tasks if task["executing"]} == files


def test_chronograf_has_one_connection_and_every_dashboard(stack: tuple[Stack, Service]) -> None:
    running, _ = stack
    api = f"{running.chronograf}/chronograf/v1"
    (source,) = httpx.get(f"{api}/sources", trust_env=False, timeout=60).json()["sources"]
    assert source["telegraf"] == running.given["influxdb"]["INFLUXDB_DB"]
    asked = {"query": "SHOW DATABASES", "resultFormat": "json"}
    reply = httpx.post(
        f"{running.chronograf}{source['links']['proxy']}", json=asked, timeout=60, trust_env=False
    )
    assert "squash" in json.dumps(reply.json()["results"])
    dashboards = httpx.get(f"{api}/dashboards", trust_env=False, timeout=60).json()["dashboards"]
    assert len(dashboards) == len([*(ROOT / "chronograf").glob("*.dashboard")])
