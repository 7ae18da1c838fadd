"""A real influxd of its own for tests: free loopback ports, a temporary folder, no reporting."""

import json
import os
import shutil
import signal
import subprocess
import time
from pathlib import Path
from typing import Any, Self

import httpx

from tests.support.ports import free_port

START_TIMEOUT_S = 30.0
ADMIN = "admin"
ADMIN_PASSWORD = "only-for-tests"
_PLACES = os.pathsep.join(["/usr/bin", "/usr/local/bin", "/usr/sbin", "/opt/influxdb"])

_CONFIG = """
reporting-disabled = true
reporting-enabled = false
bind-address = "127.0.0.1:{rpc_port}"
[meta]
  dir = "{root}/meta"
[data]
  dir = "{root}/data"
  wal-dir = "{root}/wal"
  query-log-enabled = false
[monitor]
  store-enabled = false
[http]
  bind-address = "127.0.0.1:{port}"
  log-enabled = false
  auth-enabled = {auth}
{more}
"""


def find_influxd() -> str | None:
    """Return where the binary is, also when PATH is short, or None."""
    path = os.environ.get("PATH", "")
    return shutil.which("influxd", path=f"{path}{os.pathsep}{_PLACES}")


class Influxd:
    """One influxd; `start` may follow `stop` or `kill` and keeps port and data.

    With `auth` there is one user, `ADMIN` with `ADMIN_PASSWORD`, who may do everything.
    """

    def __init__(self, root: Path, *, auth: bool = False, max_body_size: int | None = None) -> None:
        self.root = root
        self.auth = auth
        self.max_body_size = max_body_size
        self.port = 0
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        """Address, without a trailing slash."""
        return f"http://127.0.0.1:{self.port}"

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
        """Start and wait until it answers; another program may win the port, so try thrice."""
        assert self._process is None, "it runs already"
        first = not self.port
        for attempt in range(3):
            if first:
                self.port = free_port()
            if self._try_start():
                break
            if attempt == 2:
                raise RuntimeError(f"influxd did not start:\n{self.log()[-2000:]}")
        if self.auth and first:
            self.query(f"CREATE USER {ADMIN} WITH PASSWORD '{ADMIN_PASSWORD}' WITH ALL PRIVILEGES")

    def stop(self) -> None:
        """End it in good order; nothing happens if it does not run."""
        self._end(signal.SIGTERM)

    def kill(self) -> None:
        """End it at once, as a crash would."""
        self._end(signal.SIGKILL)

    def pause(self) -> None:
        """Let it hang: connections open, no answers."""
        assert self._process is not None
        self._process.send_signal(signal.SIGSTOP)

    def resume(self) -> None:
        """End a `pause`."""
        assert self._process is not None
        self._process.send_signal(signal.SIGCONT)

    def log(self) -> str:
        """Return what it has logged since the first start."""
        return (self.root / "log").read_text(errors="replace")

    def query(self, influxql: str, *, database: str | None = None) -> list[dict[str, Any]]:
        """Run statements and return their series; times in ns, other numbers as floats."""
        reply = httpx.post(
            f"{self.url}/query",
            params={"epoch": "ns", **({"db": database} if database else {})},
            data={"q": influxql},
            auth=(ADMIN, ADMIN_PASSWORD) if self.auth else None,
            timeout=60,
            trust_env=False,
        )
        # "-0" would lose its sign as an integer.
        body = json.loads(
            reply.content, parse_int=lambda digits: -0.0 if digits == "-0" else int(digits)
        )
        errors = [result["error"] for result in body.get("results", [body]) if "error" in result]
        if errors:
            raise RuntimeError("; ".join(errors))
        return [series for result in body["results"] for series in result.get("series", [])]

    def create_database(self, name: str, *, duration: str | None = None) -> None:
        """Create a database, with a retention such as `1h` if `duration` is given."""
        limit = f' WITH DURATION {duration} REPLICATION 1 NAME "short"' if duration else ""
        self.query(f"CREATE DATABASE {_quote(name)}{limit}")

    def points(self, database: str, measurement: str | None = None) -> list[dict[str, Any]]:
        """Return every point: measurement, tags, fields (floats and texts) and time in ns.

        Of one measurement if it is given, else all but what the service says of itself. Absent tags
        and fields are not in the dictionaries.
        """
        found = []
        names = [measurement] if measurement else self._measurements(database)
        for name in names:
            for series in self.query(f"SELECT * FROM {_quote(name)} GROUP BY *", database=database):
                tags = {key: value for key, value in series.get("tags", {}).items() if value}
                for row in series["values"]:
                    cells = dict(zip(series["columns"][1:], row[1:], strict=True))
                    fields = {
                        key: float(value) if isinstance(value, int) else value
                        for key, value in cells.items()
                        if value is not None
                    }
                    found.append(
                        {"measurement": name, "tags": tags, "fields": fields, "time": row[0]}
                    )
        return found

    def export(self, database: str) -> bytes:
        """Return all points as sorted lines, equal for equal content, to compare two exports."""
        lines = [
            json.dumps(point, sort_keys=True, ensure_ascii=False) for point in self.points(database)
        ]
        return "\n".join(sorted(lines)).encode()

    def _measurements(self, database: str) -> list[str]:
        shown = self.query("SHOW MEASUREMENTS", database=database)
        names = [row[0] for series in shown for row in series["values"]]
        return [name for name in names if not name.startswith("squash_")]

    def _try_start(self) -> bool:
        """Start once; tell whether it answers before the time is over."""
        self.root.mkdir(parents=True, exist_ok=True)
        binary = find_influxd()
        assert binary is not None, "influxd is missing"
        limit = "" if self.max_body_size is None else f"  max-body-size = {self.max_body_size}"
        config = self.root / "influxdb.conf"
        config.write_text(
            _CONFIG.format(
                root=self.root,
                port=self.port,
                rpc_port=free_port(),
                auth=str(self.auth).lower(),
                more=limit,
            )
        )
        with (self.root / "log").open("ab") as log:
            process = subprocess.Popen(
                [binary, "-config", str(config)],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env={"INFLUXDB_REPORTING_DISABLED": "true", "HOME": str(self.root)},
            )
        deadline = time.monotonic() + START_TIMEOUT_S
        while process.poll() is None and time.monotonic() < deadline:
            if self._answers():
                self._process = process
                return True
            time.sleep(0.02)
        process.kill()
        process.wait()
        return False

    def _answers(self) -> bool:
        try:
            return httpx.get(f"{self.url}/ping", timeout=2, trust_env=False).status_code == 204
        except httpx.TransportError:
            return False

    def _end(self, number: signal.Signals) -> None:
        process, self._process = self._process, None
        if process is None:
            return
        process.send_signal(number)
        process.send_signal(signal.SIGCONT)
        try:
            process.wait(timeout=20)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _quote(identifier: str) -> str:
    escaped = identifier.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
    return f'"{escaped}"'
