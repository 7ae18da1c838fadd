import subprocess
import sys
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pytest
from structlog.testing import capture_logs

from squash_api.cli import COMMANDS, load
from tests.support.command_line import Run, make_run, set_environment
from tests.support.metrics_packages import write_metrics_package


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> Run:
    # Other tests, beside these, may listen at the default port.
    set_environment(monkeypatch, tmp_path, SQUASH_PORT="0")
    return make_run(monkeypatch, capsys)


@pytest.fixture
def served(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """What the web server was asked to run, and how; it is ended at once."""
    seen: dict[str, Any] = {}

    def run(server: Any) -> None:
        seen.update(vars(server.config))
        server.config.app.state.site.close()
        server.started = True

    monkeypatch.setattr("uvicorn.Server.run", run)
    return seen


@pytest.mark.parametrize("group", ["", "specs", "live", "user", "record"])
def test_help_names_every_command(run: Run, group: str) -> None:
    outcome = run(*group.split(), "--help")
    assert outcome.code == 0
    of_group = [path.removeprefix(group).split()[0] for path in COMMANDS if path.startswith(group)]
    assert not [name for name in of_group if f" {name} " not in outcome.out]


@pytest.mark.parametrize("path", COMMANDS)
def test_every_command_has_help(run: Run, path: str) -> None:
    assert run(*path.split(), "--help").code == 0


@pytest.mark.parametrize("path", COMMANDS)
def test_the_list_says_what_the_command_itself_says(path: str) -> None:
    text = str(load(path).help)
    assert text.partition("\n")[0] == COMMANDS[path][1]


def test_without_a_command_help_is_shown(run: Run) -> None:
    outcome = run()
    assert "Commands" in outcome.out + outcome.err


@pytest.mark.parametrize("arguments", [["frobnicate"], ["serve", "--port", "x"], ["judge"]])
def test_wrong_usage_ends_with_2(run: Run, arguments: list[str]) -> None:
    assert run(*arguments).code == 2


def test_the_service_listens_where_the_settings_say(
    run: Run, served: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SQUASH_PORT", "7001")
    assert run("serve").code == 0
    assert (served["host"], served["port"]) == ("127.0.0.1", 7001)


def test_the_command_line_wins_over_the_settings(
    run: Run, served: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SQUASH_PORT", "7001")
    assert run("serve", "--host", "127.0.0.2", "--port", "7002").code == 0
    assert (served["host"], served["port"]) == ("127.0.0.2", 7002)


def test_links_follow_the_port_of_the_command_line(run: Run, served: dict[str, Any]) -> None:
    run("serve", "--port", "8123")
    assert served["app"].state.site.settings.url == "http://127.0.0.1:8123"


def test_links_know_a_port_that_was_any_free_one(run: Run, served: dict[str, Any]) -> None:
    run("serve", "--port", "0")
    assert served["port"] > 0
    assert served["app"].state.site.settings.url == f"http://127.0.0.1:{served['port']}"


def test_a_url_with_another_port_is_warned_of(
    run: Run, served: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SQUASH_URL", "http://localhost:8000")
    with capture_logs() as logs:
        run("serve", "--port", "8123")
    assert served
    warnings = [entry["event"] for entry in logs if entry["log_level"] == "warning"]
    assert any("SQUASH_URL is http://localhost:8000" in words for words in warnings)


@pytest.mark.sqlite
def test_only_the_service_and_record_init_make_a_record_and_say_where(
    run: Run, served: dict[str, Any], tmp_path: Path
) -> None:
    with capture_logs() as logs:
        run("serve")
    assert served
    said = [entry["place"] for entry in logs if entry["event"] == "an empty record was made"]
    assert said == [str(tmp_path / "squash.db")]


@pytest.mark.sqlite
@pytest.mark.parametrize(
    "line",
    [
        *("user add ada --password-stdin", "user list", "user role ada admin", "user passwd ada"),
        *("user disable ada --yes", "deliver", "replay", "export", "report", "specs export out"),
        *("specs withdraw --yes", "specs backtest srd"),
    ],
)
def test_every_other_command_refuses_a_missing_record_by_its_path(
    run: Run, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, line: str
) -> None:
    write_metrics_package(tmp_path, name="srd", specs="")
    before = sorted(tmp_path.rglob("*"))
    monkeypatch.setenv("SQUASH_INFLUX_URL", "http://127.0.0.1:9")
    outcome = run(*line.split())
    assert outcome.code in {1, 2}
    assert f"there is no record at {tmp_path / 'squash.db'}" in outcome.err
    assert sorted(tmp_path.rglob("*")) == before


def test_a_start_that_would_withdraw_a_package_is_refused_until_it_is_agreed(
    run: Run, served: dict[str, Any], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    write_metrics_package(tmp_path, name="srd", specs="")
    monkeypatch.setenv("SQUASH_SPECS", "srd")
    assert run("serve").code == 0
    monkeypatch.delenv("SQUASH_SPECS")
    served.clear()
    outcome = run("serve")
    assert (outcome.code, served) == (1, {})
    assert "SQUASH_SPECS is empty" in outcome.err
    assert run("serve", "--yes").code == 0
    assert run("serve").code == 0


def test_the_service_does_not_say_what_it_is_made_of(run: Run, served: dict[str, Any]) -> None:
    run("serve")
    assert (served["server_header"], served["access_log"]) == (False, False)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("SQUASH_SECRET", ""),
        ("SQUASH_SECRET", "too short"),
        ("SQUASH_URL", "ftp://x"),
        ("SQUASH_PORT", "99999"),
        ("SQUASH_TAGS", "run_id"),
        ("SQUASH_SPECS", "nowhere"),
        ("SQUASH_REGISTRATION", "key"),
        ("SQUASH_DATABASE_URL", "sqlite:////dev/null/squash.db"),
        ("SQUASH_DATABASE_URL", "sqlite:///nowhere/squash.db"),
        ("SQUASH_SPEC", "specs/srd"),
    ],
)
def test_a_wrong_setting_ends_it_with_a_sentence(
    run: Run, served: dict[str, Any], monkeypatch: pytest.MonkeyPatch, name: str, value: str
) -> None:
    monkeypatch.setenv(name, value)
    outcome = run("serve")
    assert (outcome.code, served) == (1, {})
    assert outcome.err.startswith("error: ")
    assert "Traceback" not in outcome.err


def test_the_module_is_the_command(tmp_path: Path) -> None:
    result = subprocess.run(
        [sys.executable, "-m", "squash_api", "--help"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=True,
    )
    assert "serve" in result.stdout


def test_help_needs_nothing_heavy(tmp_path: Path) -> None:
    code = (
        "import sys; from squash_api import cli; "
        "print([name for name in ('pydantic', 'sqlalchemy', 'structlog', 'httpx', 'fastapi') "
        "if name in sys.modules])"
    )
    result = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=True
    )
    assert result.stdout == "[]\n"


def test_the_version_is_shown(run: Run) -> None:
    outcome = run("--version")
    assert (outcome.code, outcome.out) == (0, f"squash {version('squash-api')}\n")
