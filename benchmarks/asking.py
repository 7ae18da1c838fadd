"""Ask for one page after another, and measure how long each takes."""

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from statistics import median
from typing import TypeAlias

import httpx

from benchmarks.servers import Server

HTML = "text/html,*/*;q=0.8"
JSON = "application/json"
Ask: TypeAlias = Callable[[str], float]


@contextmanager
def asking(service: Server, accept: str) -> Iterator[Ask]:
    """Return a function that requests a URL and returns how long that took, in s."""
    with httpx.Client(
        base_url=service.url, headers={"Accept": accept}, trust_env=False, timeout=300
    ) as client:

        def ask(address: str) -> float:
            started = time.perf_counter()
            reply = client.get(address)
            seconds = time.perf_counter() - started
            assert reply.status_code == 200, reply.text
            assert reply.headers["Content-Type"].split(";")[0] in accept
            return seconds

        yield ask


def time_pairs(first: Ask, second: Ask, addresses: Sequence[str]) -> tuple[float, float]:
    """Request each URL from both in turn, and return the median time of each."""
    pairs = [(first(address), second(address)) for address in addresses]
    one, other = map(median, zip(*pairs, strict=True))
    return one, other
