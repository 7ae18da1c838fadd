"""A proxy on a loopback port before a real server, which notes what is written and fails on demand.

A fault is a function of the `Exchange` under way. Without one, requests are passed on.
"""

import gzip
import re
import socket
import struct
import threading
import time
from collections.abc import Callable, Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Self

import httpx

_SQUASH_ID = re.compile(r"[, ]squash_id=([0-9]+)")
# What belongs to one connection only, and how a body came.
_OF_THE_WAY = {"connection", "content-length", "transfer-encoding", "content-encoding"}


class Exchange:
    """One request, and the ways to answer it, or not to."""

    def __init__(self, proxy: "FaultyProxy", handler: BaseHTTPRequestHandler, body: bytes) -> None:
        self.proxy = proxy
        self.path = handler.path
        self.is_write = "/write" in handler.path
        self.body = body
        self._handler = handler

    def pass_on(self) -> httpx.Response:
        """Let the server do what is asked; return its reply, which nobody has got yet.

        Lines that it has taken are noted.
        """
        headers = {
            key: value for key, value in self._handler.headers.items() if key.lower() != "host"
        }
        reply = self.proxy.http.request(
            self._handler.command,
            self.proxy.upstream + self.path,
            headers=headers,
            content=self.body,
        )
        if self.is_write and reply.status_code == 204:
            self.proxy.note(self.body, is_gzip="Content-Encoding" in self._handler.headers)
        return reply

    def answer(
        self, status: int, body: bytes = b"", headers: Mapping[str, str] | None = None
    ) -> None:
        """Give a reply."""
        self._handler.send_response(status)
        for key, value in (headers or {}).items():
            self._handler.send_header(key, value)
        if status != 204:
            self._handler.send_header("Content-Length", str(len(body)))
        self._handler.end_headers()
        self._handler.wfile.write(body)

    def give(self, reply: httpx.Response) -> None:
        """Give the server's reply."""
        headers = {k: v for k, v in reply.headers.items() if k.lower() not in _OF_THE_WAY}
        self.answer(reply.status_code, reply.content, headers)

    def send_raw(self, content: bytes) -> None:
        """Send bytes as they are."""
        self._handler.wfile.write(content)
        self._handler.wfile.flush()

    def hang(self) -> None:
        """Say nothing until the fault is over, then close the connection."""
        self.proxy.is_over.wait(60)
        self._handler.close_connection = True

    def reset(self) -> None:
        """Reset the connection."""
        self._handler.close_connection = True
        linger = struct.pack("ii", 1, 0)
        self._handler.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
        self._handler.connection.close()


Fault = Callable[[Exchange], None]


def pass_on(exchange: Exchange) -> None:
    """No fault: answer as the server does."""
    exchange.give(exchange.pass_on())


class FaultyProxy:
    """Stands before the server at `upstream`; `fault` decides what becomes of each request.

    `arrived` are the ids of the jobs in lines that the server has taken, in order of arrival.
    """

    def __init__(self, upstream: str, *, is_noting_lines: bool = False) -> None:
        self.upstream = upstream.rstrip("/")
        self.http = httpx.Client(timeout=60, trust_env=False)
        self.fault: Fault = pass_on
        self.is_over = threading.Event()
        self.faults = 0
        self.arrived: list[int] = []
        self.lines: list[str] | None = [] if is_noting_lines else None
        self._lock = threading.Lock()
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), self._handler())
        self.port = int(self._server.server_address[1])
        self.url = f"http://127.0.0.1:{self.port}"

    def __enter__(self) -> Self:
        self._listen()
        return self

    def __exit__(self, *_: object) -> None:
        self.mend()
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()
        self.http.close()

    def close_door(self) -> None:
        """Refuse connections, and reset those that are open when they are used."""
        self.fail(Exchange.reset)
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()

    def open_door(self) -> None:
        """Listen again, at the same port."""
        self._server = ThreadingHTTPServer(("127.0.0.1", self.port), self._handler())
        self._listen()
        self.mend()

    def _listen(self) -> None:
        self._server.daemon_threads = True
        self._thread = threading.Thread(
            target=self._server.serve_forever, kwargs={"poll_interval": 0.01}
        )
        self._thread.start()

    def fail(self, fault: Fault) -> None:
        """Begin a fault."""
        self.is_over.clear()
        self.faults = 0
        self.fault = fault

    def mend(self) -> None:
        """End the fault."""
        self.fault = pass_on
        self.is_over.set()

    def note(self, body: bytes, *, is_gzip: bool) -> None:
        """Note lines that the server has taken."""
        text = (gzip.decompress(body) if is_gzip else body).decode()
        with self._lock:
            self.arrived.extend(int(number) for number in _SQUASH_ID.findall(text))
            if self.lines is not None:
                self.lines.extend(text.split("\n"))

    def first_arrivals(self) -> list[int]:
        """Return the ids of jobs, each once, in the order in which they first arrived."""
        return list(dict.fromkeys(self.arrived))

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        proxy = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"
            # Head and body of a reply in one packet, or each would wait for the other's receipt.
            wbufsize = -1
            disable_nagle_algorithm = True

            def _respond(self) -> None:
                size = int(self.headers.get("Content-Length") or 0)
                body = self.rfile.read(size)
                if len(body) < size:
                    # Who sent it has ended in the middle: no server takes that for a request.
                    self.close_connection = True
                    return
                exchange = Exchange(proxy, self, body)
                fault = proxy.fault
                if fault is not pass_on:
                    proxy.faults += 1
                try:
                    fault(exchange)
                except (OSError, httpx.HTTPError):
                    # Who asked is gone, or the server is.
                    self.close_connection = True

            # The names that http.server asks for.
            do_GET = do_POST = _respond  # noqa: N815

            def log_message(self, *_: object) -> None:
                pass

        return Handler


# Faults


def hang(exchange: Exchange) -> None:
    """Take the request and never answer."""
    exchange.hang()


def reset_in_the_body(exchange: Exchange) -> None:
    """Begin an answer and reset the connection within it."""
    exchange.send_raw(b'HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n{"results":')
    exchange.reset()


def do_it_and_reset(exchange: Exchange) -> None:
    """Do what is asked, and reset the connection before anybody hears of it."""
    exchange.pass_on()
    exchange.reset()


def do_it_and_say_500(exchange: Exchange) -> None:
    """Do what is asked, and answer that it failed."""
    exchange.pass_on()
    exchange.answer(500, b'{"error":"timeout"}')


def answering(
    status: int, body: bytes, headers: Mapping[str, str] | None = None, *, writes_only: bool = False
) -> Fault:
    """Make a fault that answers everything, or every write, with the same."""

    def fault(exchange: Exchange) -> None:
        if writes_only and not exchange.is_write:
            pass_on(exchange)
        else:
            exchange.answer(status, body, headers)

    return fault


def trickle(exchange: Exchange) -> None:
    """Answer a byte at a time, with an answer that does not end while the fault lasts."""
    exchange.send_raw(b"HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\n")
    while not exchange.proxy.is_over.is_set():
        exchange.send_raw(b" ")
        time.sleep(0.05)
    exchange.reset()


def sending_raw(content: bytes) -> Fault:
    """Make a fault that answers with bytes that are not HTTP."""

    def fault(exchange: Exchange) -> None:
        exchange.send_raw(content)
        exchange.reset()

    return fault
