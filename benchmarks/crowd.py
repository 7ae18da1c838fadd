"""Clients in addition to those that are timed, in a separate process that never pauses.

It reads what to do as JSON from its standard input and prints the number of replies by status.
"""

import json
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import count

from benchmarks.checkout import ROOT, bare_environment
from benchmarks.load import Script, run_scripts

# Replies until the measurement begins.
_SETTLES_S = 1.0
_LONGEST_S = 120


@contextmanager
def crowd(
    port: int, requests: Sequence[bytes], *, connections: int, seconds: float
) -> Iterator[dict[int, int]]:
    """Let clients send these requests in a loop; they have begun when the context is entered.

    How many replies of each status they had is in the dictionary at the end.
    """
    statuses: dict[int, int] = {}
    orders = {
        "port": port,
        "connections": connections,
        "seconds": seconds + _SETTLES_S,
        "requests": [request.decode() for request in requests],
    }
    with subprocess.Popen(
        [sys.executable, "-m", "benchmarks.crowd"],
        cwd=ROOT,
        env={**bare_environment(), "PYTHONPATH": str(ROOT)},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        try:
            process.stdin.write(json.dumps(orders))
            process.stdin.close()
            process.stdout.readline()
            time.sleep(_SETTLES_S)
            yield statuses
            found = json.loads(process.stdout.read())
            statuses.update({int(status): number for status, number in found.items()})
        finally:
            process.kill()


def _ask(port: int, connections: int, seconds: float, requests: list[str]) -> dict[int, int]:
    encoded = [request.encode() for request in requests]
    numbers = count()
    until = time.monotonic() + min(seconds, _LONGEST_S)

    def script() -> Script:
        while time.monotonic() < until:
            yield encoded[next(numbers) % len(encoded)]

    return run_scripts(port, [script() for _ in range(connections)]).statuses


if __name__ == "__main__":
    ordered = json.load(sys.stdin)
    print("begun", flush=True)
    print(json.dumps(_ask(**ordered)), flush=True)
