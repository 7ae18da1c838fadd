"""Commands run by `squash run`, as processes, without and with a terminal."""

import fcntl
import os
import pty
import select
import signal
import struct
import subprocess
import sys
import termios
import time
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

from squash_api.pipelines.running import Tail

pytestmark = pytest.mark.sqlite

# What `squash run` does, without the time that its other imports take, and with its own end.
_RUN = """
import os, sys, threading
from squash_api.pipelines.running import run_command
ended = run_command(
    sys.argv[2:], variables=os.environ, tail_bytes=4096, hurry=threading.Event()
)
with open(sys.argv[1], "w") as stream:
    print(vars(ended) if hasattr(ended, "__dict__") else repr(ended), file=stream)
os._exit(ended.status)
"""
_ROOT = Path(__file__).parents[2]


def words(tmp_path: Path, *command: str) -> list[str]:
    return [sys.executable, "-c", _RUN, str(tmp_path / "ended"), *command]


def environment() -> Mapping[str, str]:
    return {**os.environ, "PYTHONPATH": str(_ROOT)}


def run(tmp_path: Path, *command: str, given: bytes = b"") -> "subprocess.CompletedProcess[bytes]":
    return subprocess.run(
        words(tmp_path, *command),
        input=given,
        capture_output=True,
        env=environment(),
        check=False,
        timeout=120,
    )


def shell(
    tmp_path: Path, script: str, *, given: bytes = b""
) -> "subprocess.CompletedProcess[bytes]":
    return run(tmp_path, "sh", "-c", script, given=given)


def test_input_and_both_outputs_pass_through_unchanged(tmp_path: Path) -> None:
    given = bytes(range(256)) * 4
    ended = shell(tmp_path, "cat; printf 'wrong\\r' >&2", given=given)
    assert (ended.returncode, ended.stdout, ended.stderr) == (0, given, b"wrong\r")


def test_a_huge_output_passes_through_and_only_its_tail_is_kept(tmp_path: Path) -> None:
    ended = shell(tmp_path, "head -c 30000000 /dev/zero; printf end")
    assert len(ended.stdout) == 30_000_003
    said = (tmp_path / "ended").read_text()
    assert "output_bytes=30000003" in said
    assert "end'" in said


@pytest.mark.parametrize(
    ("script", "status"),
    [("exit 7", 7), ("kill -TERM $$", 143), ("kill -KILL $$", 137), ("kill -INT $$", 130)],
)
def test_the_status_is_that_of_the_command(tmp_path: Path, script: str, status: int) -> None:
    assert shell(tmp_path, script).returncode == status


def test_a_command_that_is_not_there_is_127(tmp_path: Path) -> None:
    assert run(tmp_path, "no-such-command").returncode == 127
    assert "no-such-command: command not found" in (tmp_path / "ended").read_text()


@pytest.mark.parametrize("content", ["", "\0"])
def test_a_command_that_cannot_be_started_is_126(tmp_path: Path, content: str) -> None:
    program = tmp_path / "program"
    program.write_text(content)
    program.chmod(0o755 if content else 0o644)
    assert run(tmp_path, str(program)).returncode == 126


def test_time_and_memory_are_those_of_the_command_and_what_it_started(tmp_path: Path) -> None:
    burn = "x = bytearray(150 << 20)\nn = sum(range(3_000_000))"
    assert shell(tmp_path, f"{sys.executable} -c '{burn}'; true").returncode == 0
    said = (tmp_path / "ended").read_text()
    found = {
        key: float(text.partition(",")[0])
        for key in ("wall_s", "cpu_s", "peak_bytes")
        for text in (said.partition(f"{key}=")[2],)
    }
    assert 150 << 20 < found["peak_bytes"] < 400 << 20
    assert 0.02 < found["cpu_s"] < found["wall_s"] * 2


def test_a_process_that_is_left_behind_holds_up_nothing_and_can_go_on_writing(
    tmp_path: Path,
) -> None:
    script = "(while [ ! -e go ]; do sleep 0.05; done; echo late) & echo now"
    process = subprocess.Popen(
        words(tmp_path, "sh", "-c", script),
        stdout=subprocess.PIPE,
        env=environment(),
        cwd=tmp_path,
    )
    assert process.stdout is not None
    with process.stdout as output:
        assert output.readline() == b"now\n"
        assert process.wait(60) == 0
        (tmp_path / "go").touch()
        assert output.read() == b"late\n"


def test_who_writes_to_a_pipe_that_nobody_reads_is_ended(tmp_path: Path) -> None:
    process = subprocess.Popen(words(tmp_path, "yes"), stdout=subprocess.PIPE, env=environment())
    assert process.stdout is not None
    assert process.stdout.read(2) == b"y\n"
    process.stdout.close()
    assert process.wait(60) == 128 + signal.SIGPIPE


_TELLS = """
import os, signal, sys, time
names = ("HUP", "INT", "QUIT", "TERM", "USR1", "USR2")
def tell(number, _):
    print(signal.Signals(number).name, flush=True)
    if number == signal.SIGTERM: sys.exit(9)
for name in names: signal.signal(getattr(signal, "SIG" + name), tell)
print("ready", flush=True)
while True: time.sleep(10)
"""


def test_signals_are_passed_on_once_and_the_command_decides(tmp_path: Path) -> None:
    process = subprocess.Popen(
        words(tmp_path, sys.executable, "-c", _TELLS),
        stdout=subprocess.PIPE,
        env=environment(),
        start_new_session=True,
    )
    assert process.stdout is not None
    with process.stdout as output:
        assert output.readline() == b"ready\n"
        for name in ("HUP", "INT", "USR1", "TERM"):
            # To all of our group, which the command is not in.
            os.killpg(process.pid, getattr(signal, f"SIG{name}"))
            assert output.readline() == f"SIG{name}\n".encode()
        assert output.read() == b""
    assert process.wait(60) == 9


def test_a_signal_reaches_what_the_command_has_started(tmp_path: Path) -> None:
    process = subprocess.Popen(
        words(tmp_path, "sh", "-c", "echo ready; sleep 1000; echo never"),
        stdout=subprocess.PIPE,
        env=environment(),
        start_new_session=True,
    )
    assert process.stdout is not None
    with process.stdout as output:
        assert output.readline() == b"ready\n"
        process.terminate()
        # The end of the output is that of `sleep` too.
        assert output.read() == b""
    assert process.wait(60) == 143


def _state(pid: int) -> str:
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]


def _reaches(pid: int, state: str) -> bool:
    end_s = time.monotonic() + 60
    while _state(pid) != state and time.monotonic() < end_s:
        time.sleep(0.01)
    return _state(pid) == state


def test_stop_and_continue_are_passed_on(tmp_path: Path) -> None:
    process = subprocess.Popen(
        words(tmp_path, "sh", "-c", "echo $$; exec sleep 1000"),
        stdout=subprocess.PIPE,
        env=environment(),
        start_new_session=True,
    )
    assert process.stdout is not None
    with process.stdout as output:
        inner = int(output.readline())
        process.send_signal(signal.SIGTSTP)
        assert _reaches(inner, "T")
        assert _reaches(process.pid, "T")
        process.send_signal(signal.SIGCONT)
        assert _reaches(inner, "S")
        process.terminate()
    assert process.wait(60) == 143


class Terminal:
    """A command with a terminal of its own, as at a keyboard."""

    def __init__(self, command: list[str]) -> None:
        self.pid, self.fd = pty.fork()
        if self.pid == 0:
            os.execvpe(command[0], command, dict(environment()))
        self.shown = b""

    def until(self, text: bytes) -> None:
        end_s = time.monotonic() + 60
        while text not in self.shown:
            assert time.monotonic() < end_s, self.shown
            if select.select([self.fd], [], [], 1.0)[0]:
                self.shown += os.read(self.fd, 4096)

    def type(self, keys: bytes) -> None:
        os.write(self.fd, keys)

    def end(self) -> int:
        _, status = os.waitpid(self.pid, 0)
        return os.waitstatus_to_exitcode(status)


@pytest.fixture
def terminals() -> Iterator[list[Terminal]]:
    made: list[Terminal] = []
    yield made
    for terminal in made:
        os.close(terminal.fd)


def test_a_terminal_stays_a_terminal_of_its_size(tmp_path: Path, terminals: list[Terminal]) -> None:
    look = (
        "import os; print(*map(os.isatty, range(3)), *os.get_terminal_size(1)); "
        "print(input('name? '))"
    )
    terminal = Terminal(words(tmp_path, sys.executable, "-c", f"input(); {look}"))
    terminals.append(terminal)
    fcntl.ioctl(terminal.fd, termios.TIOCSWINSZ, struct.pack("HHHH", 33, 99, 0, 0))
    terminal.type(b"\n")
    terminal.until(b"True True True 99 33\r\n")
    terminal.until(b"name? ")
    terminal.type(b"vera\n")
    terminal.until(b"vera\r\nvera\r\n")
    assert terminal.end() == 0


def test_ctrl_c_reaches_the_command_once(tmp_path: Path, terminals: list[Terminal]) -> None:
    terminal = Terminal(words(tmp_path, sys.executable, "-c", _TELLS))
    terminals.append(terminal)
    terminal.until(b"ready")
    terminal.type(b"\x03")
    terminal.until(b"SIGINT\r\n")
    os.kill(terminal.pid, signal.SIGUSR1)
    terminal.until(b"SIGUSR1\r\n")
    os.kill(terminal.pid, signal.SIGTERM)
    terminal.until(b"SIGTERM\r\n")
    assert terminal.shown.count(b"SIGINT") == 1
    assert terminal.end() == 9


def test_the_tail_has_the_last_bytes_alone() -> None:
    tail = Tail(4)
    for data in (b"ab", b"cdefg", b"h"):
        tail.add(data)
    assert (tail.content(), tail.total) == (b"efgh", 8)
