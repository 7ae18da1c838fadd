"""The floor of accepting a job: read it, decode it, one row per job, one fsynced commit per group.

Nothing is checked: no token, no value, no repeat, no limit; no reply says more than an id. It has
what the service has too: uvicorn on uvloop, orjson, SQLite with a write-ahead log and
`synchronous = FULL`, and one thread that commits all that wait at that moment.
"""

import asyncio
import queue
import sqlite3
import sys
import threading
from typing import Any

import orjson
import uvicorn

_Waiting = queue.SimpleQueue[tuple[bytes, "asyncio.Future[int]"]]
_MOST = 256


class Floor:
    """An ASGI application with one table in the file at a path."""

    def __init__(self, path: str) -> None:
        self._path = path
        self._waiting: _Waiting = queue.SimpleQueue()
        self._loop: asyncio.AbstractEventLoop | None = None

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] != "http":
            return
        if self._loop is None:
            self._loop = asyncio.get_running_loop()
            threading.Thread(target=self._commit, daemon=True).start()
        body = b""
        is_whole = scope["method"] == "GET"
        while not is_whole:
            message = await receive()
            body += message["body"]
            is_whole = not message["more_body"]
        stored = 0
        if body:
            orjson.loads(body)
            future: asyncio.Future[int] = self._loop.create_future()
            self._waiting.put((body, future))
            stored = await future
        reply = b'{"id": %d}' % stored
        headers = [(b"content-type", b"application/json"), (b"content-length", b"%d" % len(reply))]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": reply})

    def _commit(self) -> None:
        database = sqlite3.connect(self._path, isolation_level=None)
        for pragma in ("page_size = 8192", "journal_mode = WAL", "synchronous = FULL"):
            database.execute(f"PRAGMA {pragma}")
        database.execute("CREATE TABLE job (id INTEGER PRIMARY KEY, body BLOB)")
        last = 0
        while True:
            group = [self._waiting.get()]
            while len(group) < _MOST and not self._waiting.empty():
                group.append(self._waiting.get())
            marks = ",".join(["(?)"] * len(group))
            bodies = [body for body, _ in group]
            database.execute(f"INSERT INTO job (body) VALUES {marks}", bodies)
            assert self._loop is not None
            self._loop.call_soon_threadsafe(_answer, [future for _, future in group], last)
            last += len(group)


def _answer(futures: "list[asyncio.Future[int]]", last: int) -> None:
    for number, future in enumerate(futures, last + 1):
        future.set_result(number)


if __name__ == "__main__":
    uvicorn.run(
        Floor(sys.argv[2]),
        host="127.0.0.1",
        port=int(sys.argv[1]),
        access_log=False,
        log_level="error",
        lifespan="off",
    )
