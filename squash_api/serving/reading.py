"""A process that only reads: it answers what the service hands on to it, until that ends."""

import asyncio
import os
import pickle
import signal
import socket
import sys
import threading
from collections.abc import Awaitable, Callable, MutableMapping
from contextlib import suppress
from typing import Any

import msgspec
import structlog
import uvloop

from squash_api.app import create_reading_app, import_pages
from squash_api.delivery.interpreter import spare_cycle_search, take_short_turns
from squash_api.errors import RecordUnavailableError
from squash_api.index.derived import derived_through
from squash_api.index.deriver import Deriver
from squash_api.index.runs import runs_through
from squash_api.logs import configure_logs, follow_settings
from squash_api.record.jobs import last_job_id
from squash_api.record.metrics import Metrics
from squash_api.record.record import Record
from squash_api.routes.replies import REQUEST_ID, USER
from squash_api.serving.channels import (
    CHANNEL,
    DAMAGED,
    GO,
    READY,
    SIZE_BYTES,
    pack,
    read,
    receive,
    write,
)
from squash_api.settings import Settings
from squash_api.site import Site

_Message = MutableMapping[str, Any]
_Receive = Callable[[], Awaitable[_Message]]
_Send = Callable[[_Message], Awaitable[None]]
_App = Callable[[MutableMapping[str, Any], _Receive, _Send], Awaitable[None]]

# How much the reading process yields to others, as `nice` counts.
_NICE = 5
# The service never has more of an answer in its memory than this, and what sockets have.
_PIECE_BYTES = 65_536

_log = structlog.get_logger(__name__)


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
        body = pack((name, given))
        ours, theirs = socket.socketpair()
        try:
            with ours, ours.makefile("rb") as stream:
                with theirs:
                    socket.send_fds(self._control, [CHANNEL], [theirs.fileno()])
                ours.sendall(len(body).to_bytes(SIZE_BYTES, "big") + body)
                size = int.from_bytes(stream.read(SIZE_BYTES), "big")
                problem, self._record.trouble = msgspec.msgpack.decode(stream.read(size))
        except (OSError, msgspec.DecodeError):
            # It is stopping, or this process is being ended.
            problem = "The service does not derive jobs at the moment. Try again."
        if problem is not None:
            raise RecordUnavailableError(problem)


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
        request = msgspec.msgpack.decode(await read(reader))
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
                await write(writer, pack((message["status"], headers, route, scope.get(USER))))
                return
            body = message.get("body", b"")
            for start in range(0, len(body), _PIECE_BYTES):
                await write(writer, body[start : start + _PIECE_BYTES])
            if not message.get("more_body", False):
                await write(writer, b"")

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
                control.send(DAMAGED)

    def hear() -> None:
        said, channel = receive(control)
        if channel is not None:
            task = asyncio.create_task(answer(channel))
            tasks.add(task)
            task.add_done_callback(tasks.discard)
        elif said is not None:
            _leave()

    loop.add_reader(control, hear)
    control.send(READY)
    await loop.create_future()


def main() -> None:
    """Run a reading process; the service gives the settings on the standard input."""
    settings: Settings = pickle.load(sys.stdin.buffer)  # noqa: S301  from the service
    run(settings, socket.socket(fileno=int(sys.argv[1])))


def run(settings: Settings, control: socket.socket) -> None:
    """Answer requests until the service ends, from when it says that the record is open."""
    for number in (signal.SIGINT, signal.SIGTERM):
        # It ends with the service, which may still have to answer.
        signal.signal(number, signal.SIG_IGN)
    threading.Thread(target=_end_with_service, name="end-with-service", daemon=True).start()
    configure_logs("reader")
    follow_settings(instance=settings.instance, logs_jobs=settings.log_jobs == "on")
    take_short_turns()
    spare_cycle_search()
    import_pages()
    # Not earlier, since the first page waits for it, and not later: threads inherit it.
    os.nice(_NICE)
    if control.recv(1) != GO:
        _leave()
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


if __name__ == "__main__":
    main()
