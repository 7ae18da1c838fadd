"""How often the way of a request enters a module of the service, as a profiler sees it."""

import sys
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from types import FrameType
from typing import Any

_OURS = "/squash_api/"
_THREADS = ("loop", "record-writer", "AnyIO")
_COROUTINE, _GENERATOR = 0x80, 0x20


@dataclass(frozen=True)
class Call:
    """A call of a function of a module, by code of another module (empty if it is not ours).

    Modules are paths below `squash_api/`.
    """

    module: str
    function: str
    caller: str


@contextmanager
def calls_noted() -> Iterator[list[Call]]:
    """Note the calls into the service, in order, by the threads that serve requests or write.

    Only threads that start meanwhile are seen.
    """
    calls: list[Call] = []
    begun: list[FrameType] = []

    def note(frame: FrameType, event: str, _argument: Any) -> None:
        code = frame.f_code
        if event != "call" or _OURS not in code.co_filename or code.co_name.startswith("<"):
            return
        if not threading.current_thread().name.startswith(_THREADS):
            return
        # A coroutine or generator that goes on is not called.
        if code.co_flags & (_COROUTINE | _GENERATOR):
            if any(frame is other for other in begun):
                return
            begun.append(frame)
        calls.append(Call(_module(frame), code.co_name, _module(frame.f_back)))

    threading.setprofile(note)
    try:
        yield calls
    finally:
        threading.setprofile(None)
        sys.setprofile(None)


def _module(frame: FrameType | None) -> str:
    path = "" if frame is None else frame.f_code.co_filename
    return path.rpartition(_OURS)[2] if _OURS in path else ""


def way_between(calls: Sequence[Call], first: str, last: str, *, within: str = "") -> list[Call]:
    """Return the calls from that of the function `first` to the next of `last`, both included.

    With `within`, the way goes through modules whose path begins so: what other modules call in
    turn is left out.
    """
    names = [call.function for call in calls]
    start = names.index(first)
    way = calls[start : names.index(last, start) + 1]
    return [call for call in way if call is way[0] or call.caller.startswith(within)]


def entries(way: Sequence[Call]) -> list[str]:
    """Return the modules that are entered: those of calls from another one than the call before."""
    modules = [call.module for call in way]
    return [
        after for before, after in zip(["", *modules], modules, strict=False) if before != after
    ]
