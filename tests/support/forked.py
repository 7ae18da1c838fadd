"""`squash` as processes of their own that begin at once, from one that has imported it already.

Two seconds of processor time are what `squash serve` needs to import all it uses and to make what
it makes in advance, and tests start it hundreds of times. Here one process does so, and each start
forks it: what begins is `python -m squash_api` after its imports, with an environment, a folder,
descriptors, signals and an exit code of its own. Hash seed and command line are those of the first
process. Tests of the start, of imports or of the interpreter's own settings use `subprocess`.
"""

import multiprocessing
import os
import runpy
import signal
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from contextlib import chdir
from functools import cache
from multiprocessing import forkserver
from pathlib import Path
from tempfile import TemporaryDirectory
from threading import Lock

_ROOT = Path(__file__).parents[2]
_CONTEXT = multiprocessing.get_context("forkserver")
_CONTEXT.set_forkserver_preload(["tests.support.imported_squash", "tests.support.forked"])


def _of_the_start(variables: Mapping[str, str]) -> dict[str, str]:
    """Return what the interpreter or a library reads once, while it starts."""
    names = ("PYTHON", "LC_", "LANG", "LD_", "OPENBLAS_", "OMP_")
    return {name: text for name, text in variables.items() if name.startswith(names)}


_OURS = _of_the_start(os.environ)
_preparing = Lock()


@cache
def _prepare() -> None:
    """Start the process that is forked."""
    # It imports what is to be forked from the current folder.
    with _preparing, chdir(_ROOT):
        forkserver.ensure_running()


def begins_alike(environment: Mapping[str, str]) -> bool:
    """Tell whether a process with these variables starts as that which is forked has started."""
    return _of_the_start(environment) == _OURS


class Forked:
    """A process that runs a command of `squash`; its methods are those of `subprocess.Popen`.

    Parameters
    ----------
    arguments
        The words after `squash`.
    environment
        All its variables.
    folder
        Where it runs.
    output, errors, given
        The files that it adds to and reads; errors go to the output and nothing is read if they
        are not named.
    """

    def __init__(
        self,
        arguments: Sequence[str],
        *,
        environment: Mapping[str, str],
        folder: Path,
        output: Path,
        errors: Path | None = None,
        given: Path | None = None,
    ) -> None:
        _prepare()
        files = tuple(str(item) for item in (given or os.devnull, output, errors or output))
        self._process = _CONTEXT.Process(
            target=_run, args=(list(arguments), dict(environment), str(folder), files), daemon=True
        )
        self._process.start()
        assert self._process.pid is not None
        self.pid = self._process.pid

    def poll(self) -> int | None:
        """Return the exit code, or None while it runs."""
        return self._process.exitcode

    def wait(self, timeout: float | None = None) -> int:
        """Wait until it ends, and return its exit code; `TimeoutExpired` if it does not."""
        self._process.join(timeout)
        if self._process.exitcode is None:
            raise subprocess.TimeoutExpired("squash", timeout or 0.0)
        return self._process.exitcode

    def send_signal(self, number: int) -> None:
        """Send it a signal, unless it has ended."""
        if self.poll() is None:
            os.kill(self.pid, number)

    def terminate(self) -> None:
        """Ask it to end."""
        self.send_signal(signal.SIGTERM)

    def kill(self) -> None:
        """End it at once."""
        self.send_signal(signal.SIGKILL)


def run_squash(
    arguments: Sequence[str],
    *,
    environment: Mapping[str, str],
    folder: Path,
    given: str,
    timeout_s: float,
) -> subprocess.CompletedProcess[str]:
    """Run a command to its end, as `subprocess.run` does; `given` is its standard input."""
    with TemporaryDirectory() as name:
        files = [Path(name, each) for each in ("given", "output", "errors")]
        files[0].write_text(given)
        process = Forked(
            arguments,
            environment=environment,
            folder=folder,
            given=files[0],
            output=files[1],
            errors=files[2],
        )
        try:
            code = process.wait(timeout_s)
        finally:
            process.kill()
        output, errors = (file.read_text() for file in files[1:])
    return subprocess.CompletedProcess(["squash", *arguments], code, output, errors)


def _run(
    arguments: Sequence[str], environment: Mapping[str, str], folder: str, files: Sequence[str]
) -> None:
    os.chdir(folder)
    os.environ.clear()
    os.environ.update(environment)
    time.tzset()
    for fd, file in enumerate(files):
        flags = os.O_RDONLY if fd == 0 else os.O_WRONLY | os.O_CREAT | os.O_APPEND
        opened = os.open(file, flags)
        if opened != fd:
            os.dup2(opened, fd)
            os.close(opened)
    sys.stdin = os.fdopen(0, closefd=False)
    sys.stdout = os.fdopen(1, "w", closefd=False)
    sys.stderr = os.fdopen(2, "w", buffering=1, errors="backslashreplace", closefd=False)
    sys.argv = ["squash", *arguments]
    # As `python -m` does.
    sys.path[0] = folder
    try:
        runpy.run_module("squash_api", run_name="__main__", alter_sys=True)
    except Exception:  # noqa: BLE001  as the interpreter does
        sys.excepthook(*sys.exc_info())
        sys.exit(1)
