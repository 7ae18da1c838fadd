"""Who may come in: the session that a browser's cookie names, and reading for users only.

With `SQUASH_READ=users` everything is closed but what `_OPEN` names, so that a route which somebody
adds is closed too. Those who post jobs have to find `/auth` in the root's map before they have a
token: lsst.verify asks for it without.
"""

import re
from contextlib import suppress
from typing import Any
from urllib.parse import quote, unquote, urlsplit, urlunsplit

from fastapi import Request, Response
from starlette.concurrency import run_in_threadpool
from starlette.types import ASGIApp, Receive, Scope, Send

from squash_api.accounts.accounts import Account
from squash_api.accounts.sessions import Session
from squash_api.errors import ForbiddenError, SquashError, UnauthorizedError
from squash_api.logs import without_credentials
from squash_api.routes.dependencies import CALLER, SESSION, login_address
from squash_api.routes.negotiation import means_html
from squash_api.routes.replies import USER, failure_reply
from squash_api.routes.scopes import OWN_SCOPE
from squash_api.settings import Settings
from squash_api.site import Site

LOGIN = "/login"
STATIC = "/static/"
READY = "/readyz"

_OPEN = frozenset(
    {LOGIN, "/logout", "/auth", "/register", "/healthz", READY, "/brokers", "/topics"}
)
_CLUSTERS = "/v3/clusters"
# Of a service that only reads: where that is not all there is, nothing else is answered.
_READING = frozenset({"GET", "HEAD", "OPTIONS"})
_LOGGING_IN = frozenset({LOGIN, "/logout", "/auth"})
# No parameter of a page is longer.
_LONGEST_ADDRESS = 1000
# A path of this service: no backslash, no blank, nothing that browsers take for another host.
_ADDRESS = re.compile(r"/(?!/)[!-\[\]-~]*")
# Where a path would begin with two slashes once its dots are resolved.
_TWO_SLASHES = re.compile(r"(?:/\.{1,2})*//")


class Door:
    """Finds out whose session a request belongs to, and keeps out who may not read.

    Where the record is only read, nobody may write, but log in.
    It needs paths as `NormalizingMiddleware` makes them.
    """

    def __init__(self, app: ASGIApp, *, site: Site) -> None:
        self._app = app
        self._site = site
        self._is_closed = site.settings.read == "users"

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on, or answer it at the door."""
        if scope["type"] == "websocket" and self._is_closed:
            # There are none; whoever adds one must say who may read it.
            await send({"type": "websocket.close", "code": 1008})
            return
        # Whether the process lives does not wait for a look at the record.
        if scope["type"] != "http" or scope["path"] == "/healthz" or is_static(scope["path"]):
            await self._app(scope, receive, send)
            return
        request = Request(scope, receive)
        try:
            if scope["method"] not in _READING and scope["path"] not in _LOGGING_IN:
                self._site.record.require_written_here()
            refusal = await self._look(request)
        except SquashError as error:
            refusal = await failure_reply(request, error)
        await (self._app if refusal is None else refusal)(scope, receive, send)

    async def _look(self, request: Request) -> Response | None:
        """Note who is asking; return an answer only for those who must log in on a page first."""
        scope = request.scope
        text = request.cookies.get(session_cookie(self._site.settings))
        is_known = "authorization" in request.headers
        if text is not None and not is_known:
            # Who reads nothing private needs no session.
            expected = (UnauthorizedError,) if self._is_closed else (SquashError,)
            with suppress(*expected):
                session = await run_in_threadpool(self._site.sessions.check, text)
                scope[SESSION], scope[USER] = session, session.account.name
        if not self._is_closed:
            return None
        if _is_open(scope) and not (is_known and scope["path"] == READY):
            return None
        if SESSION not in scope and not is_known and means_html(scope):
            is_open = scope["method"] == "GET" and self._site.links.opens(_address_of(request))
            return None if is_open else to_login(request)
        if SESSION not in scope:
            try:
                scope[CALLER] = await self._reader(request)
            except ForbiddenError:
                # Whose key is for something else is told what nobody at all is told.
                if not _is_open(scope):
                    raise
        return None

    async def _reader(self, request: Request) -> Account:
        """Return who sends a request; a route may ask more of the key that it is sent with."""
        accounts = self._site.accounts
        header = request.headers.get("authorization")
        claimed = await accounts.claim(header, address=login_address(request, self._site))
        account = await run_in_threadpool(accounts.check_account, claimed)
        request.scope[USER] = account.name
        noun = request.scope["path"][1:].partition("/")[0]
        if request.method == "GET" and noun not in OWN_SCOPE:
            account.require_scope("job:read")
        return account


def is_static(path: str) -> bool:
    """Return whether a path is that of a file which every page loads."""
    return path.startswith(STATIC) and "/" not in path[len(STATIC) :]


def is_open(path: str) -> bool:
    """Return whether programs may ask for a path without credentials, whoever may read."""
    return path in _OPEN or path == "/" or path.startswith(_CLUSTERS)


def _is_open(scope: Scope) -> bool:
    path = scope["path"]
    return is_open(path) and (path != "/" or (scope["method"] == "GET" and not means_html(scope)))


def may_read(request: Request) -> bool:
    """Return whether whoever sends a request may read what is private, as far as the door knows."""
    site: Site = request.app.state.site
    return site.settings.read == "open" or bool({CALLER, SESSION} & request.scope.keys())


def session_of(request: Request) -> Session | None:
    """Return the session that a request belongs to."""
    session: Session | None = request.scope.get(SESSION)
    return session


def to_login(request: Request) -> Response:
    """Send a browser to the login, from where it comes back."""
    site: Site = request.app.state.site
    return Response(status_code=303, headers={"Location": login_link(request, site)})


def login_link(request: Request, site: Site) -> str:
    """Return the address of the login, from where a browser comes back to what it asks for.

    Who sends a form comes back to the page with the form.
    """
    asked = _address_of(request) if request.method == "GET" else _page_of_form(request, site)
    # Into an address somebody may have pasted a key.
    back = safe_address(asked) if without_credentials(asked) == asked else "/"
    return f"{site.settings.url_path}{LOGIN}" + ("" if back == "/" else f"?next={quote(back)}")


def _address_of(request: Request) -> str:
    """Return what is asked for, as it was sent: the path below the root, and the query."""
    asked = bytes(request.scope.get("raw_path") or b"/").partition(b"?")[0].decode("latin-1")
    query = request.scope["query_string"].decode("latin-1")
    return f"{asked}?{query}" if query else asked


def _page_of_form(request: Request, site: Site) -> str:
    """Return the address of the page, below the root, from which a form was sent; `/` if unsure."""
    page = urlsplit(request.headers.get("referer", ""))
    root = site.settings.url_path
    if page.netloc != request.headers.get("host") or not page.path.startswith(f"{root}/"):
        return "/"
    return urlunsplit(("", "", page.path[len(root) :], page.query, ""))


def safe_address(text: str | None) -> str:
    """Return an address below the root to go to after a login; `/` if it is none, or leads away.

    Programs on the way may decode it, so what it decodes to must be no other host either.
    """
    if text is None or len(text) > _LONGEST_ADDRESS or _ADDRESS.fullmatch(text) is None:
        return "/"
    decoded = text.partition("?")[0]
    while decoded != (further := unquote(decoded)):
        decoded = further
    if not decoded.isprintable() or "\\" in decoded or _TWO_SLASHES.match(decoded):
        return "/"
    return "/" if decoded.rstrip("/") in {LOGIN, "/logout"} else text


def session_cookie(settings: Settings) -> str:
    """Return the name of the cookie, with the strictest prefix that its address allows.

    Source: RFC 6265bis, 4.1.3. With a prefix no other host of the domain can set it.
    """
    return f"{_cookie_prefix(settings)}squash_session"


def form_cookie(settings: Settings) -> str:
    """Return the name of the cookie that owns the form of those who are not logged in."""
    return f"{_cookie_prefix(settings)}squash_form"


def _cookie_prefix(settings: Settings) -> str:
    if not settings.is_https:
        return ""
    return "__Secure-" if settings.url_path else "__Host-"


def cookie_options(settings: Settings) -> dict[str, Any]:
    """Return the attributes of both cookies, for `set_cookie` and `delete_cookie`."""
    return {
        "path": settings.url_path or "/",
        "secure": settings.is_https,
        "httponly": True,
        "samesite": "lax",
    }
