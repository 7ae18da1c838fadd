"""What an output is: which files it makes, and which kinds of things it makes on a server. Pure."""

import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

import yaml

from squash_api.metrics_packages.loading import MetricsPackage
from squash_api.schema.names import Schema

MARK = "squash generate"
"""The words by which a generated file, task or dashboard is known."""


@dataclass(frozen=True, slots=True)
class Language:
    """How a file is marked and read back.

    Without `comment` a file is a JSON object, whose first key is the mark; without `parse` nobody
    but its server can read it.
    """

    comment: str | None
    parse: Callable[[str], Any] | None


JSON = Language(None, json.loads)
TICKSCRIPT = Language("//", None)
YAML = Language("#", yaml.safe_load)


@dataclass(frozen=True, slots=True)
class FileKind:
    """Files of one extension in one folder; each `holds` a thing of this kind, or none."""

    folder: str
    extension: str
    language: Language
    holds: str = ""


class Render(Protocol):
    """Makes files of a metrics package without problems: text by path, or by name."""

    def __call__(
        self, package: MetricsPackage, *, schema: Schema, database: str, retention_policy: str
    ) -> dict[str, str]:
        """Return the files for these names in InfluxDB, and this place of the points."""
        ...


@dataclass(frozen=True, slots=True)
class Output:
    """Something that is generated from metrics packages.

    Its server has the things that files hold, and is changed kind by kind in the order of `files`.

    Parameters
    ----------
    name
        What it is called on the command line, and in the setting `<name>_url` of its server.
    files
        What it makes.
    render
        Makes it, by paths below the output.
    server
        The module and the class of a running server: loaded when one is asked.
    export
        Makes files for an import by hand, by name.
    """

    name: str
    files: tuple[FileKind, ...]
    render: Render
    server: str
    export: Render | None = None

    @property
    def setting(self) -> str:
        """The setting with the URL of its server."""
        return f"{self.name}_url"

    @property
    def kinds(self) -> tuple[str, ...]:
        """The kinds of things that it makes, in the order in which a server gets them."""
        return tuple(item.holds for item in self.files if item.holds)
