import json
from collections.abc import Iterator
from pathlib import Path
from xml.etree import ElementTree as ET

import httpx
import pytest
from structlog.testing import capture_logs

from squash_api.index.derived import check_tags
from squash_api.schema.names import Schema
from tests.support.command_line import Outcome, Run, make_run, set_environment
from tests.support.definitions import metric, spec
from tests.support.http_server import HttpServer
from tests.support.in_process import service
from tests.support.reporting import ReportedJobs

YEARS = ("--since", "2020-01-01")


@pytest.fixture
def jobs(tmp_path: Path) -> Iterator[ReportedJobs]:
    """Three runs: one that passes, one beyond a design limit, one with nothing judged."""
    jobs = ReportedJobs(tmp_path)
    check_tags(jobs.record, Schema())
    jobs.define_metrics(metric("q.a"))
    jobs.define(spec())
    jobs.job(1.0, run_id="good", filter="r", ago_ns=3)
    jobs.job(9.0, run_id="bad", filter="r", ago_ns=2)
    jobs.job(9.0, run_id="unlimited", filter="r", name="q.a", ago_ns=1)
    yield jobs
    jobs.close()


@pytest.fixture
def run(
    jobs: ReportedJobs,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
) -> Run:
    assert jobs
    set_environment(monkeypatch, tmp_path, SQUASH_URL="https://squash.example.org")
    return make_run(monkeypatch, capsys)


@pytest.fixture
def url(jobs: ReportedJobs, tmp_path: Path) -> Iterator[str]:
    """The root of a service with the same record."""
    assert jobs
    with (
        capture_logs(),
        service(tmp_path) as client,
        HttpServer(lambda request: client.get(request.url.raw_path.decode())) as server,
    ):
        yield server.url


def report(run: Run, *options: str) -> Outcome:
    return run("report", *options)


@pytest.mark.parametrize(
    ("options", "code"),
    [
        (("--run", "good"), 0),
        (("--run", "bad"), 1),
        (("--run", "bad", "--level", "critical"), 0),
        (("--run", "bad", "--level", "INFO"), 1),
        (("--run", "unlimited"), 1),
        (("--run", "typo"), 1),
        (("--run", "good", "--strict"), 0),
        (("--run", "good", "--metric", "p.a", "--metric", "p.b", "--strict"), 0),
        (("--package", "none"), 2),
        (("--since", "yesterday"), 2),
    ],
)
def test_exit_code_gates_a_release(run: Run, options: tuple[str, ...], code: int) -> None:
    assert report(run, *options).code == code


def test_strict_fails_for_what_was_not_measured(run: Run, jobs: ReportedJobs) -> None:
    jobs.define(spec("p.b.design"))
    assert report(run, "--run", "good").code == 0
    assert report(run, "--run", "good", "--strict").code == 1


def test_without_output_it_is_markdown_to_read(run: Run) -> None:
    outcome = report(run, "--run", "bad")
    assert outcome.out.startswith("# Run bad\n")
    assert "| WARNING | p.a.design | 9 mmag |" in outcome.out


def test_html_is_one_file(run: Run, tmp_path: Path) -> None:
    place = tmp_path / "r.html"
    outcome = report(run, *YEARS, "--output", str(place))
    text = place.read_text("utf-8")
    assert text.startswith("<!doctype html>")
    assert "https://squash.example.org/job/2" in text
    assert "1 of 1 series breaks a limit" in outcome.err


def test_json_has_everything(run: Run, tmp_path: Path) -> None:
    place = tmp_path / "r.json"
    report(run, "--run", "bad", "--compare-run", "good", "--output", str(place))
    found = json.loads(place.read_text("utf-8"))
    assert found["summary"]["warning"] == 1
    assert found["comparison"]["counts"] == {"newly broken": 1}


def test_xml_is_for_ci(run: Run, tmp_path: Path) -> None:
    place = tmp_path / "r.xml"
    report(run, "--run", "bad", "--level", "critical", "--output", str(place))
    root = ET.fromstring(place.read_bytes())
    assert (root.get("tests"), root.get("failures")) == ("1", "0")


def test_format_may_be_named(run: Run, tmp_path: Path) -> None:
    place = tmp_path / "report"
    report(run, "--run", "bad", "--output", str(place), "--format", "md")
    assert place.read_text("utf-8").startswith("# Run bad")


def test_a_name_that_tells_no_format_is_refused(run: Run, tmp_path: Path) -> None:
    outcome = report(run, "--output", str(tmp_path / "report.pdf"))
    assert (outcome.code, "--format" in outcome.err) == (2, True)


def test_a_file_that_cannot_be_written_is_exit_code_2(run: Run, tmp_path: Path) -> None:
    outcome = report(run, "--run", "good", "--output", str(tmp_path / "none" / "r.html"))
    assert (outcome.code, f"the directory {tmp_path / 'none'} does not exist" in outcome.err) == (
        2,
        True,
    )


def test_a_record_that_is_not_there_is_not_made(
    run: Run, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("SQUASH_DATABASE_URL", f"sqlite:///{tmp_path / 'none' / 'squash.db'}")
    outcome = report(run)
    assert (outcome.code, "none does not exist" in outcome.err) == (2, True)
    assert not (tmp_path / "none").exists()


def test_every_wrong_option_is_named(run: Run) -> None:
    outcome = report(run, "--since", "x", "--compare-until", "y")
    assert ("'x' is not a time" in outcome.err, "'y' is not a time" in outcome.err) == (True, True)


@pytest.mark.parametrize("ending", ["md", "xml", "html"])
def test_a_service_gives_the_same_report(run: Run, url: str, tmp_path: Path, ending: str) -> None:
    here, there = tmp_path / f"here.{ending}", tmp_path / f"there.{ending}"
    options = ("--run", "bad", "--run", "good", "--compare-run", "good")
    first = report(run, *options, "--output", str(here))
    second = report(run, *options, "--output", str(there), "--url", url)
    assert (first.code, second.code) == (1, 1)
    texts = [
        [line for line in place.read_text("utf-8").splitlines() if "SQuaSH, " not in line]
        for place in (here, there)
    ]
    if ending == "html":
        texts = [[line for line in text if "href" not in line] for text in texts]
    assert texts[0] == texts[1]


def test_a_service_refuses_in_its_own_words(run: Run, url: str) -> None:
    outcome = report(run, "--package", "none", "--url", url)
    assert (outcome.code, "There is no package `none`" in outcome.err) == (2, True)


def test_what_is_no_service_is_exit_code_2(run: Run) -> None:
    with HttpServer(lambda _: httpx.Response(200, json={"a": 1})) as server:
        outcome = report(run, "--url", server.url)
    assert (outcome.code, "not a report" in outcome.err) == (2, True)


def test_an_impossible_address_is_exit_code_2(run: Run) -> None:
    assert report(run, "--url", "http://[").code == 2
