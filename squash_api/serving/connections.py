"""Connections of clients, none of which may take more than its share.

uvicorn's protocol has no limits of its own: it keeps headers of any size, and waits for ever for a
client that sends half of a request or does not read its reply. Here each wait for a client has an
end, what is kept for a request that has not arrived is bounded, and when there is no room for one
more connection, the address that has the most gives up the one that does the least.
"""

import asyncio
import resource
from collections import Counter, deque
from collections.abc import Callable
from pathlib import Path
from typing import Any

import orjson
import structlog
from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol

from squash_api.errors import (
    HeadersTooLargeError,
    MalformedRequestError,
    OverloadedError,
    SquashError,
    TooSlowError,
    UrlTooLongError,
    help_link,
    see,
)
from squash_api.routes.admission import network_of

MOST_HEAD_BYTES = 65_536
"""Most bytes of a request before its body, and most that may arrive without any of a body."""

MOST_HEADERS = 200
MOST_URL_BYTES = 16_384
LEAST_BYTES_PER_S = 1_000
"""A client that sends a body or reads a reply must be this fast, on average."""

STOP_S = 3.0
"""While the service stops, the time for which it waits for a client that does nothing."""

# A client that is told no reads the reply once it has sent what it has begun to send.
_LINGER_S = 2.0
# More than this of a body that nobody wants is not waited for.
_MOST_UNWANTED_BYTES = 64_000_000
_SWEEP_S = 0.5
# Descriptors that connections leave for the record, for files and for what the libraries open.
_MOST_SPARE, _SPARE_PART = 100, 3
# When it is full, room is made for several: to choose takes longer than to accept.
_ROOM_PART = 32
_RETRY_S = 5

_log = structlog.get_logger(__name__)


class Connections:
    """All connections of a server: how many there may be, and how long each may wait.

    Parameters
    ----------
    most
        At most so many; `fit` may lower it to what the system allows.
    patience_s
        How long a client may take for the head of a request, and to send or read
        `LEAST_BYTES_PER_S` for each second of it.
    count
        Called with the code of each failure that ends a connection.
    url
        The public root of the service, for links to the runbook.
    """

    def __init__(
        self,
        *,
        most: int,
        patience_s: float,
        count: Callable[[str], None] = lambda _: None,
        url: str = "",
    ) -> None:
        self.most = most
        self.patience_s = patience_s
        self.count = count
        self.url = url
        self._open: dict[Connection, None] = {}
        self._per_address: Counter[str] = Counter()
        self._lags_s: deque[float] = deque(maxlen=int(60 / _SWEEP_S))

    @property
    def longest_lag_s(self) -> float:
        """How late the event loop was at most in the last minute; for any thread."""
        return max([*self._lags_s], default=0.0)

    def __len__(self) -> int:
        return len(self._open)

    def fit(self) -> None:
        """Let as many files be open as are needed, or else allow fewer connections."""
        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        used = _open_files()
        wanted = used + self.most + _MOST_SPARE
        if soft != resource.RLIM_INFINITY and soft < wanted:
            soft = wanted if hard == resource.RLIM_INFINITY else min(hard, wanted)
            resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
            spare = min(_MOST_SPARE, soft // _SPARE_PART)
            if soft < wanted:
                self.most = max(1, soft - used - spare)
                _log.warning("few files may be open", files=soft, connections=self.most)

    async def watch(self) -> None:
        """End the connections whose clients are too slow, until this is cancelled.

        Also note how late the event loop lets this happen.
        """
        loop = asyncio.get_running_loop()
        while True:
            due_s = loop.time() + _SWEEP_S
            await asyncio.sleep(_SWEEP_S)
            self._lags_s.append(max(loop.time() - due_s, 0.0))
            for connection in list(self._open):
                connection.check(patience_s=self.patience_s)

    def hurry(self) -> None:
        """Wait for clients no longer than a service that stops can."""
        self.patience_s = min(self.patience_s, STOP_S)
        for connection in self._open:
            connection.begin_wait()

    def enter(self, connection: "Connection") -> bool:
        """Note a new connection; False if there is no room, and nobody who should make some."""
        self._open[connection] = None
        self._per_address[connection.address] += 1
        if len(self._open) <= self.most:
            return True
        for address, _ in self._per_address.most_common():
            found = [item for item in self._open if item.address == address and item.may_give_way]
            if found:
                found.sort(key=lambda item: item.heard_at)
                for item in found[: max(1, self.most // _ROOM_PART)]:
                    item.give_way()
                return connection in self._open
        return False

    def leave(self, connection: "Connection") -> None:
        """Forget a connection that has ended, or been told to."""
        if connection in self._open:
            del self._open[connection]
            self._per_address[connection.address] -= 1
            if not self._per_address[connection.address]:
                del self._per_address[connection.address]


class Connection(HttpToolsProtocol):
    """A connection with limits. They cost the posting of a job some microseconds."""

    def __init__(self, *given: Any, connections: Connections, **named: Any) -> None:
        super().__init__(*given, **named)
        self.address = ""
        self.heard_at = self.loop.time()
        self._all = connections
        # All that has arrived, and that since the last time that it was of use.
        self._received = 0
        self._unused = 0
        self._unwanted = 0
        # What the client is waited for: since when, and how much had arrived or was unsent then.
        self._since = self.loop.time()
        self._mark = 0
        self._unsent = 0
        self._unsent_since = 0.0
        self._is_between = False
        self._is_in_head = True
        self._is_refused = False
        self._refusal: type[SquashError] | None = None

    @property
    def may_give_way(self) -> bool:
        """Whether it waits for its client, rather than the client for the service."""
        if self._is_refused or self._is_answered or self.transport.is_closing():
            return True
        cycle: Any = self.cycle
        return bool(cycle.more_body) or self.flow.write_paused

    @property
    def _is_answered(self) -> bool:
        """Whether no request waits for its answer."""
        cycle: Any = self.cycle
        return cycle is None or bool(cycle.response_complete)

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Begin, or refuse at once if there is no room."""
        super().connection_made(transport)
        self.address = network_of(self.client[0] if self.client else "")
        if not self._all.enter(self):
            self._refuse(OverloadedError)

    def connection_lost(self, exc: Exception | None) -> None:
        """Make room for another."""
        self._all.leave(self)
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Take what the client has sent, unless it is refused already."""
        if self._is_refused:
            return
        self.heard_at = self.loop.time()
        self._received += len(data)
        self._unused += len(data)
        if self._is_between:
            self._is_between = False
            self.begin_wait()
        super().data_received(data)
        if self._unused > MOST_HEAD_BYTES and not self._is_refused:
            self._refuse(HeadersTooLargeError if self._is_in_head else MalformedRequestError)

    def on_message_begin(self) -> None:
        """Begin a head; it may be in the same piece as the end of the last request."""
        self._is_in_head = True
        if self._is_between:
            self._is_between = False
            self.begin_wait()
        super().on_message_begin()

    def on_url(self, url: bytes) -> None:
        """Take a piece of the URL."""
        super().on_url(url)
        if len(self.url) > MOST_URL_BYTES:
            self._stop_parsing(UrlTooLongError)

    def on_header(self, name: bytes, value: bytes) -> None:
        """Take a header; those after the body, which nobody reads, are not kept."""
        if self._is_in_head:
            super().on_header(name, value)

    def on_headers_complete(self) -> None:
        """Begin a request, if its head has a reasonable size."""
        # As it is usually written: `GET / HTTP/1.1`, and a colon and a space after each name.
        size = len(self.parser.get_method()) + len(self.url) + 14
        size += sum(len(name) + len(value) + 4 for name, value in self.headers)
        if size > MOST_HEAD_BYTES or len(self.headers) > MOST_HEADERS:
            self._stop_parsing(HeadersTooLargeError)
        self._is_in_head = False
        self._unused = self._unwanted = 0
        self.begin_wait()
        super().on_headers_complete()

    def on_body(self, body: bytes) -> None:
        """Take a piece of a body."""
        self._unused = 0
        if self._is_answered:
            self._unwanted += len(body)
            if self._unwanted > _MOST_UNWANTED_BYTES:
                self.transport.abort()
        super().on_body(body)

    def on_message_complete(self) -> None:
        """End a request."""
        self._unused = 0
        self._is_between = True
        super().on_message_complete()

    def on_response_complete(self) -> None:
        """Wait for the rest of a body that was answered early, or for the next request."""
        self.begin_wait()
        super().on_response_complete()
        if not self._is_between:
            # More has begun to arrive, which may take longer than nothing.
            self._unset_keepalive_if_required()

    def resume_writing(self) -> None:
        """Go on writing: the client has read something."""
        self.heard_at = self.loop.time()
        self._unsent = 0
        super().resume_writing()

    def begin_wait(self) -> None:
        """Wait for the client from now on."""
        self._since = self._unsent_since = self.loop.time()
        self._mark = self._received

    def check(self, *, patience_s: float) -> None:
        """End the connection if the client has been waited for long enough."""
        least = int(LEAST_BYTES_PER_S * patience_s)
        if not self._has_read_enough(patience_s, least):
            self._all.count(TooSlowError.code)
            self.transport.abort()
            return
        if self._is_refused or self.transport.is_closing() or self._is_between:
            return
        cycle, is_answered = self.cycle, self._is_answered
        if not is_answered:
            is_ours = not cycle.more_body or cycle.waiting_for_100_continue or self.flow.read_paused
            if is_ours or self._received - self._mark >= least:
                self.begin_wait()
        if self.loop.time() - self._since > patience_s:
            # There is nothing to say to one who has not said anything, or has had an answer.
            is_silent = self._received == 0 or (is_answered and not self._is_in_head)
            self._refuse(None if is_silent else TooSlowError)

    def give_way(self) -> None:
        """End the connection, to make room for another."""
        self._all.count(OverloadedError.code)
        self._all.leave(self)
        self.transport.abort()

    def send_400_response(self, msg: str) -> None:  # noqa: ARG002  uvicorn's words
        """Refuse what the parser could not read, or was told not to."""
        self._refuse(self._refusal or MalformedRequestError)

    def _stop_parsing(self, reason: type[SquashError]) -> None:
        """Make the parser fail, which calls `send_400_response`."""
        self._refusal = reason
        raise ValueError(reason.code)

    def _has_read_enough(self, patience_s: float, least: int) -> bool:
        """Tell whether the client reads its reply fast enough, or has nothing to read."""
        now, unsent = self.loop.time(), self.transport.get_write_buffer_size()
        if not self._unsent or unsent <= max(0, self._unsent - least):
            self._unsent, self._unsent_since = unsent, now
        return unsent == 0 or now - self._unsent_since <= patience_s

    def _refuse(self, reason: type[SquashError] | None) -> None:
        """Answer with a failure, unless an answer has begun, and end the connection soon."""
        self._is_refused = True
        self._unset_keepalive_if_required()
        cycle, is_answered = self.cycle, self._is_answered
        if not is_answered:
            # The application learns that the client is gone.
            cycle.disconnected = True
            cycle.message_event.set()
        if reason is None or not (is_answered or not cycle.response_started):
            self.transport.abort()
            return
        self._all.count(reason.code)
        self.transport.write(_reply(reason, self._all.url))
        if self.transport.can_write_eof():
            self.transport.write_eof()
        self.flow.resume_reading()
        self.loop.call_later(_LINGER_S, self.transport.abort)


_MESSAGES: dict[type[SquashError], str] = {
    HeadersTooLargeError: (
        f"The headers are longer than {MOST_HEAD_BYTES} bytes, or more than {MOST_HEADERS}."
    ),
    MalformedRequestError: "This is not an HTTP request that can be read.",
    OverloadedError: "There are too many connections. Try again.",
    TooSlowError: "The request did not arrive in time.",
    UrlTooLongError: f"The URL is longer than {MOST_URL_BYTES} bytes.",
}


def _reply(reason: type[SquashError], url: str) -> bytes:
    """Make the whole reply for a failure that no route can answer."""
    more = see(url, reason.code) if reason is OverloadedError else ""
    body = orjson.dumps(
        {
            "message": _MESSAGES[reason] + more,
            "code": reason.code,
            "status_code": reason.status_code,
            "detail": [],
        }
    )
    retry = b"retry-after: %d\r\n" % _RETRY_S if reason is OverloadedError else b""
    return (
        STATUS_LINE[reason.status_code]
        + b"content-type: application/json\r\ncontent-length: %d\r\n" % len(body)
        + b"cache-control: no-store\r\nx-content-type-options: nosniff\r\n"
        + b"link: %s\r\n" % help_link(url, reason.code).encode()
        + retry
        + b"connection: close\r\n\r\n"
        + body
    )


def _open_files() -> int:
    """Count the open files of this process; where the system does not tell, assume some."""
    for folder in (Path("/proc/self/fd"), Path("/dev/fd")):
        if folder.is_dir():
            return len(list(folder.iterdir()))
    return 64
