"""Programs that a test runs and that are not Python's: found, or the test is skipped."""

import os
import shutil

import pytest


def find_program(name: str, *, hint: str) -> str:
    """Return where a program is; without it the test is skipped, or fails where CI demands it.

    `hint` says how to get it. What CI demands stands in `SQUASH_TEST_REQUIRE`, by commas.
    """
    found = shutil.which(name)
    if found is not None:
        return found
    if name in os.environ.get("SQUASH_TEST_REQUIRE", "").split(","):
        pytest.fail(f"{name} is missing: {hint}")
    pytest.skip(f"{name} is missing: {hint}")
