"""Recognizable secrets in every setting, header and body, and a search for them in all that leaves.

Searched are the log, every reply with its headers, the record, the arguments of processes, what
commands print with right and wrong settings, and the generated files.
"""

import base64
import itertools
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from typer.testing import CliRunner

from squash_api.accounts.keys import make_key
from squash_api.cli import app
from squash_api.errors import SettingsError
from squash_api.settings import Settings, load_settings
from squash_api.site import Site
from tests.support.builders import make_settings
from tests.support.service import READING, Service
from tests.support.site import wait_for

# The record's part of this is tried with both engines elsewhere.
pytestmark = pytest.mark.sqlite

# Long enough for every rule, and found whole or in part.
MARK = "hush"
_numbers = itertools.count()


def plant() -> str:
    """Return a secret that no other place has, with the mark every few characters."""
    return "".join(f"{MARK}{next(_numbers):04d}" for _ in range(5))


def with_userinfo(url: str) -> str:
    return url.replace("://", f"://{plant()}:{plant()}@")


SPECS = str(Path(__file__).parents[2] / "examples" / "specs" / "camera")
DEAD = "http://127.0.0.1:9"
SECRETS: dict[str, str] = {
    "SQUASH_SECRET": plant(),
    "SQUASH_SECRET_PREVIOUS": plant(),
    "SQUASH_REGISTRATION_KEY": plant(),
    "SQUASH_INFLUX_URL": with_userinfo(DEAD),
    "SQUASH_INFLUX_PASSWORD": plant(),
    "SQUASH_INFLUX_TOKEN": plant(),
    "SQUASH_INFLUX_TARGETS": json.dumps(
        [{"name": "two", "url": with_userinfo(DEAD), "user": "u", "password": plant()}]
    ),
    "SQUASH_KAPACITOR_URL": with_userinfo(DEAD),
    "SQUASH_CHRONOGRAF_URL": with_userinfo(DEAD),
    "SQUASH_SLACK_URL": f"{DEAD}/{plant()}",
    "SQUASH_GITHUB_TOKEN": plant(),
    "SQUASH_GRAFANA_TOKEN": plant(),
    "SQUASH_KAFKA_PASSWORD": plant(),
    "SQUASH_KAFKA_REGISTRY": with_userinfo(DEAD),
    "SQUASH_KAFKA_REGISTRY_PASSWORD": plant(),
    "SQUASH_KEY": make_key().text,
    "SQUASH_PASSWORD": plant(),
}
KEY = SECRETS["SQUASH_KEY"].split("_")[2]
SETTINGS = SECRETS | {
    "SQUASH_INFLUX_USER": "reader",
    "SQUASH_REGISTRATION": "key",
    "SQUASH_KAFKA_BROKERS": "127.0.0.1:9",
    "SQUASH_KAFKA_SEND": "jobs,verdicts,alerts,points",
    "SQUASH_KAFKA_POINTS": "avro",
    "SQUASH_KAFKA_USER": "squash",
    "SQUASH_KAFKA_REGISTRY_USER": "squash",
}


def leaks(text: str) -> list[str]:
    """Return what is around each planted secret in a text."""
    return [
        text[max(found.start() - 80, 0) : found.end() + 20]
        for found in re.finditer(f"{MARK}|{KEY[:16]}", text)
    ]


def test_every_secret_setting_is_planted() -> None:
    names = {
        f"SQUASH_{name.upper()}"
        for name, item in Settings.model_fields.items()
        if "SecretStr" in str(item.annotation)
    }
    assert names <= set(SECRETS)


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    serving = Service(tmp_path_factory.mktemp("service"), **READING, **SETTINGS)
    # With arguments of its own.
    serving.is_forked = False
    with serving as service:
        with Site(make_settings(service.folder)) as site:
            site.accounts.add("root", plant(), role="admin")
        yield service


def headers() -> Iterator[dict[str, str]]:
    """Yield headers with secrets: of each kind of credentials, right in form and not."""
    key = make_key().text
    basic = base64.b64encode(f"root:{plant()}".encode()).decode()
    for scheme in ("JWT", "Bearer", "jwt", "Negotiate", ""):
        yield {"Authorization": f"{scheme} {plant()}".strip()}
    yield {"Authorization": f"Bearer {plant()} {plant()}"}
    yield {"Authorization": f"Bearer eyJ{plant()}.eyJ{plant()}.{plant()}"}
    yield {"Authorization": f"Bearer {SECRETS['SQUASH_KEY']}"}
    yield {"Authorization": f"Bearer {SECRETS['SQUASH_KEY'][:-1]}"}
    yield {"Authorization": f"Bearer sq_{plant()}"}
    yield {"Authorization": f"Basic {basic}"}
    yield {"Authorization": f"Basic {plant()}"}
    yield {"Authorization": f"Basic {base64.b64encode(f'root:{key}'.encode()).decode()}"}
    yield {"Cookie": f"session={plant()}; squash={plant()}; squash_session={plant()}"}
    yield {"X-Api-Key": plant(), "X-CSRF-Token": plant(), "Proxy-Authorization": plant()}


PATHS = (
    ("GET", "/"),
    ("GET", "/users"),
    ("GET", "/keys"),
    ("GET", "/audit"),
    ("GET", "/jobs"),
    ("GET", "/nothing"),
    ("GET", "/readyz"),
    ("GET", "/prometheus"),
    ("POST", "/job"),
    ("POST", "/metrics"),
    ("DELETE", "/user/root"),
    ("DELETE", f"/keys/{SECRETS['SQUASH_KEY']}"),
    ("GET", f"/keys/{SECRETS['SQUASH_KEY']}"),
)


def bodies() -> Iterator[tuple[str, bytes]]:
    """Yield paths and bodies with secrets: right, of the wrong form, and no JSON at all."""
    password = plant()
    for path in ("/register", "/auth"):
        for document in (
            {"username": "eve", "password": password, "key": plant()},
            {"username": "eve", "password": [password]},
            {"username": "eve", "password": f"{password}\0"},
            {"username": ["eve"], "password": password},
            {"username": "root", "password": SECRETS["SQUASH_KEY"]},
            {"user": "eve", "pass": password},
        ):
            yield path, json.dumps(document).encode()
        yield path, f'{{"username": "eve", "password": "{password}"'.encode()
        yield path, f'{{"username": "eve", "password": {password}}}'.encode()
        yield path, f'{{"password": "{password}", "n": 1e999999}}'.encode()
        yield path, password.encode()


def shown(reply: httpx.Response) -> str:
    return f"{reply.status_code} {dict(reply.headers)} {reply.text}"


def test_no_reply_repeats_what_a_header_has(service: Service) -> None:
    with httpx.Client(base_url=service.url, timeout=60, trust_env=False) as client:
        for given in headers():
            for method, path in PATHS:
                for accept in ("application/json", "text/html"):
                    reply = client.request(method, path, headers={**given, "Accept": accept})
                    assert not leaks(shown(reply)), (given, path)


def test_no_reply_repeats_what_a_body_has(service: Service) -> None:
    with httpx.Client(base_url=service.url, timeout=60, trust_env=False) as client:
        for path, body in bodies():
            reply = client.post(path, content=body, headers={"Content-Type": "application/json"})
            assert not leaks(shown(reply)), (path, body)


def test_what_is_published_has_nothing_of_the_settings(service: Service) -> None:
    wait_for(lambda: "two" in httpx.get(f"{service.url}/readyz", trust_env=False, timeout=60).text)
    with httpx.Client(base_url=service.url, timeout=60, trust_env=False) as client:
        for path in ("/", "/readyz", "/healthz", "/prometheus", "/version", "/openapi.json"):
            for accept in ("application/json", "text/html"):
                assert not leaks(shown(client.get(path, headers={"Accept": accept}))), path


PROCESSES = (
    "user list",
    "replay --no-wait",
    "reconcile --dry-run",
    "dispatch {job} --url {url} --user root",
    "serve",
)
"""Those that write a log are among them: in this process they would change where all logs go."""

COMMANDS = (
    "key list",
    "key create nobody x --scope job:write",
    "key revoke {key}",
    "audit",
    "audit --json",
    "quarantine list",
    "live diff --specs {specs}",
    "live push --specs {specs} --yes",
    "specs check nothing",
    "dispatch {job} --url {url}",
    "user add {job} --password-stdin",
    "record init",
)
"""Each meets the targets that cannot be reached, or a refusal of the service."""


def words_of(command: str, service: Service) -> list[str]:
    job = service.folder / "job.verify.json"
    job.write_text('{"measurements": [], "blobs": [], "meta": {}}')
    given = {"key": SECRETS["SQUASH_KEY"], "job": job, "url": service.url, "specs": SPECS}
    return [word.format(**given) for word in command.split()]


@pytest.mark.parametrize("command", PROCESSES)
def test_no_process_of_a_command_prints_a_secret(service: Service, command: str) -> None:
    done = service.run(*words_of(command, service), input=plant())
    assert not leaks(done.stdout + done.stderr)


@pytest.mark.parametrize("command", COMMANDS)
def test_no_command_prints_a_secret(
    service: Service,
    command: str,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(service.folder)
    for name, text in service.variables().items():
        monkeypatch.setenv(name, text)
    done = CliRunner().invoke(app, words_of(command, service), input=plant())
    logged = capfd.readouterr()
    assert not leaks(done.output + logged.out + logged.err)


def wrong_settings() -> Iterator[tuple[str, str]]:
    for name, value in SECRETS.items():
        yield name, value[:9]
        yield name, f"{value}\x01<{plant()}>"
        yield name, f"nonsense://{plant()}:{plant()}@host/{plant()}"
        yield name, f"http://u:{plant()}@127.0.0.1:99999"
        yield name, f"http://u:{plant()}[@127.0.0.1"
    targets = SECRETS["SQUASH_INFLUX_TARGETS"]
    yield "SQUASH_INFLUX_TARGETS", targets[:-1]
    yield "SQUASH_INFLUX_TARGETS", targets.replace("name", "nam")
    yield "SQUASH_INFLUX_TARGETS", targets.replace('"two"', '"two words"')
    for driver in ("postgresql", "postgresql+psycopg", "mysql", "nonsense", "sqlite"):
        yield "SQUASH_DATABASE_URL", f"{driver}://u:{plant()}@127.0.0.1:9/squash"
    yield "SQUASH_DATABASE_URL", f"postgresql://u:{plant()}@127.0.0.1:port/squash"
    for part in ("/", "#", "?", "@", ":"):
        yield "SQUASH_INFLUX_URL", f"http://u:{plant()}{part}{plant()}@127.0.0.1:9"
    yield "SQUASH_SECRETS", plant()
    yield "SQUASH_PORT", plant()
    yield "SQUASH_TOKEN_MINUTES", plant()
    yield "SQUASH_REGISTRATION", plant()


def test_a_wrong_setting_is_named_and_not_shown(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    refusals: list[tuple[str, str, str]] = []
    for name, value in wrong_settings():
        with monkeypatch.context() as changed:
            for key, text in (SETTINGS | {name: value}).items():
                changed.setenv(key, text)
            if name != "SQUASH_DATABASE_URL":
                changed.setenv("SQUASH_DATABASE_URL", f"sqlite:///{tmp_path}/squash.db")
            try:
                with Site(load_settings(), is_made=True) as site:
                    site.start()
            except SettingsError as error:
                refusals.append((name, value, error.message))
    assert len(refusals) > 20
    assert [(name, value, text) for name, value, text in refusals if leaks(text)] == []


def test_generated_files_have_no_secret(service: Service) -> None:
    done = service.run("generate", "--specs", SPECS, "--output", "out")
    assert done.returncode == 0, done.stderr
    made = [file for file in (service.folder / "out").rglob("*") if file.is_file()]
    assert made
    for file in made:
        assert not leaks(file.read_text("utf-8")), file


def test_arguments_of_processes_have_no_secret(service: Service) -> None:
    arguments = Path(f"/proc/{service.pid}/cmdline").read_text()
    assert "serve" in arguments
    assert not leaks(arguments)


def test_at_the_end_neither_the_log_nor_the_record_has_a_secret(service: Service) -> None:
    """This comes last: all of the above has been logged, and the record written."""
    assert not leaks(service.log())
    for file in service.folder.glob("squash.db*"):
        content = file.read_bytes().decode("latin-1")
        assert not leaks(content), file


def leaks_of(document: Any) -> list[str]:
    return leaks(json.dumps(document))


def test_the_search_finds_what_it_is_for() -> None:
    assert leaks_of({"a": plant()})
    assert leaks(f"key {SECRETS['SQUASH_KEY']}")
    assert not leaks("nothing")
