"""Requests of the client: repeated while an answer may still come; refusals become one error."""

import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from random import Random
from typing import Any

import httpx

# Not the one of the whole process: programs that seed it may count on what it gives.
_chance = Random()  # noqa: S311  no secret
_TRY_AGAIN = frozenset({429, 502, 503, 504})
_TRY_AGAIN_AFTER: tuple[type[Exception], ...] = (
    httpx.NetworkError,
    httpx.RemoteProtocolError,
    httpx.ConnectTimeout,
)
_NOT_DONE = frozenset({429, 503})
_NOT_SENT: tuple[type[Exception], ...] = (httpx.ConnectError, httpx.ConnectTimeout)
_ONLY_READS = b'"only_reads"'
_CONNECT_TIMEOUT_S = 30.0
_FIRST_PAUSE_S = 0.5
_LONGEST_PAUSE_S = 30.0


class SquashClientError(Exception):
    """The service refused a request, or could not be reached.

    `status_code` and `code` are from the service's answer, or None. `detail` is its list of
    `{loc, msg, type}`, which the text of the error shows one a line.
    """

    def __init__(
        self,
        message: str,
        *,
        status_code: int | None = None,
        code: str | None = None,
        detail: Iterable[Any] = (),
    ) -> None:
        super().__init__(message)
        self.message = message
        self.status_code = status_code
        self.code = code
        self.detail = [dict(line) for line in detail if isinstance(line, Mapping)]

    def __str__(self) -> str:
        return "\n  ".join([self.message, *map(_detail_text, self.detail)])


class Wire:
    """The connection to a service; the parameters are those of `squash.Squash`.

    `key` is sent with each request that has no token of its own.
    """

    def __init__(
        self,
        *,
        timeout: float,
        retries: int,
        key: str = "",
        transport: httpx.BaseTransport | None = None,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self._retries = retries
        self._key = key
        self.sleep = sleep
        self._http = httpx.Client(
            headers={"Accept": "application/json; version=1.0"},
            timeout=httpx.Timeout(timeout, connect=min(timeout, _CONNECT_TIMEOUT_S)),
            transport=transport,
        )

    def close(self) -> None:
        """Close the connections."""
        self._http.close()

    def request(
        self,
        method: str,
        url: str | httpx.URL,
        *,
        body: bytes | None = None,
        token: str = "",
        follow: bool = False,
        is_streamed: bool = False,
        is_repeatable: bool = True,
    ) -> httpx.Response:
        """Send a request, and repeat it while an answer may still come.

        One that is not repeatable, since it would count twice, only if it was surely not done.
        """
        again = _TRY_AGAIN if is_repeatable else _NOT_DONE
        again_after = _TRY_AGAIN_AFTER if is_repeatable else _NOT_SENT
        token = token or self._key
        headers = {"Authorization": f"JWT {token}"} if token else {}
        if body is not None:
            headers["Content-Type"] = "application/json"
        for attempt in range(self._retries + 1):
            is_last = attempt == self._retries
            asked_s = 0.0
            try:
                request = self._http.build_request(method, url, content=body, headers=headers)
                response = self._http.send(request, follow_redirects=follow, stream=is_streamed)
                if response.status_code not in again or is_last:
                    return response
                if not is_streamed and _ONLY_READS in response.content:
                    # It is so until somebody promotes its replica; the message says where to write.
                    return response
                response.close()
                asked_s = _retry_after_s(response)
            except (httpx.HTTPError, httpx.InvalidURL, UnicodeError) as error:
                if is_last or not isinstance(error, again_after):
                    reason = str(error) or "no answer in time"
                    raise SquashClientError(f"{method} {url}: {reason}") from error
            pause_s = min(_FIRST_PAUSE_S * 2**attempt, _LONGEST_PAUSE_S)
            # Clients that lost the service together must not all return at once.
            self.sleep(max(pause_s * _chance.uniform(0.5, 1.0), asked_s))
        raise SquashClientError("the number of retries cannot be negative")

    @contextmanager
    def stream(self, url: str | httpx.URL, *, token: str = "") -> Iterator[Iterator[bytes]]:
        """Download a file in chunks; `SquashClientError` also if it ends too early."""
        response = self.request("GET", url, token=token, is_streamed=True)
        try:
            if response.status_code != 200:
                response.read()
                checked(response)
            yield response.iter_bytes()
        except httpx.HTTPError as error:
            reason = str(error) or "no answer in time"
            raise SquashClientError(f"GET {url}: {reason}") from error
        finally:
            response.close()


def checked(response: httpx.Response) -> Any:
    """Read the JSON of an answer; a refusal is raised with the service's message if it has one."""
    where = f"{response.request.method} {response.request.url}"
    try:
        answer = response.json()
    except ValueError:
        answer = None
    if response.status_code not in (200, 201, 202):
        said = answer if isinstance(answer, dict) else {}
        message = said.get("message") or said.get("description")
        shown = f"{where}: {response.status_code} {response.reason_phrase}"
        if "Location" in response.headers:
            shown += f", to {response.headers['Location']}"
        detail = said.get("detail")
        raise SquashClientError(
            str(message or shown),
            status_code=response.status_code,
            code=said.get("code"),
            detail=detail if isinstance(detail, list) else [],
        )
    if answer is None:
        raise SquashClientError(f"{where}: the answer is not JSON: is this a SQuaSH service?")
    return answer


def _retry_after_s(response: httpx.Response) -> float:
    text = response.headers.get("Retry-After", "")
    return min(float(text), 2 * _LONGEST_PAUSE_S) if text.isdecimal() else 0.0


def _detail_text(line: Mapping[str, Any]) -> str:
    loc = line.get("loc")
    steps = list(loc) if isinstance(loc, list | tuple) else []
    path = "".join(f"[{step}]" if isinstance(step, int) else f".{step}" for step in steps)
    return f"{path.lstrip('.')}: {line.get('msg')}" if path else str(line.get("msg"))
