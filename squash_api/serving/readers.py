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
from collections.abc import Awaitable, Callable, MutableMapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from types import SimpleNamespace
from typing import Any, BinaryIO

import msgspec
import structlog

from squash_api.errors import OverloadedError, RecordUnavailableError
from squash_api.routes.replies import REQUEST_ID, USER
from squash_api.serving.channels import CHANNEL, DAMAGED, GO, READY, pack, read, receive, write
from squash_api.settings import Settings
from squash_api.site import Site

_Message = MutableMapping[str, Any]
_Receive = Callable[[], Awaitable[_Message]]
_Send = Callable[[_Message], Awaitable[None]]

_RETRY_S = 2
_FIRST_PAUSE_S, _LONGEST_PAUSE_S = 0.1, 30.0
_POLL_S = 0.01
_PROGRAM = "squash_api.serving.reading"
_END_S = 5.0

_log = structlog.get_logger(__name__)


class Readers:
    """The reading processes of a service. If none of them ever becomes ready, the service reads.

    They begin by `fork`, which must be done before this process has other threads or has opened
    anything: they share what is imported until then, which is half of what they need. One that is
    started again is a program of its own.
    """

    def __init__(self, settings: Settings) -> None:
        self._processes = [_Process(settings) for _ in range(settings.readers)]
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

    def fork(self) -> None:
        """Let them begin to import what they need."""
        if threading.active_count() == 1:
            for number, process in enumerate(self._processes):
                process.fork(self._processes[:number])

    def attach(self, site: Site) -> None:
        """Let them open the record of a site, which is ready."""
        for process in self._processes:
            process.attach(site)

    def start(self) -> None:
        """Hear them, and start those that do not run; in the event loop."""
        for process in self._processes:
            process.start()

    def let_go(self) -> None:
        """Let those end by themselves that were never heard."""
        for process in self._processes:
            process.let_go()

    async def stop(self) -> None:
        """End them."""
        await asyncio.gather(*(process.stop() for process in self._processes))

    def is_wanted(self) -> bool:
        """Return whether one reads, did, or soon will: the service itself must not begin to."""
        self._have_read = self._have_read or self.running > 0
        return self._have_read or not all(item.has_begun.is_set() for item in self._processes)

    async def __call__(
        self, scope: MutableMapping[str, Any], receive: _Receive, send: _Send
    ) -> None:
        """Let the one with the fewest requests answer; the first requests wait for the first."""
        if not self.running:
            waits = [asyncio.create_task(item.has_begun.wait()) for item in self._processes]
            await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
            for task in waits:
                task.cancel()
        ready = [process for process in self._processes if process.is_ready]
        if not ready:
            raise _not_now()
        await min(ready, key=lambda process: process.requests).answer(scope, receive, send)


class _Process:
    """A reading process, seen from the service."""

    _site: Site

    def __init__(self, settings: Settings) -> None:
        self.is_ready = False
        self.has_begun = asyncio.Event()
        """Set once it was ready, or has ended without."""

        self.missing_since_s = time.monotonic()
        self.requests = 0
        self._settings = settings
        self._is_stopped = False
        self._pause_s = _FIRST_PAUSE_S
        self._process: subprocess.Popen[bytes] | _Forked | None = None
        self._control: socket.socket | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        # A few threads of its own: however many reads wait, nothing else does.
        self._deriving = ThreadPoolExecutor(2, "deriving")

    def fork(self, elders: Sequence["_Process"]) -> None:
        """Begin it as a copy of this process; `elders` are those that have begun."""
        ours, theirs = socket.socketpair()
        lifeline, end = os.pipe()
        pid = os.fork()
        if pid == 0:
            try:
                for elder in elders:
                    elder.let_go()
                ours.close()
                os.close(end)
                os.dup2(lifeline, 0)
                os.close(lifeline)
                from squash_api.serving.reading import run  # noqa: PLC0415  only here

                run(self._settings, theirs)
            except BaseException as error:  # noqa: BLE001  nothing of the service may go on here
                _log.error("a reading process could not begin", exc_info=error)
            finally:
                os._exit(1)
        theirs.close()
        os.close(lifeline)
        self._process, self._control = _Forked(pid, os.fdopen(end, "wb")), ours

    def attach(self, site: Site) -> None:
        """Let it open the record of a site."""
        self._site = site
        if self._control is not None:
            with suppress(OSError):
                self._control.send(GO)

    def let_go(self) -> None:
        """Let it end by itself, unless it has been stopped."""
        if self._process is not None and self._process.stdin is not None:
            self._process.stdin.close()
        if self._control is not None:
            self._control.close()

    def start(self) -> None:
        """Hear it. Whenever it ends, or cannot be started, it is started again."""
        if self._is_stopped:
            return
        try:
            control = self._control or self._launch()
        except OSError as error:
            self._disconnect()
            self.has_begun.set()
            _log.error("a reading process cannot be started", reason=str(error))
            asyncio.get_running_loop().call_later(self._next_pause_s(), self.start)
        else:
            control.setblocking(False)
            asyncio.get_running_loop().add_reader(control, self._hear)

    def _launch(self) -> socket.socket:
        ours, theirs = socket.socketpair()
        self._control = ours
        with theirs:
            process = subprocess.Popen(  # noqa: S603  ourselves
                [sys.executable, "-P", "-m", _PROGRAM, str(theirs.fileno())],
                stdin=subprocess.PIPE,
                pass_fds=[theirs.fileno()],
            )
        self._process = process
        if process.stdin is not None:
            # Not in the environment or the arguments, which others may see. The pipe stays open:
            # its end tells the process that this one has ended.
            process.stdin.write(pickle.dumps(self._settings))
            process.stdin.flush()
        ours.send(GO)
        return ours

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
            await write(writer, pack(_request_of(scope, trouble=self._site.record.trouble)))
            status, headers, route, user = msgspec.msgpack.decode(await read(reader))
            # The request is counted and logged under these.
            if route is not None:
                scope["route"] = SimpleNamespace(path=route)
            if user is not None:
                scope[USER] = user
            pairs = [(bytes(name), bytes(value)) for name, value in headers]
            await send({"type": "http.response.start", "status": status, "headers": pairs})
            while body := await read(reader):
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
        try:
            ours, theirs = socket.socketpair()
        except OSError:
            # There may be no file descriptors left.
            raise _not_now() from None
        with theirs:
            try:
                socket.send_fds(self._control, [CHANNEL], [theirs.fileno()])
            except OSError:
                ours.close()
                raise _not_now() from None
        return await asyncio.open_unix_connection(sock=ours)

    def _hear(self) -> None:
        """Take what the process says: it is ready, asks something, met damage, or has ended."""
        if self._control is None:
            return
        said, channel = receive(self._control)
        if channel is not None:
            task = asyncio.create_task(self._serve_question(channel))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)
        elif said == READY:
            self.is_ready = True
            self.has_begun.set()
            self._pause_s = _FIRST_PAUSE_S
            _log.info("a process reads", pid=self._process.pid if self._process else None)
        elif said == DAMAGED:
            self._site.record.note_damage("a process that reads has met it")
        elif said is not None:
            self._lose()

    def _lose(self) -> None:
        """Start it again, after a pause that grows while it does not become ready."""
        process = self._process
        self._disconnect()
        self.has_begun.set()
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
            name, given = msgspec.msgpack.decode(await read(reader))
            problem = None
            try:
                await asyncio.get_running_loop().run_in_executor(
                    self._deriving, lambda: getattr(self._site.deriver, name)(*given)
                )
            except RecordUnavailableError as error:
                problem = error.message
            await write(writer, pack((problem, self._site.record.trouble)))
        writer.close()


def _request_of(scope: MutableMapping[str, Any], *, trouble: str | None) -> dict[str, Any]:
    """Return what a reading process needs of a request."""
    kept = ("method", "path", "raw_path", "query_string", "headers", "http_version", "scheme")
    return {
        **{key: scope[key] for key in (*kept, "server", "client", "root_path") if key in scope},
        REQUEST_ID: scope.get(REQUEST_ID),
        "trouble": trouble,
    }


class _Forked:
    """A copy of this process, with what `subprocess.Popen` has of another program."""

    def __init__(self, pid: int, stdin: BinaryIO) -> None:
        self.pid = pid
        self.stdin = stdin
        self._code: int | None = None

    def kill(self) -> None:
        """End it, unless it has ended."""
        if self._code is None:
            os.kill(self.pid, signal.SIGKILL)

    def wait(self, timeout: float | None = None) -> int:
        """Return its code once it has ended; `subprocess.TimeoutExpired` if that takes longer."""
        ends_s = None if timeout is None else time.monotonic() + timeout
        while self._code is None:
            pid, status = os.waitpid(self.pid, 0 if timeout is None else os.WNOHANG)
            if pid:
                self._code = os.waitstatus_to_exitcode(status)
            elif ends_s is not None and time.monotonic() > ends_s:
                raise subprocess.TimeoutExpired("a reading process", timeout or 0.0)
            else:
                time.sleep(_POLL_S)
        return self._code


def _end(process: subprocess.Popen[bytes] | _Forked) -> None:
    try:
        process.wait(_END_S)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


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
