"""What pipelines write: which files are new, whether they are complete, and the jobs in them."""

import errno
import fcntl
import os
import signal
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from datetime import UTC, datetime
from hashlib import sha256
from pathlib import Path

from squash_api.wires.data_id import DataId
from squash_api.wires.files import File, Found, read_file

Stamp = tuple[int, int]
"""The size of a file in bytes, and when it was written, in ns since 1970."""

CLAIMS_VARIABLE = "SQUASH_RUN_CLAIMS"
"""The folder by which runs that write into one folder agree on who found a file."""

_NETWORK_DISKS = frozenset(
    {"9p", "afs", "beegfs", "ceph", "cifs", "davfs", "fuse", "gfs2", "glusterfs", "gpfs", "lustre"}
    | {"ncpfs", "nfs", "nfs4", "ocfs2", "orangefs", "pvfs2", "smb3", "smbfs"}
)
_MOUNTS = Path("/proc/self/mountinfo")


def stamps(
    folder: str,
    *,
    until_s: float | None = None,
    without: str | None = None,
    is_wanted: Callable[[str], bool] = lambda _name: True,
) -> dict[str, Stamp] | None:
    """Return the files below a folder with their stamps; None if it takes until then.

    Names that begin with a dot are left out, and links to folders. `until_s` is of the monotonic
    clock. `without` is a folder that is left out, `is_wanted` says which names of files count.
    """
    found: dict[str, Stamp] = {}
    folders = [folder]
    while folders:
        for entry in _listed(folders.pop()):
            if until_s is not None and time.monotonic() > until_s:
                return None
            if entry.name.startswith(".") or entry.path == without:
                continue
            with suppress(OSError):
                if entry.is_dir(follow_symlinks=False):
                    folders.append(entry.path)
                elif is_wanted(entry.name) and entry.is_file():
                    found[entry.path] = stamp_of(entry.stat())
    return found


def _listed(folder: str) -> list[os.DirEntry[str]]:
    try:
        with os.scandir(folder) as entries:
            return list(entries)
    except OSError:
        return []


def stamp_of(status: os.stat_result) -> Stamp:
    """Return the stamp of a file; a change of the file changes it."""
    return status.st_size, status.st_mtime_ns


def is_closed(path: str) -> bool | None:
    """Tell whether no process of this machine writes to a file; None if that cannot be told.

    Source: fcntl(2); a read lease is given only where nobody writes. It is given back at once.
    """
    if not hasattr(fcntl, "F_SETLEASE"):  # macOS
        return None
    try:
        fd = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
    except OSError:
        return None
    try:
        fcntl.fcntl(fd, fcntl.F_SETLEASE, fcntl.F_RDLCK)
        fcntl.fcntl(fd, fcntl.F_SETLEASE, fcntl.F_UNLCK)
    except OSError as error:
        return False if error.errno == errno.EAGAIN else None
    finally:
        os.close(fd)
    return True


def bear_leases() -> None:
    """Go on when somebody wants to write while `is_closed` asks; the default is to be ended."""
    # Not ignored, or the programs that this one starts would ignore it too.
    signal.signal(signal.SIGIO, lambda *_: None)


def is_on_network_disk(folder: str) -> bool:
    """Whether a folder is on a disk on which others write, and of which nobody tells changes."""
    real = os.path.realpath(folder)
    kind, longest = "", -1
    with suppress(OSError):
        for line in _MOUNTS.read_text("utf-8", "surrogateescape").splitlines():
            before, _, after = line.partition(" - ")
            mount = before.split()[4].replace("\\040", " ")
            inside = real == mount or real.startswith(mount.rstrip("/") + "/")
            if inside and len(mount) >= longest:
                kind, longest = after.split()[0], len(mount)
    return kind.partition(".")[0] in _NETWORK_DISKS


def is_named_as_output(name: str) -> bool:
    """Whether the name of a file says that what was measured may be in it."""
    return name.lower().removesuffix(".gz").endswith((".json", ".yaml", ".yml"))


def written(
    before: Mapping[str, Stamp] | None, after: Mapping[str, Stamp], *, since_ns: int
) -> list[tuple[str, Stamp]]:
    """Return the files that are new or have changed, in the order in which they were written.

    Without `before`, those that changed since a time, by the clock of the disk.
    """
    new = [
        (path, stamp)
        for path, stamp in after.items()
        if (_changed_ns(path) >= since_ns if before is None else before.get(path) != stamp)
    ]
    return sorted(new, key=lambda item: (item[1][1], item[0]))


def _changed_ns(path: str) -> int:
    try:
        return os.stat(path).st_ctime_ns  # noqa: PTH116 - paths may be no text
    except OSError:
        return 0


def jobs_in(path: str, folder: str, data_id: DataId) -> Iterator[Found]:
    """Yield the jobs of a file below a folder, and the problems that somebody should hear of."""
    inner = os.path.relpath(path, folder)
    for found in read_file(File(path, inner), data_id):
        if found.document is not None or found.form != "other" or is_named_as_job(path):
            yield found


def is_named_as_job(path: str) -> bool:
    """Whether the name of a file says that it is a job."""
    return path.removesuffix(".gz").endswith(".verify.json")


def date_of(stamp: Stamp) -> str:
    """Return when a file was written, ISO 8601."""
    return datetime.fromtimestamp(stamp[1] / 1e9, UTC).isoformat(timespec="milliseconds")


def name_of(path: str, stamp: Stamp, index: int) -> str:
    """Name the waiting job of a file, the same each time that the file is read."""
    digest = sha256(f"{os.path.abspath(path)}\0{stamp}".encode("utf-8", "surrogateescape"))  # noqa: PTH100
    began = datetime.fromtimestamp(stamp[1] / 1e9, UTC)
    return f"{began:%Y%m%dT%H%M%S.%f}-{digest.hexdigest()[:32]}-{index}"


def claim(folder: str | None, path: str, stamp: Stamp) -> bool:
    """Take a file, before other runs that found it too; true if it is ours.

    `folder` is where claims are kept; None: nobody else looks for it.
    """
    if folder is None:
        return True
    with suppress(OSError):
        name = os.path.join(folder, name_of(path, stamp, 0))  # noqa: PTH118
        try:
            os.close(os.open(name, os.O_CREAT | os.O_EXCL | os.O_WRONLY))
        except FileExistsError:
            return False
    return True


def problem_of(found: Found) -> str:
    """Say what is wrong at a place, in one line."""
    problem = found.problem or ""
    return problem if problem.startswith(found.place) else f"{found.place}: {problem}"
