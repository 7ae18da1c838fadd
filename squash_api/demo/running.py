"""The demo's service: starting it, registering a user, sending jobs and reading the verdicts.

Whatever fails here raises `DemoError`; what fails in the client, `SquashClientError`.
"""

import secrets
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx

import squash_api
from squash_api.client import Job, Squash, Verdict
from squash_api.demo.processes import (
    HOST,
    Child,
    DemoError,
    Stop,
    free_port,
    is_free,
    running_server,
)
from squash_api.metrics_packages.loading import find_packages

RECORD = "squash.db"
"""The file of the record, in the directory of the demo."""

_USER = "demo"
_UNMEASURED = frozenset({"kinds", "notebooks"})
_USUAL_PORT = 8000
_START_TIMEOUT_S = 60.0
_TIMEOUT_S = 60.0
_CONNECTIONS = 3
_RETRIES = 3


@dataclass(frozen=True, slots=True)
class Service:
    """A service that is ready: its root URL, without a trailing slash, and its process."""

    url: str
    child: Child


@dataclass(frozen=True, slots=True)
class User:
    """A registered user."""

    name: str
    password: str


@dataclass(frozen=True, slots=True)
class Judged:
    """A job that was sent: its id, its status and its verdicts, both as the service shows them."""

    job_id: int
    status: dict[str, Any]
    verdicts: list[Verdict]


def find_specs(*, directory: Path, given: Sequence[Path] = ()) -> list[Path]:
    """Find the metrics packages to load: those given, else all of the directory.

    These are in `specs` and, for demonstration, in `examples/specs`, except for those whose metrics
    the demo does not measure. If there are none, they are looked for next to the Python package,
    where a checkout has them.
    """
    if given:
        missing = [str(path) for path in given if not path.is_dir()]
        if missing:
            raise DemoError(f"--specs: no such directory: {', '.join(missing)}")
        return [path.resolve() for path in given]
    checkout = Path(squash_api.__file__).parent.parent
    places = [directory, checkout]
    for place in places:
        examples = find_packages(place / "examples" / "specs")
        shown = (path for path in examples if path.name not in _UNMEASURED)
        found = [*find_packages(place / "specs"), *shown]
        if found:
            return [path.resolve() for path in sorted(found, key=lambda path: path.name)]
    looked = " nor ".join(str(place) for place in dict.fromkeys(places))
    raise DemoError(
        f"there are no metrics packages in specs/ of {looked}: run the demo in a checkout of the "
        "project, or name their directories with --specs"
    )


def service_variables(
    variables: Mapping[str, str], *, directory: Path, specs: Sequence[Path], port: int
) -> dict[str, str]:
    """Replace all settings of SQuaSH in an environment with the demo's, and a new secret."""
    kept = {
        name: text for name, text in variables.items() if not name.upper().startswith("SQUASH_")
    }
    return kept | {
        "SQUASH_SECRET": secrets.token_hex(32),
        "SQUASH_URL": f"http://{HOST}:{port}",
        "SQUASH_HOST": HOST,
        "SQUASH_PORT": str(port),
        "SQUASH_DATABASE_URL": f"sqlite:///{directory / RECORD}",
        "SQUASH_REGISTRATION": "open",
        "SQUASH_SPECS": ":".join(map(str, specs)),
    }


@contextmanager
def running_service(
    *,
    directory: Path,
    port: int | None,
    specs: Sequence[Path],
    variables: Mapping[str, str],
    influx_variables: Mapping[str, str],
    stop: Stop,
) -> Iterator[Service]:
    """Run a service with an empty record in a directory until the context ends.

    Parameters
    ----------
    directory
        Must hold no `.env`, which the service would read.
    port
        If None, the usual one or, if that is taken, a free one. 0 is any free one.
    variables
        Environment of this process. The settings of SQuaSH in it are left out.
    influx_variables
        Settings of the InfluxDB to deliver to; empty without one.
    """

    def start(chosen: int) -> Child:
        settings = service_variables(variables, directory=directory, specs=specs, port=chosen)
        return Child(
            "squash serve",
            command=[sys.executable, "-m", "squash_api", "serve"],
            directory=directory,
            variables={**settings, **influx_variables},
        )

    with running_server(
        start,
        choose_port=lambda: _choose_port(port),
        path="/readyz",
        is_taken=lambda _child, chosen: port is None and not is_free(chosen),
        stop=stop,
        timeout_s=_START_TIMEOUT_S,
    ) as (url, child):
        yield Service(url, child)


def _choose_port(port: int | None) -> int:
    if port is None:
        return _USUAL_PORT if is_free(_USUAL_PORT) else free_port()
    if port == 0:
        return free_port()
    if not is_free(port):
        raise DemoError(f"port {port} is taken: give another with --port, or none")
    return port


def register_user(service: Service) -> User:
    """Register the demo's user with a new random password."""
    user = User(_USER, secrets.token_urlsafe(12))
    try:
        response = httpx.post(
            f"{service.url}/register",
            json={"username": user.name, "password": user.password},
            timeout=30,
            trust_env=False,
        )
    except httpx.HTTPError as error:
        service.child.check()
        raise DemoError(f"the service does not answer: {error}") from None
    if response.status_code != 201:
        raise DemoError(f"the service does not register a user: {response.text}")
    return user


def connect(url: str, user: User, *, stop: Stop) -> Squash:
    """Log in to the service at a URL, with a client that stops when the demo is to stop."""
    squash = Squash(
        url,
        user.name,
        user.password,
        timeout=_TIMEOUT_S,
        retries=_RETRIES,
        # A transport of our own asks no proxy for the loopback address.
        transport=httpx.HTTPTransport(),
        sleep=stop.pause,
    )
    squash.log_in()
    return squash


def send_days(squash: Squash, days: Iterable[Sequence[Job]], *, stop: Stop) -> Iterator[int]:
    """Send days of jobs, and yield how many jobs of each day were accepted.

    The jobs of a day go over several connections at once. The next day begins when the service has
    them all: code changes depend on the order in which it receives the runs.
    """
    with ThreadPoolExecutor(_CONNECTIONS, thread_name_prefix="dispatch") as pool:
        for day in days:
            stop.check()
            yield len(list(pool.map(lambda job: squash.send(job, strict=True), day)))


def judge(squash: Squash, job: Job, *, timeout_s: float = 30.0) -> Judged:
    """Send a job, wait until it is in InfluxDB if there is one, and fetch its verdicts."""
    reply = squash.send(job, strict=True)
    if reply.job_id is None:
        raise DemoError(f"the service accepted a job without an id: {reply.message}")
    status = squash.wait(reply, timeout_s=timeout_s)
    return Judged(reply.job_id, status, squash.report(reply.job_id))


def server_of(url: str) -> tuple[str, list[str]]:
    """Return which InfluxDB the service at a URL delivers to, and what that cannot do."""
    answer = httpx.get(f"{url}/readyz", timeout=_TIMEOUT_S, trust_env=False).json()
    found = answer.get("targets", {}).get("default", {})
    return str(found.get("server") or "InfluxDB"), list(found.get("lacks") or ())


def delivery_problems(url: str, judged: Judged) -> list[str]:
    """Describe what the service at a URL could not deliver to InfluxDB, one sentence each."""
    problems = []
    if judged.status.get("status") != "SUCCESS":
        said = f"{judged.status.get('status')}: {judged.status.get('message')}"
        problems.append(f"job {judged.job_id} is {said}")
    answer = httpx.get(f"{url}/readyz", timeout=_TIMEOUT_S, trust_env=False).json()
    for state in answer.get("targets", {}).values():
        if state.get("reason"):
            problems.append(f"InfluxDB is down: {state['reason']}")
        if state.get("quarantined"):
            problems.append(f"InfluxDB permanently refused {state['quarantined']} points")
    return problems
