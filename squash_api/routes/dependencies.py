"""What routes take as arguments: the site, the caller, a page of a list, the body."""

import csv
import io
import json
import threading
import time
import zlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Annotated, Any, TypeVar
from urllib.parse import parse_qsl, quote, urlencode, urlsplit

import orjson
import structlog
from fastapi import Depends, Query, Request, Response
from starlette.concurrency import run_in_threadpool

from squash_api.accounts.accounts import Account
from squash_api.accounts.sessions import Session
from squash_api.errors import (
    BusyError,
    Detail,
    ForbiddenError,
    InvalidInputError,
    MalformedEncodingError,
    MissingFieldError,
    TooLargeError,
    UnauthorizedError,
    UnsupportedMediaTypeError,
)
from squash_api.routes.replies import FORM, USER, json_reply
from squash_api.routes.scopes import require_scope
from squash_api.schema.cells import cell_text
from squash_api.site import Site
from squash_api.trends.question import parse_moment
from squash_api.wires.decoding import decode_exactly, decode_json
from squash_api.wires.simple_job import form_object

CALLER = "squash_caller"
"""The key of a request's scope with the account that the door has found behind its credentials."""

SESSION = "squash_session"
"""The key of a request's scope with the session that its cookie names, if there is one."""

FORM_TOKEN = "X-CSRF-Token"  # noqa: S105  the name of a header
"""The header in which scripts of pages send the token of a form."""

MAX_PAGE = 1000
_NEWEST_NS = 2**63 - 1
MAX_SMALL_BODY_BYTES = 1_000_000
"""Largest body of anything that is not a job."""

MAX_FORM_BYTES = 16_000
"""Largest form of a page."""

_Entry = TypeVar("_Entry")
_log = structlog.get_logger(__name__)
_hinted = threading.Event()
# Encodings of bodies, and whether they are gzip.
_ENCODINGS = {"": False, "identity": False, "gzip": True, "x-gzip": True}
# What tells zlib that the data begin with gzip's header.
_GZIP = 16 + zlib.MAX_WBITS
_CSV = "text/csv; charset=utf-8; header=present"


# Dependencies are `async` where they do not block: FastAPI hands the others to a thread.
async def _site(request: Request) -> Site:
    site: Site = request.app.state.site
    return site


SiteDep = Annotated[Site, Depends(_site)]


async def _account(request: Request, site: SiteDep) -> Account:
    account = await claim(request, site)
    return await run_in_threadpool(site.accounts.check_account, account)


async def claim(request: Request, site: Site) -> Account:
    """Return the account that a request claims, as `Accounts.claim` does; the log names it.

    Without an `Authorization` header it is that of the session, which changes something only with
    the token of a form.

    Raises
    ------
    ForbiddenError
        If the request was sent with a key that is not for its route, or a change without a token.
    """
    header = request.headers.get("authorization")
    session: Session | None = request.scope.get(SESSION)
    account: Account | None = request.scope.get(CALLER)
    if account is None and header is None and session is not None:
        if request.method != "GET":
            require_own_page(request, site, session.session_id, request.headers.get(FORM_TOKEN))
        account = session.account
    if account is None:
        account = await site.accounts.claim(header, address=address_of(request))
    request.scope[USER] = account.name
    require_scope(request, account)
    return replace(account, address=address_of(request))


def address_of(request: Request) -> str | None:
    """Return the address that a request came from, if it is known.

    If the service is told which proxies to trust, it is that of the client of the proxy.
    """
    client = request.scope.get("client")
    return client[0] if client else None


def login_address(request: Request, site: Site) -> str | None:
    """Return the address of who logs in or registers; say once that it may be a proxy's."""
    address = address_of(request)
    is_forwarded = "x-forwarded-for" in request.headers
    if is_forwarded and not site.settings.trusted_proxies and not _hinted.is_set():
        _hinted.set()
        _log.warning(
            "all clients of a proxy count as one address: name the proxy in SQUASH_TRUSTED_PROXIES",
            address=address,
        )
    return address


def require_own_page(request: Request, site: Site, owner: str, token: str | None) -> None:
    """Refuse a change that a browser does not send from a page of this service.

    The token decides. What browsers say of where a request comes from is a second line, as in
    Go's `http.CrossOriginProtection`.

    Raises
    ------
    ForbiddenError
        If the token is not that of the owner, or the request comes from elsewhere.
    """
    site.sessions.check_form(owner, token)
    fetched = request.headers.get("sec-fetch-site")
    origin = request.headers.get("origin")
    if fetched is not None:
        is_own = fetched in {"same-origin", "none"}
    else:
        own = {_host_of(site.settings.url), request.headers.get("host", "").lower()}
        is_own = origin is None or _host_of(origin) in own - {""}
    if not is_own:
        raise ForbiddenError("This comes from another site: open the page here, and try again.")


def _host_of(url: str) -> str:
    try:
        return urlsplit(url).netloc.lower()
    except ValueError:
        return ""


AccountDep = Annotated[Account, Depends(_account)]
"""The caller, checked against the record."""


async def _viewer(request: Request, site: SiteDep) -> Account | None:
    if "authorization" not in request.headers:
        return None
    try:
        return await _account(request, site)
    except (UnauthorizedError, ForbiddenError, BusyError):
        # Nobody at all may read this, where the door is open.
        return None


ViewerDep = Annotated[Account | None, Depends(_viewer)]
"""Who reads what everybody may read, if they say so; None if what they send does not show it."""


@dataclass(frozen=True, slots=True)
class Page:
    """The part of a list that is wanted: at most `limit` entries after a cursor."""

    limit: int
    after: str | None


async def _page(
    limit: Annotated[int, Query(ge=1, le=MAX_PAGE, description="Return at most this many.")] = 100,
    after: Annotated[
        str | None,
        Query(max_length=1000, description="Where the previous page ended; `next` has it."),
    ] = None,
) -> Page:
    if after is not None and "\0" in after:
        raise wrong_cursor("must not contain NUL", "value_error")
    return Page(limit, after)


PageDep = Annotated[Page, Depends(_page)]


def id_cursor(page: Page) -> int:
    """Read the cursor of a list that is sorted by id.

    Raises
    ------
    InvalidInputError
        If it is not a number.
    """
    if page.after is None:
        return 0
    if not is_count(page.after):
        raise wrong_cursor("must be a whole number", "int_parsing")
    return int(page.after)


def past_moment(name: str, text: str | None) -> int | None:
    """Read a parameter that is a date, or how long ago, in ns since 1970; the end is `until`.

    Raises
    ------
    InvalidInputError
        If it is neither.
    """
    if text is None:
        return None
    moment = parse_moment(text, now_ns=time.time_ns(), is_end=name == "until")
    if moment is None:
        must = "must be a date, or how long ago, such as 90d"
        raise wrong_value(name, must, "value_error", place="query")
    # Databases have no others.
    return min(max(moment, -_NEWEST_NS), _NEWEST_NS)


def wrong_cursor(must: str, kind: str) -> InvalidInputError:
    """Return the error for a cursor `after` that no `next` link has."""
    return InvalidInputError(
        "The cursor `after` must come from a `next` link.",
        detail=[Detail(("query", "after"), must, kind)],
    )


def is_count(text: str) -> bool:
    """Return whether a cursor's text is a whole number that a database can compare with."""
    return text.isascii() and text.isdigit() and len(text) <= 18


def paged_reply(
    request: Request,
    page: Page,
    name: str,
    found: Sequence[_Entry],
    *,
    cursor: Callable[[_Entry], Any] = lambda entry: entry,
    show: Callable[[_Entry], Any] = lambda entry: entry,
) -> Response:
    """Reply with a page as the list `name`, and with the link to the next page.

    `found` has one entry more than the page if more follow.
    """
    shown = found[: page.limit]
    link = next_link(request, after=cursor(shown[-1])) if len(found) > page.limit else None
    return json_reply({name: [show(entry) for entry in shown], "next": link})


def paged_csv(
    request: Request,
    page: Page,
    name: str,
    found: Sequence[_Entry],
    *,
    cursor: Callable[[_Entry], Any],
    show: Callable[[_Entry], Mapping[str, Any]],
    columns: Sequence[str],
) -> Response:
    """Reply as `paged_reply`, with a file of CSV; the header Link has the next page.

    It has these keys of what is shown as columns, and no text in it is a formula.
    """
    shown = found[: page.limit]
    headers = {"Content-Disposition": f'attachment; filename="{name}.csv"'}
    if len(found) > page.limit:
        headers["Link"] = f'<{next_link(request, after=cursor(shown[-1]))}>; rel="next"'
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(columns)
    for entry in shown:
        item = show(entry)
        writer.writerow([_cell(item[column]) for column in columns])
    return Response(text.getvalue(), media_type=_CSV, headers=headers)


def _cell(value: Any) -> str:
    if isinstance(value, dict | list):
        return json.dumps(value, ensure_ascii=False) if value else ""
    if isinstance(value, bool):
        return str(value).lower()
    return "" if value is None else cell_text(str(value))


def next_link(request: Request, *, after: str | int) -> str:
    """Return the absolute URL of the page that begins after an entry."""
    site: Site = request.app.state.site
    # Not from `request.url`, which contains the Host header of the caller.
    kept = [(key, text) for key, text in request.query_params.multi_items() if key != "after"]
    query = urlencode([*kept, ("after", after)])
    return f"{site.settings.url}{quote(request.scope['path'])}?{query}"


def _media_type(request: Request) -> str:
    return request.headers.get("content-type", "").partition(";")[0].strip().lower()


async def read_body(request: Request, *, max_bytes: int, takes_form: bool = False) -> bytes:
    """Read the body, and decompress it if it is declared as gzip.

    Bytes are counted both as received and as decompressed: nobody can make the service hold more
    than is allowed.

    Raises
    ------
    UnsupportedMediaTypeError
        If the body is not declared as JSON, or as a form where one is taken, or has an encoding
        other than gzip.
    TooLargeError
        As soon as it is longer than `max_bytes`.
    MalformedEncodingError
        If it is declared as gzip and is not.
    """
    kind = _media_type(request)
    is_json = kind == "application/json" or kind.endswith("+json")
    if not is_json and not (takes_form and kind == FORM):
        raise UnsupportedMediaTypeError(
            "Send JSON, with the header Content-Type: application/json."
        )
    encoding = request.headers.get("content-encoding", "").strip().lower()
    if encoding not in _ENCODINGS:
        raise UnsupportedMediaTypeError(
            f"The body has the encoding {encoding[:40]}. Send it as gzip, or as it is."
        )
    body = await _read_bytes(request, max_bytes=max_bytes)
    if not _ENCODINGS[encoding]:
        return body
    # In a thread: a few kilobytes may become all that is allowed.
    return await run_in_threadpool(_decompress, body, max_bytes=max_bytes)


async def read_form(request: Request) -> dict[str, str]:
    """Read a form that a browser sends; of fields with the same name the last.

    Raises
    ------
    UnsupportedMediaTypeError
        If it is none.
    TooLargeError
        As soon as it is longer than 16 kB.
    """
    if _media_type(request) != FORM:
        raise UnsupportedMediaTypeError(f"Send a form, with the header Content-Type: {FORM}.")
    body = await _read_bytes(request, max_bytes=MAX_FORM_BYTES)
    try:
        return dict(parse_qsl(body.decode(), keep_blank_values=True, max_num_fields=100))
    except ValueError:
        raise InvalidInputError("This is not a form as browsers send it.") from None


async def _read_bytes(request: Request, *, max_bytes: int) -> bytes:
    too_large = f"The body is larger than {max_bytes} bytes."
    declared = request.headers.get("content-length", "")
    if declared.isdecimal() and int(declared) > max_bytes:
        raise TooLargeError(too_large)
    chunks: list[bytes] = []
    size = 0
    async for chunk in request.stream():
        size += len(chunk)
        if size > max_bytes:
            raise TooLargeError(too_large)
        chunks.append(chunk)
    return b"".join(chunks)


def _decompress(body: bytes, *, max_bytes: int) -> bytes:
    """Decompress gzip, which may have several members."""
    found, problem = b"", None
    while body and problem is None and len(found) <= max_bytes:
        stream = zlib.decompressobj(_GZIP)
        try:
            found += stream.decompress(body, max_bytes + 1 - len(found))
        except zlib.error as error:
            problem = str(error)
        else:
            problem = None if stream.eof else "it ends too early"
            body = stream.unused_data
    if len(found) > max_bytes:
        raise TooLargeError(f"The body is larger than {max_bytes} bytes.")
    if problem is not None:
        message = f"The body is declared as gzip, and cannot be decompressed: {problem}"
        raise MalformedEncodingError(
            f"{message}.", detail=[Detail(("body",), message, "gzip_invalid")]
        )
    return found


async def _object_or_form(request: Request) -> dict[str, Any]:
    if _media_type(request) != FORM:
        return await json_object(request)
    body = await read_body(request, max_bytes=MAX_SMALL_BODY_BYTES, takes_form=True)
    return form_object(body)


async def json_object(request: Request) -> dict[str, Any]:
    """Read the body, of a request that is not a job, as a JSON object.

    Raises
    ------
    InvalidInputError
        If it is none, or contains what cannot be stored. Also raises as `read_body` does.
    """
    body = await read_body(request, max_bytes=MAX_SMALL_BODY_BYTES)
    try:
        orjson.loads(body)
    except orjson.JSONDecodeError as error:
        # Raises what a job's body would have raised, with line and column.
        decode_json(body)
        # Unlike those of a job, these numbers and texts are not changed so that they can be stored.
        message = f"The body contains something that cannot be stored: {error}"
        raise InvalidInputError(
            f"{message}.", detail=[Detail(("body", error.pos), message, "json_invalid")]
        ) from None
    document = decode_exactly(body)
    if not isinstance(document, dict):
        raise InvalidInputError(
            "The body must be a JSON object.",
            detail=[Detail(("body",), "must be an object", "object_type")],
        )
    return document


def body_of(
    schema: dict[str, Any],
    example: Any,
    *,
    form: dict[str, Any] | None = None,
    form_example: Any = None,
) -> dict[str, Any]:
    """Return what the OpenAPI document says of a JSON body, or of a `form` instead."""
    content: dict[str, Any] = {"application/json": {"schema": schema, "example": example}}
    if form is not None:
        content[FORM] = {"schema": form, "example": form_example}
    return {"requestBody": {"required": True, "content": content}}


def object_schema(properties: dict[str, Any], *needs: str) -> dict[str, Any]:
    """Return the JSON Schema of an object, of which some keys are required."""
    return {"type": "object", "properties": properties, "required": list(needs)}


JsonObjectDep = Annotated[dict[str, Any], Depends(json_object)]
"""The body, of a request that is not a job, as a JSON object."""

ObjectOrFormDep = Annotated[dict[str, Any], Depends(_object_or_form)]
"""The same, of a request that may also be a form, whose fields are text."""


def required(document: dict[str, Any], key: str) -> Any:
    """Return the value of a key of a body.

    Raises
    ------
    MissingFieldError
        If it is missing or null.
    """
    if document.get(key) is None:
        raise missing_key(key)
    return document[key]


def missing_key(key: str) -> MissingFieldError:
    """Return the error for a body without a key."""
    return MissingFieldError(
        f"The body needs `{key}`.", detail=[Detail(("body", key), "is missing", "missing")]
    )


def wrong_value(key: str, must: str, kind: str, *, place: str = "body") -> InvalidInputError:
    """Return the error for the value of a key, which `must` be something else."""
    return InvalidInputError(f"`{key}` {must}.", detail=[Detail((place, key), must, kind)])
