"""Watching a folder: each file that appears is taken once, when it is complete.

The kernel tells of changes (through watchfiles). Because it may drop some, and tells nothing of
network disks, the folder is also looked through from time to time; what is remembered decides what
is new. Nothing in the folder is moved or changed.
"""

import os
import stat
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from fnmatch import fnmatch
from heapq import heappop, heappush
from pathlib import Path
from threading import Event
from typing import Any, Protocol

from watchfiles import Change, watch

from squash_api.client import Reply
from squash_api.judging.wording import counted
from squash_api.pipelines.outputs import (
    Stamp,
    date_of,
    is_closed,
    is_on_network_disk,
    name_of,
    problem_of,
    stamp_of,
    stamps,
)
from squash_api.pipelines.spool import Fate, Sender, Sent
from squash_api.pipelines.watch_state import WatchState
from squash_api.wires.data_id import DataId
from squash_api.wires.files import File, read_file

DONE = "done"
"""A file that needs nothing more."""

Say = Callable[[str], None]
"""Tells people something, in a line."""

# How long a file must be unchanged where nobody can tell whether it is closed.
_STABLE_S = 5.0
# How often a folder is looked through: on network disks; and elsewhere, for what was not told.
_POLL_S = 5.0
_LOOK_S = 300.0
_FORGET_S = 86_400.0
_WAKE_MS = 200
_MOST_AT_ONCE = 200
_FIRST_PAUSE_S, _LONGEST_PAUSE_S = 1.0, 30.0
_SPOOL_LOOK_S = 10.0
_NEVER = ((-1, -1), 0.0)


class Taker(Protocol):
    """What is done with the files."""

    def has_room(self) -> bool:
        """Whether another file can be taken now."""

    def take(self, path: str, stamp: Stamp) -> bool:
        """Take a complete file; false if it cannot be taken now, and is to be looked at again."""

    def tick(self) -> None:
        """Do what there is to do from time to time."""

    def finish(self) -> None:
        """Come to an end."""


@dataclass(frozen=True, slots=True)
class Watched:
    """A folder, and which of its files are taken, when.

    Files are complete if they are unchanged for `stable_s`; None: when nobody of this machine has
    them open for writing, or on a network disk after 5 s. The folder is looked through every
    `poll_s`; None: the kernel tells of changes, if it can.
    """

    folder: str
    patterns: Sequence[str]
    stable_s: float | None = None
    poll_s: float | None = None
    is_new_only: bool = False

    def wants(self, name: str) -> bool:
        """Whether a file with a name is taken."""
        return not name.startswith(".") and any(fnmatch(name, item) for item in self.patterns)


class Watcher:
    """Finds the files of a folder that have not been taken, and hands them to a taker."""

    def __init__(self, watched: Watched, state: WatchState, taker: Taker, *, say: Say) -> None:
        self._watched = watched
        self._state = state
        self._taker = taker
        self._say = say
        is_remote = is_on_network_disk(watched.folder)
        self._is_told_closed = watched.stable_s is None and not is_remote
        self._stable_s = _STABLE_S if watched.stable_s is None else watched.stable_s
        self._poll_s = _POLL_S if watched.poll_s is None and is_remote else watched.poll_s
        # Files that are not complete, with when they were first seen as they are (monotonic, s).
        self._growing: dict[str, tuple[Stamp, float]] = {}
        self._ready: list[tuple[int, str, Stamp]] = []
        self._in_ready: set[tuple[str, Stamp]] = set()
        self._forget_s = 0.0
        self._is_missing = False
        self._is_beginning = True

    def run(self, stop: Event) -> None:
        """Watch until it is to stop."""
        for paths in self._wakes(stop):
            if paths is None:
                self._look()
            else:
                self._see(paths)
            self._sort_out()
            self._take(stop)
            self._taker.tick()
        self._taker.finish()

    def _wakes(self, stop: Event) -> Iterator[Iterable[str] | None]:
        """Yield what has changed, often; None when the whole folder is to be looked through."""
        while not stop.is_set():
            if self._poll_s is None and os.path.isdir(self._watched.folder):  # noqa: PTH112
                try:
                    yield from self._told(stop)
                except (OSError, RuntimeError) as error:
                    self._say(
                        f"{self._watched.folder}: the kernel tells of no changes ({error}): "
                        f"it is looked through every {_POLL_S:g} s"
                    )
                    self._poll_s = _POLL_S
            else:
                yield from self._polled(stop)

    def _told(self, stop: Event) -> Iterator[Iterable[str] | None]:
        folder = self._watched.folder
        identity = _identity(folder)
        look_s = 0.0
        for changes in watch(
            folder,
            watch_filter=None,
            debounce=_WAKE_MS,
            rust_timeout=_WAKE_MS,
            yield_on_timeout=True,
            stop_event=stop,
            raise_interrupt=False,
            force_polling=False,
            ignore_permission_denied=True,
        ):
            # Only now is every later change told of.
            if time.monotonic() >= look_s:
                yield None
                look_s = time.monotonic() + _LOOK_S
            yield [path for change, path in changes if change != Change.deleted]
            if _identity(folder) != identity:
                return

    def _polled(self, stop: Event) -> Iterator[Iterable[str] | None]:
        pause_s = self._poll_s or _POLL_S
        yield None
        until_s = time.monotonic() + pause_s
        while time.monotonic() < until_s and not stop.wait(min(_WAKE_MS / 1000, pause_s)):
            yield ()

    def _look(self) -> None:
        """Look through the whole folder."""
        watched = self._watched
        if not os.path.isdir(watched.folder):  # noqa: PTH112
            if not self._is_missing:
                self._say(f"{watched.folder}: is not there: waiting for it")
            self._is_missing = True
            return
        self._is_missing = False
        others: list[str] = []

        def is_wanted(name: str) -> bool:
            if not watched.wants(name):
                others.append(name)
                return False
            return True

        found = stamps(watched.folder, is_wanted=is_wanted) or {}
        if self._state.is_new:
            if others:
                has = "has another name" if len(others) == 1 else "have other names"
                self._say(
                    f"{watched.folder}: {counted(len(others), 'file')} {has}, such as {others[0]}: "
                    "--pattern takes them too"
                )
            if watched.is_new_only:
                self._state.note(found.items(), DONE)
            self._state.begin()
        self._add(found)
        if self._is_beginning:
            files = counted(len(self._growing), "file")
            self._say(f"{watched.folder}: {files} to take, and now those that come")
        self._is_beginning = False
        if found and time.monotonic() > self._forget_s:
            self._state.forget_gone(found)
            self._forget_s = time.monotonic() + _FORGET_S

    def _see(self, paths: Iterable[str]) -> None:
        """Look at files and folders that have changed."""
        folder = self._watched.folder
        for path in paths:
            inner = os.path.relpath(path, folder)
            if any(part.startswith(".") for part in Path(inner).parts):
                continue
            if os.path.isdir(path) and not os.path.islink(path):  # noqa: PTH112, PTH114
                self._add(stamps(path, is_wanted=self._watched.wants) or {})
            elif self._watched.wants(os.path.basename(path)):  # noqa: PTH119
                stamp = _stamp(path)
                self._add({path: stamp} if stamp else {})

    def _add(self, found: Mapping[str, Stamp]) -> None:
        now_s = time.monotonic()
        for path, stamp in found.items():
            if (path, stamp) in self._in_ready or self._growing.get(path, _NEVER)[0] == stamp:
                continue
            if not self._state.knows(path, stamp):
                self._growing[path] = stamp, now_s

    def _sort_out(self) -> None:
        """Move the files that are complete to those that are ready, in the order of their time."""
        now_s = time.monotonic()
        for path, (stamp, since_s) in list(self._growing.items()):
            current = _stamp(path)
            if current is None:
                del self._growing[path]
            elif current != stamp:
                self._growing[path] = current, now_s
            elif self._is_complete(path, now_s - since_s):
                del self._growing[path]
                heappush(self._ready, (stamp[1], path, stamp))
                self._in_ready.add((path, stamp))

    def _is_complete(self, path: str, age_s: float) -> bool:
        closed = is_closed(path)
        if closed is False:
            return False
        return (self._is_told_closed and closed is True) or age_s >= self._stable_s

    def _take(self, stop: Event) -> None:
        for _ in range(_MOST_AT_ONCE):
            if not self._ready or stop.is_set() or not self._taker.has_room():
                return
            _, path, stamp = heappop(self._ready)
            self._in_ready.discard((path, stamp))
            if _stamp(path) != stamp:
                self._see([path])
            elif not self._state.knows(path, stamp):
                self._taker.take(path, stamp)


def _identity(folder: str) -> tuple[int, int] | None:
    try:
        found = os.stat(folder)  # noqa: PTH116
    except OSError:
        return None
    return found.st_dev, found.st_ino


def _stamp(path: str) -> Stamp | None:
    """Return the stamp of a file; None if it is not there, or no file."""
    try:
        found = os.stat(path)  # noqa: PTH116
    except OSError:
        return None
    return stamp_of(found) if stat.S_ISREG(found.st_mode) else None


class Dispatcher:
    """Sends the jobs in files to a service; what cannot be sent waits in the spool.

    `complete` adds to a document what it does not say itself, the same each time; it gets the time
    of the file, in s since 1970.
    """

    def __init__(
        self,
        folder: str,
        state: WatchState,
        sender: Sender,
        *,
        data_id: DataId,
        complete: Callable[[dict[str, Any], float], dict[str, Any]],
        say: Say,
    ) -> None:
        self._folder = folder
        self._state = state
        self._sender = sender
        self._data_id = data_id
        self._complete = complete
        self._say = say
        self._said: set[str] = set()
        self._try_s = self._look_s = 0.0
        self._pause_s = _FIRST_PAUSE_S

    def has_room(self) -> bool:
        """Whether another file can be taken now: always."""
        return True

    def take(self, path: str, stamp: Stamp) -> bool:
        """Send the jobs of a file, or spool them; then it is done."""
        try:
            Path(path).open("rb").close()
            found = list(read_file(File(path, os.path.relpath(path, self._folder)), self._data_id))
            if _stamp(path) != stamp:
                return False
            for index, job in enumerate(found):
                if job.document is not None:
                    document = _dated(self._complete(job.document, stamp[1] / 1e9), stamp)
                    self._send(document, job.place, name_of(path, stamp, index))
        except OSError as error:
            # It is tried again when the folder is looked through.
            self._say_once(f"{path}: {error.strerror or error}")
            return False
        for job in found:
            if job.document is None:
                self._say(f"{problem_of(job)}")
        if not found:
            self._say(f"{path}: there is no job in it")
        self._state.note([(path, stamp)], DONE)
        return True

    def _send(self, document: dict[str, Any], place: str, name: str) -> None:
        sender = self._sender
        fate: Fate = "waits"
        why, reply = sender.trouble or "", None
        if time.monotonic() >= self._try_s:
            fate, why, reply = sender.post(document)
            self._note_trouble()
        if reply is not None:
            self._say(f"{place}: {_reply_text(fate, reply)}")
            return
        entry = sender.spool.put(document, source=place, url=sender.url, why=why, name=name)
        if fate == "refused":
            sender.spool.write(replace(entry, is_refused=True))
        words = "refused" if fate == "refused" else "waits"
        self._say(f"{place}: {words}: {why}")
        self._look_s = 0.0

    def _note_trouble(self) -> None:
        """Try less and less often while the service is in trouble."""
        if self._sender.trouble is None:
            self._pause_s, self._try_s = _FIRST_PAUSE_S, 0.0
        else:
            self._try_s = time.monotonic() + self._pause_s
            self._pause_s = min(2 * self._pause_s, _LONGEST_PAUSE_S)

    def tick(self) -> None:
        """Send some of what waits in the spool."""
        now_s = time.monotonic()
        if now_s < self._look_s or now_s < self._try_s:
            return
        paths = self._sender.spool.paths()
        self._look_s = now_s + _SPOOL_LOOK_S
        sent: list[Sent] = []
        for one in self._sender.send(paths, is_over=lambda: len(sent) >= _MOST_AT_ONCE):
            sent.append(one)
            if one.reply is not None:
                self._say(f"{one.entry.source}: {_reply_text(one.fate, one.reply)}")
            elif one.fate == "refused":
                self._say(f"{one.entry.source}: refused: {one.why}")
        if sent:
            self._note_trouble()
        if len(sent) >= _MOST_AT_ONCE:
            self._look_s = 0.0

    def send_spooled(self, stop: Event) -> None:
        """Do nothing but that, until it is to stop."""
        while not stop.is_set():
            self.tick()
            stop.wait(_POLL_S)
        self.finish()

    def finish(self) -> None:
        """Close the connections."""
        self._sender.close()

    def _say_once(self, text: str) -> None:
        if text not in self._said:
            self._said.add(text)
            self._say(text)


def _dated(document: dict[str, Any], stamp: Stamp) -> dict[str, Any]:
    """Give a job that has no date that of its file: it may be sent much later."""
    meta = document["meta"]
    env = meta.get("env") or {}
    if "date" in meta or not isinstance(env, dict) or "date" in env:
        return document
    return {**document, "meta": {**meta, "env": {**env, "date": date_of(stamp)}}}


def _reply_text(fate: Fate, reply: Reply) -> str:
    repeat = ", which the service already had" if fate == "repeat" else ""
    return f"job {reply.job_id}{repeat}, {reply.status_url}"
