import os
import signal
import threading
import time

import pytest

from squash_api.demo.processes import Stop, Stopped, stopped_by_signals


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_signal_asks_the_demo_to_stop(number: signal.Signals) -> None:
    before = signal.signal(number, signal.SIG_DFL)
    try:
        with stopped_by_signals() as stop:
            os.kill(os.getpid(), number)
            with pytest.raises(Stopped):
                stop.pause(10.0)
    finally:
        signal.signal(number, before)


def test_the_handlers_of_before_come_back() -> None:
    before = signal.getsignal(signal.SIGTERM)
    with stopped_by_signals():
        assert signal.getsignal(signal.SIGTERM) is not before
    assert signal.getsignal(signal.SIGTERM) is before


def test_an_ignored_signal_stays_ignored() -> None:
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with stopped_by_signals() as stop:
            os.kill(os.getpid(), signal.SIGHUP)
            stop.check()
        assert signal.getsignal(signal.SIGHUP) is signal.SIG_IGN
    finally:
        signal.signal(signal.SIGHUP, before)


def test_a_pause_lasts_as_long_as_asked() -> None:
    start = time.monotonic()
    Stop().pause(0.15)
    assert time.monotonic() - start >= 0.15


def test_a_pause_ends_when_another_thread_asks_to_stop() -> None:
    stop = Stop()
    threading.Timer(0.05, stop.request).start()
    with pytest.raises(Stopped):
        stop.pause(600.0)


def test_no_pause_begins_after_the_request() -> None:
    stop = Stop()
    stop.request()
    with pytest.raises(Stopped):
        stop.pause(0.0)
