"""The generated files: making, marking, checking and writing them, and finding drift.

A file is ours if it contains `MARK` and an output makes files of its extension in its directory.
Other files there are never removed, and are not drift.
"""

import json
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from errno import EISDIR
from pathlib import Path

import yaml

from squash_api.generate.kapacitor.tasks import kapacitor_files
from squash_api.generate.output import MARK, FileKind
from squash_api.generate.outputs import OUTPUTS, file_kind_of
from squash_api.metrics_packages.loading import MetricsPackage
from squash_api.schema.names import Schema
from squash_api.setting_types import AlertsBy

_NAME = re.compile(r"[A-Za-z0-9_-][A-Za-z0-9_.-]*\Z")
_MAX_NAME_BYTES = 200
_NOTE = f"Made by {MARK}: edit the specifications, not this file."


class FilesError(Exception):
    """The files are not valid, or cannot be read or written."""


@dataclass(frozen=True, slots=True)
class Drift:
    """How files differ from the generated ones, as sorted paths below the output directory."""

    changed: tuple[str, ...] = ()
    missing: tuple[str, ...] = ()
    orphaned: tuple[str, ...] = ()

    def __bool__(self) -> bool:
        """Return whether there is any difference."""
        return bool(self.changed or self.missing or self.orphaned)


def make_files(
    package: MetricsPackage,
    *,
    schema: Schema,
    database: str,
    retention_policy: str,
    alerts_by: AlertsBy = "kapacitor",
) -> dict[str, str]:
    """Return the text of each file by path, sorted; it depends only on the arguments.

    The package must have no problems. `database` and `retention_policy` are where the service
    writes its points.

    Raises
    ------
    SettingsError
        If a name cannot be written in the language of a file.
    """
    place = {"database": database, "retention_policy": retention_policy}
    made: dict[str, str] = {}
    for output in OUTPUTS:
        made |= output.render(package, schema=schema, alerts_by=alerts_by, **place)
    return with_marks(made)


def task_of(
    package: MetricsPackage, *, schema: Schema, database: str, retention_policy: str
) -> str:
    """Return Kapacitor's task for the only metric of a package, as `make_files` makes it."""
    files = kapacitor_files(
        package, schema=schema, database=database, retention_policy=retention_policy
    )
    (name,) = package.metrics
    path = f"kapacitor/tasks/{name}.tick"
    return _with_mark(path, files[path])


def with_marks(files: Mapping[str, str]) -> dict[str, str]:
    """Return the files with the mark in each: a comment at the top, or the first key of JSON."""
    return {path: _with_mark(path, text) for path, text in sorted(files.items())}


def file_problems(files: Mapping[str, str]) -> list[str]:
    """Return why these files must not be written, each problem with its path."""
    return [
        f"{path}: {problem}"
        for path, text in sorted(files.items())
        if (problem := _path_problem(path) or _text_problem(path, text))
    ]


def find_drift(files: Mapping[str, str], output: Path) -> Drift:
    """Return how the files below a directory differ from those given."""
    files = _with_kept(files, output)
    found = {path: _read(output / path) for path in files}
    return Drift(
        changed=tuple(
            sorted(p for p, data in found.items() if data is not None and data != files[p].encode())
        ),
        missing=tuple(sorted(path for path, data in found.items() if data is None)),
        orphaned=tuple(sorted(path for path in files_of_ours(output) if path not in files)),
    )


def files_of_ours(output: Path, kinds: Sequence[FileKind] = ()) -> Iterator[str]:
    """Yield the paths of the generated files below a directory, of all kinds or of some."""
    for kind in kinds or [kind for item in OUTPUTS for kind in item.files]:
        directory = output / kind.folder
        for place in sorted(directory.iterdir()) if directory.is_dir() else ():
            if place.suffix == kind.extension and MARK.encode() in (_read(place) or b""):
                yield f"{kind.folder}/{place.name}"


def write_files(files: Mapping[str, str], output: Path) -> Drift:
    """Write the given files, remove orphans, and return the drift that there was.

    Each file is complete at every moment: all are checked, then written next to their places, then
    renamed. Files that are right already stay untouched.

    Raises
    ------
    FilesError
        If a file is not valid, or cannot be written.
    """
    files = _with_kept(files, output)
    problems = file_problems(files)
    if problems:
        raise FilesError("\n".join(problems))
    try:
        drift = find_drift(files, output)
        changed = (*drift.changed, *drift.missing)
        write_all({output / path: files[path].encode() for path in changed})
        for path in drift.orphaned:
            (output / path).unlink()
    except OSError as error:
        raise FilesError(f"{error.filename}: {error.strerror}") from error
    return drift


def write_all(files: Mapping[Path, bytes]) -> None:
    """Write all of these files, or none: next to their places, then rename them.

    Directories that were made for them are removed again if a file cannot be written.
    """
    staged: dict[Path, Path] = {}
    made: list[Path] = []
    try:
        for place, content in sorted(files.items()):
            if place.is_dir():
                raise IsADirectoryError(EISDIR, os.strerror(EISDIR), str(place))
            above = [path for path in (place.parent, *place.parent.parents) if not path.exists()]
            for path in reversed(above):
                path.mkdir()
                made.append(path)
            new = place.with_name(f".{place.name}.new")
            staged[place] = new
            new.write_bytes(content)
        for place, new in staged.items():
            new.replace(place)
        made.clear()
    finally:
        for new in staged.values():
            with suppress(OSError):
                new.unlink(missing_ok=True)
        for path in reversed(made):
            with suppress(OSError):
                path.rmdir()


def _with_kept(files: Mapping[str, str], output: Path) -> Mapping[str, str]:
    """Add what follows from the files that are below a directory."""
    for item in OUTPUTS:
        if item.keep is not None:
            ours = [*files_of_ours(output, item.files)]
            found = {path: (_read(output / path) or b"").decode(errors="replace") for path in ours}
            kept = item.keep(files, found)
            new = {path: kept[path] for path in kept.keys() - files.keys()}
            files = dict(sorted({**kept, **with_marks(new)}.items()))
    return files


def _with_mark(path: str, text: str) -> str:
    if MARK in text:
        return text
    kind = file_kind_of(path)
    comment = None if kind is None else kind.language.comment
    if comment is not None:
        return f"{comment} {_NOTE}\n{text}"
    if not text.startswith("{"):
        return text
    between = "\n  " if text.startswith("{\n") else ""
    end = "" if between else " "
    return f'{{{between}"generated": {json.dumps(_NOTE)},{end}{text[1:]}'


def _path_problem(path: str) -> str | None:
    name = path.rpartition("/")[2]
    if file_kind_of(path) is None:
        return "not a place of generated files"
    if _NAME.match(name) is None:
        return "the name may contain only letters, digits, '_', '-' and '.'"
    if len(name) > _MAX_NAME_BYTES:
        return f"the name is longer than {_MAX_NAME_BYTES} characters"
    return None


def _text_problem(path: str, text: str) -> str | None:
    """Return why a server could not read the text; one such file stops it from loading any."""
    if MARK not in text:
        return f"the mark '{MARK}' is missing"
    if not text.endswith("\n") or "\r" in text or "\0" in text:
        return "not lines of text"
    kind = file_kind_of(path)
    parse = None if kind is None else kind.language.parse
    try:
        text.encode()
        is_mapping = parse is None or isinstance(parse(text), dict)
    except UnicodeEncodeError:
        return "not text that UTF-8 can hold"
    except (yaml.YAMLError, ValueError) as error:
        return f"cannot be read back: {str(error).splitlines()[0]}"
    return None if is_mapping else "no mapping"


def _read(place: Path) -> bytes | None:
    """Return the content of a file; None if it does not exist."""
    try:
        return place.read_bytes()
    except FileNotFoundError:
        return None
    except OSError as error:
        raise FilesError(f"{place}: {error.strerror}") from None
