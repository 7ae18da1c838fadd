"""Jobs that wait on disk until the service takes them: a folder of files, one a job.

A file is written whole or not at all. Its job has identifiers, so that the service knows it again
if it comes twice, and several processes may send from one folder.
"""

import fcntl
import json
import os
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal, Self
from uuid import uuid4

from squash_api.client import Reply, Squash, SquashClientError
from squash_api.verify.job_file import identified
from squash_api.verify.measurement import DocumentError

SPOOL_VARIABLE = "SQUASH_SPOOL"
"""The variable that names the folder."""

_ENDING = ".json"
_VERSION = 1
# What an unfinished write leaves behind is deleted after so long.
_OLD_S = 86_400.0
# The fault is not the document's: the key, the address or the state of the service.
_OF_THE_SERVICE = frozenset({401, 404, 405, 407, 408, 410, 425, 429, 502, 503, 504})
_MOST_TROUBLES = 2

Fate = Literal["sent", "repeat", "refused", "waits"]


def state_folder(variables: Mapping[str, str]) -> Path:
    """Return the folder for what is remembered on this machine; source: XDG's base directories."""
    given = variables.get("XDG_STATE_HOME", "")
    if Path(given).is_absolute():
        return Path(given, "squash")
    try:
        return Path.home() / ".local" / "state" / "squash"
    except RuntimeError:  # a user without a home
        return Path(tempfile.gettempdir(), f"squash-{os.getuid()}")


def spool_folder(variables: Mapping[str, str]) -> Path:
    """Return the folder of waiting jobs."""
    return Path(variables.get(SPOOL_VARIABLE) or state_folder(variables) / "spool")


@dataclass(frozen=True, slots=True)
class Entry:
    """A job that waits.

    `source` is the file or command that it is from, `since` when it began to wait (ISO 8601),
    `why` what kept it from being sent, and `url` the service it is for; None: any. The service has
    refused it if `is_refused`: it is not sent again unless that is asked for.
    """

    path: Path
    document: dict[str, Any]
    source: str
    since: str
    why: str
    url: str | None
    is_refused: bool = False

    def to_json(self) -> dict[str, Any]:
        """Return what stands in the file."""
        return {
            "version": _VERSION,
            "source": self.source,
            "since": self.since,
            "why": self.why,
            "url": self.url,
            "refused": self.is_refused,
            "document": self.document,
        }


@dataclass(frozen=True, slots=True)
class Damaged:
    """A file of the spool that cannot be read, and why."""

    path: Path
    why: str


class Spool:
    """The waiting jobs in a folder, which is made when the first one comes."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def put(
        self,
        document: Mapping[str, Any],
        *,
        source: str,
        url: str | None,
        why: str,
        name: str | None = None,
    ) -> Entry:
        """Store a job; one that has the same name already stays as it is.

        Raises
        ------
        OSError
            If it cannot be written.
        DocumentError, TypeError, ValueError
            If it is not a job.
        """
        now = datetime.now(UTC)
        name = name or f"{now:%Y%m%dT%H%M%S.%f}-{uuid4().hex}"
        path = self.folder / f"{name}{_ENDING}"
        since = now.isoformat(timespec="seconds")
        entry = Entry(path, identified(document), source, since, why, url)
        if not path.exists():
            self.write(entry)
        return entry

    def write(self, entry: Entry) -> None:
        """Write the file of an entry, whole or not at all."""
        content = json.dumps(entry.to_json(), allow_nan=False).encode()
        self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        unfinished = self.folder / f".{entry.path.name}.{uuid4().hex[:8]}"
        try:
            with open(unfinished, "xb", opener=_private) as stream:
                stream.write(content)
                stream.flush()
                os.fsync(stream.fileno())
            unfinished.replace(entry.path)
        except OSError:
            unfinished.unlink(missing_ok=True)
            raise
        folder = os.open(self.folder, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)

    def paths(self) -> list[Path]:
        """Return the files of waiting jobs, by name."""
        try:
            found = sorted(self.folder.iterdir())
        except (FileNotFoundError, NotADirectoryError):
            return []
        for path in found:
            if path.name.startswith("."):
                with suppress(OSError):
                    if path.stat().st_mtime < time.time() - _OLD_S:
                        path.unlink()
        return [path for path in found if path.suffix == _ENDING and path.name[0] != "."]

    def entries(self) -> Iterator[Entry | Damaged]:
        """Yield what waits, by name; what is sent meanwhile is left out."""
        yield from self.entries_of(self.paths())

    def entries_of(self, paths: Iterable[Path]) -> Iterator[Entry | Damaged]:
        """Yield those of some files."""
        for path in paths:
            try:
                yield _read(path)
            except FileNotFoundError:
                continue
            except (OSError, ValueError) as error:
                yield Damaged(path, f"cannot be read: {error}")


def _private(path: str, flags: int) -> int:
    return os.open(path, flags, 0o600)


def _read(path: Path) -> Entry:
    """Read the file of an entry; `ValueError` if it is none."""
    found = json.loads(path.read_bytes())
    if not (isinstance(found, dict) and isinstance(found.get("document"), dict)):
        raise DocumentError("it has no document")
    texts = {key: str(found.get(key, "")) for key in ("source", "since", "why")}
    url = found.get("url")
    return Entry(
        path,
        found["document"],
        url=url if isinstance(url, str) else None,
        is_refused=found.get("refused") is True,
        **texts,
    )


@dataclass(frozen=True, slots=True)
class Sent:
    """What became of a waiting job; `why` says it of those that still wait or were refused."""

    entry: Entry
    fate: Fate
    why: str = ""
    reply: Reply | None = None


class Sender:
    """Sends waiting jobs to one service, each once, and remembers whether that is there.

    Credentials that are missing are a reason to wait, like a service that is.
    """

    def __init__(
        self,
        spool: Spool,
        *,
        url: str | None,
        user: str | None = None,
        password: str | None = None,
        key: str | None = None,
        timeout_s: float = 30.0,
    ) -> None:
        self.spool = spool
        self.url = url
        self.trouble: str | None = None
        self._squash: Squash | None = None
        if url is None:
            self.trouble = "SQUASH_URL is not set"
        elif key is None and (user is None or password is None):
            self.trouble = "neither SQUASH_KEY nor SQUASH_USER with SQUASH_PASSWORD is set"
        else:
            self._squash = Squash(url, user, password, key=key, timeout=timeout_s, retries=0)

    @classmethod
    def of(cls, variables: Mapping[str, str], **given: Any) -> Self:
        """Make one with the credentials of the environment."""
        key = variables.get("SQUASH_KEY", "").strip() or None
        given.setdefault("user", variables.get("SQUASH_USER") or None)
        password = variables.get("SQUASH_PASSWORD")
        return cls(Spool(spool_folder(variables)), **{**given, "password": password, "key": key})

    @property
    def is_set_up(self) -> bool:
        """Whether it knows a service, and as whom to send."""
        return self._squash is not None

    def close(self) -> None:
        """Close the connections."""
        if self._squash is not None:
            self._squash.__exit__()

    def is_for(self, entry: Entry, *, any_url: bool = False) -> bool:
        """Whether an entry is for this service."""
        return any_url or entry.url is None or _same(entry.url, self.url)

    def post(self, document: Mapping[str, Any]) -> tuple[Fate, str, Reply | None]:
        """Send a document that may wait; return what became of it, why, and the reply."""
        if self._squash is None:
            return "waits", self.trouble or "", None
        self.trouble = None
        try:
            reply = self._squash.send(document)
        except SquashClientError as error:
            code = error.status_code
            why = str(error) if code is None else f"{code}: {error}"
            if code is not None and 400 <= code < 500 and code not in _OF_THE_SERVICE:
                return "refused", why, None
            if code is None or code in _OF_THE_SERVICE:
                self.trouble = why
            return "waits", why, None
        except (TypeError, ValueError) as error:
            return "refused", str(error), None
        return ("repeat" if reply.is_repeat else "sent"), "", reply

    def send(
        self,
        paths: Iterable[Path],
        *,
        any_url: bool = False,
        with_refused: bool = False,
        is_over: Callable[[], bool] = lambda: False,
    ) -> Iterator[Sent]:
        """Send waiting jobs; what is for another service, or sent by another process, is left.

        Once the service is in trouble with two of them, no more are tried: one may be too much for
        it.
        """
        troubles = 0
        for path in paths:
            if is_over():
                return
            with _held(path) as entry:
                if entry is None or not self.is_for(entry, any_url=any_url):
                    continue
                if entry.is_refused and not with_refused:
                    continue
                fate, why, reply = self.post(entry.document)
                self._settle(entry, fate, why)
            yield Sent(entry, fate, why, reply)
            troubles = troubles + 1 if self.trouble is not None else 0
            if troubles == _MOST_TROUBLES:
                return

    def _settle(self, entry: Entry, fate: Fate, why: str) -> None:
        if fate in ("sent", "repeat"):
            entry.path.unlink(missing_ok=True)
        elif why != entry.why or (fate == "refused") != entry.is_refused:
            # A full disk leaves it as it is.
            with suppress(OSError):
                self.spool.write(replace(entry, why=why, is_refused=fate == "refused"))


@contextmanager
def _held(path: Path) -> Iterator[Entry | None]:
    """Hold the file of an entry against other senders; None if it is theirs, or gone."""
    try:
        fd = os.open(path, os.O_RDONLY)
    except OSError:
        yield None
        return
    try:
        yield _entry(path) if _is_mine(path, fd) else None
    finally:
        os.close(fd)


def _entry(path: Path) -> Entry | None:
    """Read the file of an entry; None if it is damaged, which `Spool.entries` tells."""
    try:
        return _read(path)
    except (OSError, ValueError):
        return None


def _is_mine(path: Path, fd: int) -> bool:
    """Lock an open file; return whether nobody else has, and it is still the one of its name."""
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError:
        pass  # a disk without locks: the service knows a job that comes twice
    try:
        return path.stat().st_ino == os.fstat(fd).st_ino
    except OSError:
        return False


def _same(one: str, other: str | None) -> bool:
    return other is not None and one.rstrip("/") == other.rstrip("/")
