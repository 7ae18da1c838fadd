"""Requests to addresses outside: bounded in time and size, never redirected elsewhere, checked.

An address that a user of the service has given could be one of a server inside, which trusts this
machine. So the addresses of its host are looked up here, refused unless they are public or the
settings name their network, and connected to as they were looked up: a name that leads elsewhere
a moment later changes nothing.
"""

import asyncio
import re
import socket
import ssl
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from functools import lru_cache
from ipaddress import (
    IPv4Address,
    IPv4Network,
    IPv6Address,
    IPv6Network,
    ip_address,
    ip_network,
)
from types import TracebackType
from typing import Self

import httpx

WHOLE_S = 20.0
"""The longest time for a request and its whole reply, with the look-up of the name."""

MOST_BYTES = 1_000_000
"""Most bytes of a reply that are read."""

_CONNECT_S, _READ_S = 5.0, 10.0
_MOST_ANSWERED = 160
_LONGEST_PAUSE_S = 3_600.0
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029]+")

_Address = IPv4Address | IPv6Address
Network = IPv4Network | IPv6Network


class SendingError(Exception):
    """No reply came, or the address is refused; `is_refused` if only the settings can change it."""

    def __init__(self, reason: str, *, is_refused: bool = False) -> None:
        super().__init__(reason)
        self.is_refused = is_refused


@dataclass(frozen=True, slots=True)
class Answer:
    """A reply; of a long one the body is cut."""

    status: int
    headers: Mapping[str, str]
    body: bytes

    @property
    def words(self) -> str:
        """Its status and the beginning of what it says, as one line that can be shown."""
        text = _CONTROL.sub(" ", self.body[:1000].decode(errors="replace")).strip()
        is_text = text and not text.startswith("<")
        return f"{self.status}: {text[:_MOST_ANSWERED]}" if is_text else f"{self.status}"

    def retry_after_s(self) -> float | None:
        """Return how long the server asks to be left alone, in s, an hour at most.

        None if it does not say.
        """
        text = self.headers.get("retry-after", "").strip()
        if text.isascii() and text.isdigit():
            return min(float(text), _LONGEST_PAUSE_S)
        try:
            wait_s = parsedate_to_datetime(text).timestamp() - time.time()
        except (TypeError, ValueError):
            return None
        return min(max(wait_s, 0.0), _LONGEST_PAUSE_S)


class Sender:
    """Sends requests over connections that stay open while the `async with` lasts.

    Parameters
    ----------
    networks
        Networks that are not public and that may be sent to all the same. None if the operator has
        chosen the address, in the settings: then any may.
    """

    def __init__(self, networks: Sequence[str] | None = None, *, whole_s: float = WHOLE_S) -> None:
        self._networks = None if networks is None else [ip_network(item) for item in networks]
        self._whole_s = whole_s
        self._http = httpx.AsyncClient(
            # What is not compressed cannot become larger than what has been read.
            headers={"User-Agent": "squash-api", "Accept-Encoding": "identity"},
            timeout=httpx.Timeout(_READ_S, connect=_CONNECT_S),
            follow_redirects=False,
            trust_env=False,
            verify=_certificates(),
        )

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        _kind: type[BaseException] | None,
        _error: BaseException | None,
        _trace: TracebackType | None,
    ) -> None:
        await self._http.aclose()

    async def send(
        self, method: str, url: str, *, headers: Mapping[str, str], content: bytes = b""
    ) -> Answer:
        """Send a request, and return the reply, whatever its status.

        Raises
        ------
        SendingError
            If the address is refused, or no whole reply comes in time.
        """
        try:
            return await asyncio.wait_for(
                self._send(method, httpx.URL(url), dict(headers), content), self._whole_s
            )
        except TimeoutError:
            raise SendingError(f"no whole reply in {self._whole_s:g} s") from None
        except (httpx.HTTPError, httpx.InvalidURL, OSError) as error:
            # Only the kind for what has no words: they could name the address.
            raise SendingError(_reason(error)) from error

    async def _send(
        self, method: str, url: httpx.URL, headers: dict[str, str], content: bytes
    ) -> Answer:
        if self._networks is None:
            return await self._ask(method, url, headers, content, {})
        host = url.raw_host.decode("ascii")
        addresses = await self._look_up(host, url.port or (443 if url.scheme == "https" else 80))
        headers["Host"] = url.netloc.decode("ascii")
        extensions = {} if _literal(host) else {"sni_hostname": host}
        for place, address in enumerate(addresses):
            try:
                there = url.copy_with(host=str(address))
                return await self._ask(method, there, headers, content, extensions)
            except httpx.ConnectError:
                if place == len(addresses) - 1:
                    raise
        raise SendingError("its name has no address")

    async def _look_up(self, host: str, port: int) -> list[_Address]:
        loop = asyncio.get_running_loop()
        try:
            found = await loop.getaddrinfo(host.strip("[]"), port, type=socket.SOCK_STREAM)
        except (OSError, UnicodeError):
            raise SendingError("its name cannot be looked up") from None
        addresses = [ip_address(str(item[4][0]).partition("%")[0]) for item in found]
        for address in addresses:
            if not is_allowed(address, self._networks or ()):
                raise SendingError(
                    f"{address} is not a public address: if it may be sent to, name its network "
                    "in SQUASH_WEBHOOK_NETWORKS",
                    is_refused=True,
                )
        return list(dict.fromkeys(addresses))

    async def _ask(
        self,
        method: str,
        url: httpx.URL,
        headers: dict[str, str],
        content: bytes,
        extensions: dict[str, str],
    ) -> Answer:
        request = self._http.build_request(
            method, url, headers=headers, content=content, extensions=extensions
        )
        reply = await self._http.send(request, stream=True)
        try:
            chunks, size = [], 0
            async for chunk in reply.aiter_raw():
                chunks.append(chunk)
                size += len(chunk)
                if size >= MOST_BYTES:
                    break
        finally:
            await reply.aclose()
        return Answer(reply.status_code, dict(reply.headers), b"".join(chunks)[:MOST_BYTES])


def is_allowed(address: _Address, networks: Sequence[Network]) -> bool:
    """Tell whether an address may be sent to: it is public, or in one of the networks.

    An IPv4 address that is written as one of IPv6, or that a translator leads to, is that address.
    """
    inner = _inner(address)
    if any(each in network for each in (address, inner) for network in networks):
        return True
    return inner.is_global and not inner.is_multicast and not inner.is_reserved


def _inner(address: _Address) -> _Address:
    """Return the IPv4 address that one of IPv6 stands for, or the address itself."""
    if isinstance(address, IPv4Address):
        return address
    teredo = address.teredo
    translated = IPv4Address(int(address) & 0xFFFFFFFF) if address in _NAT64 else None
    found = address.ipv4_mapped or address.sixtofour or (teredo[1] if teredo else None)
    if found is None and int(address) >> 32 == 0 and int(address) > 1:
        # Their form of old, such as ::10.0.0.1.
        found = IPv4Address(int(address))
    return found or translated or address


_NAT64 = ip_network("64:ff9b::/96")


def _literal(host: str) -> bool:
    try:
        ip_address(host.strip("[]"))
    except ValueError:
        return False
    return True


@lru_cache(maxsize=1)
def _certificates() -> ssl.SSLContext:
    # To read the certificates takes longer than to send.
    return httpx.create_ssl_context()


def _reason(error: Exception) -> str:
    """Say why no reply came, in words that name no address."""
    if isinstance(error, httpx.ConnectTimeout | httpx.ConnectError):
        cause = error.__cause__ or error.__context__
        is_certificate = "CERTIFICATE_VERIFY_FAILED" in f"{error}{cause}"
        words = "its certificate is not valid" if is_certificate else "refused, or nobody answers"
        return f"no connection: {words}"
    if isinstance(error, httpx.TimeoutException):
        return "it does not answer in time"
    return f"the connection broke ({type(error).__name__})"
