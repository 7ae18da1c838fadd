"""Job documents from what pipelines leave on disk: jobs, bundles and single values."""

from collections.abc import Iterator
from dataclasses import dataclass
from os import PathLike
from typing import Any, Literal

from squash_api.wires.data_id import DataId

Form = Literal["job", "bundle", "value", "unreadable", "other"]


@dataclass(frozen=True, slots=True)
class Found:
    """A job that was found, or why there is none at a place.

    `place` is the file, with the place inside it if there are several (`night.json[3]`). `document`
    has `measurements`, `blobs` and `meta`, ready for JSON and for `squash_api.client.Squash.send`;
    every measurement has an identifier, and reading the file again gives the same ones. Without a
    document, `problem` says why: the file cannot be read, or is damaged (`unreadable`, or the form
    it has), or is sound and of another form (`other`), which nobody needs to hear of who did not
    name the file. `notes` are for people, such as how many NaN became null.
    """

    place: str
    form: Form
    document: dict[str, Any] | None = None
    notes: tuple[str, ...] = ()
    problem: str | None = None


def read_jobs(
    path: str | PathLike[str], data_id: DataId = DataId()  # noqa: B008 - a frozen dataclass
) -> Iterator[Found]:
    """Yield the jobs of a file, a folder, a glob or `-`, with what is missing from the data id."""
    raise NotImplementedError(path, data_id)
    yield Found("", "other")
