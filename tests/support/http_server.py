"""A real HTTP server on a free loopback port, that answers as a function of httpx says."""

from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from typing import Any, Self

import httpx

from tests.support.fake_service import ROOT

_OF_CONTENT = {"content-type", "content-length", "content-encoding", "transfer-encoding"}


class HttpServer:
    """Serves the answers of a `FakeService` with the server's own address in them."""

    def __init__(self, answer: Callable[[httpx.Request], httpx.Response]) -> None:
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), _handler(answer))
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}"
        self._thread = Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.01})

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()


def _handler(answer: Callable[[httpx.Request], httpx.Response]) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        def _respond(self) -> None:
            host = f"http://{self.headers['Host']}"
            size = int(self.headers.get("Content-Length") or 0)
            body = self.rfile.read(size)
            if len(body) < size:
                # Who sent it has ended in the middle: no server takes that for a request.
                self.close_connection = True
                return
            response = answer(
                httpx.Request(
                    self.command, host + self.path, headers=dict(self.headers), content=body
                )
            )
            content = response.content.replace(ROOT.encode(), host.encode())
            self.send_response(response.status_code)
            self.send_header("Content-Type", response.headers.get("Content-Type", "text/plain"))
            for name, value in response.headers.items():
                if name not in _OF_CONTENT:
                    self.send_header(name, value)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        # The names that http.server asks for.
        do_GET = do_POST = do_PUT = do_PATCH = do_DELETE = _respond  # noqa: N815

        def log_message(self, *_: Any) -> None:
            pass

    return Handler
