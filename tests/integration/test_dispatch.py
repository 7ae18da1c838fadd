"""`squash dispatch` beside a running service."""

import gzip
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


def test_a_night_on_disk_is_sent_once_with_units_and_nulls(
    site: Site, commands: Service, package: str, tmp_path: Path
) -> None:
    bare = {"identifier": "a1" * 16, "unit": "s", "blob_refs": []}
    items = [
        {**bare, "metric": "m", "value": 0.1},
        {**bare, "metric": "n", "value": None, "identifier": "b2" * 16},
    ]
    value = f"!<lsst.verify.Measurement> {{metric: {package}.v, value: 7.5, unit: ms, blobs: []}}"
    contents = {
        "visit_metrics/7/x.json.gz": gzip.compress(json.dumps({package: items}).encode()),
        "metricvalue/8/x.yaml": value.encode(),
        "metricvalue/9/x.json": b'{"damaged": ',
    }
    for name, content in contents.items():
        path = tmp_path / "u/ada/20261120T031245Z" / name
        path.parent.mkdir(parents=True)
        path.write_bytes(content)
    template = "{run}/{dataset_type}/{detector}/*"
    arguments = ["dispatch", str(tmp_path), "--path-template", template, "--json"]
    first, second = (commands.run(*arguments) for _ in range(2))
    sent, again = (json.loads(done.stdout) for done in (first, second))
    assert (first.returncode, [item["is_repeat"] for item in again]) == (1, [True, False, True])
    assert [item["id"] for item in sent] == [item["id"] for item in again]
    assert [item["absent"] for item in sent] == [[], [], [f"{package}.n"]]
    assert "not JSON" in sent[1]["error"]
    site.wait_until_delivered([sent[0]["id"], sent[2]["id"]])
    assert (site.values(f"{package}.m"), site.values(f"{package}.v")) == ([0.1], [7.5])
