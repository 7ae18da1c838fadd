"""Running servers and the things on them: reading, changing, failing."""

import html
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, NamedTuple, Self

import httpx

CONNECT_TIMEOUT_S = 5.0
READ_TIMEOUT_S = 60.0


class ServerError(Exception):
    """A server refused a request; the text has the server's words.

    `status_code` is None if it sent no response.
    """

    def __init__(self, message: str, *, status_code: int | None = None) -> None:
        super().__init__(message)
        self.status_code = status_code


class UnreachableError(ServerError):
    """There is no such server at the URL, or it refuses our credentials."""


class Thing(ABC):
    """Something that an output makes and a server has, read from either.

    Its `kind` and its name identify it.
    """

    __slots__ = ()
    kind: ClassVar[str]
    name: str

    @property
    def title(self) -> str:
        """The name that identifies it, also to people."""
        return self.name

    @property
    @abstractmethod
    def is_ours(self) -> bool:
        """Whether it was generated."""

    @property
    def trouble(self) -> str:
        """Why it does not work; empty if it does, or that is unknown."""
        return ""

    @property
    def is_idle(self) -> bool:
        """Whether it is made to do nothing for now, so that nobody misses it."""
        return False

    @abstractmethod
    def equals(self, other: Any) -> bool:
        """Return whether another thing does the same."""

    def rank(self, _ours: Any, /) -> tuple[Any, ...]:
        """Return what sorts things of one name on a server; the first is compared with ours."""
        return ()


def covers(ours: Any, theirs: Any, *, given: frozenset[str]) -> bool:
    """Return whether theirs has all that ours has, but for the keys `given`, which servers fill in.

    Servers add keys, and may write texts with HTML entities.
    """
    if ours in (None, [], {}):
        return theirs in (None, [], {})
    if isinstance(ours, Mapping):
        return isinstance(theirs, Mapping) and all(
            covers(value, theirs.get(key), given=given)
            for key, value in ours.items()
            if key not in given
        )
    if isinstance(ours, list):
        is_as_long = isinstance(theirs, list) and len(ours) == len(theirs)
        return is_as_long and all(
            covers(one, other, given=given) for one, other in zip(ours, theirs, strict=True)
        )
    if isinstance(ours, str):
        return isinstance(theirs, str) and html.unescape(ours) == html.unescape(theirs)
    return bool(ours == theirs)


class Note(NamedTuple):
    """What is wrong with how a server is configured, what to do about it, its runbook entry."""

    what: str
    advice: str
    runbook: str


class Server(ABC):
    """A server with a JSON API; making one checks that it is the right one.

    Parameters
    ----------
    url
        With user and password, if the server asks for them.
    token
        Sent instead of these, if it is not empty.
    variables
        What stands for `$NAME` in generated files, as far as it is known.
    transport
        Replaces the network in tests.
    timeout_s
        Longest wait for the next byte of a response; for a connection it is at most 5 s.

    Raises
    ------
    UnreachableError
        If there is no such server at the URL.
    """

    what: ClassVar[str]
    """Its name, also in the header of its responses with its version."""
    probe: ClassVar[str]
    """A path to which it responds."""
    access: ClassVar[str] = "put the user and password in the URL"
    """What to do where it refuses access."""

    def __init__(
        self,
        url: str,
        *,
        token: str = "",
        variables: Mapping[str, str] | None = None,
        transport: httpx.BaseTransport | None = None,
        timeout_s: float = READ_TIMEOUT_S,
    ) -> None:
        self.variables = dict(variables or {})
        try:
            self.place = str(httpx.URL(url).copy_with(userinfo=b""))
            self._http = httpx.Client(
                base_url=url,
                headers={
                    "Accept": "application/json",
                    "User-Agent": "squash-api",
                    **({"Authorization": f"Bearer {token}"} if token else {}),
                },
                timeout=httpx.Timeout(timeout_s, connect=min(timeout_s, CONNECT_TIMEOUT_S)),
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
    def read(kinds: Sequence[str], stem: str, text: str, /) -> Sequence[Thing]:
        """Return the things in a file, of these kinds; any exception means that there are none."""

    @abstractmethod
    def things(self) -> list[Thing]:
        """Return all things on the server of the generated kinds, including those not ours."""

    def notes(self) -> list[Note]:
        """Return what is wrong if the service writes to the server itself."""
        return []

    @abstractmethod
    def put(self, thing: Thing, there: Thing | None) -> None:
        """Create a thing, or replace the one of its name that is there.

        Raises
        ------
        ServerError
            With the server's words.
        """

    @abstractmethod
    def remove(self, thing: Thing) -> None:
        """Remove a thing; fails as `put` does."""

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
        headers: Mapping[str, str] | None = None,
    ) -> httpx.Response:
        """Return the response to a request, whatever its status.

        Raises
        ------
        UnreachableError
            If there is no response, or one that asks for credentials.
        """
        try:
            reply = self._http.request(method, path, params=params, json=document, headers=headers)
        except (httpx.TransportError, httpx.InvalidURL) as error:
            # Some transport errors have no text.
            words = str(error) or type(error).__name__
            raise UnreachableError(f"{self.what} at {self.place}: {words}") from None
        if reply.status_code in (401, 403):
            raise UnreachableError(
                f"{self.what} at {self.place} refuses access ({reply.status_code}): {self.access}"
            )
        return reply

    def call(
        self,
        method: str,
        path: str,
        *,
        params: Mapping[str, Any] | None = None,
        document: Any = None,
        headers: Mapping[str, str] | None = None,
    ) -> dict[str, Any]:
        """Return the JSON object in the response to a request; empty if there is none.

        Raises
        ------
        ServerError
            With the server's words, if it refuses.
        UnreachableError
            If the response is not one of such a server.
        """
        reply = self.send(method, path, params=params, document=document, headers=headers)
        if reply.is_success and not reply.content:
            return {}
        body = self._body(reply)
        if not isinstance(body, dict):
            raise self.is_no_such_server()
        return body

    def get(self, path: str) -> dict[str, Any] | None:
        """Return the JSON object at a path; None if there is none; fails as `call` does."""
        try:
            return self.call("GET", path)
        except ServerError as error:
            if error.status_code == 404:
                return None
            raise

    def listed(self, path: str, *, params: Mapping[str, Any] | None = None) -> list[dict[str, Any]]:
        """Return the JSON objects that a path lists; fails as `call` does."""
        body = self._body(self.send("GET", path, params=params))
        if not isinstance(body, list):
            raise self.is_no_such_server()
        return [item for item in body if isinstance(item, dict)]

    def is_no_such_server(self) -> UnreachableError:
        """Return the error that something else answers."""
        return UnreachableError(f"there is no {self.what} at {self.place}")

    def _body(self, reply: httpx.Response) -> Any:
        """Return the JSON of a response; None if it is something else."""
        try:
            body = reply.json()
        except ValueError:
            body = None
        if reply.is_success:
            return body
        said = body if isinstance(body, dict) else {}
        words = said.get("error") or said.get("message") or said.get("msg")
        if words is None and not reply.is_error:
            raise self.is_no_such_server()
        raise ServerError(
            f"{words or reply.reason_phrase} ({reply.status_code})", status_code=reply.status_code
        )

    def _introduce(self) -> None:
        # Some servers respond on every path, but without the header.
        self.greeting: Mapping[str, str] = self.send("GET", self.probe).headers
        if f"X-{self.what}-Version" not in self.greeting:
            raise self.is_no_such_server()
