"""Job documents from what pipelines leave on disk: jobs, bundles and single measurements.

Which it is is told by the content, in JSON or YAML, also inside `.gz` and lists. What is none of
them is named with its place, and the others are read all the same.
"""

import gzip
import json
import os
import sys
import zlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, date, datetime
from glob import glob, has_magic
from hashlib import blake2b
from io import BytesIO
from math import isfinite
from pathlib import Path
from typing import Any, Literal
from uuid import UUID, uuid5

from squash_api.metrics_packages.documents import read_yaml
from squash_api.verify.job_file import job_parts, parse_json
from squash_api.verify.measurement import DocumentError, plain
from squash_api.wires.bundle import bundle_parts, is_bundle
from squash_api.wires.data_id import DataId, data_id_metadata
from squash_api.wires.metric_value import TAGS, is_metric_value, metric_value_parts

Form = Literal["job", "bundle", "value", "unreadable", "other"]

STDIN = "-"
"""Stands for standard input where a path is asked for."""

MAX_BYTES = 256 * 2**20
"""The largest file, unpacked."""

_GZIP = b"\x1f\x8b"
_BOM = b"\xef\xbb\xbf"
_BEGIN = 4096
_YAML = (".yaml", ".yml")
_JOB_KEYS = ("measurements", "blobs", "meta")
_KNOWN_KEYS = frozenset({*_JOB_KEYS, "metrics", "specs"})
_NAMESPACE = UUID("6d0e1a52-6c0c-5d3c-9d3e-0b8b6f1c7a11")
_OTHER = "not a job, a bundle or a measurement"


@dataclass(frozen=True, slots=True)
class Found:
    """A job that was found, or why there is none at a place.

    `place` is the file, with the place inside it if there are several (`night.json[3]`). `document`
    has `measurements`, `blobs` and `meta`, ready for JSON and for `squash_api.client.Squash.send`;
    every measurement of a file has an identifier, and reading the file again gives the same ones.
    `notes` are for people, such as how many NaN became null.

    Without a document, `problem` says why: the file cannot be read, or is damaged (`unreadable`, or
    the form it has), or is sound and of another form (`other`). Then `is_bystander` says that it
    was found in a folder, so that nobody may have meant it.
    """

    place: str
    form: Form
    document: dict[str, Any] | None = None
    notes: tuple[str, ...] = ()
    problem: str | None = None
    is_bystander: bool = False


@dataclass(frozen=True, slots=True)
class File:
    """A file to be read, or `STDIN`.

    `inner` is its path inside the folder that it was found in; None if it was named itself.
    """

    path: str
    inner: str | None = None

    @property
    def written_s(self) -> float | None:
        """When it was written, in s since 1970; None for standard input, or if it is not there."""
        try:
            return None if self.path == STDIN else Path(self.path).stat().st_mtime
        except OSError:
            return None

    def has_name_of(self, *ends: str) -> bool:
        """Tell whether the name, without `.gz`, ends so."""
        return self.path.lower().removesuffix(".gz").endswith(ends)


@dataclass(frozen=True, slots=True)
class _Item:
    """A document of a file, or a problem there, and how many numbers of it are not finite."""

    place: str
    value: Any = None
    lost: int = 0
    problem: str | None = None


def read_jobs(
    path: str | os.PathLike[str],
    data_id: DataId = DataId(),  # noqa: B008 - a frozen dataclass
) -> Iterator[Found]:
    """Yield the jobs of a file, a folder, a glob or `-`.

    Parameters
    ----------
    data_id
        What jobs are about, as far as they do not say it themselves.
    """
    for file in find_files(os.fspath(path)):
        yield from read_file(file, data_id)


def find_files(path: str) -> list[File]:
    """Return the files that a path stands for, in order: a file, a folder, a glob or `-`.

    In folders, names that begin with a dot are left out. What is not there is returned as it is
    named, so that `read_file` says it.
    """
    if path == STDIN:
        return [File(path)]
    if Path(path).is_dir():
        return _files_below(path)
    if Path(path).exists() or not has_magic(path):
        return [File(path)]
    found: list[File] = []
    # Path.glob takes no absolute pattern.
    for name in sorted(glob(path, recursive=True)):  # noqa: PTH207
        if not Path(name).is_dir():
            found.append(File(name))
        elif "**" not in path:
            found.extend(_files_below(name))
    return found or [File(path)]


def _files_below(folder: str) -> list[File]:
    found: list[File] = []
    hidden: list[OSError] = []
    for root, folders, names in os.walk(folder, onerror=hidden.append):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        paths = [Path(root, name) for name in sorted(names) if not name.startswith(".")]
        # Opening a pipe may wait for ever.
        regular = [path for path in paths if path.is_file()]
        found.extend(File(str(path), str(path.relative_to(folder))) for path in regular)
    found.extend(File(str(error.filename)) for error in hidden)
    return found or [File(folder)]


def read_file(file: File, data_id: DataId) -> Iterator[Found]:
    """Yield the jobs of a file; of one in a folder only if its name or its begin promises some."""
    try:
        if file.inner is not None and not _promises(file):
            return
        data = _read_bytes(file)
    except OSError as error:
        problem = f"cannot be read: {error.strerror or error}"
        if isinstance(error, IsADirectoryError) and os.access(file.path, os.R_OK | os.X_OK):
            problem = "there is no file in this folder"
        yield Found(file.path, "unreadable", problem=problem)
        return
    except DocumentError as error:
        yield Found(file.path, "unreadable", problem=str(error))
        return
    for item in _items(data, file):
        found = _found(item, file, data_id)
        if file.inner is None or found.form != "other":
            yield found
        elif file.has_name_of(".json", *_YAML):
            yield replace(found, is_bystander=True)


def _promises(file: File) -> bool:
    """Tell whether a file may hold a job, by its name or its first bytes."""
    if file.has_name_of(".json", *_YAML):
        return True
    with Path(file.path).open("rb") as stream:
        begin = stream.read(_BEGIN)
    if begin.startswith(_GZIP):
        try:
            begin = zlib.decompressobj(zlib.MAX_WBITS | 16).decompress(begin, _BEGIN)
        except zlib.error:
            return False
    begin = begin.removeprefix(_BOM).lstrip()
    return begin.startswith((b"{", b"[")) or TAGS[0].encode() in begin


def _read_bytes(file: File) -> bytes:
    """Read a file, unpacked.

    Raises
    ------
    OSError
        If it cannot be read.
    DocumentError
        If it is damaged, or too large.
    """
    if file.path == STDIN:
        data = sys.stdin.buffer.read(MAX_BYTES + 1)
    else:
        with Path(file.path).open("rb") as stream:
            data = stream.read(MAX_BYTES + 1)
    if data.startswith(_GZIP):
        try:
            with gzip.open(BytesIO(data)) as unpacked:
                data = unpacked.read(MAX_BYTES + 1)
        except (EOFError, OSError, zlib.error) as error:
            raise DocumentError(f"not whole: {error}") from None
    if len(data) > MAX_BYTES:
        raise DocumentError(f"larger than {MAX_BYTES} bytes: split it")
    return data


def _items(data: bytes, file: File) -> Iterator[_Item]:
    """Yield the documents in the content of a file, those of a list one by one."""
    begin = data.removeprefix(_BOM).lstrip()[:1]
    if not begin:
        yield _Item(file.path, problem="the file is empty")
        return
    if begin not in (b"{", b"["):
        yield from _yaml_items(data, file)
        return
    try:
        document, lost = parse_json(data)
    except DocumentError as error:
        # What begins like JSON may be YAML.
        if file.has_name_of(*_YAML):
            yield from _yaml_items(data, file)
        else:
            yield _Item(file.path, problem=str(error))
        return
    if not isinstance(document, list):
        yield _Item(file.path, document, lost)
        return
    for index, inner in enumerate(document):
        yield _Item(f"{file.path}[{index}]", inner, lost if index == 0 else 0)
    if not document:
        yield _Item(file.path, document)


def _yaml_items(data: bytes, file: File) -> Iterator[_Item]:
    problems: list[_Item] = []
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError:
        yield _Item(file.path, data)
        return
    documents = read_yaml(
        text,
        file=file.path,
        report=lambda source, message: problems.append(_Item(str(source), problem=message)),
        mappings=TAGS,
        in_parts=True,
    )
    # A text that nobody called YAML, and in which there is no measurement, need not be YAML.
    if problems and not (file.has_name_of(*_YAML) or TAGS[0] in text):
        yield _Item(file.path, text)
        return
    for document in documents:
        place = file.path if len(documents) == 1 else str(document.source())
        lost: list[float] = []
        yield _Item(place, _ready(document.value, lost), len(lost))
    yield from problems


def _ready(value: Any, lost: list[float]) -> Any:
    """Return what YAML gives as JSON can hold it; numbers that are not finite become null."""
    if isinstance(value, float) and not isfinite(value):
        lost.append(value)
        return None
    if isinstance(value, dict):
        return {str(key): _ready(item, lost) for key, item in value.items()}
    if isinstance(value, list | tuple | set):
        return [_ready(item, lost) for item in value]
    return value.isoformat() if isinstance(value, date) else value


def _found(item: _Item, file: File, data_id: DataId) -> Found:
    """Turn a document into a job, or say why it is none."""
    if item.problem is not None:
        return Found(item.place, "unreadable", problem=item.problem)
    form = _form(item.value)
    if form == "other":
        return Found(item.place, form, problem=f"{_OTHER}{_hint(item.value)}")
    # In the folder that it was found in, if it fits there.
    path = file.inner if file.inner is not None and data_id.fits(file.inner) else file.path
    named = data_id.of(path).values
    notes = [f"{item.lost} NaN or infinite numbers were sent as null"] if item.lost else []
    try:
        if form == "job":
            document = job_parts(item.value)
            document["meta"], more = _completed(document["meta"], named)
            more.extend(_unknown_keys(item.value))
        elif not data_id.fits(path):
            raise DocumentError(f"the path does not fit {data_id.template}")
        else:
            make = bundle_parts if form == "bundle" else metric_value_parts
            document, more = _dated(make(item.value, named), file, named)
        if form == "bundle" and not document["measurements"]:
            return Found(item.place, "other", problem="a bundle without measurements")
        document = _identified(plain(document, form), file)
    except (ValueError, TypeError) as error:
        return Found(item.place, form, problem=str(error))
    except RecursionError:
        return Found(item.place, form, problem="nested too deeply")
    return Found(item.place, form, document, (*notes, *more))


def _form(document: Any) -> Literal["job", "bundle", "value", "other"]:
    if is_metric_value(document):
        return "value"
    is_job = isinstance(document, Mapping) and any(key in document for key in _JOB_KEYS)
    if is_bundle(document) and not (is_job and "__metricNamePrefix" not in document):
        return "bundle"
    return "job" if is_job else "other"


def _hint(document: Any) -> str:
    if isinstance(document, Mapping):
        keys = ", ".join(str(key)[:30] for key in list(document)[:4])
        return f": an object with {keys}" if keys else ": an empty object"
    if isinstance(document, list):
        return ": a list in a list" if document else ": an empty list"
    return ": neither JSON nor YAML" if isinstance(document, str | bytes) else ""


def _completed(
    meta: Mapping[str, Any], named: Mapping[str, str]
) -> tuple[dict[str, Any], list[str]]:
    """Add a data id to the metadata of a job, which counts where the job says it itself."""
    env = meta.get("env")
    own = {**(env if isinstance(env, Mapping) else {}), **meta}
    added = data_id_metadata(named)
    added.pop("env", None)
    notes = [
        f"the job has {key} {own[key]}: {value} is not used"
        for key, value in added.items()
        if key in own and str(own[key]) != str(value)
    ]
    return {**{key: value for key, value in added.items() if key not in own}, **meta}, notes


def _unknown_keys(job: Mapping[str, Any]) -> list[str]:
    """Say which keys of a job are not sent."""
    keys = [str(key) for key in job if key not in _KNOWN_KEYS]
    return [f"not sent, since no job of lsst.verify has it: {', '.join(keys[:5])}"] if keys else []


def _dated(
    document: dict[str, Any], file: File, named: Mapping[str, str]
) -> tuple[dict[str, Any], list[str]]:
    """Give a document the time of its file, if it has none, and say what is not known of it."""
    notes = [] if named.get("run") else ["no run is known: --run or --path-template gives it one"]
    written_s = file.written_s
    env = document["meta"].get("env", {})
    if "date" not in env and written_s is not None:
        moment = datetime.fromtimestamp(written_s, UTC).isoformat()
        document["meta"]["env"] = {**env, "date": moment}
        notes.append("its run does not tell its time: that of the file is used")
    return document, notes


def _identified(document: dict[str, Any], file: File) -> dict[str, Any]:
    """Give measurements of a file identifiers, the same each time that the file is read."""
    items = document["measurements"]
    written_s = file.written_s
    if written_s is None or all(
        isinstance(item, Mapping) and item.get("identifier") for item in items
    ):
        return document
    text = json.dumps([written_s, document], sort_keys=True).encode()
    digest = blake2b(text, digest_size=16).hexdigest()
    document["measurements"] = [
        {**item, "identifier": uuid5(_NAMESPACE, f"{digest}/{index}").hex}
        if isinstance(item, Mapping) and not item.get("identifier")
        else item
        for index, item in enumerate(items)
    ]
    return document
