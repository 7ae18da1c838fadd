"""Starting and ending the demo's processes, and stopping on a signal.

A signal handler here only sets a flag, which the demo checks between its steps. A handler that
raised an exception could do so after a process has started and before that is noted, and the
process would outlive the demo.
"""

import signal
import socket
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Self

import httpx

HOST = "127.0.0.1"
_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
_SLICE_S = 0.1
_POLL_S = 0.05
_END_TIMEOUT_S = 15.0
_ATTEMPTS = 3
_LOG_LINES = 20
_LOG_BYTES = 8_000


class Stopped(Exception):  # noqa: N818 - no failure: somebody asked for it
    """Somebody stopped the demo before it was done."""


class Stop:
    """Whether somebody has asked the demo to stop."""

    def __init__(self) -> None:
        # Not a `threading.Event`: a signal handler can wait forever for its lock.
        self.is_requested = False

    def request(self) -> None:
        """Ask the demo to stop."""
        self.is_requested = True

    def check(self) -> None:
        """Raise `Stopped` if the demo is to stop."""
        if self.is_requested:
            raise Stopped

    def pause(self, seconds: float) -> None:
        """Sleep, and raise `Stopped` as soon as the demo is to stop."""
        end = time.monotonic() + seconds
        self.check()
        while (left_s := end - time.monotonic()) > 0:
            time.sleep(min(_SLICE_S, left_s))
            self.check()


@contextmanager
def stopped_by_signals() -> Iterator[Stop]:
    """Turn Ctrl-C, SIGTERM and a closed terminal into a request to stop. Main thread only.

    A signal that is ignored stays ignored, as `nohup` needs.
    """
    stop = Stop()
    handled = [number for number in _SIGNALS if signal.getsignal(number) is not signal.SIG_IGN]
    previous = {number: signal.signal(number, lambda *_: stop.request()) for number in handled}
    try:
        yield stop
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)


class DemoError(Exception):
    """The demo cannot go on. The message says why; for a process it has the end of its log."""


class Child:
    """A process that lives as long as the context, in the process group of the demo.

    It runs in `directory` and writes its log there. `variables` are its whole environment.
    """

    def __init__(
        self, name: str, *, command: Sequence[str], directory: Path, variables: Mapping[str, str]
    ) -> None:
        self.name = name
        self.log = directory / f"{name.replace(' ', '-')}.log"
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(
                command,
                cwd=directory,
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
        """Process id."""
        return self._process.pid

    def is_running(self) -> bool:
        """Whether it has not ended yet."""
        return self._process.poll() is None

    def signal(self, number: signal.Signals) -> None:
        """Send it a signal, unless it has ended."""
        self._process.send_signal(number)

    def end(self, *, timeout_s: float | None = None) -> int:
        """Terminate it, and kill it if that takes too long. Gives its exit code."""
        self._process.terminate()
        try:
            return self._process.wait(_END_TIMEOUT_S if timeout_s is None else timeout_s)
        except subprocess.TimeoutExpired:
            self._process.kill()
            return self._process.wait()

    def wait_for(self, is_ready: Callable[[], bool], *, stop: Stop, timeout_s: float) -> None:
        """Wait until it is ready; `DemoError` if it ends first, or is not ready in time."""
        deadline = time.monotonic() + timeout_s
        while not is_ready():
            self.check()
            if time.monotonic() > deadline:
                raise self._error(f"was not ready within {timeout_s:g} s")
            stop.pause(_POLL_S)
        # It may have been another program that answered at its address.
        self.check()

    def check(self) -> None:
        """Raise `DemoError` if it has ended."""
        code = self._process.poll()
        if code is not None:
            raise self._error(f"has ended with exit code {code}")

    def _error(self, what: str) -> DemoError:
        text = self.log.read_bytes()[-_LOG_BYTES:].decode(errors="replace")
        lines = text.splitlines()[-_LOG_LINES:] or ["(nothing)"]
        end = "\n".join(f"  {line}" for line in lines)
        return DemoError(f"{self.name} {what}; the end of its log:\n{end}")


@contextmanager
def running_server(
    start: Callable[[int], Child],
    *,
    choose_port: Callable[[], int],
    path: str,
    is_taken: Callable[[Child, int], bool],
    stop: Stop,
    timeout_s: float,
) -> Iterator[tuple[str, Child]]:
    """Run a server until the context ends; it is ready when it answers at `path`.

    If it does not start because another program has taken its port since the port was chosen
    (`is_taken`), it is started again on another port. Yields its root URL, without a trailing
    slash, and its process.
    """
    for left in reversed(range(_ATTEMPTS)):
        port = choose_port()
        url = f"http://{HOST}:{port}"
        with start(port) as child:
            try:
                child.wait_for(partial(_answers, url + path), stop=stop, timeout_s=timeout_s)
            except DemoError:
                if left and is_taken(child, port):
                    continue
                raise
            yield url, child
            return


def _answers(url: str) -> bool:
    try:
        return httpx.get(url, timeout=5, trust_env=False).is_success
    except httpx.TransportError:
        return False


def free_port() -> int:
    """Find a loopback port that nobody listens on at the moment."""
    with socket.socket() as probe:
        probe.bind((HOST, 0))
        port: int = probe.getsockname()[1]
        return port


def is_free(port: int) -> bool:
    """Whether a server could listen on this loopback port."""
    with socket.socket() as probe:
        # As servers do: a port counts as free while its last connections are closing.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((HOST, port))
        except OSError:
            return False
        return True
