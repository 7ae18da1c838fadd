"""The demo's InfluxDB: the one that the environment names, a private influxd, or none."""

import shutil
import subprocess
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from squash_api.demo.processes import HOST, Child, Stop, free_port, running_server

DATABASE = "squash_demo"
_START_TIMEOUT_S = 30.0
_CREDENTIALS = ("SQUASH_INFLUX_USER", "SQUASH_INFLUX_PASSWORD", "SQUASH_INFLUX_TOKEN")

# Upstream and Debian spell the switch for reporting differently, and ignore the other spelling.
_CONFIG = """\
reporting-disabled = true
reporting-enabled = false
bind-address = "{host}:{rpc_port}"

[meta]
  dir = "{directory}/meta"

[data]
  dir = "{directory}/data"
  wal-dir = "{directory}/wal"

[monitor]
  store-enabled = false

[http]
  bind-address = "{host}:{port}"
"""


@dataclass(frozen=True, slots=True)
class Influx:
    """An InfluxDB to deliver to, as the settings of the service name it."""

    variables: Mapping[str, str]
    child: Child | None = None

    @property
    def url(self) -> str:
        """Root URL, without a trailing slash."""
        return self.variables["SQUASH_INFLUX_URL"].rstrip("/")

    @property
    def database(self) -> str:
        """Database name."""
        return self.variables["SQUASH_INFLUX_DATABASE"]


def given_influx(variables: Mapping[str, str]) -> Influx | None:
    """Read from environment variables which InfluxDB to use; None if they name none.

    The demo has a database of its own there, unless they name one. `SQUASH_INFLUX_TARGETS` is
    ignored: made-up history does not belong in a list of real databases.
    """
    url = variables.get("SQUASH_INFLUX_URL")
    if not url:
        return None
    credentials = {name: variables[name] for name in _CREDENTIALS if variables.get(name)}
    database = variables.get("SQUASH_INFLUX_DATABASE") or DATABASE
    return Influx({"SQUASH_INFLUX_URL": url, "SQUASH_INFLUX_DATABASE": database, **credentials})


def find_influxd(path: str | None = None) -> tuple[str | None, str]:
    """Find an influxd of InfluxDB 1.x, on PATH or on the given search path.

    Gives the program and its version, or None and the reason why there is none.
    """
    program = shutil.which("influxd", path=path)
    if program is None:
        return None, "no influxd on PATH (Debian's package influxdb has it)"
    try:
        said = subprocess.run(
            [program, "version"], capture_output=True, text=True, timeout=10, check=False
        ).stdout.strip()
    except (OSError, subprocess.TimeoutExpired) as error:
        return None, f"{program} does not run: {error}"
    if not said.startswith(("InfluxDB v1.", "InfluxDB 1.")):
        return None, f"{program} is not InfluxDB 1.x: it says {said[:60]!r}"
    return program, said.partition(" (")[0]


@contextmanager
def private_influxd(program: str, *, directory: Path, stop: Stop) -> Iterator[Influx]:
    """Run an influxd on free loopback ports with its data in a directory; it reports nothing."""

    def start(port: int) -> Child:
        path = directory / "influxdb.conf"
        text = _CONFIG.format(host=HOST, port=port, rpc_port=free_port(), directory=directory)
        path.write_text(text, encoding="utf-8")
        return Child(
            "influxd",
            command=[program, "-config", str(path)],
            directory=directory,
            variables={"INFLUXDB_REPORTING_DISABLED": "true", "HOME": str(directory)},
        )

    with running_server(
        start,
        choose_port=free_port,
        path="/ping",
        is_taken=lambda child, _port: not child.is_running(),
        stop=stop,
        timeout_s=_START_TIMEOUT_S,
    ) as (url, child):
        yield Influx({"SQUASH_INFLUX_URL": url, "SQUASH_INFLUX_DATABASE": DATABASE}, child=child)
