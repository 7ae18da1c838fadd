"""GitHub's API, as far as it is needed: states of commits, and a comment in a pull request.

Source: https://docs.github.com/en/rest, version 2022-11-28: "Best practices for using the REST
API" on redirects and on the primary and secondary limits.
"""

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import httpx
import orjson
from pydantic import SecretStr

from squash_api.delivery.sending import Answer, Sender, SendingError
from squash_api.delivery.teller import PauseError

_VERSION = "2022-11-28"
_MOST_REDIRECTS = 3
_MOST_PAGES = 10
_PAGE = 100
# What GitHub asks to wait at least after a secondary limit, if it does not say for how long.
_SECONDARY_S = 60.0
_REPOSITORY = re.compile(
    r"(?:https?://(?:[^@/\s]+@)?|ssh://git@|git@)(?P<host>[\w.-]+)(?::\d+)?[:/]"
    r"(?P<name>[\w.-]+/[\w.-]+?)(?:\.git)?/?",
    re.ASCII,
)


class NotTakenError(Exception):
    """GitHub does not take something for good: it is unknown there, or the token may not do it."""


@dataclass(frozen=True, slots=True)
class PullRequest:
    """An open pull request, and the commit that it starts from."""

    number: int
    base_sha: str


class GitHub:
    """Asks GitHub, over the connections of `sender`; `clock` is in ns.

    Methods raise `PauseError` if it takes nothing at the moment, and `NotTakenError`.
    """

    def __init__(
        self, sender: Sender, url: str, token: SecretStr, *, clock: Callable[[], int]
    ) -> None:
        self._sender = sender
        self._root = httpx.URL(url)
        self._token = token
        self._clock = clock

    async def set_state(
        self, repository: str, sha: str, *, state: str, context: str, description: str, url: str
    ) -> None:
        """Set the state of a commit: `pending`, `success` or `failure`."""
        document = {
            "state": state,
            "context": context,
            # GitHub takes at most so many characters.
            "description": description[:140],
            "target_url": url,
        }
        await self._ask("POST", f"/repos/{repository}/statuses/{sha}", document)

    async def pull_requests(self, repository: str, sha: str) -> list[PullRequest]:
        """Return the open pull requests whose newest commit this is."""
        found = await self._ask("GET", f"/repos/{repository}/commits/{sha}/pulls?per_page={_PAGE}")
        return [
            PullRequest(item["number"], item["base"]["sha"])
            for item in found
            if item["state"] == "open" and item["head"]["sha"] == sha
        ]

    async def find_comment(self, repository: str, number: int, marker: str) -> int | None:
        """Return the comment that begins with a marker; None if there is none."""
        for page in range(1, _MOST_PAGES + 1):
            path = f"/repos/{repository}/issues/{number}/comments?per_page={_PAGE}&page={page}"
            found = await self._ask("GET", path)
            for item in found:
                if str(item.get("body") or "").startswith(marker):
                    return int(item["id"])
            if len(found) < _PAGE:
                break
        return None

    async def comment(self, repository: str, number: int, body: str) -> int:
        """Add a comment to a pull request, and return its id."""
        path = f"/repos/{repository}/issues/{number}/comments"
        return int((await self._ask("POST", path, {"body": body}))["id"])

    async def edit_comment(self, repository: str, comment_id: int, body: str) -> None:
        """Change a comment."""
        await self._ask(
            "PATCH", f"/repos/{repository}/issues/comments/{comment_id}", {"body": body}
        )

    async def _ask(self, method: str, path: str, document: Any = None) -> Any:
        url = str(self._root).rstrip("/") + path
        for _ in range(_MOST_REDIRECTS + 1):
            answer = await self._send(method, url, document)
            if answer.status not in {301, 302, 307, 308}:
                return self._read(answer)
            url = self._target(url, answer)
        raise NotTakenError("it redirects for ever")

    async def _send(self, method: str, url: str, document: Any) -> Answer:
        headers = {
            "Accept": "application/vnd.github+json",
            "Authorization": f"Bearer {self._token.get_secret_value()}",
            "X-GitHub-Api-Version": _VERSION,
        }
        content = b"" if document is None else orjson.dumps(document)
        if content:
            headers["Content-Type"] = "application/json"
        try:
            return await self._sender.send(method, url, headers=headers, content=content)
        except SendingError as error:
            raise PauseError(str(error), runbook="receiver-failing") from error

    def _target(self, url: str, answer: Answer) -> str:
        """Return where a reply leads; the token goes to no other host."""
        try:
            there = httpx.URL(url).join(answer.headers.get("location", ""))
        except httpx.InvalidURL:
            raise NotTakenError("it redirects to what is no address") from None
        if (there.scheme, there.host, there.port) != (
            self._root.scheme,
            self._root.host,
            self._root.port,
        ):
            raise NotTakenError("it redirects to another host, which is not followed")
        return str(there)

    def _read(self, answer: Answer) -> Any:
        if 200 <= answer.status < 300:
            try:
                return orjson.loads(answer.body)
            except orjson.JSONDecodeError:
                raise PauseError(
                    "what answers is not GitHub's API", runbook="receiver-failing"
                ) from None
        words = _words(answer)
        if answer.status == 401:
            raise PauseError(words, runbook="github-refused", pause_s=900.0)
        pause_s = self._limited_s(answer)
        if pause_s is not None or answer.status >= 500:
            raise PauseError(words, runbook="receiver-failing", pause_s=pause_s)
        raise NotTakenError(words)

    def _limited_s(self, answer: Answer) -> float | None:
        """Return how long a limit lasts, in s; None if the reply is not about one."""
        if answer.status not in {403, 429}:
            return None
        asked_s = answer.retry_after_s()
        if asked_s is not None:
            return asked_s
        reset = answer.headers.get("x-ratelimit-reset", "")
        if answer.headers.get("x-ratelimit-remaining") == "0" and reset.isdigit():
            return max(float(reset) - self._clock() / 10**9, 0.0) + 1.0
        is_secondary = answer.status == 429 or b"rate limit" in answer.body.lower()
        return _SECONDARY_S if is_secondary else None


def repository_of(git_url: str, api_url: str) -> str | None:
    """Return the `owner/name` that a git URL names at the GitHub of this API, in small letters."""
    found = _REPOSITORY.fullmatch(git_url.strip())
    host = httpx.URL(api_url).host.removeprefix("api.")
    if found is None or found["host"].lower().removeprefix("www.") != host:
        return None
    return found["name"].lower()


def _words(answer: Answer) -> str:
    """Return what a reply says, without the address of the documentation."""
    try:
        found = orjson.loads(answer.body)
    except orjson.JSONDecodeError:
        return answer.words
    message = found.get("message") if isinstance(found, dict) else None
    return f"{answer.status}: {str(message)[:160]}" if message else answer.words
