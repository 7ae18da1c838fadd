"""The generated files: made, marked, checked as a whole, written, compared with what is there.

A file is ours if an output makes files of its extension in its folder, and it holds the words
`MARK`. Any other file there belongs to somebody: it is never removed, nor called drift.
"""

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import yaml

from squash_api.generate.kapacitor.tasks import kapacitor_files
from squash_api.generate.output import MARK
from squash_api.generate.outputs import OUTPUTS, file_kind_of
from squash_api.metrics_packages.loading import MetricsPackage
from squash_api.schema.names import Schema

_NAME = re.compile(r"[A-Za-z0-9_-][A-Za-z0-9_.-]*\Z")
_MAX_NAME_BYTES = 200
_NOTE = f"Made by {MARK}: edit the specifications, not this file."


class FilesError(Exception):
    """The files cannot be written as they are, or not at this place."""


@dataclass(frozen=True, slots=True)
class Drift:
    """How files differ from those that should be there, as sorted paths below the output."""

    changed: tuple[str, ...] = ()
    missing: tuple[str, ...] = ()
    orphaned: tuple[str, ...] = ()

    def __bool__(self) -> bool:
        """Tell whether there is any difference."""
        return bool(self.changed or self.missing or self.orphaned)


def make_files(
    package: MetricsPackage, *, schema: Schema, database: str, retention_policy: str
) -> dict[str, str]:
    """Return the texts by path below the output, sorted; the arguments alone decide about them.

    Parameters
    ----------
    package
        Without problems.
    schema
        The names in InfluxDB.
    database, retention_policy
        Where the service writes its points, as Kapacitor and Chronograf see it.

    Raises
    ------
    SettingsError
        If a name cannot be written in one of the files' languages.
    """
    place = {"database": database, "retention_policy": retention_policy}
    made: dict[str, str] = {}
    for output in OUTPUTS:
        made |= output.render(package, schema=schema, **place)
    return with_marks(made)


def task_of(
    package: MetricsPackage, *, schema: Schema, database: str, retention_policy: str
) -> str:
    """Return Kapacitor's task of the only metric of a package, as `make_files` makes it."""
    files = kapacitor_files(
        package, schema=schema, database=database, retention_policy=retention_policy
    )
    (name,) = package.metrics
    path = f"kapacitor/tasks/{name}.tick"
    return _with_mark(path, files[path])


def with_marks(files: Mapping[str, str]) -> dict[str, str]:
    """Return the files with the mark in each: a comment at the top, or in JSON a first key."""
    return {path: _with_mark(path, text) for path, text in sorted(files.items())}


def file_problems(files: Mapping[str, str]) -> list[str]:
    """Return what forbids to write these files, each problem with its path."""
    problems = []
    for path, text in sorted(files.items()):
        problem = _path_problem(path) or _text_problem(path, text)
        if problem:
            problems.append(f"{path}: {problem}")
    return problems


def find_drift(files: Mapping[str, str], output: Path) -> Drift:
    """Return how the files below a directory differ from those given; nothing is written."""
    found = {path: _read(output / path) for path in files}
    return Drift(
        changed=tuple(
            sorted(p for p, data in found.items() if data is not None and data != _data(files[p]))
        ),
        missing=tuple(sorted(path for path, data in found.items() if data is None)),
        orphaned=tuple(sorted(path for path in files_of_ours(output) if path not in files)),
    )


def files_of_ours(output: Path) -> Iterator[str]:
    """Yield the paths of the generated files that stand below a directory."""
    for kind in (kind for item in OUTPUTS for kind in item.files):
        directory = output / kind.folder
        for place in sorted(directory.iterdir()) if directory.is_dir() else ():
            if place.suffix == kind.extension and MARK.encode() in (_read(place) or b""):
                yield f"{kind.folder}/{place.name}"


def write_files(files: Mapping[str, str], output: Path) -> Drift:
    """Make the generated files those given; each is whole at every moment.

    Nothing is touched before all files are checked and written beside their places. Files that are
    right already stay as they are, and orphans of ours are removed.

    Returns
    -------
    Drift
        What was changed, was missing and is made, and was orphaned and is removed.

    Raises
    ------
    FilesError
        If a file is not sound, or cannot be written.
    """
    problems = file_problems(files)
    if problems:
        raise FilesError("\n".join(problems))
    staged: dict[Path, Path] = {}
    try:
        drift = find_drift(files, output)
        for path in (*drift.changed, *drift.missing):
            place = output / path
            place.parent.mkdir(parents=True, exist_ok=True)
            staged[place] = place.with_name(f".{place.name}.new")
            staged[place].write_bytes(_data(files[path]))
        for place, new in staged.items():
            new.replace(place)
        for path in drift.orphaned:
            (output / path).unlink()
    except OSError as error:
        raise FilesError(f"{error.filename}: {error.strerror}") from error
    finally:
        for new in staged.values():
            new.unlink(missing_ok=True)
    return drift


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
        return "the name holds more than letters, digits, '_', '-' and '.'"
    if len(name) > _MAX_NAME_BYTES:
        return f"the name is longer than {_MAX_NAME_BYTES} characters"
    return None


def _text_problem(path: str, text: str) -> str | None:
    """Return why a server could not read the text: one such file stops it from loading all."""
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


def _data(text: str) -> bytes:
    return text.encode()


def _read(place: Path) -> bytes | None:
    """Return a file's content; None if there is no such file."""
    try:
        return place.read_bytes()
    except FileNotFoundError:
        return None
    except OSError as error:
        raise FilesError(f"{place}: {error.strerror}") from None
