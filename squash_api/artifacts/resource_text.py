"""JSON as files of Chronograf's resource folder hold it. Pure."""

import json
from typing import Any


def json_text(document: dict[str, Any]) -> str:
    """Return JSON with an indent, sorted by key, that ends in a line break."""
    return json.dumps(document, indent=2, sort_keys=True, ensure_ascii=False) + "\n"


def resource_text(document: dict[str, Any]) -> str:
    """Return JSON for the resource folder, whose files Chronograf takes for Go templates."""
    return without_template(json_text(document))


def without_template(text: str) -> str:
    """Return text that a template prints as it was: what begins a template is printed by one."""
    return text.replace("{{", "{{`{{`}}")
