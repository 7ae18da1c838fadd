"""What every request passes through: it is normalized, timed and counted, its reply guarded.

What comes by the thousand has a short way past the web framework: posting a job, for which that
would cost a fifth more, what clients ask for before each, for which it would double the cost
(`benchmarks/`, R1 and R3), and what comes by Sasquatch's wire.
"""

import re
import secrets
import time
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from urllib.parse import quote

import structlog
from fastapi import Request, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from squash_api.logs import logs_jobs
from squash_api.routes.door import is_static, session_cookie
from squash_api.routes.replies import JOB_ID, REQUEST_ID, USER, failure_reply
from squash_api.settings import Settings
from squash_api.standings.figures import Figures

IS_HEAD = "squash_is_head"
"""The key of a request's scope that says that only the headers of the reply are wanted."""

PREFIX = "squash_prefix"
"""The key of a request's scope with the one of `SQUASH_SIMPLE_PREFIXES` before its path."""

_REQUEST_ID_BYTES = 8
# As proxies make them: none may look like something else in a log.
_WELL_FORMED = re.compile(rb"[0-9A-Za-z][0-9A-Za-z._=:-]{7,99}\Z")
_JOB_IN_PATH = re.compile(r"/job/(\d{1,19})(?:/|\Z)", re.ASCII)

_log = structlog.get_logger("squash_api.access")
# Clients may make up any number of methods; each would be a series of its own.
_METHODS = frozenset({"GET", "POST", "PUT", "DELETE", "OPTIONS", "PATCH"})
# Probes and scrapes come every few seconds and would drown the rest; listeners stay for hours.
_SLOW_S = 1.0
_QUIET = frozenset({"/healthz", "/readyz", "/prometheus", "/events"})

# What browsers are told of every reply, unless the reply says otherwise.
_HEADERS = (
    (b"x-content-type-options", b"nosniff"),
    (b"referrer-policy", b"same-origin"),
    (b"cross-origin-opener-policy", b"same-origin"),
    (
        b"permissions-policy",
        b"camera=(), display-capture=(), geolocation=(), microphone=(), payment=(), usb=()",
    ),
)
_ONLY_HTTPS = (b"strict-transport-security", b"max-age=31536000")
# Bokeh adds styles of its own to what it draws; scripts come only from here.
PAGE_POLICY = (
    b"default-src 'none'; script-src 'self'; style-src 'self' 'unsafe-inline'; "
    b"img-src 'self' data: blob:; font-src 'self'; connect-src 'self'; form-action 'self'; "
    b"base-uri 'none'; frame-ancestors 'none'"
)


def page_policy(picture_hosts: Iterable[str]) -> str:
    """Write the policy of a page that shows pictures of these hosts too."""
    own = "img-src 'self'"
    return PAGE_POLICY.decode().replace(own, " ".join((own, *picture_hosts)))


# Whatever is no page is shown without doing anything.
_POLICY = b"default-src 'none'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
_PRIVATE = frozenset(
    (
        "account",
        "audit",
        "auth",
        "keys",
        "login",
        "logout",
        "quarantine",
        "register",
        "user",
        "users",
        "webhooks",
    )
)
"""The first parts of paths whose replies are for one user only."""


class GuardingMiddleware:
    """Gives each request an id, and its reply the headers that keep it safe in browsers.

    It is the outermost: what fails inside, whatever it is, has them too. The id is that of the
    header X-Request-ID, if it is well-formed, and `is_proxy` is true for the address that sends it.
    What is private is kept out of caches.
    """

    def __init__(
        self,
        app: ASGIApp,
        *,
        settings: Settings,
        is_proxy: Callable[[str | None], bool] | None = None,
    ) -> None:
        self._app = app
        self._is_proxy = is_proxy
        self._roots = (settings.url_path, *settings.simple_prefixes)
        self._is_closed = settings.read == "users"
        self._cookie = session_cookie(settings).encode()
        self._always = (*_HEADERS, _ONLY_HTTPS) if settings.is_https else _HEADERS

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return

        request_id = self._given_id(scope) or secrets.token_hex(_REQUEST_ID_BYTES)
        scope[REQUEST_ID] = request_id
        structlog.contextvars.bind_contextvars(request=request_id)

        async def send_guarded(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = self._guarded(scope, message.get("headers", ()))
                headers.append((b"x-request-id", request_id.encode()))
                message["headers"] = headers
            await send(message)

        await self._app(scope, receive, send_guarded)

    def _given_id(self, scope: Scope) -> str | None:
        """Return the id that a proxy has given the request, if we trust it."""
        if self._is_proxy is None or not self._is_proxy((scope.get("client") or (None,))[0]):
            return None
        given = [value for name, value in scope["headers"] if name == b"x-request-id"]
        if len(given) != 1:
            return None
        return given[0].decode() if _WELL_FORMED.match(given[0]) else None

    def _guarded(
        self, scope: Scope, headers: Iterable[tuple[bytes, bytes]]
    ) -> list[tuple[bytes, bytes]]:
        found = dict(headers)
        raw_path = bytes(scope.get("raw_path") or b"")
        path, *_ = _shortened(scope["path"], raw_path, *self._roots)
        is_page = found.get(b"content-type", b"").startswith(b"text/html")
        is_private = not is_static(path) and (
            self._is_closed or path[1:].partition("/")[0] in _PRIVATE or self._has_session(scope)
        )
        told = list(headers)
        if is_private or (is_page and b"cache-control" not in found):
            told = [item for item in told if item[0] != b"cache-control"]
            told.append((b"cache-control", b"no-store"))
        policy = (b"content-security-policy", PAGE_POLICY if is_page else _POLICY)
        told += [item for item in (*self._always, policy) if item[0] not in found]
        if scope["method"] in {"GET", "HEAD"}:
            # Pages and JSON have the same URLs, and pages say who is logged in.
            depends = b"Accept, Authorization, Cookie" if is_private or is_page else b"Accept"
            told.append((b"vary", depends))
        return told

    def _has_session(self, scope: Scope) -> bool:
        return any(name == b"cookie" and self._cookie in text for name, text in scope["headers"])


class NormalizingMiddleware:
    """Brings a request into the form that the routes know.

    It removes the path of the public root, if a proxy has left it on, what simple clients have in
    front, and trailing slashes. HEAD is answered like GET, and ends with the headers. `root` is the
    path, such as `/squash`, or empty, and `prefixes` are those of simple clients.
    """

    def __init__(self, app: ASGIApp, *, root: str, prefixes: Sequence[str] = ()) -> None:
        self._app = app
        self._roots = (root, *prefixes)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on."""
        if scope["type"] == "http":
            raw = bytes(scope.get("raw_path") or b"")
            path, raw, prefix = _shortened(scope["path"], raw, *self._roots)
            if path != scope["path"]:
                scope = {**scope, "path": path, "raw_path": raw, PREFIX: prefix}
            is_head = scope["method"] == "HEAD"
            if is_head:
                scope = {**scope, "method": "GET", IS_HEAD: True}
                send = _without_body(send)
            if is_head:
                with suppress(_HeadSentError):
                    await self._app(scope, receive, send)
                return
        await self._app(scope, receive, send)


def _shortened(path: str, raw: bytes, root: str, *prefixes: str) -> tuple[str, bytes, str]:
    """Remove the root, a prefix and trailing slashes from a path, both unquoted and as it was sent.

    Return the prefix too. A quoted slash at the end belongs to a name.
    """
    raw = raw.partition(b"?")[0] or quote(path).encode()
    path, raw = _without(root, path, raw)
    prefix = max((item for item in prefixes if _is_below(path, item)), key=len, default="")
    path, raw = _without(prefix, path, raw)
    slashes = min(len(raw) - len(raw.rstrip(b"/")), len(path) - len(path.rstrip("/")))
    return path[: len(path) - slashes] or "/", raw[: len(raw) - slashes] or b"/", prefix


def _without(start: str, path: str, raw: bytes) -> tuple[str, bytes]:
    """Remove the start of a path; it stays where it is another."""
    if not start or not _is_below(path, start):
        return path, raw
    path = path[len(start) :]
    quoted = quote(start).encode()
    return path, raw[len(quoted) :] if raw.startswith(quoted) else quote(path).encode()


def _is_below(path: str, start: str) -> bool:
    return path == start or path.startswith(f"{start}/")


class _HeadSentError(Exception):
    """The headers that HEAD asks for are sent, and the rest of the work is not needed."""


def _without_body(send: Send) -> Send:
    """End a response with its headers: a file would be made for nobody, a stream never ends."""

    async def send_headers(message: Message) -> None:
        await send(message)
        if message["type"] == "http.response.start":
            await send({"type": "http.response.body", "body": b""})
            raise _HeadSentError

    return send_headers


class ObservingMiddleware:
    """Counts each request under its route, and logs those that fail or are slow."""

    def __init__(self, app: ASGIApp, *, figures: Figures) -> None:
        self._app = app
        self._figures = figures

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        started = time.perf_counter()
        status = 500

        async def send_observed(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)

        try:
            await self._app(scope, receive, send_observed)
        finally:
            seconds = time.perf_counter() - started
            route = getattr(scope.get("route"), "path", "unknown")
            method = scope["method"] if scope["method"] in _METHODS else "other"
            self._figures.count_request(method=method, route=route, status=status, seconds=seconds)
            # Other requests that succeed are counted only.
            job = scope.get(JOB_ID)
            is_remarkable = status >= 400 or seconds >= _SLOW_S
            if is_remarkable or (job is not None and logs_jobs()):
                self._log(scope, route, status, seconds, job)

    def _log(self, scope: Scope, route: str, status: int, seconds: float, job: int | None) -> None:
        if route in _QUIET:
            return
        if job is None and (named := _JOB_IN_PATH.match(scope["path"])) is not None:
            job = int(named[1])
        _log.info(
            "request",
            **({} if job is None else {"job": job}),
            method=scope["method"],
            path=scope["path"],
            status=status,
            ms=round(seconds * 1000, 2),
            # Who is refused again and again is somebody to help, or to keep out.
            user=scope.get(USER),
            address=(scope.get("client") or (None,))[0],
        )


@dataclass(frozen=True, slots=True)
class Way:
    """A route that is answered past the framework: its `path` as that has it, and its answer.

    Of the requests for it, those whose scope `fits` are.
    """

    path: str
    answer: Callable[[Request], Awaitable[Response]]
    fits: Callable[[Scope], bool] | None = None


def is_bare(scope: Scope) -> bool:
    """Tell whether a request has neither parameters nor a cookie, which might name a session."""
    return not scope["query_string"] and all(name != b"cookie" for name, _ in scope["headers"])


@dataclass(slots=True)
class Ways:
    """All ways there are: the `fixed` by method and path, and those that `find` finds.

    There are none until the modules of their routes are imported.
    """

    fixed: Mapping[tuple[str, str], Way] = field(default_factory=dict)
    find: Callable[[Scope], Way | None] = lambda _: None


class ShortWay:
    """Answers the requests that there is a way for.

    All others are passed on. Other spellings of a path are answered by the route of the framework.
    An answer must check the credentials and the body itself.
    """

    def __init__(self, app: ASGIApp, *, ways: Ways, figures: Figures) -> None:
        self._app = app
        self._ways = ways
        self._observed = ObservingMiddleware(self._reply, figures=figures)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request, or pass it on."""
        way = None
        if scope["type"] == "http":
            ways = self._ways
            way = ways.fixed.get((scope["method"], scope["path"])) or ways.find(scope)
            if way is not None and way.fits is not None and not way.fits(scope):
                way = None
        if way is None:
            await self._app(scope, receive, send)
            return
        # Requests are counted under this.
        scope["route"] = way
        await self._observed(scope, receive, send)

    async def _reply(self, scope: Scope, receive: Receive, send: Send) -> None:
        request = Request(scope, receive)
        way: Way = scope["route"]
        try:
            response = await way.answer(request)
        except Exception as error:  # noqa: BLE001  whatever it is, it is answered and logged
            response = await failure_reply(request, error)
        await response(scope, receive, send)
