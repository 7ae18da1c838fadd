"""`squash dispatch` beside a running service."""

import json
from pathlib import Path
from typing import Any

import pytest

from tests.support.calls import PASSWORD
from tests.support.service import Service
from tests.support.site import Site, job_document


@pytest.fixture(scope="module")
def commands(site: Site) -> Service:
    """Runs commands with the settings of the service and the password of ada; serves nothing."""
    environment = {
        **{k: v for k, v in site.service.environment.items() if k.startswith("SQUASH_")},
        "SQUASH_USER": "ada",
        "SQUASH_PASSWORD": PASSWORD,
        "SQUASH_URL": site.service.url,
    }
    return Service(site.service.folder, **environment)


def write_job(folder: Path, document: dict[str, Any]) -> str:
    path = folder / "a.verify.json"
    path.write_text(json.dumps(document))
    return str(path)


def test_a_file_is_dispatched_and_delivered(
    site: Site, commands: Service, package: str, tmp_path: Path
) -> None:
    path = write_job(tmp_path, job_document({f"{package}.m": 0.1, f"{package}.n": float("nan")}))
    done = commands.run("dispatch", path, "--wait", "--json")
    assert done.returncode == 0, done.stdout + done.stderr
    (outcome,) = json.loads(done.stdout)
    assert (outcome["status"], outcome["absent"]) == ("SUCCESS", [f"{package}.n"])
    assert site.values(f"{package}.m") == [0.1]


def test_people_read_what_was_left_out(commands: Service, package: str, tmp_path: Path) -> None:
    path = write_job(tmp_path, job_document({f"{package}.m": "text", f"{package}.n": None}))
    done = commands.run("dispatch", path)
    assert done.returncode == 0, done.stderr
    assert f"skipped {package}.m: the value is text, not a number" in done.stdout
    assert f"absent (null, NaN or infinite): {package}.n" in done.stdout


def test_a_file_dispatched_twice_is_one_job(
    site: Site, commands: Service, package: str, tmp_path: Path
) -> None:
    document = job_document({f"{package}.m": 0.1}, env={"env_name": "local", "run_id": "1"})
    path = write_job(tmp_path, document)
    ids = [json.loads(commands.run("dispatch", path, "--json").stdout)[0]["id"] for _ in range(2)]
    assert ids[0] == ids[1]
    site.wait_until_delivered(ids)
    assert site.values(f"{package}.m") == [0.1]


def test_strict_dispatch_fails_with_what_would_be_skipped(
    commands: Service, package: str, tmp_path: Path
) -> None:
    path = write_job(tmp_path, job_document({f"{package}.m": "text"}))
    done = commands.run("dispatch", path, "--strict")
    assert (done.returncode, "not a number" in done.stderr) == (1, True)


def test_a_wrong_password_fails(commands: Service, package: str, tmp_path: Path) -> None:
    path = write_job(tmp_path, job_document({f"{package}.m": 1.0}))
    wrong = Service(commands.folder, **{**commands.environment, "SQUASH_PASSWORD": "wrong one"})
    done = wrong.run("dispatch", path)
    assert (done.returncode, "Invalid credentials" in done.stderr) == (1, True)
