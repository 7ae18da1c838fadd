"""The service of the demo: where its specifications are, its environment, its start, its user."""

import secrets
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx

import squash_api
from squash_api.demo.processes import HOST, Child, DemoError, Stop, free_port, is_free
from squash_api.metrics_packages.loading import find_packages

USER = "demo"
_USUAL_PORT = 8000
_START_TIMEOUT_S = 60.0
_ATTEMPTS = 3
_SERVE = ("-m", "squash_api", "serve")


@dataclass(frozen=True, slots=True)
class Service:
    """A service that is ready: its root, without a trailing slash, and its process."""

    url: str
    child: Child


@dataclass(frozen=True, slots=True)
class User:
    """A registered user."""

    name: str
    password: str


def find_specs(*, folder: Path, given: Sequence[Path] = ()) -> list[Path]:
    """Return the metrics packages to load: those given, else all in a folder `specs`.

    That folder is looked for in `folder` first, then beside the package, where a checkout has it.

    Raises
    ------
    DemoError
        If there is none.
    """
    if given:
        missing = [str(path) for path in given if not path.is_dir()]
        if missing:
            raise DemoError(f"--specs: no such directory: {', '.join(missing)}")
        return [path.resolve() for path in given]
    beside = Path(squash_api.__file__).parent.parent
    places = [place / "specs" for place in (folder, beside)]
    for place in places:
        found = find_packages(place)
        if found:
            return [path.resolve() for path in found]
    looked = " nor ".join(str(place) for place in dict.fromkeys(places))
    raise DemoError(
        f"there are no metrics packages in {looked}: run the demo in a checkout of the project, "
        "or name their directories with --specs"
    )


def service_variables(
    variables: Mapping[str, str], *, folder: Path, specs: Sequence[Path], port: int
) -> dict[str, str]:
    """Return the environment of the service: the given one without any setting of SQuaSH, and ours.

    The secret is a new one each time.
    """
    kept = {
        name: text for name, text in variables.items() if not name.upper().startswith("SQUASH_")
    }
    return kept | {
        "SQUASH_SECRET": secrets.token_hex(32),
        "SQUASH_URL": f"http://{HOST}:{port}",
        "SQUASH_HOST": HOST,
        "SQUASH_PORT": str(port),
        "SQUASH_DATABASE_URL": f"sqlite:///{folder}/squash.db",
        "SQUASH_REGISTRATION": "open",
        "SQUASH_SPECS": ":".join(map(str, specs)),
    }


@contextmanager
def running_service(
    *,
    folder: Path,
    port: int | None,
    specs: Sequence[Path],
    variables: Mapping[str, str],
    influx_variables: Mapping[str, str],
    stop: Stop,
) -> Iterator[Service]:
    """Run a service with an empty record in the folder until the context ends.

    Parameters
    ----------
    folder
        Where it runs; no `.env` is there, so none is read.
    port
        Port to listen on; if None, the usual one or, if that is taken, a free one.
    specs
        Metrics packages that it loads.
    variables
        Environment of this process, of which the settings of SQuaSH are taken out.
    influx_variables
        Settings of the InfluxDB to deliver to; empty without one.

    Raises
    ------
    DemoError
        If it does not start, with the end of its log.
    """
    for attempt in range(_ATTEMPTS):
        chosen = _choose_port(port)
        settings = service_variables(variables, folder=folder, specs=specs, port=chosen)
        with Child(
            "squash serve",
            command=[sys.executable, *_SERVE],
            folder=folder,
            variables={**settings, **influx_variables},
        ) as child:
            url = f"http://{HOST}:{chosen}"
            try:
                child.wait_for(
                    lambda url=url: _is_ready(url),  # type: ignore[misc]
                    stop=stop,
                    timeout_s=_START_TIMEOUT_S,
                )
            except DemoError:
                # Another program may have taken the port since it was chosen.
                if port is None and attempt + 1 < _ATTEMPTS and not is_free(chosen):
                    continue
                raise
            yield Service(url, child)
            return


def register_user(service: Service) -> User:
    """Register the demo's user with a password made up here.

    Raises
    ------
    DemoError
        If the service refuses.
    """
    user = User(USER, secrets.token_urlsafe(12))
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


def _choose_port(port: int | None) -> int:
    if port is None:
        return _USUAL_PORT if is_free(_USUAL_PORT) else free_port()
    if port == 0:
        return free_port()
    if not is_free(port):
        raise DemoError(f"port {port} is taken: give another with --port, or none")
    return port


def _is_ready(url: str) -> bool:
    try:
        return httpx.get(f"{url}/readyz", timeout=5, trust_env=False).status_code == 200
    except httpx.TransportError:
        return False
