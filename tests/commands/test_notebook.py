"""`squash notebook run` as a process, with a service of its own."""

import json
import os
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx
import nbformat
import pytest
from nbformat import v4

from squash_api.client import Squash
from squash_api.commands.notebook import _send
from squash_api.demo.history import make_history
from squash_api.pipelines.spool import Sender, Spool
from tests.support.calls import Calls, log_in
from tests.support.command_line import make_run, set_environment
from tests.support.metrics_packages import ROOT
from tests.support.notebook_runs import notebook_document
from tests.support.service import Service
from tests.support.site import wait_for

pytestmark = pytest.mark.sqlite

CHARACTERISATION = ROOT / "examples" / "characterisation.ipynb"
Run = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    specs = ("specs/srd", "examples/specs/camera", "examples/specs/notebooks")
    with Service(
        tmp_path_factory.mktemp("service"),
        SQUASH_SPECS=":".join(str(ROOT / name) for name in specs),
        SQUASH_MAX_BODY_BYTES="600000",
    ) as made:
        yield made


@pytest.fixture(scope="module")
def calls(service: Service) -> Iterator[Calls]:
    with httpx.Client(base_url=service.url, trust_env=False, timeout=60) as client:
        yield log_in(client, "ada")


@pytest.fixture(scope="module")
def key(calls: Calls) -> str:
    made = calls("POST", "/keys", {"name": "nightly", "scopes": ["job:write", "job:read"]})
    found: str = made.json()["key"]
    return found


@pytest.fixture
def run(service: Service, key: str, tmp_path: Path) -> Run:
    """Run the command in a folder of its own; its job waits there if it cannot be sent."""

    def run_it(
        template: Path, *arguments: str, **variables: str
    ) -> subprocess.CompletedProcess[str]:
        own = {"SQUASH_URL": service.url, "SQUASH_KEY": key, "SQUASH_SPOOL": str(tmp_path / "wait")}
        others = {name: text for name, text in os.environ.items() if "SQUASH" not in name}
        return subprocess.run(
            [sys.executable, "-m", "squash_api", "notebook", "run", str(template), *arguments],
            cwd=ROOT,
            env={**others, **own, **variables},
            capture_output=True,
            text=True,
            timeout=300,
            check=False,
        )

    return run_it


def write(folder: Path, source: str) -> Path:
    """Write a notebook that has a parameter `n` and one more cell."""
    cells = [v4.new_code_cell(text) for text in ("n = 1", source)]  # type: ignore[no-untyped-call]
    cells[0].metadata["tags"] = ["parameters"]
    made = v4.new_notebook(cells=cells)  # type: ignore[no-untyped-call]
    nbformat.write(made, folder / "try.ipynb")  # type: ignore[no-untyped-call]
    return folder / "try.ipynb"


def newest(calls: Calls, template: str) -> dict[str, Any]:
    found = calls("GET", f"/notebooks?template={template}&limit=1").json()["notebooks"]
    entry: dict[str, Any] = found[0]
    return entry


def page_of(calls: Calls, template: str) -> str:
    return calls("GET", f"/notebook/{newest(calls, template)['job']}/html").text


def test_characterisation_of_an_empty_record_says_that_it_is_empty(run: Run, calls: Calls) -> None:
    done = run(CHARACTERISATION, "--name", "empty")
    assert done.returncode == 0, done.stdout + done.stderr
    page = page_of(calls, "empty")
    for words in ("No job of the last 90d names a release", "Nothing was measured", "no values of"):
        assert words in page
    assert "Traceback" not in page


def test_characterisation_of_a_release(run: Run, calls: Calls, service: Service, key: str) -> None:
    history = make_history(days=8, now=datetime.now(UTC), seed=1)
    with Squash(service.url, key=key) as squash:
        for day in history.days:
            for job in day:
                squash.send(job)
    release, before = (day[0].meta["env"]["version_tag"] for day in history.days[:-3:-1])
    done = run(
        CHARACTERISATION, "--release", release, "-p", "plots=3", "-p", "dataset=cfht_nightly"
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stderr == ""
    entry = newest(calls, "characterisation")
    assert (entry["version_tag"], entry["result"], entry["state"]) == (
        release,
        "finished",
        "passed",
    )
    assert entry["parameters"]["plots"] == 3
    page = page_of(calls, "characterisation")
    assert f"Release <code>{release}</code>, compared with <code>{before}</code>" in page
    for words in (
        "validate_drp.PA1",
        "cfht_nightly · r",
        "INFO",
        "without a value in this release",
    ):
        assert words in page
    assert page.count("<svg") == 3
    assert page.count("<polyline") >= 3
    assert "stroke-dasharray" in page
    assert key not in page
    job = calls("GET", f"/job/{entry['job']}").json()
    values = {item["metric"]: item["value"] for item in job["measurements"]}
    assert values["notebook.failed_cells"] == 0
    assert values["characterisation.gaps"] > 0
    tags = calls("GET", f"/measurements?job={entry['job']}&metric=notebook.duration").json()
    assert tags["measurements"][0]["tags"]["dataset"] == "cfht_nightly"


def test_a_failed_cell_is_a_failed_run_with_an_alert(
    run: Run, calls: Calls, tmp_path: Path
) -> None:
    done = run(write(tmp_path, "1 / (n - 1)"), "--output", str(tmp_path / "kept"))
    assert done.returncode == 1
    assert "cell 2: ZeroDivisionError: division by zero" in done.stderr
    entry = newest(calls, "try")
    assert (entry["result"], entry["state"]) == ("failed", "CRITICAL")
    assert "ZeroDivisionError" in page_of(calls, "try")
    assert sorted(path.suffix for path in (tmp_path / "kept").iterdir()) == [".html", ".ipynb"]

    def alerts() -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = calls("GET", "/alerts?metric=notebook.failed_cells").json()[
            "alerts"
        ]
        return found

    (alert,) = wait_for(alerts)
    assert alert["tags"]["pipeline"] == "notebook.try"


def test_what_is_too_large_is_left_out_and_the_run_is_told(
    run: Run, calls: Calls, tmp_path: Path
) -> None:
    done = run(write(tmp_path, "print('x' * 700_000)"), "--name", "large")
    assert done.returncode == 1
    for words in ("MB, more than the service takes", "--no-images", "SQUASH_MAX_BODY_BYTES"):
        assert words in done.stderr
    entry = newest(calls, "large")
    assert entry["result"] == "finished"
    assert calls("GET", f"/notebook/{entry['job']}/html").status_code == 404
    assert not [*(tmp_path / "wait").glob("*.json")]


def test_while_the_service_is_away_the_job_waits(run: Run, tmp_path: Path) -> None:
    done = run(write(tmp_path, "n"), SQUASH_URL="http://127.0.0.1:9")
    assert done.returncode == 0
    assert "squash spool send sends it" in done.stderr
    (waiting,) = (tmp_path / "wait").glob("*.json")
    document = json.loads(waiting.read_text())["document"]
    assert document["meta"]["page"]["url"].startswith("http://127.0.0.1:9/notebooks?run=try-")


@pytest.mark.parametrize("key", [None, "sq_1_unknown"])
def test_a_job_that_waits_for_a_key_is_kept_only_with_somebodys_help(
    key: str | None, service: Service, tmp_path: Path
) -> None:
    with closing(Sender(Spool(tmp_path), url=service.url, key=key)) as sender:
        assert not _send(sender, iter([notebook_document()]), "notebook n")
        assert len([*sender.spool.entries()]) == 1


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["-p", "m=2"], "no parameter `m` in the notebook; there are n"),
        (["-p", "n=x"], "parameter n: 'x' is not a whole number: its default is 1"),
        (["--release", "w_1"], "no parameter `release`"),
        (["-p", "n"], "'n' is not NAME=VALUE"),
        (["-p", "n=1", "-p", "n=2"], "`n` is given twice"),
    ],
)
def test_wrong_usage_runs_nothing(
    arguments: list[str],
    words: str,
    *,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    path = write(tmp_path, "n")
    set_environment(monkeypatch, tmp_path)
    done = make_run(monkeypatch, capsys)("notebook", "run", str(path), *arguments)
    assert (done.code, done.out) == (2, "")
    # The words are in a box.
    assert words in re.sub(r"[\s\u2502]+", " ", done.err)
