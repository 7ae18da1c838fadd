"""A real server as a process of its own: in a folder, on free loopback ports."""

import random
import signal
import time
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Self

import httpx

from squash_api.demo.processes import HOST, Child, DemoError, Stop, is_free

_START_TIMEOUT_S = 60.0
_STOP_TIMEOUT_S = 30.0
_ATTEMPTS = 3

# Below those that a system gives to connections: between a stop and the next start none takes it.
_PORTS = range(20_000, 32_000)


def free_port() -> int:
    """Return a loopback port that nothing listens on at the moment."""
    # Not as tests seed it, or all would try the same.
    ports = random.SystemRandom().sample(_PORTS, len(_PORTS))
    return next(port for port in ports if is_free(port))


class Server(ABC):
    """A server; `start` may follow `stop` or `kill`, and keeps port, data and log.

    Parameters
    ----------
    folder
        Where it runs, and keeps what it writes.
    name
        That of its log.
    """

    def __init__(self, folder: Path, *, name: str) -> None:
        self.folder = folder
        self.name = name
        self.port = free_port()
        self._has_run = False
        self._log_start = 0
        self._child: Child | None = None

    @abstractmethod
    def command(self) -> Sequence[str]:
        """Return the program and its arguments, with its configuration written."""

    @abstractmethod
    def is_ready(self) -> bool:
        """Return whether it does its work; asked until it is so. Not to connect means no."""

    def variables(self) -> Mapping[str, str]:
        """Return its whole environment."""
        return {"HOME": str(self.folder)}

    def launch(self) -> Child:
        """Start its process."""
        return Child(
            self.name, command=self.command(), directory=self.folder, variables=self.variables()
        )

    @property
    def pid(self) -> int | None:
        """Process id while it runs."""
        return None if self._child is None else self._child.pid

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def start(self) -> None:
        """Start it, and return once it is ready; the failure shows the end of its log."""
        assert self._child is None, f"{self.name} runs already"
        self.folder.mkdir(parents=True, exist_ok=True)
        for attempt in range(_ATTEMPTS):
            self._log_start += len(self.fresh_log())
            self._child = self.launch()
            try:
                self._child.wait_for(self._answers, stop=Stop(), timeout_s=_START_TIMEOUT_S)
                break
            except DemoError:
                self.kill()
                # Another program may win the port.
                is_taken = "address already in use" in self.fresh_log()
                if self._has_run or not is_taken or attempt == _ATTEMPTS - 1:
                    raise
                self.port = free_port()
            except BaseException:
                self.kill()
                raise
        self._has_run = True

    def stop(self) -> int:
        """End it in good order, and return its exit code; 0 also if it has been ended before."""
        child, self._child = self._child, None
        if child is None:
            return 0
        # A paused one would not hear.
        child.signal(signal.SIGCONT)
        return child.end(timeout_s=_STOP_TIMEOUT_S)

    def kill(self) -> None:
        """End it at once, as a crash would; nothing happens if it does not run."""
        if self._child is not None:
            self._child.signal(signal.SIGKILL)
        self.stop()

    def pause(self) -> None:
        """Let it hang: connections open, no answers."""
        assert self._child is not None
        self._child.signal(signal.SIGSTOP)
        # On a loaded machine a thread may go on for a while, and answer.
        threads = Path(f"/proc/{self._child.pid}/task")
        while any(
            stat.read_text().rpartition(")")[2].split()[0] != "T" for stat in threads.glob("*/stat")
        ):
            time.sleep(0.005)

    def resume(self) -> None:
        """End a `pause`."""
        assert self._child is not None
        self._child.signal(signal.SIGCONT)

    def log(self) -> str:
        """Return what it has logged since the first start."""
        path = self.folder / f"{self.name}.log"
        return path.read_text(errors="replace") if path.exists() else ""

    def fresh_log(self) -> str:
        """Return what it has logged since the last start."""
        return self.log()[self._log_start :]

    def _answers(self) -> bool:
        try:
            return self.is_ready()
        except httpx.TransportError:
            return False


def is_up(url: str) -> bool:
    """Return whether something at an address answers well."""
    try:
        return httpx.get(url, timeout=5, trust_env=False).is_success
    except httpx.TransportError:
        return False


def local_url(port: int) -> str:
    """Return the address of a server on a port of this machine."""
    return f"http://{HOST}:{port}"
