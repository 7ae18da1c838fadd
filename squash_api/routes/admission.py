"""Reads take turns: a few are made at a time, so that no client waits for all those of another.

A place that becomes free is given to the next address, and there to the next user, however many
reads each of them has waiting. What is asked for again while it waits for its place is made once:
the answer is as new as the last request for it. Most answers are kept until they are complete, so
that a slow client holds no place; larger ones are streams, of which there can be only so many.
"""

import asyncio
from collections import Counter, OrderedDict, deque
from contextlib import suppress
from http import HTTPStatus
from typing import Protocol

from fastapi import Request, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from squash_api.errors import BusyError, OverloadedError, SquashError, TooLargeError
from squash_api.routes.dependencies import MAX_SMALL_BODY_BYTES
from squash_api.routes.door import is_static
from squash_api.routes.middleware import IS_HEAD
from squash_api.routes.negotiation import means_html
from squash_api.routes.replies import USER, failure_reply

AT_ONCE = 4
"""How many reads are made at a time by each process that reads."""

MOST_WAITING = 500
MOST_WAITING_OF_ONE = 100
LONGEST_WAIT_S = 60.0
MOST_KEPT_BYTES = 1_000_000
"""An answer that is larger is sent while it is made."""

MOST_STREAMS = 16
MOST_STREAMS_OF_ONE = 8

PAUSE_S = 1.0
_RETRY_S = 5
# These are quick, or last long and do nothing. A login has a cookie of its own each time, which two
# clients must not share.
_QUICK = frozenset({"/events", "/healthz", "/login", "/prometheus", "/readyz", "/version"})
# The headers that an answer may depend on: a route that reads another one adds it here.
_TELLING = frozenset({b"accept", b"authorization", b"cookie"})
_Key = tuple[object, ...]


class Elsewhere(Protocol):
    """Another process that reads."""

    def is_wanted(self) -> bool:
        """Return whether it reads, rather than this process."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a read; `OverloadedError` if it cannot, or not to the end."""


class _NoRoomError(Exception):
    """There are too many streams already. The application does not know this error."""


class Admission:
    """Lets reads in by turns, and hands them to `elsewhere`, if there is such a process."""

    def __init__(self, app: ASGIApp, *, places: "Places") -> None:
        self._app = app
        self._places = places
        self._waiting: dict[_Key, _Read] = {}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request."""
        if not _is_read(scope):
            await self._app(scope, receive, send)
            return
        read = _Read(scope, receive, send, self._places)
        try:
            await self._answer(read)
        except SquashError as error:
            await read.pause()
            reply = await _refusal(scope, error)
            await reply(scope, receive, send)
        finally:
            read.end()

    async def _answer(self, read: "_Read") -> None:
        key = None if read.is_head else _key_of(read.scope)
        first = None if key is None else self._waiting.get(key)
        if first is not None:
            if await first.share(read):
                return
            # A stream is for one client.
            key = None
        if key is not None:
            self._waiting[key] = read
        try:
            is_wanted = await read.wait_for_place()
        except SquashError as error:
            read.fail(error)
            raise
        finally:
            if key is not None:
                # Whoever asks from now on gets what is true from now on.
                del self._waiting[key]
        if is_wanted:
            await self._make(read)

    async def _make(self, read: "_Read") -> None:
        elsewhere = self._places.elsewhere
        app = elsewhere if elsewhere is not None and elsewhere.is_wanted() else self._app
        try:
            await app(read.scope, read.receive, read.take)
        except _NoRoomError:
            raise BusyError(
                "Too many downloads run already. Try again.", retry_after_s=_RETRY_S
            ) from None
        except OverloadedError as error:
            read.fail(error)
            # An answer that has begun breaks off, which the client sees.
            if not read.is_stream:
                raise
        except BaseException as error:
            read.fail(error)
            raise


class _Read:
    """A request that reads, and what becomes of it."""

    def __init__(self, scope: Scope, receive: Receive, send: Send, places: "Places") -> None:
        self.scope = scope
        self.is_head = IS_HEAD in scope
        self.is_stream = False
        self.network = network_of((scope.get("client") or ("",))[0])
        self.send = send
        self._places = places
        self._place: asyncio.Future[None] | None = None
        self._followers: list[asyncio.Future[list[Message] | None]] = []
        self._kept: list[Message] = []
        self._size = 0
        self._is_asked = False
        self._is_too_large = False
        self._gone = asyncio.Event()
        self._client = asyncio.create_task(self._follow(receive))

    async def share(self, other: "_Read") -> bool:
        """Give the answer to another read as well; False if it is a stream."""
        future: asyncio.Future[list[Message] | None] = asyncio.get_running_loop().create_future()
        self._followers.append(future)
        messages = await future
        if messages is None:
            return False
        # The request is counted and logged under these.
        other.scope.update({key: self.scope[key] for key in ("route", USER) if key in self.scope})
        for message in messages:
            await other.send({**message})
        return True

    async def wait_for_place(self) -> bool:
        """Wait for a place; False if nobody waits for the answer any more.

        Raises
        ------
        BusyError
            If too many are waiting, or this one has waited for too long.
        TooLargeError
            If the request has a large body.
        """
        user = tuple(_telling(self.scope))
        self._place = self._places.ask(self.network, user)
        gone = asyncio.create_task(self._gone.wait())
        watched: set[asyncio.Future[object]] = {self._place, gone}  # type: ignore[arg-type]
        try:
            async with asyncio.timeout(LONGEST_WAIT_S):
                while not self._place.done():
                    await asyncio.wait(watched, return_when=asyncio.FIRST_COMPLETED)
                    if gone.done() and not self._place.done():
                        if not self._followers:
                            break
                        watched.discard(gone)
        except TimeoutError:
            raise _busy() from None
        finally:
            gone.cancel()
        if self._is_too_large:
            raise TooLargeError(f"The body is larger than {MAX_SMALL_BODY_BYTES} bytes.")
        return self._place.done()

    async def pause(self) -> None:
        """Wait before a refusal: who asks again at once must not cost more than who waits."""
        with suppress(TimeoutError):
            await asyncio.wait_for(self._gone.wait(), PAUSE_S)

    async def receive(self) -> Message:
        """Give the application an empty body, and tell it when the client is gone."""
        if not self._is_asked:
            self._is_asked = True
            return {"type": "http.request", "body": b"", "more_body": False}
        await self._gone.wait()
        return {"type": "http.disconnect"}

    async def take(self, message: Message) -> None:
        """Take a part of the answer: send it once it is complete, or too large to be kept."""
        if self.is_stream:
            await self.send(message)
            return
        self._kept.append(message)
        self._size += len(message.get("body", b""))
        is_whole = message["type"] == "http.response.body" and not message.get("more_body", False)
        if is_whole:
            self._leave_place()
        elif self._size > MOST_KEPT_BYTES or self.is_head:
            if not self._places.begin_stream(self.network):
                raise _NoRoomError
            self.is_stream = True
            self._leave_place()
        else:
            return
        kept, self._kept = self._kept, []
        self._tell(None if self.is_stream or _has_cookie(kept[0]) else kept)
        for part in kept:
            await self.send({**part})

    def fail(self, error: BaseException) -> None:
        """Let those who share the answer fail, too."""
        for future in self._followers:
            if not future.done():
                future.set_exception(error)

    def end(self) -> None:
        """Free all that it holds."""
        self._client.cancel()
        self._leave_place()
        self._tell(None)
        if self.is_stream:
            self._places.end_stream(self.network)

    def _tell(self, messages: list[Message] | None) -> None:
        for future in self._followers:
            if not future.done():
                future.set_result(messages)

    def _leave_place(self) -> None:
        if self._place is not None:
            self._places.leave(self.network, self._place)
            self._place = None

    async def _follow(self, receive: Receive) -> None:
        """Read the body, which nobody wants, until the client is gone."""
        size = 0
        while not self._is_too_large:
            message = await receive()
            if message["type"] == "http.disconnect":
                break
            size += len(message.get("body", b""))
            self._is_too_large = size > MAX_SMALL_BODY_BYTES
        self._gone.set()


class Places:
    """Places for reads, given by turns; and how many streams there are.

    All but one may be those of one address.
    """

    def __init__(self, count: int = AT_ONCE) -> None:
        self.elsewhere: Elsewhere | None = None
        self._count = count
        self._taken: Counter[str] = Counter()
        self._streams: Counter[str] = Counter()
        # Who waits, by address and by user; the next in turn are first.
        self._waiting: OrderedDict[str, _Queue] = OrderedDict()

    @property
    def waiting(self) -> int:
        """How many reads wait."""
        return sum(len(queue) for queue in self._waiting.values())

    @property
    def running(self) -> int:
        """How many reads are made."""
        return self._taken.total()

    @property
    def streams(self) -> int:
        """How many streams there are."""
        return self._streams.total()

    def ask(self, network: str, user: object) -> asyncio.Future[None]:
        """Ask for a place; it is given when the future is done. `BusyError` if too many wait."""
        queue = self._waiting.get(network, ())
        if len(queue) >= MOST_WAITING_OF_ONE or self.waiting >= MOST_WAITING:
            raise _busy()
        place: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.setdefault(network, _Queue()).put(user, place)
        self._give()
        return place

    def leave(self, network: str, place: asyncio.Future[None]) -> None:
        """Give a place back, or do not wait for it any more."""
        if place.done():
            _count_down(self._taken, network)
            self._give()
        else:
            queue = self._waiting[network]
            queue.remove(place)
            if not queue:
                del self._waiting[network]

    def begin_stream(self, network: str) -> bool:
        """Count a stream, unless there are too many; return whether there was room."""
        if self.streams >= MOST_STREAMS or self._streams[network] >= MOST_STREAMS_OF_ONE:
            return False
        self._streams[network] += 1
        return True

    def end_stream(self, network: str) -> None:
        """Count a stream no longer."""
        _count_down(self._streams, network)

    def _give(self) -> None:
        most = max(1, self._count - 1)
        while self.running < self._count:
            found = next((item for item in self._waiting if self._taken[item] < most), None)
            if found is None:
                return
            queue = self._waiting[found]
            queue.take().set_result(None)
            self._taken[found] += 1
            self._waiting.move_to_end(found)
            if not queue:
                del self._waiting[found]


class _Queue:
    """Those of one address who wait for a place; its users take turns."""

    def __init__(self) -> None:
        self._by_user: OrderedDict[object, deque[asyncio.Future[None]]] = OrderedDict()
        self._count = 0

    def __len__(self) -> int:
        return self._count

    def put(self, user: object, place: asyncio.Future[None]) -> None:
        """Let somebody wait."""
        self._by_user.setdefault(user, deque()).append(place)
        self._count += 1

    def take(self) -> asyncio.Future[None]:
        """Return the next in turn, who waits no longer."""
        user, waiting = next(iter(self._by_user.items()))
        place = waiting.popleft()
        self._by_user.move_to_end(user)
        if not waiting:
            del self._by_user[user]
        self._count -= 1
        return place

    def remove(self, place: asyncio.Future[None]) -> None:
        """Remove somebody who waits no longer."""
        for user, waiting in self._by_user.items():
            with suppress(ValueError):
                waiting.remove(place)
                self._count -= 1
                if not waiting:
                    del self._by_user[user]
                return


async def _refusal(scope: Scope, error: SquashError) -> Response:
    """Answer a failure; for people without what other pages have, which would have to be read."""
    if not isinstance(error, BusyError) or not means_html(scope):
        return await failure_reply(Request(scope), error)
    phrase = HTTPStatus(error.status_code).phrase
    return Response(
        f'<!doctype html>\n<html lang="en">\n<title>{phrase}</title>\n<h1>{phrase}</h1>\n'
        f"<p>{error.message}</p>\n",
        status_code=error.status_code,
        headers={"Retry-After": str(error.retry_after_s)},
        media_type="text/html; charset=utf-8",
    )


def _has_cookie(start: Message) -> bool:
    """Tell whether an answer is for one client only, whoever else asked the same."""
    return any(name.lower() == b"set-cookie" for name, _ in start["headers"])


def _busy() -> BusyError:
    return BusyError("Too many reads are waiting. Try again.", retry_after_s=_RETRY_S)


def _count_down(counts: Counter[str], network: str) -> None:
    counts[network] -= 1
    if not counts[network]:
        del counts[network]


def _is_read(scope: Scope) -> bool:
    """Tell whether a request is one that takes turns."""
    if scope["type"] != "http" or scope["method"] != "GET":
        return False
    return takes_turns(scope["path"]) or (scope["path"] == "/" and means_html(scope))


def takes_turns(path: str) -> bool:
    """Return whether whoever reads a path waits for a turn; for the root, only pages do."""
    return path != "/" and path not in _QUICK and not is_static(path)


def _key_of(scope: Scope) -> _Key:
    """Return what requests have in common that have the same answer."""
    return scope["path"], scope["raw_path"], scope["query_string"], *_telling(scope)


def _telling(scope: Scope) -> list[tuple[bytes, bytes]]:
    return [(name, value) for name, value in scope["headers"] if name in _TELLING]


def network_of(address: str) -> str:
    """Return an address as one client's: whoever has one of IPv6 has the whole /64 network."""
    if ":" not in address:
        return address
    parts = address.partition("%")[0].split(":")
    if "." in parts[-1]:
        return parts[-1]
    if "" in parts:
        place = parts.index("")
        before, after = parts[:place], [part for part in parts[place:] if part]
        parts = [*before, *["0"] * (8 - len(before) - len(after)), *after]
    return ":".join(parts[:4])
