"""A real influxd of its own for tests: free loopback ports, a temporary folder, no reporting."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import httpx

from tests.support.programs import find_program
from tests.support.server import Server, free_port, is_up, local_url

ADMIN = "admin"
ADMIN_PASSWORD = "only-for-tests"

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


class Influxd(Server):
    """One influxd; with `auth` there is one user, `ADMIN` with `ADMIN_PASSWORD`, who may do all."""

    def __init__(
        self, folder: Path, *, auth: bool = False, max_body_size: int | None = None
    ) -> None:
        super().__init__(folder, name="influxd")
        self.auth = auth
        self.max_body_size = max_body_size
        self._has_user = False

    @property
    def url(self) -> str:
        """Address, without a trailing slash."""
        return local_url(self.port)

    def command(self) -> Sequence[str]:
        """Return the program with its configuration."""
        limit = "" if self.max_body_size is None else f"  max-body-size = {self.max_body_size}"
        config = self.folder / "influxdb.conf"
        config.write_text(
            _CONFIG.format(
                root=self.folder,
                port=self.port,
                rpc_port=free_port(),
                auth=str(self.auth).lower(),
                more=limit,
            )
        )
        return [find_program("influxd"), "-config", str(config)]

    def variables(self) -> Mapping[str, str]:
        """Return its environment."""
        return {**super().variables(), "INFLUXDB_REPORTING_DISABLED": "true"}

    def is_ready(self) -> bool:
        """Return whether it answers."""
        return is_up(f"{self.url}/ping")

    def start(self) -> None:
        """Start it; the first time its user is made."""
        super().start()
        if self.auth and not self._has_user:
            self.query(f"CREATE USER {ADMIN} WITH PASSWORD '{ADMIN_PASSWORD}' WITH ALL PRIVILEGES")
            self._has_user = True

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

    def write(self, database: str, *lines: str) -> None:
        """Write lines, as another program might, with times in ns."""
        reply = httpx.post(
            f"{self.url}/write",
            params={"db": database, "precision": "ns"},
            content="\n".join(lines).encode(),
            auth=(ADMIN, ADMIN_PASSWORD) if self.auth else None,
            timeout=60,
            trust_env=False,
        )
        assert reply.status_code == 204, reply.text

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


def _quote(identifier: str) -> str:
    escaped = identifier.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
    return f'"{escaped}"'
