"""The code of earlier releases, from the history of this repository, with the present libraries."""

import io
import os
import subprocess
import tarfile
from pathlib import Path

import pytest

COMMITS = {"1.2.1": "b02e306", "2.1.0": "72bfb70"}
"""The last commit of each."""

_ROOT = Path(__file__).parents[2]


def code_of(release: str, folder: Path) -> Path:
    """Put the package as a release had it into a folder, and return what `PYTHONPATH` must be.

    Without the history, as in a copy of the files alone, the test is skipped.
    """
    command = ["git", "archive", COMMITS[release], "squash_api"]
    try:
        # Not that of a repository that this is run by a hook of.
        environment = {key: text for key, text in os.environ.items() if key != "GIT_DIR"}
        archive = subprocess.run(
            command, cwd=_ROOT, capture_output=True, check=True, env=environment
        )
    except (OSError, subprocess.CalledProcessError):
        pytest.skip(f"the history has no {COMMITS[release]}, the code of {release}: clone it whole")
    with tarfile.open(fileobj=io.BytesIO(archive.stdout)) as files:
        files.extractall(folder, filter="data")
    return folder
