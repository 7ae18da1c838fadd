"""A real kapacitord of its own for tests: a free loopback port, a temporary folder."""

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import httpx

from tests.support.programs import find_program
from tests.support.server import Server, local_url

_CONFIG = """
hostname = "127.0.0.1"
data_dir = "{root}/data"
[alert]
  persist-topics = {persist}
[http]
  bind-address = "127.0.0.1:{port}"
  log-enabled = false
[load]
  enabled = true
  dir = "{load}"
[replay]
  dir = "{root}/replay"
[storage]
  boltdb = "{root}/data/kapacitor.db"
[task]
  dir = "{root}/tasks"
[[influxdb]]
  enabled = {has_influxdb}
  default = true
  name = "local"
  urls = ["{influxdb}"]
  subscriptions-sync-interval = "1s"
[[slack]]
  enabled = {has_slack}
  default = true
  url = "{slack}"
  channel = "#squash"
[reporting]
  enabled = false
[stats]
  enabled = false
[logging]
  level = "INFO"
"""


def write_load_directory(directory: Path, files: Mapping[str, str]) -> Path:
    """Write generated files below a directory, and return the load directory among them."""
    for name, text in files.items():
        place = directory / name
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_text(text, encoding="utf-8")
    return directory / "kapacitor"


class Kapacitord(Server):
    """One kapacitord, which is ready once all of the load directory is loaded.

    Parameters
    ----------
    load
        The load directory.
    influxdb
        The address of an InfluxDB to subscribe to; without one, points come by `write`.
    slack
        Where messages for Slack go; without it they go nowhere.
    persist
        Whether the states of alerts outlive it.
    """

    def __init__(
        self, folder: Path, load: Path, *, influxdb: str = "", slack: str = "", persist: bool = True
    ) -> None:
        super().__init__(folder, name="kapacitord")
        self.load = load
        self._words = {
            "influxdb": influxdb,
            "has_influxdb": str(bool(influxdb)).lower(),
            "slack": slack,
            "has_slack": str(bool(slack)).lower(),
            "persist": str(persist).lower(),
        }

    @property
    def url(self) -> str:
        """Address of the API, without a trailing slash."""
        return f"{local_url(self.port)}/kapacitor/v1"

    def command(self) -> Sequence[str]:
        """Return the program with its configuration."""
        config = self.folder / "kapacitor.conf"
        config.write_text(
            _CONFIG.format(root=self.folder, port=self.port, load=self.load, **self._words)
        )
        return [find_program("kapacitord"), "-config", str(config)]

    def is_ready(self) -> bool:
        """Return whether all is loaded, and every task runs as it is now: it answers before.

        After a restart it first runs the tasks as it had them, and lists what it is about to start.
        """
        return "listening for signals" in self.fresh_log() and self._is_loaded()

    def _is_loaded(self) -> bool:
        handlers = len(list((self.load / "handlers").glob("*.yaml")))
        fields = {"fields": ["id", "script"], "script-format": "raw"}
        found = self._get("/tasks", limit=-1, **fields)["tasks"]
        loaded = {task["id"]: task["script"].strip() for task in found}
        return self._handlers() >= handlers and all(
            loaded.get(path.stem) == path.read_text("utf-8").strip()
            for path in (self.load / "tasks").glob("*.tick")
        )

    def problems(self) -> list[str]:
        """Return the lines of the log that tell of an error."""
        return [line for line in self.log().splitlines() if "lvl=error" in line]

    def tasks(self) -> list[dict[str, Any]]:
        """Return every task with its state."""
        fields = ["id", "status", "executing", "error", "stats"]
        tasks: list[dict[str, Any]] = self._get("/tasks", limit=-1, fields=fields)["tasks"]
        return tasks

    def events(self, topic: str = "metrics-default") -> dict[str, dict[str, Any]]:
        """Return the state of each alert that was ever raised in a topic, by its id."""
        found = self._get(f"/alerts/topics/{topic}/events", **{"min-level": "OK"})
        return {event["id"]: event["state"] for event in found["events"]}

    def write(self, lines: Iterable[str], *, database: str = "squash") -> None:
        """Give it points, as InfluxDB would."""
        reply = httpx.post(
            f"{self.url}/write",
            params={"db": database, "rp": "autogen", "precision": "ns"},
            content="\n".join(lines).encode(),
            timeout=60,
            trust_env=False,
        )
        assert reply.status_code == 204, reply.text

    def memory_mb(self) -> float:
        """Return the memory it holds, in units of 10^6 bytes."""
        status = Path(f"/proc/{self.pid}/status").read_text()
        line = next(line for line in status.splitlines() if line.startswith("VmRSS:"))
        return int(line.split()[1]) * 1024 / 1e6

    def _get(self, path: str, **params: Any) -> Any:
        reply = httpx.get(f"{self.url}{path}", params=params, timeout=60, trust_env=False)
        assert reply.status_code == 200, reply.text
        return reply.json()

    def _handlers(self) -> int:
        topics = self._get("/alerts/topics")["topics"]
        return sum(
            len(self._get(f"/alerts/topics/{topic['id']}/handlers")["handlers"]) for topic in topics
        )


def empty(kapacitor: str) -> None:
    """Take all tasks and handlers away; `kapacitor` is its address."""
    with httpx.Client(base_url=f"{kapacitor}/kapacitor/v1", trust_env=False, timeout=60) as http:
        for task in http.get("/tasks", params={"fields": "id", "limit": -1}).json()["tasks"]:
            http.delete(f"/tasks/{task['id']}")
        for topic in http.get("/alerts/topics").json()["topics"]:
            place = f"/alerts/topics/{topic['id']}"
            for handler in http.get(f"{place}/handlers").json()["handlers"]:
                http.delete(f"{place}/handlers/{handler['id']}")
            http.delete(place)
