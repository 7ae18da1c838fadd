"""Running servers, the things that they have, and how they are changed and fail."""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Any, ClassVar, Self

import httpx

CONNECT_TIMEOUT_S = 5.0
READ_TIMEOUT_S = 60.0


class ServerError(Exception):
    """A server did not do what it was asked; the text holds its own words.

    `status_code` is that of its answer, None without one.
    """

    def __init__(self, message: str, *, status_code: int | None = None) -> None:
        super().__init__(message)
        self.status_code = status_code


class UnreachableError(ServerError):
    """There is no such server at the address, or it does not let us in."""


class Thing(ABC):
    """Something that an output makes and a server has: as a file holds it, or as the server does.

    On every side it is found by its `kind` and its name.
    """

    __slots__ = ()
    kind: ClassVar[str]
    name: str

    @property
    def title(self) -> str:
        """The name by which it is found, and told of."""
        return self.name

    @property
    @abstractmethod
    def is_ours(self) -> bool:
        """Whether it was generated."""

    @property
    def trouble(self) -> str:
        """Why it does not work; empty if it does, or the server does not say."""
        return ""

    @abstractmethod
    def equals(self, other: Any) -> bool:
        """Tell whether another thing does the same."""

    def rank(self, _ours: Any, /) -> tuple[Any, ...]:
        """Return what sorts things of one name on a server: the first is compared with ours."""
        return ()


class Server(ABC):
    """A server with a JSON API, known to be the right one, over connections that stay open.

    Parameters
    ----------
    url
        Address, with user and password in it if the server asks for them.
    transport
        Stands in for the network in tests.

    Raises
    ------
    UnreachableError
        If there is no such server at the address.
    """

    what: ClassVar[str]
    """What it is called: its answers have a header with its version."""
    probe: ClassVar[str]
    """A path that it answers."""

    def __init__(self, url: str, *, transport: httpx.BaseTransport | None = None) -> None:
        try:
            self.place = str(httpx.URL(url).copy_with(userinfo=b""))
            self._http = httpx.Client(
                base_url=url,
                headers={"Accept": "application/json", "User-Agent": "squash-api"},
                timeout=httpx.Timeout(READ_TIMEOUT_S, connect=CONNECT_TIMEOUT_S),
                follow_redirects=False,
                trust_env=False,
                transport=transport,
            )
        except httpx.InvalidURL as error:
            raise UnreachableError(f"{url}: {error}") from None
        try:
            self._introduce()
        except UnreachableError:
            self.close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @staticmethod
    @abstractmethod
    def read(kind: str, stem: str, text: str, /) -> Thing:
        """Return the thing that a file holds; what it raises means that the file holds none."""

    @abstractmethod
    def things(self) -> list[Thing]:
        """Return all that the server has of the kinds that are generated, also what is not ours."""

    @abstractmethod
    def put(self, thing: Thing, there: Thing | None) -> None:
        """Make a thing, in the place of the one of its name that is there.

        Raises
        ------
        ServerError
            With the server's words.
        """

    @abstractmethod
    def remove(self, thing: Thing) -> None:
        """Remove a thing.

        Raises
        ------
        ServerError
            With the server's words.
        """

    def close(self) -> None:
        """Close the connections."""
        self._http.close()

    def send(
        self,
        method: str,
        path: str,
        *,
        params: Mapping[str, Any] | None = None,
        document: Any = None,
    ) -> httpx.Response:
        """Return the reply to a request, whatever its status.

        Raises
        ------
        UnreachableError
            If there is no reply, or one that asks for credentials.
        """
        try:
            reply = self._http.request(method, path, params=params, json=document)
        except (httpx.TransportError, httpx.InvalidURL) as error:
            # A refused connection and a name that is not known say so; some others say nothing.
            words = str(error) or type(error).__name__
            raise UnreachableError(f"{self.what} at {self.place}: {words}") from None
        if reply.status_code in (401, 403):
            raise UnreachableError(
                f"{self.what} at {self.place} refuses us ({reply.status_code}): "
                "put user and password into the URL"
            )
        return reply

    def call(
        self,
        method: str,
        path: str,
        *,
        params: Mapping[str, Any] | None = None,
        document: Any = None,
    ) -> dict[str, Any]:
        """Return the object that a request is answered with; empty for an answer without one.

        Raises
        ------
        ServerError
            With the server's words, if it refuses.
        UnreachableError
            If there is no answer that such a server would give.
        """
        reply = self.send(method, path, params=params, document=document)
        if reply.is_success and not reply.content:
            return {}
        try:
            body = reply.json()
        except ValueError:
            body = None
        if reply.is_success and isinstance(body, dict):
            return body
        words = body.get("error") or body.get("message") if isinstance(body, dict) else None
        if words is None and not reply.is_error:
            raise UnreachableError(f"there is no {self.what} at {self.place}")
        raise ServerError(
            f"{words or reply.reason_phrase} ({reply.status_code})", status_code=reply.status_code
        )

    def _introduce(self) -> None:
        # Some servers answer any address, but without the header.
        if f"X-{self.what}-Version" not in self.send("GET", self.probe).headers:
            raise UnreachableError(f"there is no {self.what} at {self.place}")
