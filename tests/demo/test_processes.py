import os
import socket
import sys
from pathlib import Path

import pytest

from squash_api.demo.processes import HOST, Child, DemoError, Stop, Stopped, free_port, is_free

SLEEP = "import time; time.sleep(600)"
DEAF = (
    "import signal, pathlib, time; signal.signal(signal.SIGTERM, signal.SIG_IGN);"
    "pathlib.Path('deaf').touch(); time.sleep(600)"
)


def start(folder: Path, code: str) -> Child:
    return Child("a child", command=[sys.executable, "-c", code], directory=folder, variables={})


def is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


def test_the_process_ends_with_the_context(tmp_path: Path) -> None:
    with start(tmp_path, SLEEP) as child:
        assert child.is_running()
    assert not is_alive(child.pid)


def test_the_process_ends_when_the_context_fails(tmp_path: Path) -> None:
    with pytest.raises(ZeroDivisionError), start(tmp_path, SLEEP) as child:
        raise ZeroDivisionError
    assert not is_alive(child.pid)


def test_a_process_that_heeds_no_sigterm_is_killed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("squash_api.demo.processes._END_TIMEOUT_S", 0.05)
    with start(tmp_path, DEAF) as child:
        child.wait_for((tmp_path / "deaf").exists, stop=Stop(), timeout_s=30.0)
    assert not is_alive(child.pid)


def test_the_process_gets_no_other_variables(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SQUASH_SECRET", "leaked")
    code = (
        "import os, pathlib; pathlib.Path('seen').write_text(os.environ.get('SQUASH_SECRET','-'))"
    )
    with start(tmp_path, code) as child, pytest.raises(DemoError):
        child.wait_for(lambda: False, stop=Stop(), timeout_s=30.0)
    assert (tmp_path / "seen").read_text() == "-"


def test_an_early_end_shows_the_end_of_the_log(tmp_path: Path) -> None:
    code = (
        "import sys; print('\\n'.join(map(str, range(100))), flush=True); sys.exit('no such thing')"
    )
    with start(tmp_path, code) as child, pytest.raises(DemoError) as caught:
        child.wait_for(lambda: False, stop=Stop(), timeout_s=30.0)
    lines = str(caught.value).splitlines()
    assert lines[0] == "a child has ended with exit code 1; the end of its log:"
    assert "  no such thing" in lines
    assert "  99" in lines
    assert "  1" not in lines


def test_an_end_without_a_word_is_an_error_too(tmp_path: Path) -> None:
    with start(tmp_path, "") as child, pytest.raises(DemoError, match=r"\(nothing\)"):
        child.wait_for(lambda: False, stop=Stop(), timeout_s=30.0)


def test_readiness_that_another_program_feigns_is_found_out(tmp_path: Path) -> None:
    with start(tmp_path, "") as child:
        while child.is_running():
            pass
        with pytest.raises(DemoError, match="has ended"):
            child.wait_for(lambda: True, stop=Stop(), timeout_s=30.0)


def test_a_process_that_is_never_ready_is_given_up(tmp_path: Path) -> None:
    with start(tmp_path, SLEEP) as child, pytest.raises(DemoError, match="not ready within 0 s"):
        child.wait_for(lambda: False, stop=Stop(), timeout_s=0.0)


def test_waiting_ends_when_the_demo_is_told_to_stop(tmp_path: Path) -> None:
    stop = Stop()
    stop.request()
    with start(tmp_path, SLEEP) as child, pytest.raises(Stopped):
        child.wait_for(lambda: False, stop=stop, timeout_s=600.0)


def test_a_free_port_is_free() -> None:
    assert is_free(free_port())


def test_a_port_with_a_server_is_not_free() -> None:
    with socket.create_server((HOST, 0)) as server:
        assert not is_free(server.getsockname()[1])
