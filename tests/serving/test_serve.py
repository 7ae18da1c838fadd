import socket
from pathlib import Path

import pytest

from squash_api.serving.serve import run
from tests.support.builders import make_settings


@pytest.fixture(autouse=True)
def own_logs(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let what is logged, which is the whole process's, be as it was."""
    monkeypatch.setattr("squash_api.serving.serve.follow_settings", lambda **_: None)


def test_a_port_that_is_taken_ends_it_with_3(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        settings = make_settings(tmp_path, port=taken.getsockname()[1], host="127.0.0.1")
        with pytest.raises(SystemExit) as exit_info:
            run(settings)
    assert exit_info.value.code == 3
    error = capsys.readouterr().err
    assert f"127.0.0.1:{settings.port}: another program does" in error
    assert "--port" in error
    assert not list(tmp_path.glob("*.db"))


@pytest.mark.parametrize("host", ["192.0.2.1", "no-such-host.invalid"])
def test_a_host_that_is_not_this_machine_ends_it_with_3(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], host: str
) -> None:
    with pytest.raises(SystemExit) as exit_info:
        run(make_settings(tmp_path, host=host))
    assert exit_info.value.code == 3
    assert "--host" in capsys.readouterr().err
