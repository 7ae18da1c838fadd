"""A proxy on a loopback port before PostgreSQL, which can stop a transaction right at its COMMIT.

It knows the transaction by a word that a client has put into what it stores.
"""

import socket
import threading
from collections.abc import Callable
from typing import Self

from squash_api.demo.processes import HOST

_CHUNK = 1 << 16
_COMMIT = b"COMMIT"


class Way:
    """One connection through the proxy."""

    def __init__(self, client: socket.socket, server: socket.socket) -> None:
        self._client = client
        self._server = server
        self.commit = b""
        """The COMMIT that the client has sent, when a fault gets it."""

    def pass_commit_on(self) -> None:
        """Let the server have the COMMIT, and say nothing of its answer."""
        self._server.sendall(self.commit)

    def await_answer(self) -> None:
        """Wait until the server has committed; its answer goes nowhere."""
        self._server.recv(_CHUNK)

    def cut(self) -> None:
        """End both connections."""
        for end in (self._client, self._server):
            # Whoever waits for something from it hears of this; a mere close would not wake them.
            try:
                end.shutdown(socket.SHUT_RDWR)
            except OSError:
                continue


Fault = Callable[[Way], None]


class SqlProxy:
    """Passes connections on to the server at a port; `fail` names the one COMMIT to stop."""

    def __init__(self, server_port: int) -> None:
        self._server_port = server_port
        self._listener = socket.create_server((HOST, 0))
        self.port = int(self._listener.getsockname()[1])
        self._fault: Fault | None = None
        self._word = b""
        self._lock = threading.Lock()
        self._ends: list[socket.socket] = []

    def __enter__(self) -> Self:
        threading.Thread(target=self._accept, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        for end in self._ends:
            end.close()

    def fail(self, word: str, fault: Fault) -> None:
        """Let `fault` have the next COMMIT of a transaction that stores this word, once."""
        with self._lock:
            self._word, self._fault = word.encode(), fault

    @property
    def has_failed(self) -> bool:
        """Whether the COMMIT has come."""
        return self._fault is None

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            try:
                server = socket.create_connection((HOST, self._server_port))
            except OSError:
                client.close()
                continue
            for end in (client, server):
                end.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            self._ends += [client, server]
            way = Way(client, server)
            for work in (self._from_client, self._from_server):
                threading.Thread(target=work, args=(way, client, server), daemon=True).start()

    def _from_server(self, way: Way, client: socket.socket, server: socket.socket) -> None:
        try:
            while True:
                # Until there is an answer to a COMMIT that a fault has, which it reads itself.
                chunk = server.recv(_CHUNK, socket.MSG_PEEK)
                if not chunk or way.commit:
                    break
                client.sendall(server.recv(len(chunk)))
        except OSError:
            pass
        if not way.commit:
            way.cut()

    def _from_client(self, way: Way, client: socket.socket, server: socket.socket) -> None:
        recent, is_meant = b"", False
        try:
            while chunk := client.recv(_CHUNK):
                recent = recent[-100:] + chunk
                word = self._word
                is_meant = is_meant or bool(word and word in recent)
                fault = self._take() if is_meant and _COMMIT in chunk else None
                if fault is not None:
                    way.commit = chunk
                    fault(way)
                    break
                if _COMMIT in chunk:
                    is_meant = False
                server.sendall(chunk)
        except OSError:
            pass
        way.cut()

    def _take(self) -> Fault | None:
        with self._lock:
            fault, self._fault, self._word = self._fault, None, b""
            return fault


# Faults


def cut_before(_way: Way) -> None:
    """Let the server never have the COMMIT."""


def cut_at_once(way: Way) -> None:
    """Let the server have the COMMIT, and end the connection while it works on it."""
    way.pass_commit_on()


def cut_after(way: Way) -> None:
    """Let the server commit, and end the connection before anybody hears of it."""
    way.pass_commit_on()
    way.await_answer()
