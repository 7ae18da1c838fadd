"""The InfluxDB of the demo: the one that the environment names, or a private influxd, or none."""

import shutil
import subprocess
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx

from squash_api.demo.processes import HOST, Child, DemoError, Stop, free_port

DATABASE = "squash_demo"
_START_TIMEOUT_S = 30.0
_ATTEMPTS = 3
_CREDENTIALS = ("SQUASH_INFLUX_USER", "SQUASH_INFLUX_PASSWORD", "SQUASH_INFLUX_TOKEN")

# Upstream and Debian spell the switch for reporting differently, and ignore the other spelling.
_CONFIG = """\
reporting-disabled = true
reporting-enabled = false
bind-address = "{host}:{rpc_port}"

[meta]
  dir = "{folder}/meta"

[data]
  dir = "{folder}/data"
  wal-dir = "{folder}/wal"

[monitor]
  store-enabled = false

[http]
  bind-address = "{host}:{port}"
"""


@dataclass(frozen=True, slots=True)
class Influx:
    """An InfluxDB to deliver to: the settings of it, as the service's environment holds them."""

    variables: Mapping[str, str]
    child: Child | None = None

    @property
    def url(self) -> str:
        """Address, without a trailing slash."""
        return self.variables["SQUASH_INFLUX_URL"].rstrip("/")

    @property
    def database(self) -> str:
        """Name of the database."""
        return self.variables["SQUASH_INFLUX_DATABASE"]


def given_influx(variables: Mapping[str, str]) -> Influx | None:
    """Return the InfluxDB that environment variables name, or None.

    Its database is one of the demo's own, unless they name one. `SQUASH_INFLUX_TARGETS` is left
    out: made-up history has no place in a list of real databases.
    """
    url = variables.get("SQUASH_INFLUX_URL")
    if not url:
        return None
    credentials = {name: variables[name] for name in _CREDENTIALS if variables.get(name)}
    database = variables.get("SQUASH_INFLUX_DATABASE") or DATABASE
    return Influx(
        {"SQUASH_INFLUX_URL": url, "SQUASH_INFLUX_DATABASE": database, **credentials},
    )


def find_influxd(path: str | None = None) -> tuple[str | None, str]:
    """Look for an influxd of InfluxDB 1.x, on PATH unless told otherwise.

    Returns
    -------
    tuple
        The program, or None; and its version, or why there is none.
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
        return None, f"{program} is no InfluxDB 1.x: it says {said[:60]!r}"
    return program, said.partition(" (")[0]


@contextmanager
def private_influxd(program: str, *, folder: Path, stop: Stop) -> Iterator[Influx]:
    """Run an influxd on free loopback ports with its data in the folder; it reports nothing home.

    Raises
    ------
    DemoError
        If it does not start.
    """
    for attempt in range(_ATTEMPTS):
        port = free_port()
        with Child(
            "influxd",
            command=[program, "-config", str(_write_config(folder, port))],
            folder=folder,
            variables={"INFLUXDB_REPORTING_DISABLED": "true", "HOME": str(folder)},
        ) as child:
            url = f"http://{HOST}:{port}"
            try:
                child.wait_for(lambda url=url: _answers(url), stop=stop, timeout_s=_START_TIMEOUT_S)  # type: ignore[misc]
            except DemoError:
                # Another program may have taken a port in between.
                if attempt + 1 < _ATTEMPTS and not child.is_running():
                    continue
                raise
            yield Influx(
                {"SQUASH_INFLUX_URL": url, "SQUASH_INFLUX_DATABASE": DATABASE}, child=child
            )
            return


def _write_config(folder: Path, port: int) -> Path:
    path = folder / "influxdb.conf"
    text = _CONFIG.format(host=HOST, port=port, rpc_port=free_port(), folder=folder)
    path.write_text(text, encoding="utf-8")
    return path


def _answers(url: str) -> bool:
    try:
        return httpx.get(f"{url}/ping", timeout=2, trust_env=False).status_code == 204
    except httpx.TransportError:
        return False
