"""Outputs: the files that each makes, and the kinds of things in them. Pure."""

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

import yaml

from squash_api.metrics_packages.loading import MetricsPackage
from squash_api.schema.names import Schema
from squash_api.setting_types import AlertsBy

MARK = "squash generate"
"""The words that identify a generated file, task or dashboard."""


@dataclass(frozen=True, slots=True)
class Language:
    """How a file is marked and read back.

    Without `comment` a file is a JSON object whose first key is the mark; without `parse` only its
    server can read it.
    """

    comment: str | None
    parse: Callable[[str], Any] | None


def read_yaml(text: str) -> Any:
    """Read YAML; with libyaml, where it is there, ten times as fast."""
    loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
    return yaml.load(text, Loader=loader)  # noqa: S506 - both are safe


def json_text(document: dict[str, Any]) -> str:
    """Return indented JSON, sorted by key, that ends in a line break."""
    return json.dumps(document, indent=2, sort_keys=True, ensure_ascii=False) + "\n"


JSON = Language(None, json.loads)
TICKSCRIPT = Language("//", None)
YAML = Language("#", read_yaml)


@dataclass(frozen=True, slots=True)
class FileKind:
    """Files of one extension in one directory.

    `holds` are the kinds of things in them, in the order in which a server gets them.
    """

    folder: str
    extension: str
    language: Language
    holds: tuple[str, ...] = ()


class Render(Protocol):
    """Makes the files of a metrics package without problems: text by path, or by name."""

    def __call__(
        self,
        package: MetricsPackage,
        *,
        schema: Schema,
        database: str,
        retention_policy: str,
        alerts_by: AlertsBy = "kapacitor",
    ) -> dict[str, str]:
        """Return the files."""
        ...


@dataclass(frozen=True, slots=True)
class Output:
    """Something that is generated from metrics packages.

    Its server, if it has one, has the things in the files, and is changed kind by kind in the order
    of `files`.

    Parameters
    ----------
    name
        On the command line, and in the setting `<name>_url` of its server.
    render
        Makes the files, by path below the output directory.
    server
        The module and the class of its servers, imported when needed; empty if `squash live` has
        nothing to do with it, because its program reads the files.
    export
        Makes files to import by hand, by name.
    keep
        Adds to generated files what follows from those that were generated before.
    """

    name: str
    files: tuple[FileKind, ...]
    render: Render
    server: str = ""
    export: Render | None = None
    keep: Callable[[Mapping[str, str], Mapping[str, str]], dict[str, str]] | None = None

    @property
    def setting(self) -> str:
        """The setting with the URL of its server."""
        return f"{self.name}_url"

    @property
    def kinds(self) -> tuple[str, ...]:
        """The kinds of things that it makes, in the order in which a server gets them."""
        return tuple(kind for item in self.files for kind in item.holds)
