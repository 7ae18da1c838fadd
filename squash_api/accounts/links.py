"""Links in messages that open a page without a login, where only users may read.

A link is signed for one address, and good for a week: whoever has the message may see what it is
about, and nothing else. To change something, they log in.
"""

import base64
import hashlib
import hmac
import time
from collections.abc import Callable
from dataclasses import replace

from squash_api.judging.alert_texts import Link, Message
from squash_api.settings import Settings

PARAMETER = "t"
"""The parameter of a signed address; it is the last one."""

DAYS = 7
"""So long, and up to a day longer, a link is good."""

ALERTS = "/alert"
"""What the addresses below the public root begin with that messages sign."""

_DAY_S = 86_400
_LONGEST = 100


class Links:
    """Signs addresses of pages, and checks them.

    Where everybody may read there is nothing to sign; nor without `SQUASH_SECRET`, which `squash
    deliver` need not have.
    """

    def __init__(self, settings: Settings, *, clock: Callable[[], float] = time.time) -> None:
        secrets = (settings.secret, settings.secret_previous)
        self._secrets = [each.get_secret_value().encode() for each in secrets if each is not None]
        self._is_needed = settings.read == "users" and settings.secret is not None
        self._clock = clock

    def sign(self, address: str) -> str:
        """Return an address below the public root, such as `/alert/7`, as messages have it.

        It is the same all day, so that a message that is made again is the same.
        """
        if not self._is_needed:
            return address
        ends_at = (int(self._clock()) // _DAY_S + DAYS + 1) * _DAY_S
        text = f"{ends_at}.{_signature(self._secrets[0], address, ends_at)}"
        return f"{address}{_mark(address)}{PARAMETER}={text}"

    def in_message(self, message: Message, root: str) -> Message:
        """Sign the links of a message that lead to alerts; `root` is the public root."""
        return replace(message, links=tuple(self._signed(link, root) for link in message.links))

    def _signed(self, link: Link, root: str) -> Link:
        if link.url is None or not link.url.startswith(f"{root}{ALERTS}"):
            return link
        return Link(link.text, root + self.sign(link.url.removeprefix(root)))

    def opens(self, address: str) -> bool:
        """Return whether an address, as somebody has sent it, is signed, and not too old."""
        start, found, text = address.rpartition(f"{PARAMETER}=")
        path, mark = start[:-1], start[-1:]
        end, _, given = text.partition(".")
        is_whole = bool(found) and mark == _mark(path) and len(text) <= _LONGEST
        if not is_whole or not (end.isascii() and end.isdecimal()):
            return False
        is_known = any(
            hmac.compare_digest(
                _signature(secret, path, int(end)).encode(), given.encode(errors="replace")
            )
            for secret in self._secrets
        )
        return is_known and self._clock() < int(end)


def _mark(address: str) -> str:
    """Return what a further parameter of an address begins with."""
    return "&" if "?" in address else "?"


def _signature(secret: bytes, address: str, ends_at: int) -> str:
    # What is signed for forms or sessions is no link, nor the other way round.
    digest = hmac.digest(secret, f"link\0{address}\0{ends_at}".encode(), hashlib.sha256)
    return base64.urlsafe_b64encode(digest).decode().rstrip("=")
