"""The processes that the demo starts, and always ends, and being told to stop by a signal.

A signal that raised an exception could do so between the start of a process and the note that it
runs; one that only leaves a mark, looked at between the steps of the demo, cannot. So every process
that was started is ended.
"""

import signal
import socket
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Self

HOST = "127.0.0.1"
_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
_SLICE_S = 0.1
_POLL_S = 0.05
_END_TIMEOUT_S = 15.0
_LOG_LINES = 20
_LOG_BYTES = 8_000


class Stopped(Exception):  # noqa: N818 - no failure: somebody asked for it
    """The demo was told to stop before it was done."""


class Stop:
    """Whether the demo was told to stop."""

    def __init__(self) -> None:
        # An event of `threading` takes a lock, on which a signal handler can wait for ever.
        self.is_requested = False

    def request(self) -> None:
        """Ask the demo to stop."""
        self.is_requested = True

    def check(self) -> None:
        """Go on, or raise `Stopped`."""
        if self.is_requested:
            raise Stopped

    def pause(self, seconds: float) -> None:
        """Sleep, and raise `Stopped` as soon as the demo is told to stop."""
        end = time.monotonic() + seconds
        self.check()
        while (left_s := end - time.monotonic()) > 0:
            time.sleep(min(_SLICE_S, left_s))
            self.check()


@contextmanager
def stopped_by_signals() -> Iterator[Stop]:
    """Turn Ctrl-C, SIGTERM and a closed terminal into a request to stop. For the main thread.

    A signal that is ignored stays so: `nohup` asks for that.
    """
    stop = Stop()

    def request(_number: int, _frame: FrameType | None) -> None:
        stop.request()

    heeded = [number for number in _SIGNALS if signal.getsignal(number) is not signal.SIG_IGN]
    before = {number: signal.signal(number, request) for number in heeded}
    try:
        yield stop
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


class DemoError(Exception):
    """The demo cannot go on; the message says why and, of a process, the end of its log."""


class Child:
    """A process, alive as long as the context; its output goes to a log in `folder`.

    It stays in the demo's process group, so that whoever ends the whole group ends it too.

    Parameters
    ----------
    name
        What messages call it.
    command
        The program and its arguments.
    folder
        Where it runs and writes its log.
    variables
        Its whole environment.
    """

    def __init__(
        self, name: str, *, command: Sequence[str], folder: Path, variables: Mapping[str, str]
    ) -> None:
        self.name = name
        self.log = folder / f"{name.replace(' ', '-')}.log"
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(
                command,
                cwd=folder,
                env=dict(variables),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.end()

    @property
    def pid(self) -> int:
        """Id of the process."""
        return self._process.pid

    def is_running(self) -> bool:
        """Tell whether it has not ended yet."""
        return self._process.poll() is None

    def signal(self, number: signal.Signals) -> None:
        """Send it a signal, unless it has ended."""
        self._process.send_signal(number)

    def end(self, *, timeout_s: float | None = None) -> int:
        """End it in good order, by force if that takes too long; return its exit code."""
        self._process.terminate()
        try:
            return self._process.wait(_END_TIMEOUT_S if timeout_s is None else timeout_s)
        except subprocess.TimeoutExpired:
            self._process.kill()
            return self._process.wait()

    def wait_for(self, is_ready: Callable[[], bool], *, stop: Stop, timeout_s: float) -> None:
        """Wait until it is ready.

        Raises
        ------
        DemoError
            If it ends instead, or the time is over.
        Stopped
            If the demo is told to stop.
        """
        deadline = time.monotonic() + timeout_s
        while not is_ready():
            self.check()
            if time.monotonic() > deadline:
                raise self._error(f"was not ready within {timeout_s:g} s")
            stop.pause(_POLL_S)
        # Another program may have answered at its address.
        self.check()

    def check(self) -> None:
        """Go on if it runs.

        Raises
        ------
        DemoError
            If it has ended.
        """
        code = self._process.poll()
        if code is not None:
            raise self._error(f"has ended with exit code {code}")

    def _error(self, what: str) -> DemoError:
        text = self.log.read_bytes()[-_LOG_BYTES:].decode(errors="replace")
        lines = text.splitlines()[-_LOG_LINES:] or ["(nothing)"]
        end = "\n".join(f"  {line}" for line in lines)
        return DemoError(f"{self.name} {what}; the end of its log:\n{end}")


def free_port() -> int:
    """Return a loopback port that nobody listens on at the moment."""
    with socket.socket() as probe:
        probe.bind((HOST, 0))
        port: int = probe.getsockname()[1]
        return port


def is_free(port: int) -> bool:
    """Tell whether a server could listen on this loopback port."""
    with socket.socket() as probe:
        # As servers do: a port whose last connections are still closing counts as free.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((HOST, port))
        except OSError:
            return False
        return True
