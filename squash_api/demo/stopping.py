"""Being told to stop by a signal, looked at between the steps of the demo.

A signal that raised an exception could do so between the start of a process and the note that it
runs; one that only leaves a mark cannot, so every process that was started is ended.
"""

import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

_SLICE_S = 0.1
_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class Stopped(Exception):  # noqa: N818 - no failure: somebody asked for it
    """The demo was told to stop before it was done."""


class Stop:
    """Whether the demo was told to stop."""

    def __init__(self) -> None:
        # An event of `threading` takes a lock, on which a signal handler can wait for ever.
        self.is_requested = False

    def request(self) -> None:
        """Ask the demo to stop."""
        self.is_requested = True

    def check(self) -> None:
        """Go on, or raise `Stopped`."""
        if self.is_requested:
            raise Stopped

    def pause(self, seconds: float) -> None:
        """Sleep, and raise `Stopped` as soon as the demo is told to stop."""
        end = time.monotonic() + seconds
        self.check()
        while (left_s := end - time.monotonic()) > 0:
            time.sleep(min(_SLICE_S, left_s))
            self.check()


@contextmanager
def stopped_by_signals() -> Iterator[Stop]:
    """Turn Ctrl-C, SIGTERM and a closed terminal into a request to stop. For the main thread.

    A signal that is ignored stays so: `nohup` asks for that.
    """
    stop = Stop()

    def request(_number: int, _frame: FrameType | None) -> None:
        stop.request()

    heeded = [number for number in _SIGNALS if signal.getsignal(number) is not signal.SIG_IGN]
    before = {number: signal.signal(number, request) for number in heeded}
    try:
        yield stop
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
