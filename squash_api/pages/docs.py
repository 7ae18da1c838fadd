"""The documentation as pages: `/docs`, which is the API, and every other document of `docs/`.

The page of the API is `docs/http-api.md`, with what the OpenAPI document adds below the heading of
each route: parameters, the keys of the body with an example, and a call to copy.
"""

import json
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from fastapi import APIRouter, Request, Response
from markupsafe import Markup

from squash_api.errors import NotFoundError
from squash_api.pages.rendering import environment, render
from squash_api.routes.documents import API, FOLDER, anchor_of, documents
from squash_api.routes.parameters import read_parameters

if TYPE_CHECKING:
    from markdown_it import MarkdownIt
    from markdown_it.token import Token

_DOCUMENT = re.compile(r"([a-z][a-z0-9-]*)\.md(#.*)?")
_TABLE = '<div class="scroll" tabindex="0" role="region" aria-label="Table">\n<table>\n'

router = APIRouter(include_in_schema=False)


@dataclass(frozen=True, slots=True)
class Parameter:
    """A parameter of a route, or a key of its body."""

    name: str
    place: str
    kind: str
    is_required: bool
    description: str


@dataclass(frozen=True, slots=True)
class Operation:
    """What the OpenAPI document says of a route. `example` is of the body, None if it has none."""

    method: str
    path: str
    parameters: Sequence[Parameter]
    keys: Sequence[Parameter]
    example: str | None
    call: str


def docs_page(request: Request) -> Response:
    """Make the page of the API."""
    read_parameters(request, ())
    return _page(request, API)


def document_page(request: Request) -> Response:
    """Make the page of a document, by the name of its file without `.md`."""
    read_parameters(request, ())
    name = str(request.path_params["name"])
    if name not in documents():
        raise NotFoundError(f"There is no document {name[:100]}.")
    return _page(request, name)


# Programs get the same: there is no JSON of these pages.
router.add_api_route("/docs", docs_page)
router.add_api_route("/docs/{name}", document_page)


def _page(request: Request, name: str) -> Response:
    found = documents()
    root = request.app.state.site.settings.url_path
    url = request.app.state.site.settings.url
    operations = _operations(request.app.openapi(), url) if name == API else {}
    return render(
        request,
        "docs.html",
        here="/docs",
        name=name,
        title=found[name][0].title if found else "Documentation",
        documents={item: sections[0] for item, sections in found.items()},
        sections=[item for item in found.get(name, ()) if item.depth == 2],
        body=_made(name, root) if name != API else _api_body(root, operations),
    )


@lru_cache(maxsize=32)
def _made(name: str, root: str) -> Markup:
    """Make the HTML of a document."""
    if name not in documents():
        return Markup("")
    return Markup(_markdown(root).render(_text(name)))  # noqa: S704 - raw HTML is escaped


def _api_body(root: str, operations: Mapping[str, Operation]) -> Markup:
    """Make the HTML of the API: the document, with each operation below its heading."""
    markdown = _markdown(root)
    tokens = markdown.parse(_text(API)) if API in documents() else []
    parts: list[Markup] = []
    left = dict(operations)
    start = 0
    for index, token in enumerate(tokens):
        # What is in the heading of a route, such as `GET /jobs`.
        name = tokens[index - 1].content.strip("`")
        if token.type == "heading_close" and name in left:
            parts += [_rendered(markdown, tokens[start : index + 1]), _html(left.pop(name))]
            start = index + 1
    parts.append(_rendered(markdown, tokens[start:]))
    for name, operation in left.items():
        parts += [Markup("<h3><code>{}</code></h3>").format(name), _html(operation)]
    return Markup("").join(parts)


def _rendered(markdown: "MarkdownIt", tokens: Sequence["Token"]) -> Markup:
    html = markdown.renderer.render(tokens, markdown.options, {})
    return Markup(html)  # noqa: S704 - raw HTML is escaped


def _text(name: str) -> str:
    return (FOLDER / f"{name}.md").read_text(encoding="utf-8")


@lru_cache(maxsize=4)
def _markdown(root: str) -> "MarkdownIt":
    """Make what turns Markdown to HTML: with tables, without raw HTML, links within the service."""
    # Only these pages need it.
    from markdown_it import MarkdownIt  # noqa: PLC0415

    made = MarkdownIt("commonmark", {"html": False}).enable("table")
    made.core.ruler.push("own_links", lambda state: _own_links(state.tokens, root))
    made.add_render_rule("table_open", lambda *_: _TABLE)
    made.add_render_rule("table_close", lambda *_: "</table>\n</div>\n")
    return made


def _own_links(tokens: Sequence["Token"], root: str) -> None:
    """Give headings their anchors, and let links to documents lead to their pages."""
    for index, token in enumerate(tokens):
        if token.type == "heading_open":
            token.attrSet("id", anchor_of(tokens[index + 1].content))
        if token.type in {"fence", "code_block"}:
            token.attrSet("tabindex", "0")
        token.children = list(_with_own_links(token.children or (), root)) or None


def _with_own_links(tokens: Iterable["Token"], root: str) -> Iterator["Token"]:
    """Yield what is in a line; what links to other files of the repository is text alone."""
    is_outside = False
    for token in tokens:
        if token.type == "link_open":
            link = str(token.attrGet("href"))
            is_outside = link.startswith("../")
            token.attrSet("href", _address(link, root))
        if not (is_outside and token.type in {"link_open", "link_close"}):
            yield token


def _address(link: str, root: str) -> str:
    document = _DOCUMENT.fullmatch(link)
    if document is not None:
        path = "/docs" if document[1] == API else f"/docs/{document[1]}"
        return f"{root}{path}{document[2] or ''}"
    return f"{root}/openapi.json" if link == "openapi.json" else link


@lru_cache(maxsize=1)
def _template() -> Any:
    return environment().get_template("operation.html")


def _html(operation: Operation) -> Markup:
    return Markup(_template().render(item=operation))  # noqa: S704 - the template escapes


def _operations(document: Mapping[str, Any], url: str) -> dict[str, Operation]:
    """Return the operations of an OpenAPI document by method and path, such as `GET /jobs`."""
    return {
        f"{method.upper()} {path}": _operation(method.upper(), path, operation, url)
        for path, methods in document["paths"].items()
        for method, operation in methods.items()
    }


def _operation(method: str, path: str, said: Mapping[str, Any], url: str) -> Operation:
    content = said.get("requestBody", {}).get("content", {}).get("application/json", {})
    example = content.get("example")
    parameters = [
        Parameter(
            item["name"],
            item["in"],
            _kind(item.get("schema", {})),
            item.get("required", False),
            item.get("description", ""),
        )
        for item in said.get("parameters", ())
    ]
    body = None if example is None else json.dumps(example, indent=2, ensure_ascii=False)
    return Operation(
        method,
        path,
        parameters,
        list(_keys(content.get("schema", {}))),
        body,
        _call(method, path, url, body, needs_token={} not in said.get("security", [{}])),
    )


def _keys(schema: Mapping[str, Any]) -> Iterator[Parameter]:
    required = schema.get("required", ())
    for name, item in schema.get("properties", {}).items():
        yield Parameter(name, "body", _kind(item), name in required, item.get("description", ""))


def _kind(schema: Mapping[str, Any]) -> str:
    """Write the type of a value in a few words."""
    if "enum" in schema:
        return ", ".join(json.dumps(item) for item in schema["enum"])
    if "anyOf" in schema:
        return " or ".join(dict.fromkeys(_kind(item) for item in schema["anyOf"]))
    if schema.get("type") == "array":
        return f"list of {_kind(schema.get('items', {})) or 'anything'}"
    types = schema.get("type", "")
    name = types if isinstance(types, str) else " or ".join(types)
    bounds = [
        f"{word} {schema[key]}"
        for key, word in (("minimum", "from"), ("maximum", "to"), ("maxLength", "at most"))
        if key in schema
    ]
    default = [f"default {json.dumps(schema['default'])}"] if schema.get("default") else []
    return ", ".join([item for item in (name, " ".join(bounds), *default) if item])


def _call(method: str, path: str, url: str, body: str | None, *, needs_token: bool) -> str:
    """Write a request as a command to copy."""
    lines = [f"curl{'' if method == 'GET' else f' -X {method}'} '{url}{path}'"]
    if needs_token:
        lines.append('-H "Authorization: JWT $TOKEN"')
    if body is not None:
        quoted = body.replace("'", "'\\''")
        lines += ["-H 'Content-Type: application/json'", f"-d '{quoted}'"]
    return " \\\n  ".join(lines)
