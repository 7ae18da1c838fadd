"""A real kapacitord of its own for tests: a free loopback port, a temporary folder."""

import os
import shutil
import signal
import subprocess
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Self

import httpx

from tests.support.ports import free_port
from tests.support.site import wait_for

START_TIMEOUT_S = 60.0
_PLACES = os.pathsep.join(["/usr/bin", "/usr/local/bin", "/usr/sbin", "/opt/kapacitor"])

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


def find_kapacitord() -> str | None:
    """Return where the binary is, also when PATH is short, or None."""
    path = os.environ.get("PATH", "")
    return shutil.which("kapacitord", path=f"{path}{os.pathsep}{_PLACES}")


def write_load_directory(directory: Path, files: Mapping[str, str]) -> Path:
    """Write generated files below a directory, and return the load directory among them."""
    for name, text in files.items():
        place = directory / name
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_text(text, encoding="utf-8")
    return directory / "kapacitor"


class Kapacitord:
    """One kapacitord; `start` may follow `stop` and keeps port and data.

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
        self, root: Path, load: Path, *, influxdb: str = "", slack: str = "", persist: bool = True
    ) -> None:
        self.root = root
        self.load = load
        self.port = 0
        self._words = {
            "influxdb": influxdb,
            "has_influxdb": str(bool(influxdb)).lower(),
            "slack": slack,
            "has_slack": str(bool(slack)).lower(),
            "persist": str(persist).lower(),
        }
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        """Address of the API, without a trailing slash."""
        return f"http://127.0.0.1:{self.port}/kapacitor/v1"

    @property
    def pid(self) -> int | None:
        """Process id while it runs."""
        return self._process.pid if self._process else None

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def start(self) -> None:
        """Start, and return once all of the load directory is loaded."""
        assert self._process is None, "it runs already"
        binary = find_kapacitord()
        assert binary is not None, "kapacitord is missing"
        self.root.mkdir(parents=True, exist_ok=True)
        self.port = self.port or free_port()
        config = self.root / "kapacitor.conf"
        config.write_text(
            _CONFIG.format(root=self.root, port=self.port, load=self.load, **self._words)
        )
        with (self.root / "log").open("ab") as log:
            self._process = subprocess.Popen(
                [binary, "-config", str(config)],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env={"HOME": str(self.root)},
            )
        wait_for(self._is_ready, timeout_s=START_TIMEOUT_S)

    def stop(self) -> None:
        """End it in good order; nothing happens if it does not run."""
        process, self._process = self._process, None
        if process is None:
            return
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(timeout=20)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()

    def log(self) -> str:
        """Return what it has logged since the first start."""
        return (self.root / "log").read_text(errors="replace")

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
        assert self._process is not None
        status = Path(f"/proc/{self._process.pid}/status").read_text()
        line = next(line for line in status.splitlines() if line.startswith("VmRSS:"))
        return int(line.split()[1]) * 1024 / 1e6

    def _get(self, path: str, **params: Any) -> Any:
        reply = httpx.get(f"{self.url}{path}", params=params, timeout=60, trust_env=False)
        assert reply.status_code == 200, reply.text
        return reply.json()

    def _is_ready(self) -> bool:
        assert self._process is not None
        if self._process.poll() is not None:
            raise RuntimeError(f"kapacitord did not start:\n{self.log()[-3000:]}")
        # It answers before it has loaded; the handlers come last, and their topics with them.
        try:
            expected = len(list((self.load / "tasks").glob("*.tick")))
            handlers = len(list((self.load / "handlers").glob("*.yaml")))
            return len(self.tasks()) >= expected and self._handlers() >= handlers
        except httpx.TransportError:
            return False

    def _handlers(self) -> int:
        topics = self._get("/alerts/topics")["topics"]
        return sum(
            len(self._get(f"/alerts/topics/{topic['id']}/handlers")["handlers"]) for topic in topics
        )
