"""Running a command as if nobody watched, and measuring it.

Standard input is handed on itself. Output passes through, byte by byte, because its tail is kept:
through a pipe, or through a pseudo-terminal of the same size where ours is a terminal, so that the
command still writes to one. Where both outputs are the same file they stay one, in their order.

Where there is a terminal to be controlled by, the command stays in our process group: keys such as
Ctrl-C reach it from the kernel, as without us, and only other signals are passed on. Elsewhere it
gets a group of its own, to all of which signals are passed on.
"""

import fcntl
import os
import resource
import select
import signal
import subprocess
import sys
import termios
import threading
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

NOT_FOUND = 127
"""The exit status of a command that is not there; source: POSIX, as the next ones."""

NOT_STARTED = 126
"""The exit status of a command that is there and cannot be started."""

OF_A_SIGNAL = 128
"""The exit status of a command that a signal ended is this plus the number of the signal."""

_PASSED_ON = (
    signal.SIGHUP,
    signal.SIGINT,
    signal.SIGQUIT,
    signal.SIGTERM,
    signal.SIGUSR1,
    signal.SIGUSR2,
    signal.SIGTSTP,
    signal.SIGCONT,
    signal.SIGWINCH,
)
_ENDING = (signal.SIGHUP, signal.SIGINT, signal.SIGQUIT, signal.SIGTERM)
_CHUNK = 65536
# So long after the end of a command, output of those that it left behind counts as its own.
_LINGER_S = 0.5


class Tail:
    """The last bytes of an output, and how many there were in all."""

    def __init__(self, limit: int) -> None:
        self.total = 0
        self._limit = limit
        self._kept = bytearray()
        self._lock = threading.Lock()

    def add(self, data: bytes) -> None:
        """Add what comes next."""
        with self._lock:
            self.total += len(data)
            self._kept += data
            if len(self._kept) > 2 * self._limit:
                del self._kept[: -self._limit]

    def content(self) -> bytes:
        """Return the last bytes, at most as many as the limit."""
        with self._lock:
            return bytes(self._kept[-self._limit :]) if self._limit else b""


@dataclass(frozen=True, slots=True)
class Ended:
    """How a command ended.

    `status` is what a shell tells, `signal` the number of the signal that ended it. `began_ns` and
    `ended_ns` are since 1970, `wall_s` and `cpu_s` (that of the command and of all that it waited
    for) in s. `peak_bytes` is the memory of the largest of its processes; None, as `cpu_s` is, if
    it did not start: then `problem` says why. `tail` is the end of an output of `output_bytes`.
    """

    status: int
    signal: int | None
    began_ns: int
    ended_ns: int
    wall_s: float
    cpu_s: float | None
    peak_bytes: int | None
    tail: bytes
    output_bytes: int
    problem: str | None = None


@dataclass(slots=True)
class _Stream:
    """One way of the command's output: from `source`, which it writes to as `end`, to `sink`."""

    source: int
    end: int
    sink: int
    is_terminal: bool
    is_open: bool = True


@dataclass(slots=True)
class _Process:
    """A running command; `ended_fd` becomes readable when it has ended."""

    popen: subprocess.Popen[bytes]
    shares_group: bool
    streams: Sequence[_Stream]
    ended_fd: int
    hurry: threading.Event
    lock: threading.Lock = field(default_factory=threading.Lock)
    has_ended: bool = False

    def signal(self, number: int) -> None:
        """Send a signal to the command, if it still runs."""
        with self.lock:
            if self.has_ended:
                if number in _ENDING:
                    self.hurry.set()
                return
            with suppress(ProcessLookupError, PermissionError):
                if self.shares_group:
                    os.kill(self.popen.pid, number)
                else:
                    os.killpg(self.popen.pid, number)


def run_command(
    words: Sequence[str],
    *,
    variables: Mapping[str, str],
    tail_bytes: int,
    hurry: threading.Event,
) -> Ended:
    """Run a command to its end; call it once, in the main thread.

    Afterwards signals do not end this process: those that ask it to end set `hurry`.
    """
    mask = signal.pthread_sigmask(signal.SIG_BLOCK, _PASSED_ON)
    began_ns, began_s = time.time_ns(), time.monotonic()
    streams = _open_streams()
    try:
        process, end_fd = _start(words, variables, streams, mask, hurry)
    except OSError as error:
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)
        return _not_started(words[0], error, began_ns=began_ns)
    tail = Tail(tail_bytes)
    pumps = [_pumping(stream, tail, process) for stream in streams]
    status, usage = _wait(process)
    ended_ns, ended_s = time.time_ns(), time.monotonic()
    os.close(end_fd)
    for pump in pumps:
        pump.join()
    _leave_to_others(streams, mask)
    return Ended(
        status if status >= 0 else OF_A_SIGNAL - status,
        -status if status < 0 else None,
        began_ns,
        ended_ns,
        ended_s - began_s,
        usage.ru_utime + usage.ru_stime,
        usage.ru_maxrss * (1 if sys.platform == "darwin" else 1024),
        tail.content(),
        tail.total,
    )


def _pumping(stream: "_Stream", tail: Tail, process: "_Process") -> threading.Thread:
    pump = threading.Thread(target=_pump, args=(stream, tail, process.ended_fd), daemon=True)
    pump.start()
    return pump


def _start(
    words: Sequence[str],
    variables: Mapping[str, str],
    streams: Sequence[_Stream],
    mask: set[int],
    hurry: threading.Event,
) -> tuple[_Process, int]:
    """Start a command; return it, and the file descriptor to close when it has ended."""
    shares_group = _has_terminal()
    popen = subprocess.Popen(  # noqa: S603 - the command that was asked for
        words,
        stdout=streams[0].end,
        stderr=streams[-1].end,
        env=variables,
        process_group=None if shares_group else 0,
        # No thread runs yet.
        preexec_fn=lambda: signal.pthread_sigmask(signal.SIG_SETMASK, mask),  # noqa: PLW1509
    )
    for stream in streams:
        os.close(stream.end)
    ended_fd, end_fd = os.pipe()
    process = _Process(popen, shares_group, streams, ended_fd, hurry)
    threading.Thread(target=_pass_signals_on, args=(process,), daemon=True).start()
    return process, end_fd


def _not_started(name: str, error: OSError, *, began_ns: int) -> Ended:
    is_found = not isinstance(error, FileNotFoundError)
    problem = f"{name}: {error.strerror or error}" if is_found else f"{name}: command not found"
    status = NOT_STARTED if is_found else NOT_FOUND
    return Ended(status, None, began_ns, time.time_ns(), 0.0, None, None, b"", 0, problem)


def _has_terminal() -> bool:
    """Tell whether a terminal controls this process."""
    try:
        os.close(os.open("/dev/tty", os.O_RDWR | os.O_NOCTTY))
    except OSError:
        return False
    return True


def _open_streams() -> list[_Stream]:
    """Open a stream for the standard output and one for the errors, or one for both."""
    if os.path.sameopenfile(1, 2):
        return [_open_stream(1)]
    return [_open_stream(1), _open_stream(2)]


def _open_stream(sink: int) -> _Stream:
    if not os.isatty(sink):
        source, end = os.pipe()
        return _Stream(source, end, sink, is_terminal=False)
    source, end = os.openpty()
    # What is written leaves it as it is, for the terminal behind it.
    modes = termios.tcgetattr(end)
    modes[1] &= ~termios.OPOST
    modes[3] &= ~termios.ECHO
    termios.tcsetattr(end, termios.TCSANOW, modes)
    stream = _Stream(source, end, sink, is_terminal=True)
    _copy_size(stream)
    return stream


def _copy_size(stream: _Stream) -> None:
    """Give a pseudo-terminal the size of the terminal behind it."""
    with suppress(OSError):
        size = fcntl.ioctl(stream.sink, termios.TIOCGWINSZ, bytes(8))
        fcntl.ioctl(stream.source, termios.TIOCSWINSZ, size)


def _wait(process: _Process) -> tuple[int, resource.struct_rusage]:
    """Wait for the end; return the exit status, negative for a signal, and what was used."""
    pid = process.popen.pid
    # It is let go only when no signal can be meant for it any more.
    os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT)
    with process.lock:
        process.has_ended = True
        _, status, usage = os.wait4(pid, 0)
    process.popen.returncode = os.waitstatus_to_exitcode(status)
    return process.popen.returncode, usage


def _pass_signals_on(process: _Process) -> None:
    """Pass on the signals that come, until this process ends."""
    while True:
        number, is_of_kernel = _next_signal()
        if number == signal.SIGWINCH:
            for stream in process.streams:
                if stream.is_terminal and stream.is_open:
                    _copy_size(stream)
        # What the terminal sent has reached all of its group.
        has_reached = process.shares_group and is_of_kernel and number != signal.SIGWINCH
        if process.has_ended or not has_reached:
            process.signal(number)
        if number == signal.SIGTSTP and not process.has_ended:
            os.kill(os.getpid(), signal.SIGSTOP)


def _next_signal() -> tuple[int, bool]:
    """Wait for a signal; return its number, and whether the kernel sent it, as for a key."""
    wait: Any = getattr(signal, "sigwaitinfo", None)
    if wait is None:  # macOS: what a key sends comes twice
        return signal.sigwait(_PASSED_ON), False
    info = wait(_PASSED_ON)
    return info.si_signo, info.si_code > 0


def _pump(stream: _Stream, tail: Tail, ended_fd: int) -> None:
    """Pass output on until there is no more of it, or the command has ended and all is read."""
    poll = select.poll()
    poll.register(stream.source, select.POLLIN)
    poll.register(ended_fd, select.POLLIN)
    is_lost = False
    until_s: float | None = None
    while True:
        ready = {fd for fd, _ in poll.poll(None if until_s is None else 0)}
        if until_s is None and ended_fd in ready:
            until_s = time.monotonic() + _LINGER_S
            poll.unregister(ended_fd)
        if stream.source not in ready:
            if until_s is not None:
                return
            continue
        data = _read(stream.source)
        tail.add(data)
        problem = None if is_lost else _write(stream.sink, data)
        # Who writes to a pipe that nobody reads is to hear of it. A full disk ends no pipeline.
        if not data or isinstance(problem, BrokenPipeError):
            stream.is_open = False
            os.close(stream.source)
            return
        is_lost = is_lost or problem is not None
        if until_s is not None and time.monotonic() > until_s:
            return


def _read(fd: int) -> bytes:
    try:
        return os.read(fd, _CHUNK)
    except OSError:  # so ends a pseudo-terminal
        return b""


def _write(fd: int, data: bytes) -> OSError | None:
    """Write all of it; return what went wrong."""
    rest = memoryview(data)
    while rest:
        try:
            rest = rest[os.write(fd, rest) :]
        except BlockingIOError:
            select.select([], [fd], [])
        except OSError as error:
            return error
    return None


def _leave_to_others(streams: Sequence[_Stream], mask: set[int]) -> None:
    """Let `cat` pass on what processes write that outlive the command."""
    for stream in streams:
        if stream.is_open:
            with suppress(OSError):
                subprocess.Popen(
                    ["cat"],  # noqa: S607 - wherever it is
                    stdin=stream.source,
                    stdout=stream.sink,
                    stderr=subprocess.DEVNULL,
                    start_new_session=True,
                    # The other thread waits for signals, in the kernel.
                    preexec_fn=lambda: signal.pthread_sigmask(signal.SIG_SETMASK, mask),  # noqa: PLW1509
                ).returncode = 0
            stream.is_open = False
            os.close(stream.source)
