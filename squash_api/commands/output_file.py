"""Files that commands write: whole or not at all."""

import os
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO


@contextmanager
def writing(output: Path | None) -> Iterator[BinaryIO]:
    """Give a file that takes its place when it is whole and on the disk; without, standard output.

    Raises
    ------
    OSError
        If it cannot be written; what was there before stays.
    """
    if output is None:
        yield sys.stdout.buffer
        sys.stdout.buffer.flush()
        return
    if output.exists() and not output.is_file():
        # A pipe or a device cannot be replaced.
        with output.open("wb") as file:
            yield file
        return
    place = output.resolve()
    descriptor, name = tempfile.mkstemp(dir=place.parent, prefix=f".{place.name}.", suffix=".part")
    try:
        with os.fdopen(descriptor, "wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        mask = os.umask(0)
        os.umask(mask)
        Path(name).chmod(place.stat().st_mode if place.exists() else 0o666 & ~mask)
        Path(name).replace(place)
    except BaseException:
        with suppress(OSError):
            Path(name).unlink()
        raise
