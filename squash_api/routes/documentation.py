"""The API described for people, made from the OpenAPI document; it loads nothing from outside."""

from html import escape
from typing import Any

from fastapi import APIRouter, Request
from fastapi.responses import HTMLResponse

router = APIRouter(include_in_schema=False)

_HEAD = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><title>SQuaSH API</title>
<meta name="viewport" content="width=device-width">
<meta name="color-scheme" content="light dark">
</head><body><h1>SQuaSH API</h1>
<p>The machine-readable form is <a href="{openapi}">openapi.json</a>.</p>
"""


@router.get("/docs")
async def get_docs(request: Request) -> HTMLResponse:
    """Describe every endpoint on one page."""
    document = request.app.openapi()
    root = request.app.state.parts.settings.url
    sections = [_HEAD.replace("{openapi}", escape(f"{root}/openapi.json"))]
    for path, methods in document["paths"].items():
        sections.extend(_section(path, method, operation) for method, operation in methods.items())
    return HTMLResponse(
        "".join([*sections, "</body></html>\n"]),
        headers={"Content-Security-Policy": "default-src 'none'"},
    )


def _section(path: str, method: str, operation: dict[str, Any]) -> str:
    paragraphs = escape(operation.get("description", "")).split("\n\n")
    parameters = "".join(
        f"<li><code>{escape(item['name'])}</code> ({escape(item['in'])})"
        f"{' ' + escape(item['description']) if 'description' in item else ''}</li>"
        for item in operation.get("parameters", ())
    )
    statuses = ", ".join(escape(status) for status in operation["responses"])
    return (
        f"<section><h2>{method.upper()} {escape(path)}</h2>"
        + "".join(f"<p>{paragraph}</p>" for paragraph in paragraphs)
        + (f"<ul>{parameters}</ul>" if parameters else "")
        + f"<p>Replies: {statuses}</p></section>\n"
    )
