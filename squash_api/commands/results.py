"""Commands that answer a question: its options, asking a service, and writing the result."""

import os
import sys
import tempfile
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Annotated, Any, BinaryIO

import httpx
import typer

from squash_api.client.wire import SquashClientError, Wire
from squash_api.commands.terminal import Command, fail, options_as
from squash_api.trends.parameters import AGO, OPTIONS, PARAMETERS, Parameter, Place

Output = Annotated[
    Path | None,
    typer.Option(help="File to write, completely or not at all. Default: standard output."),
]
Url = Annotated[
    str | None,
    typer.Option(help="Root of a service to ask instead of the record, with SQUASH_KEY if set."),
]
Asked = Sequence[tuple[str, str]]
"""A question as the query of a URL has it: names and texts."""

_TIMEOUT_S = 900.0
_RETRIES = 5


def with_question(place: Place) -> Callable[[Command], Command]:
    """Add the options of a place before a command's own; the command gets them as `asked`."""
    rows = [PARAMETERS[name] for name in OPTIONS[place]]
    return options_as(
        "asked",
        {row.name: _option(row, place) for row in rows},
        gather=lambda given: [(name, text) for name in given for text in _texts(given[name])],
    )


def _option(row: Parameter, place: Place) -> Any:
    kinds: dict[str, Any] = {"truth": bool, "count": int | None}
    kind = kinds.get(row.kind, list[str] | None if row.is_repeated else str | None)
    words = row.option.format(ago=AGO[place])
    return Annotated[kind, typer.Option(f"--{row.name.replace('_', '-')}", help=words)]


def _texts(value: Any) -> Sequence[str]:
    """Turn the value of an option into texts of its parameter."""
    if value is None or value is False:
        return ()
    if isinstance(value, list):
        return value
    return ["true" if value is True else str(value)]


@contextmanager
def asking(url: str, path: str, *, code: int) -> Iterator[tuple[Wire, httpx.URL]]:
    """Connect to a service, and give the URL of a path there; a failure ends the command.

    `code` is the exit code of a failure; if the question cannot be answered, it is always 2.
    """
    key = os.environ.get("SQUASH_KEY", "").strip()
    wire = Wire(timeout=_TIMEOUT_S, retries=_RETRIES, key=key)
    try:
        yield wire, httpx.URL(f"{url.rstrip('/')}/{path}")
    except SquashClientError as error:
        fail(str(error), code=2 if error.status_code == 422 else code)
    except httpx.InvalidURL as error:
        fail(f"--url {url}: {error}")
    finally:
        wire.close()


def write(chunks: Iterable[bytes], output: Path | None, *, code: int) -> None:
    """Write to a file or to standard output; a failure ends the command."""
    try:
        with writing(output) as file:
            for chunk in chunks:
                file.write(chunk)
    except BrokenPipeError:
        # The reader has seen enough.
        raise
    except OSError as error:
        if output is not None and not output.resolve().parent.exists():
            fail(f"{output}: the directory {output.parent} does not exist: make it", code=code)
        fail(f"{output or 'standard output'}: {error.strerror or error}", code=code)


@contextmanager
def writing(output: Path | None) -> Iterator[BinaryIO]:
    """Open a file that replaces the previous one once it is complete and on disk.

    Without a file this is standard output.

    Raises
    ------
    OSError
        If it cannot be written; the previous file stays.
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
