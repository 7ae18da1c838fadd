"""How the job of a notebook's run is known: what it measures, and its metadata. Pure.

What runs notebooks writes them, and what shows runs reads them.
"""

import json
import re
from collections.abc import Mapping
from typing import Any

from squash_api.schema.text import repaired

FAILED_CELLS = "notebook.failed_cells"
"""How many cells failed: 1 if the run ended with one, or its kernel could not be used."""

CELLS = "notebook.cells"
"""How many cells were run."""

DURATION = "notebook.duration"
"""How long the run took, in s."""

NAME_KEY = "notebook"
"""The metadata with the name of the template."""

RUN_KEY = "notebook_run"
"""The metadata that lists of runs are made of: see `run_text`."""

PROBLEM_KEY = "problem"
"""The metadata with what failed, in a line."""

BLOB = "notebook"
"""The name of the blob with the page and the file."""

PAGE = "html"
"""The key of the page in it."""

FILE = "ipynb"
"""The key of the executed notebook in it, as text."""

_PREFIX = "notebook."
# What lies deeper could be shown on no page and in no reply.
_DEEPEST = 50
# In the texts of fields InfluxDB cannot hold all of these, and we change blanks: they are written
# as JSON may write any character.
_ESCAPES = {'\\"': "\\u0022", "\\\\": "\\u005c", " ": "\\u0020", "#": "\\u0023"}
_ESCAPED = re.compile("|".join(map(re.escape, _ESCAPES)))


def pipeline_of(name: str) -> str:
    """Return the pipeline of a template's runs: each template is one, with its own series."""
    return f"{_PREFIX}{name}"


def template_of(pipeline: str) -> str | None:
    """Return the template whose runs are of a pipeline; None if they are of none."""
    return pipeline.removeprefix(_PREFIX) if pipeline.startswith(_PREFIX) else None


def run_text(template: str, parameters: Mapping[str, Any], problem: str | None) -> str:
    """Write what lists of runs show of one, so that the fields of jobs keep it as it is."""
    made = {"template": template, "parameters": parameters, "problem": problem}
    text = json.dumps(made, separators=(",", ":"))
    # In one go: what one of them writes must not be taken for another.
    return _ESCAPED.sub(lambda found: _ESCAPES[found[0]], text)


def read_run_text(text: str | None) -> dict[str, Any]:
    """Read what `run_text` wrote; anything else, which anybody may post, is empty."""
    try:
        found = _written(json.loads(text or "{}"), _DEEPEST)
    except (ValueError, RecursionError):
        found = None
    found = found if isinstance(found, dict) else {}
    template, parameters, problem = map(found.get, ("template", "parameters", "problem"))
    return {
        "template": template if isinstance(template, str) else None,
        "parameters": parameters if isinstance(parameters, dict) else {},
        "problem": problem if isinstance(problem, str) else None,
    }


def _written(value: Any, depth: int) -> Any:
    """Return what was read, with text that can be written; too deep is a `ValueError`."""
    if isinstance(value, str):
        return str(repaired(value))
    if isinstance(value, dict | list) and depth == 0:
        raise ValueError("too deep")
    if isinstance(value, dict):
        return {str(repaired(name)): _written(item, depth - 1) for name, item in value.items()}
    return [_written(item, depth - 1) for item in value] if isinstance(value, list) else value
