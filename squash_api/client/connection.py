"""A service and a user of it: who is asking, where its addresses are, and lists page by page."""

import json
import time
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Self

import httpx

from squash_api.client.reading import query_of
from squash_api.client.wire import SquashClientError, Wire, checked

_MOST_ENTRIES = 1000


class Connection:
    """A SQuaSH service and a user of it; asks for the service's URLs and for a token once.

    Parameters
    ----------
    user, password
        Needed only to send jobs, and where reading needs an account.
    key
        An API key, `sq_...`, instead of them. Do not write it into a file that others can read.
    timeout
        Seconds without an answer after which a request is given up.
    retries
        How often a request is repeated while the service cannot be reached or is too busy.
    transport, sleep
        Replace the network, and the pause between repeated requests.
    """

    def __init__(
        self,
        api_url: str,
        user: str | None = None,
        password: str | None = None,
        *,
        key: str | None = None,
        timeout: float = 900.0,
        retries: int = 5,
        transport: httpx.BaseTransport | None = None,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self._url = api_url
        self._credentials = {"username": user, "password": password}
        self._endpoints: dict[str, str] = {}
        # A key is its own token.
        self._key = key
        self._token = key or ""
        self._wire = Wire(timeout=timeout, retries=retries, transport=transport, sleep=sleep)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._wire.close()

    def log_in(self) -> None:
        """Get a new token; whatever needs one does so. Nothing is done with a key."""
        if self._key is not None:
            return
        if None in self._credentials.values():
            raise SquashClientError("sending needs a key, or a user and a password")
        body = json.dumps(self._credentials).encode()
        answer = checked(self._wire.request("POST", self._endpoint("auth"), body=body))
        token = answer.get("access_token") if isinstance(answer, dict) else None
        if not isinstance(token, str) or not token:
            raise SquashClientError(f"{self._url}: the answer to the log-in has no access_token")
        self._token = token

    @property
    def _may_log_in(self) -> bool:
        return self._key is None and None not in self._credentials.values()

    def _request(self, method: str, url: str | httpx.URL, **options: Any) -> httpx.Response:
        """Send a request with the token; if that has ended, or is needed after all, with a new."""
        response = self._wire.request(method, url, token=self._token, **options)
        if response.status_code == 401 and self._may_log_in:
            self.log_in()
            response = self._wire.request(method, url, token=self._token, **options)
        return response

    def _endpoint(self, name: str) -> str:
        if not self._endpoints:
            self._endpoints = self._object("GET", self._url, follow=True)
        url = self._endpoints.get(name)
        if not isinstance(url, str) or not url.startswith(("http://", "https://")):
            raise SquashClientError(
                f"{self._url} is not the root of a SQuaSH service: it lists no URL of '{name}'"
            )
        return url

    def _asked(self, url: str, query: Mapping[str, Any]) -> dict[str, Any]:
        """Ask for an object with parameters."""
        return self._object("GET", httpx.URL(url).copy_merge_params(query_of(query)))

    def _place(self, name: str, *parts: int | str) -> str:
        """Return the address of something below an endpoint."""
        return "/".join([self._endpoint(name).rstrip("/"), *map(str, parts)])

    def _object(self, method: str, url: str | httpx.URL, **options: Any) -> dict[str, Any]:
        answer = checked(self._request(method, url, **options))
        if not isinstance(answer, dict):
            raise SquashClientError(f"{method} {url}: the answer is not a JSON object")
        return answer

    def _pages(self, url: str, key: str, query: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
        """Yield the pages of a list, each of which is asked for when it is needed."""
        asked = query_of({**query, "limit": _MOST_ENTRIES})
        page: Any = httpx.URL(url).copy_merge_params(asked)
        while page is not None:
            answer = self._object("GET", page)
            if not isinstance(answer.get(key), list):
                raise SquashClientError(f"GET {page}: the answer has no list of {key}")
            yield answer
            page = answer.get("next")

    def _entries(self, url: str, key: str, query: Mapping[str, Any]) -> Iterator[Any]:
        """Yield the entries of a list."""
        for page in self._pages(url, key, query):
            yield from page[key]

    def _change(
        self,
        method: str,
        url: str,
        content: Mapping[str, Any] | None = None,
        *,
        query: Mapping[str, Any] | None = None,
        is_repeatable: bool = True,
    ) -> dict[str, Any]:
        """Change something; log in first if there is no token yet."""
        if not self._token:
            self.log_in()
        body = None if content is None else json.dumps(content, allow_nan=False).encode()
        place = httpx.URL(url).copy_merge_params(query_of(query or {}))
        return self._object(method, place, body=body, is_repeatable=is_repeatable)
