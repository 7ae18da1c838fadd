"""What a start waits for, and what it leaves for later."""

import subprocess
import sys

import pytest

from tests.support.builders import SECRET

# What whoever asks first waits for is imported then, or by the process that reads.
LATER = (
    "alembic",
    "argon2",
    "astropy",
    "bokeh",
    "httpx",
    "jinja2",
    "markdown_it",
    "numpy",
    "rich",
    "yaml",
    "squash_api.definitions.definitions",
    "squash_api.delivery.background",
    "squash_api.index.deriver",
    "squash_api.pages.front",
    "squash_api.reports.report",
    "squash_api.serving.reading",
    "squash_api.standings.board",
)
_MADE = """
import sys
from squash_api.cli import load
load("serve")
from squash_api.serving.readers import Readers
from squash_api.serving.serve import _make_server
from squash_api.settings import load_settings
settings = load_settings()
_make_server(settings, Readers(settings), may_withdraw=False)
print(*sys.modules)
"""


@pytest.fixture(scope="module")
def imported(tmp_path_factory: pytest.TempPathFactory) -> set[str]:
    """What is imported when the service is about to listen."""
    result = subprocess.run(
        [sys.executable, "-c", _MADE],
        cwd=tmp_path_factory.mktemp("service"),
        env={"SQUASH_SECRET": SECRET, "SQUASH_INFLUX_URL": "http://influx.invalid"},
        capture_output=True,
        text=True,
        check=True,
        timeout=600,
    )
    return set(result.stdout.split())


@pytest.mark.parametrize("name", LATER)
def test_it_is_not_imported_before_the_service_listens(imported: set[str], name: str) -> None:
    assert "squash_api.app" in imported
    assert name not in imported
