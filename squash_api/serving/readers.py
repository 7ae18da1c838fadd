"""Processes that only read, so that whoever reads does not slow down those who post jobs.

Pages and reports take an interpreter for as long as they are made. `Readers` starts processes for
them, hands requests on to them, and starts again one that has ended. Such a process has the same
routes on the same record, at a lower priority; it delivers nothing, and asks the service to derive
jobs that are not yet derived, since only one process should write.

The two sides have a socket over which each can give the other one end of a new channel: for a
request, or for a question of the reading process. There is nothing in the file system, and nobody
else can connect. The reading process ends by itself when the service has ended, however it did.
"""

import asyncio
import os
import pickle
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Awaitable, Callable, MutableMapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from functools import partial
from types import SimpleNamespace
from typing import Any

import msgspec
import structlog
import uvloop

from squash_api.app import create_reading_app
from squash_api.errors import OverloadedError, RecordUnavailableError
from squash_api.index.derived import derived_through
from squash_api.index.deriver import Deriver
from squash_api.index.runs import runs_through
from squash_api.logs import configure_logs, follow_settings
from squash_api.record.jobs import last_job_id
from squash_api.record.metrics import Metrics
from squash_api.record.record import Record
from squash_api.routes.replies import REQUEST_ID, USER
from squash_api.settings import Settings
from squash_api.site import Site, take_short_turns

_Message = MutableMapping[str, Any]
_Receive = Callable[[], Awaitable[_Message]]
_Send = Callable[[_Message], Awaitable[None]]
_App = Callable[[MutableMapping[str, Any], _Receive, _Send], Awaitable[None]]

_RETRY_S = 2
# How much the reading process yields to others, as `nice` counts.
_NICE = 5
_FIRST_PAUSE_S, _LONGEST_PAUSE_S = 0.1, 30.0
_END_S = 5.0
_SIZE_BYTES = 4
# The service never has more of an answer in its memory than this, and what sockets have.
_PIECE_BYTES = 65_536
_CHANNEL, _READY, _DAMAGED = b"c", b"r", b"d"

_log = structlog.get_logger(__name__)


class Readers:
    """The reading processes of a service. Until the first one is ready, the service reads."""

    def __init__(self, settings: Settings, site: Site) -> None:
        self._processes = [_Process(settings, site) for _ in range(settings.readers)]
        self._have_read = False

    @property
    def running(self) -> int:
        """How many are ready."""
        return sum(process.is_ready for process in self._processes)

    @property
    def missing_s(self) -> float:
        """For how long one of them has not been ready; 0 if all are."""
        since = [item.missing_since_s for item in self._processes if not item.is_ready]
        return time.monotonic() - min(since) if since else 0.0

    def start(self) -> None:
        """Start them."""
        for process in self._processes:
            process.start()

    async def stop(self) -> None:
        """End them."""
        await asyncio.gather(*(process.stop() for process in self._processes))

    def is_wanted(self) -> bool:
        """Return whether one reads, or did: if all have ended, this process must not begin to."""
        self._have_read = self._have_read or self.running > 0
        return self._have_read

    async def __call__(
        self, scope: MutableMapping[str, Any], receive: _Receive, send: _Send
    ) -> None:
        """Let the one with the fewest requests answer."""
        ready = [process for process in self._processes if process.is_ready]
        if not ready:
            raise _not_now()
        await min(ready, key=lambda process: process.requests).answer(scope, receive, send)


class _Process:
    """A reading process, seen from the service."""

    def __init__(self, settings: Settings, site: Site) -> None:
        self.is_ready = False
        self.missing_since_s = time.monotonic()
        self.requests = 0
        self._settings = settings
        self._site = site
        self._is_stopped = False
        self._pause_s = _FIRST_PAUSE_S
        self._process: subprocess.Popen[bytes] | None = None
        self._control: socket.socket | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        # A few threads of its own: however many reads wait, nothing else does.
        self._deriving = ThreadPoolExecutor(2, "deriving")

    def start(self) -> None:
        """Start it. Whenever it ends, or cannot be started, it is started again."""
        if self._is_stopped:
            return
        try:
            self._launch()
        except OSError as error:
            self._disconnect()
            _log.error("a reading process cannot be started", reason=str(error))
            asyncio.get_running_loop().call_later(self._next_pause_s(), self.start)

    def _launch(self) -> None:
        ours, theirs = socket.socketpair()
        self._control = ours
        with theirs:
            process = subprocess.Popen(  # noqa: S603  ourselves
                [sys.executable, "-P", "-m", __name__, str(theirs.fileno())],
                stdin=subprocess.PIPE,
                pass_fds=[theirs.fileno()],
            )
        self._process = process
        ours.setblocking(False)
        asyncio.get_running_loop().add_reader(ours, self._hear)
        if process.stdin is not None:
            # Not in the environment or the arguments, which others may see. The pipe stays open:
            # its end tells the process that this one has ended.
            process.stdin.write(pickle.dumps(self._settings))
            process.stdin.flush()

    async def stop(self) -> None:
        """End it."""
        self._is_stopped = True
        process = self._process
        self._disconnect()
        for task in self._tasks:
            task.cancel()
        if process is not None:
            await asyncio.to_thread(_end, process)
        self._deriving.shutdown()

    async def answer(self, scope: MutableMapping[str, Any], receive: _Receive, send: _Send) -> None:
        """Let it answer a request.

        It returns when the process has nothing more to do for the request, even if the client has
        gone away before.
        """
        reader, writer = await self._open_channel()
        self.requests += 1
        follower = asyncio.create_task(_tell_when_gone(receive, writer))
        try:
            await _write(writer, _pack(_request_of(scope, trouble=self._site.record.trouble)))
            status, headers, route, user = msgspec.msgpack.decode(await _read(reader))
            # The request is counted and logged under these.
            if route is not None:
                scope["route"] = SimpleNamespace(path=route)
            if user is not None:
                scope[USER] = user
            pairs = [(bytes(name), bytes(value)) for name, value in headers]
            await send({"type": "http.response.start", "status": status, "headers": pairs})
            while body := await _read(reader):
                await send({"type": "http.response.body", "body": body, "more_body": True})
            await send({"type": "http.response.body", "body": b"", "more_body": False})
        except (EOFError, ConnectionError):
            raise _not_now() from None
        finally:
            follower.cancel()
            if not self.is_ready:
                writer.transport.abort()
            await _finish(reader, writer)
            self.requests -= 1

    async def _open_channel(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        if self._control is None:
            raise _not_now()
        ours, theirs = socket.socketpair()
        with theirs:
            try:
                socket.send_fds(self._control, [_CHANNEL], [theirs.fileno()])
            except OSError:
                ours.close()
                raise _not_now() from None
        return await asyncio.open_unix_connection(sock=ours)

    def _hear(self) -> None:
        """Take what the process says: it is ready, asks something, met damage, or has ended."""
        if self._control is None:
            return
        said, channel = _receive(self._control)
        if channel is not None:
            task = asyncio.create_task(self._serve_question(channel))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)
        elif said == _READY:
            self.is_ready = True
            self._pause_s = _FIRST_PAUSE_S
            _log.info("a process reads", pid=self._process.pid if self._process else None)
        elif said == _DAMAGED:
            self._site.record.note_damage("a process that reads has met it")
        elif said is not None:
            self._lose()

    def _lose(self) -> None:
        """Start it again, after a pause that grows while it does not become ready."""
        process = self._process
        self._disconnect()
        code = None
        if process is not None:
            process.kill()
            code = process.wait()
        words = "a reading process has ended; it is started again"
        _log.error(words, code=code, runbook=OverloadedError.code)
        asyncio.get_running_loop().call_later(self._next_pause_s(), self.start)

    def _next_pause_s(self) -> float:
        pause_s = self._pause_s
        self._pause_s = min(2 * pause_s, _LONGEST_PAUSE_S)
        return pause_s

    def _disconnect(self) -> None:
        if self.is_ready:
            self.missing_since_s = time.monotonic()
        self.is_ready = False
        if self._control is not None:
            asyncio.get_running_loop().remove_reader(self._control)
            self._control.close()
            self._control = None
        if self._process is not None and self._process.stdin is not None:
            with suppress(OSError):
                self._process.stdin.close()
        self._process = None

    async def _serve_question(self, channel: socket.socket) -> None:
        """Derive what the process needs, and tell how that went."""
        reader, writer = await asyncio.open_unix_connection(sock=channel)
        with suppress(EOFError, ConnectionError):
            name, given = msgspec.msgpack.decode(await _read(reader))
            work = partial(getattr(self._site.deriver, name), *given)
            problem = None
            try:
                await asyncio.get_running_loop().run_in_executor(self._deriving, work)
            except RecordUnavailableError as error:
                problem = error.message
            await _write(writer, _pack((problem, self._site.record.trouble)))
        writer.close()


class _AskingDeriver(Deriver):
    """The deriver of a reading process: whatever is not derived, the service derives."""

    def __init__(self, record: Record, metrics: Metrics, control: socket.socket) -> None:
        super().__init__(record, metrics)
        self._control = control

    def catch_up(self) -> None:
        """Have everything derived from every job that is in the record now."""
        with self._record.read() as connection:
            last = last_job_id(connection)
            done = min(runs_through(connection), derived_through(connection))
        if done < last:
            self._ask("catch_up")

    def derive_runs_through(self, job_id: int) -> None:
        """Have the runs of every job up to this one derived."""
        self._ask("derive_runs_through", job_id)

    def rederive(self, job_ids: Any) -> None:
        """Have these jobs derived again."""
        self._ask("rederive", list(job_ids))

    def _ask(self, name: str, *given: Any) -> None:
        body = _pack((name, given))
        ours, theirs = socket.socketpair()
        try:
            with ours, ours.makefile("rb") as stream:
                with theirs:
                    socket.send_fds(self._control, [_CHANNEL], [theirs.fileno()])
                ours.sendall(len(body).to_bytes(_SIZE_BYTES, "big") + body)
                size = int.from_bytes(stream.read(_SIZE_BYTES), "big")
                problem, self._record.trouble = msgspec.msgpack.decode(stream.read(size))
        except (OSError, msgspec.DecodeError):
            # It is stopping, or this process is being ended.
            problem = "The service does not derive jobs at the moment. Try again."
        if problem is not None:
            raise RecordUnavailableError(problem)


def _request_of(scope: MutableMapping[str, Any], *, trouble: str | None) -> dict[str, Any]:
    """Return what a reading process needs of a request."""
    kept = ("method", "path", "raw_path", "query_string", "headers", "http_version", "scheme")
    return {
        **{key: scope[key] for key in (*kept, "server", "client", "root_path") if key in scope},
        REQUEST_ID: scope.get(REQUEST_ID),
        "trouble": trouble,
    }


def _scope_of(request: dict[str, Any]) -> dict[str, Any]:
    """Return the scope of a request, as uvicorn makes it."""
    return {
        "type": "http",
        "asgi": {"version": "3.0", "spec_version": "2.3"},
        **request,
        "headers": [(bytes(name), bytes(value)) for name, value in request["headers"]],
        "client": tuple(request["client"]) if request.get("client") else None,
        "server": tuple(request["server"]) if request.get("server") else None,
        "state": {},
    }


async def _serve_request(app: _App, record: Record, channel: socket.socket) -> None:
    """Answer a request, in the reading process."""
    reader, writer = await asyncio.open_unix_connection(sock=channel)
    is_asked = False
    try:
        request = msgspec.msgpack.decode(await _read(reader))
    except (EOFError, ConnectionError):
        writer.close()
        return
    record.trouble = request.pop("trouble")
    scope = _scope_of(request)
    structlog.contextvars.bind_contextvars(request=scope[REQUEST_ID])

    async def receive() -> _Message:
        nonlocal is_asked
        if not is_asked:
            is_asked = True
            return {"type": "http.request", "body": b"", "more_body": False}
        await reader.read()
        return {"type": "http.disconnect"}

    async def send(message: _Message) -> None:
        # As uvicorn does: nobody is told that the client is gone.
        with suppress(ConnectionError):
            if message["type"] == "http.response.start":
                route = getattr(scope.get("route"), "path", None)
                headers = list(message.get("headers", ()))
                await _write(writer, _pack((message["status"], headers, route, scope.get(USER))))
                return
            body = message.get("body", b"")
            for start in range(0, len(body), _PIECE_BYTES):
                await _write(writer, body[start : start + _PIECE_BYTES])
            if not message.get("more_body", False):
                await _write(writer, b"")

    try:
        await app(scope, receive, send)
    except Exception as error:  # noqa: BLE001  it has been answered and logged
        _log.debug("a request has failed", error=repr(error))
    finally:
        writer.close()


async def _serve(app: Any, control: socket.socket) -> None:
    """Answer requests until the process ends."""
    loop = asyncio.get_running_loop()
    tasks: set[asyncio.Task[None]] = set()
    record = app.state.site.record

    async def answer(channel: socket.socket) -> None:
        await _serve_request(app, record, channel)
        if record.is_damaged:
            # If there is no room for it, it is told with the next answer.
            with suppress(OSError):
                control.send(_DAMAGED)

    def hear() -> None:
        said, channel = _receive(control)
        if channel is not None:
            task = asyncio.create_task(answer(channel))
            tasks.add(task)
            task.add_done_callback(tasks.discard)
        elif said is not None:
            _leave()

    loop.add_reader(control, hear)
    control.send(_READY)
    await loop.create_future()


def main() -> None:
    """Run a reading process; the service gives the settings on the standard input."""
    for number in (signal.SIGINT, signal.SIGTERM):
        # It ends with the service, which may still have to answer.
        signal.signal(number, signal.SIG_IGN)
    settings: Settings = pickle.load(sys.stdin.buffer)  # noqa: S301  from the service
    threading.Thread(target=_end_with_service, name="end-with-service", daemon=True).start()
    configure_logs("reader")
    follow_settings(instance=settings.instance, logs_jobs=settings.log_jobs == "on")
    take_short_turns()
    os.nice(_NICE)
    control = socket.socket(fileno=int(sys.argv[1]))
    control.setblocking(False)

    def deriver(site: Site) -> Deriver:
        return _AskingDeriver(site.record, site.metrics, control)

    uvloop.run(_serve(create_reading_app(settings, deriver), control))


def _end_with_service() -> None:
    while os.read(0, 1):
        pass
    _leave()


def _leave() -> None:
    # There is nothing to put in order, and a thread may be in the middle of a report.
    os._exit(0)


def _end(process: subprocess.Popen[bytes]) -> None:
    try:
        process.wait(_END_S)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def _receive(control: socket.socket) -> tuple[bytes | None, socket.socket | None]:
    """Return what the other side says, and the channel that it gives; None if it says nothing."""
    try:
        said, descriptors, _, _ = socket.recv_fds(control, 1, 1)
    except BlockingIOError:
        return None, None
    except OSError:
        return b"", None
    return said, socket.socket(fileno=descriptors[0]) if descriptors else None


def _pack(content: Any) -> bytes:
    return msgspec.msgpack.encode(content)


async def _write(writer: asyncio.StreamWriter, body: bytes) -> None:
    writer.write(len(body).to_bytes(_SIZE_BYTES, "big"))
    writer.write(body)
    await writer.drain()


async def _read(reader: asyncio.StreamReader) -> bytes:
    """Read what `_write` wrote; `EOFError` if the other side has ended."""
    size = int.from_bytes(await reader.readexactly(_SIZE_BYTES), "big")
    return await reader.readexactly(size)


async def _tell_when_gone(receive: _Receive, writer: asyncio.StreamWriter) -> None:
    """Let the reading process know when the client has gone away."""
    while (await receive())["type"] != "http.disconnect":
        pass
    with suppress(OSError):
        writer.write_eof()


async def _finish(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Wait until the reading process has done with a request."""
    try:
        with suppress(OSError):
            if not writer.is_closing():
                writer.write_eof()
        while await reader.read(65_536):
            pass
    except ConnectionError:
        pass
    finally:
        writer.close()


def _not_now() -> OverloadedError:
    return OverloadedError(
        "Nothing can be read at the moment; jobs are accepted. Try again.", retry_after_s=_RETRY_S
    )


if __name__ == "__main__":
    main()
