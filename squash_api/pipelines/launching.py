"""Launching a command for each file, a few at a time, with `squash run` around each.

A command that runs when this process is killed goes on. The next one finds it by a lock that
`squash run` holds, and waits for it; if it was killed too, it is launched again.
"""

import fcntl
import os
import shlex
import subprocess
import sys
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from threading import Event

from squash_api.pipelines.outputs import CLAIMS_VARIABLE, Stamp, name_of
from squash_api.pipelines.run_job import RUN_VARIABLE
from squash_api.pipelines.watch_state import STARTED, WatchState
from squash_api.pipelines.watching import DONE, Say

_POLL_S = 0.1


@dataclass(slots=True)
class _Launched:
    """A command that runs; `popen` is None if an earlier process launched it."""

    path: str
    stamp: Stamp
    lock: Path
    popen: subprocess.Popen[bytes] | None


def words_for(template: str, path: str) -> list[str]:
    """Make the words of a command for a file: `{}` is its path, `{name}` its name without ending.

    No shell reads them. A command without `{}` gets the path as its last word.

    Raises
    ------
    ValueError
        If the template is no command.
    """
    words = shlex.split(template)
    if not words:
        raise ValueError("it is empty")
    if "{}" not in template:
        words.append("{}")
    return [_filled(word, path) for word in words]


def _filled(word: str, path: str) -> str:
    name = os.path.basename(path).lstrip(".").partition(".")[0]  # noqa: PTH119
    return word.replace("{name}", name).replace("{}", path)


class Launcher:
    """Launches `squash run` with a command for each file.

    Parameters
    ----------
    folder
        For the locks of the commands that run.
    options
        Of `squash run`; `{}` and `{name}` in them stand for the file too.
    most
        How many commands run at a time.
    stop
        Set when this process is asked to end: running commands are waited for, no more begin.
    hurry
        Set when it is asked again: they are ended, and launched again the next time.
    """

    def __init__(
        self,
        folder: Path,
        state: WatchState,
        *,
        template: str,
        options: Sequence[str],
        most: int,
        variables: Mapping[str, str],
        hurry: Event,
        say: Say,
    ) -> None:
        self._folder = folder
        self._claims = folder / "claims"
        self._state = state
        self._template = template
        self._options = options
        self._most = most
        self._variables = {**variables, CLAIMS_VARIABLE: str(self._claims)}
        self._variables.pop(RUN_VARIABLE, None)
        self._hurry = hurry
        self._say = say
        self._running: list[_Launched] = []
        self._claims.mkdir(mode=0o700, parents=True, exist_ok=True)
        for path, stamp in state.started():
            self._resume(path, stamp)

    def has_room(self) -> bool:
        """Whether another command may begin."""
        self.tick()
        return len(self._running) < self._most

    def take(self, path: str, stamp: Stamp) -> bool:
        """Launch the command for a file."""
        self._state.note([(path, stamp)], STARTED)
        self._launch(path, stamp)
        return True

    def tick(self) -> None:
        """Look which commands have ended."""
        for launched in list(self._running):
            if launched.popen is not None and launched.popen.poll() is None:
                continue
            if launched.popen is None and _is_locked(launched.lock):
                continue
            self._running.remove(launched)
            self._settle(launched)
        if not self._running:
            for claim in self._claims.iterdir():
                claim.unlink(missing_ok=True)

    def finish(self) -> None:
        """Wait for the commands that run; in a hurry, end them: they begin again the next time."""
        if self._running:
            self._say(f"waits for {len(self._running)} that run; a second signal ends them")
        while self._running and not self._hurry.wait(_POLL_S):
            self.tick()
        own = [(item, item.popen) for item in self._running if item.popen is not None]
        for _, popen in own:
            popen.terminate()
        for launched, popen in own:
            popen.wait()
            launched.lock.write_bytes(b"")

    def _resume(self, path: str, stamp: Stamp) -> None:
        """Go on with a command that an earlier process launched."""
        launched = _Launched(path, stamp, self._lock_of(path, stamp), None)
        if _is_locked(launched.lock):
            self._say(f"{path}: is still running")
            self._running.append(launched)
        else:
            self._settle(launched)

    def _settle(self, launched: _Launched) -> None:
        """Note how a command ended."""
        status = _status(launched.lock)
        if status is None and launched.popen is None and Path(launched.path).exists():
            self._say(f"{launched.path}: was interrupted: launched again")
            self._launch(launched.path, launched.stamp)
            return
        self._say(f"{launched.path}: exit status {status or 'unknown: squash run was killed'}")
        self._state.note([(launched.path, launched.stamp)], DONE)
        launched.lock.unlink(missing_ok=True)

    def _launch(self, path: str, stamp: Stamp) -> None:
        lock = self._lock_of(path, stamp)
        fd = os.open(lock, os.O_RDWR | os.O_CREAT | os.O_TRUNC, 0o600)
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            popen = subprocess.Popen(  # noqa: S603 - the command that was asked for
                [
                    *_squash(),
                    "run",
                    f"--status-fd={fd}",
                    f"--extra=input={path}",
                    *(_filled(option, path) for option in self._options),
                    "--",
                    *words_for(self._template, path),
                ],
                stdin=subprocess.DEVNULL,
                env=self._variables,
                pass_fds=(fd,),
                # Ctrl-C is for this process, which then decides.
                start_new_session=True,
            )
        finally:
            # The command holds the lock now.
            os.close(fd)
        self._running.append(_Launched(path, stamp, lock, popen))

    def _lock_of(self, path: str, stamp: Stamp) -> Path:
        return self._folder / name_of(path, stamp, 0)


def _squash() -> list[str]:
    """Return how this program is started."""
    return [sys.executable, "-m", "squash_api"]


def _is_locked(path: Path) -> bool:
    with suppress(OSError):
        fd = os.open(path, os.O_RDWR)
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
        finally:
            os.close(fd)
    return False


def _status(path: Path) -> str | None:
    """Return the exit status that a command left; None if it left none."""
    with suppress(OSError):
        return path.read_text("ascii", "replace").strip() or None
    return None


def runs_folder(state: Path) -> Path:
    """Return the folder for the locks of the commands, beside the state."""
    return state.with_name(f"{state.name}.runs")
