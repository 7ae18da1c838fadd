"""The generated files: marked as such, checked as a whole, written, compared with what is there.

A file is ours if it stands in one of the generated folders, has one of their extensions and holds
the words `MARK`. Any other file there belongs to somebody: it is never removed, nor called drift.
"""

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

import yaml

MARK = "squash generate"
"""The words by which a generated file, task or dashboard is known."""

FOLDERS: Mapping[str, tuple[str, ...]] = {
    "kapacitor/tasks": (".tick",),
    "kapacitor/handlers": (".yaml",),
    "chronograf": (".dashboard", ".src", ".kap", ".org"),
}
"""The generated folders, and the extensions of the files that are made in each."""

_NAME = re.compile(r"[A-Za-z0-9_-][A-Za-z0-9_.-]*\Z")
_MAX_NAME_BYTES = 200
_NOTE = f"Made by {MARK}: edit the specifications, not this file."
_COMMENTS = {".tick": "//", ".yaml": "#"}


class TreeError(Exception):
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
    for folder, extensions in FOLDERS.items():
        directory = output / folder
        for place in sorted(directory.iterdir()) if directory.is_dir() else ():
            if place.suffix in extensions and MARK.encode() in (_read(place) or b""):
                yield f"{folder}/{place.name}"


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
    TreeError
        If a file is not sound, or cannot be written.
    """
    problems = file_problems(files)
    if problems:
        raise TreeError("\n".join(problems))
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
        raise TreeError(f"{error.filename}: {error.strerror}") from error
    finally:
        for new in staged.values():
            new.unlink(missing_ok=True)
    return drift


def _with_mark(path: str, text: str) -> str:
    if MARK in text:
        return text
    comment = _COMMENTS.get(PurePosixPath(path).suffix)
    if comment is not None:
        return f"{comment} {_NOTE}\n{text}"
    if not text.startswith("{"):
        return text
    between = "\n  " if text.startswith("{\n") else ""
    end = "" if between else " "
    return f'{{{between}"generated": {json.dumps(_NOTE)},{end}{text[1:]}'


def _path_problem(path: str) -> str | None:
    folder, _, name = path.rpartition("/")
    if PurePosixPath(name).suffix not in FOLDERS.get(folder, ()):
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
    try:
        text.encode()
        if path.endswith(".yaml"):
            is_mapping = isinstance(yaml.safe_load(text), dict)
        elif path.endswith(".tick"):
            is_mapping = True
        else:
            is_mapping = isinstance(json.loads(text), dict)
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
        raise TreeError(f"{place}: {error.strerror}") from None
