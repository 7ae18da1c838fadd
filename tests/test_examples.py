"""The scripts of examples/, run as their users run them, against a service of its own."""

import ast
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from xml.etree import ElementTree as ET

import httpx
import pytest

from tests.support.calls import Calls, log_in
from tests.support.service import Service

pytestmark = pytest.mark.sqlite

ROOT = Path(__file__).parent.parent
EXAMPLES = ROOT / "examples"
NIGHT = "night.py"
TEMPERATURE = "surface_temperature.py"


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    """A service with the limits of the camera."""
    folder = tmp_path_factory.mktemp("service")
    specs = EXAMPLES / "specs" / "camera"
    with Service(folder, SQUASH_SPECS=str(specs), SQUASH_ARTIFACT_HOSTS="localhost:8800") as made:
        yield made


@pytest.fixture(scope="module")
def calls(service: Service) -> Iterator[Calls]:
    with httpx.Client(base_url=service.url, trust_env=False, timeout=60) as client:
        yield log_in(client, "ada")


@pytest.fixture(scope="module")
def sent(
    service: Service, calls: Calls, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Path, subprocess.CompletedProcess[str]]:
    """What the job that alerts has left and printed."""
    folder = tmp_path_factory.mktemp("sent")
    made = calls("POST", "/keys", {"name": "camera", "scopes": ["job:write", "job:read"]})
    assert made.status_code == 201, made.text
    return folder, run(TEMPERATURE, service.url, folder=folder, key=made.json()["key"])


def run(
    script: str, *arguments: str, folder: Path, key: str = ""
) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, str(EXAMPLES / script), *arguments],
        cwd=folder,
        env={"PATH": "", "SQUASH_API_KEY": key},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def test_the_job_breaks_both_limits_and_says_so(
    sent: tuple[Path, subprocess.CompletedProcess[str]],
) -> None:
    done = sent[1]
    assert (done.returncode, done.stderr) == (1, ""), done.stdout
    for line in ("cold: passed", "design: failed", "minimum: failed"):
        assert f"camera.AvgCameraBodySurfaceTemp.{line}" in done.stdout


def test_its_picture_is_an_artifact_that_the_page_shows(
    sent: tuple[Path, subprocess.CompletedProcess[str]], calls: Calls, service: Service
) -> None:
    folder, done = sent
    (picture,) = (folder / "artifacts").iterdir()
    assert ET.parse(picture).getroot().tag == "{http://www.w3.org/2000/svg}svg"
    found = re.search(r"/job/(\d+)\n", done.stdout)
    assert found is not None
    (artifact,) = calls("GET", f"/job/{found[1]}/artifacts").json()["artifacts"]
    assert artifact["url"] == f"http://localhost:8800/{picture.name}"
    page = httpx.get(
        f"{service.url}/job/{found[1]}",
        headers={"Accept": "text/html"},
        trust_env=False,
        timeout=60,
    )
    assert f'<img src="{artifact["url"]}"' in page.text


def test_a_night_is_a_page_of_its_own(
    sent: tuple[Path, subprocess.CompletedProcess[str]], service: Service, tmp_path: Path
) -> None:
    assert sent
    done = run(NIGHT, service.url, folder=tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    page = (tmp_path / "night.html").read_text(encoding="utf-8")
    assert "<h1>Since 1d: 1 values</h1>" in page
    assert f'<a href="{service.url}/metric/camera.AvgCameraBodySurfaceTemp">' in page
    assert page.count("<circle") == 1
    assert "deg_C" in page
    assert not re.search(r"<script|src=|<link", page)


@pytest.mark.parametrize("script", [NIGHT, TEMPERATURE])
def test_without_a_service_a_script_says_so_in_one_line(script: str, tmp_path: Path) -> None:
    done = run(script, "not-a-url", folder=tmp_path, key="sq_0_0")
    assert done.returncode == 1
    assert done.stderr.startswith(f"{script}: ")
    assert len(done.stderr.splitlines()) == 1


@pytest.mark.parametrize("script", [NIGHT, TEMPERATURE])
def test_a_script_needs_only_what_the_client_needs(script: str) -> None:
    tree = ast.parse((EXAMPLES / script).read_text(encoding="utf-8"))
    imported: set[Any] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            imported |= {item.name.partition(".")[0] for item in node.names}
        elif isinstance(node, ast.ImportFrom):
            imported.add((node.module or "").partition(".")[0])
    assert imported - sys.stdlib_module_names <= {"astropy", "squash_api"}


def test_a_night_of_alerts_sends_few_messages_and_all_say_the_same(tmp_path: Path) -> None:
    done = subprocess.run(
        [
            *(sys.executable, str(EXAMPLES / "night" / "play.py")),
            *("--visits", "40", "--detectors", "12", "--gap", "0", "--port", "0"),
        ],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    before = re.search(r"1\.2\.1 would have sent (\d+) messages", done.stdout)
    assert before is not None
    assert int(before[1]) > 50
    sent = [int(count) for count in re.findall(r"has sent (\d+) messages", done.stdout)]
    assert len(sent) == 1 + (shutil.which("kapacitord") is not None)
    assert set(sent) == {5}
    assert done.stdout.endswith("All say the same.\n")
