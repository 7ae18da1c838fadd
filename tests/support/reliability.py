"""What `make soak` runs, and the page that it writes: `python -m tests.support.reliability`."""

import json
import os
from pathlib import Path
from typing import Any

FIGURES = "SQUASH_TEST_FIGURES"


def note(name: str, **figures: Any) -> None:
    """Add figures of a test to the file that `make soak` reads, if it runs."""
    file = os.environ.get(FIGURES)
    if file:
        with Path(file).open("a") as lines:
            lines.write(json.dumps({"name": name, **figures}) + "\n")
