"""The quick-look night of examples/: one command, to the page and the alert that a person sees."""

import re
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest
from playwright.sync_api import Browser, expect

from tests.support.chromium import (
    DESK,
    PHONE,
    axe_problems,
    is_in_first_screen,
    is_wider_than_its_window,
    watched_page,
)
from tests.support.programs import find_program, where_is

# What a night shows does not depend on where the record is.
pytestmark = pytest.mark.sqlite

EXAMPLE = Path(__file__).parent.parent / "examples" / "quicklook"
LAST = "Ctrl-C ends it all"


@dataclass(frozen=True)
class Night:
    """What the command has printed, while its service runs."""

    output: str

    def shown(self, what: str) -> str:
        """Return the first word behind a word at the beginning of a line."""
        found = re.search(rf"^{what}:? +(\S+)", self.output, re.MULTILINE)
        assert found, self.output
        return found[1]

    def get(self, path: str) -> Any:
        return httpx.get(self.shown("service") + path, timeout=30, trust_env=False).json()


@pytest.fixture(scope="module")
def night(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Night]:
    folder = tmp_path_factory.mktemp("night")
    kapacitord = where_is("kapacitord")
    process = subprocess.Popen(
        [sys.executable, str(EXAMPLE / "night.py"), "--port", "0"],
        env={
            "PATH": str(Path(kapacitord).parent) if kapacitord else "",
            "HOME": str(folder),
            "TMPDIR": str(folder),
            # Of a developer; it must not reach the night.
            "SQUASH_KEY": "sq_1_another",
        },
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        cwd=folder,
    )
    assert process.stdout is not None
    lines: list[str] = []
    try:
        for line in process.stdout:
            lines.append(line)
            if line.startswith(LAST):
                break
        yield Night("".join(lines))
    finally:
        process.terminate()
        rest, _ = process.communicate(timeout=120)
    assert (process.returncode, rest, [*folder.iterdir()]) == (0, "", [])


def test_the_command_ends_at_the_broken_fiber(night: Night) -> None:
    assert "quicklook.snr: 2 CRITICAL, 18 passed\n" in night.output
    broken = re.findall(
        r"^  spectrograph 0, ccd ([br]), fiber 7: 0\.\d\d, must", night.output, re.MULTILINE
    )
    assert sorted(broken) == ["b", "r"]
    assert "quicklook.snr_of_ccd: 2 passed\n" in night.output


def test_every_exposure_is_a_run_with_all_its_values(night: Night) -> None:
    runs = night.get("/runs?pipeline=quicklook")["runs"]
    # A job for each fiber and CCD, of the run itself, and for the median of each CCD.
    assert [run["jobs"] for run in runs] == [2 * 10 + 1 + 2] * 4


def test_the_log_of_the_pipeline_is_on_the_page_of_its_job(night: Night) -> None:
    page = httpx.get(
        night.shown("log"), headers={"Accept": "text/html"}, trust_env=False, timeout=60
    )
    assert re.search(r"fiber 7: SNR 0\.\d\d: hardly any light", page.text)


def test_the_picture_of_an_exposure_is_on_the_page_of_its_jobs(night: Night) -> None:
    (metric,) = night.get("/standings?q=quicklook.snr&state=CRITICAL")["standings"]
    address = metric["series"][0]["job"]
    (artifact,) = httpx.get(f"{address}/artifacts", trust_env=False, timeout=60).json()["artifacts"]
    picture = httpx.get(artifact["url"], trust_env=False, timeout=60)
    assert (picture.status_code, picture.headers["Content-Type"]) == (200, "image/svg+xml")
    page = httpx.get(address, headers={"Accept": "text/html"}, trust_env=False, timeout=60)
    assert f'<img src="{artifact["url"]}"' in page.text


def test_slack_is_told_once_of_the_fiber_on_both_ccds(night: Night) -> None:
    find_program("kapacitord")
    told = night.output.split("Slack was told:\n")[1:]
    # Others are on the service itself, if this machine is slow.
    told = [text for text in told if "snr" in text]
    # On a slow machine the two CCDs may be more than the quiet of alerts apart.
    assert len(told) in (1, 2), night.output
    for ccd in "br":
        (text,) = [text for text in told if f"ccd {ccd}" in text]
        assert "CRITICAL* snr (quicklook): Median signal-to-noise" in text
        assert re.search(r"snr: \d of 20 fibers\n", text)
        assert re.search(r"snr = 0\.\d\d, must be >= 3 \(minimum\)$", text, re.MULTILINE)
        assert "fiber 7" in text
        assert f"<{night.shown('service')}/job/" in text
        assert "/snr.svg|artifact>" in text


@pytest.mark.parametrize("window", [DESK, PHONE], ids=["desk", "phone"])
def test_the_page_it_names_shows_the_fiber_in_red(
    night: Night, chromium: Browser, window: dict[str, int]
) -> None:
    with watched_page(chromium, night.shown("service"), viewport=window) as page:
        page.goto(night.shown("page"))
        state = page.locator(".title .state").first
        expect(state).to_have_text("CRITICAL")
        red, green, blue = map(
            int, re.findall(r"\d+", state.evaluate("e => getComputedStyle(e).color"))[:3]
        )
        assert red > 2 * max(green, blue)
        assert is_in_first_screen(page, ".title .state")
        assert not is_wider_than_its_window(page)
        expect(page.get_by_text("Only fiber 7")).to_be_visible()
        expect(page.get_by_role("button", name="ccd r")).to_be_visible()
        assert axe_problems(page) == []


def test_an_exposure_that_is_no_fits_file_is_named_in_one_line(tmp_path: Path) -> None:
    bad = tmp_path / "bad.fits"
    bad.write_text("no")
    done = subprocess.run(
        [sys.executable, str(EXAMPLE / "pipeline.py"), str(bad), "--out", str(tmp_path / "out")],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1
    assert done.stderr.startswith(f"pipeline.py: {bad}: ")
    assert len(done.stderr.splitlines()) == 1


def test_a_fiber_without_a_number_is_an_absent_value() -> None:
    code = (
        "import json, numpy, pipeline\n"
        "found = pipeline.jobs({'b': numpy.array([numpy.nan, 1.0])}, "
        "{'exposure': 'x', 'spectrograph': '0'})\n"
        "print(json.dumps([job.to_json()['measurements'][0]['value'] for job in found]))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=EXAMPLE, capture_output=True, text=True, check=True
    )
    assert done.stdout.splitlines()[-1] == "[null, 1.0]"
