"""The checkout whose code is measured, used only through its command and its API.

The yardsticks (the echo, a bare program) are always this folder's, run by the Python that runs the
benchmarks, so two checkouts are compared with the same ones.
"""

import os
import tomllib
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
BUILD = ROOT / "build" / "benchmarks"


@dataclass(frozen=True)
class Checkout:
    """A directory with the project and its `.venv`."""

    root: Path = ROOT

    def __post_init__(self) -> None:
        if not self.squash.exists():
            raise SystemExit(f"{self.root} has no .venv; run `make .venv/dev.installed` there")

    @property
    def squash(self) -> Path:
        """The command."""
        return self.root / ".venv" / "bin" / "squash"

    @property
    def version(self) -> str:
        """The version of the checkout."""
        project = tomllib.loads((self.root / "pyproject.toml").read_text())["project"]
        return str(project["version"])

    @property
    def environment(self) -> dict[str, str]:
        """Variables for the command: the code of this directory, and no settings from outside."""
        return {**bare_environment(), "PYTHONPATH": str(self.root)}


def bare_environment() -> dict[str, str]:
    """Return the variables of this process without the settings of the service."""
    return {key: value for key, value in os.environ.items() if not key.startswith("SQUASH_")}


def make_folder(name: str) -> Path:
    """Return a directory for what is kept between runs."""
    folder = BUILD / name
    folder.mkdir(parents=True, exist_ok=True)
    return folder
