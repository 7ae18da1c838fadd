"""How Python itself is set: a rare search for cycles, and short turns for threads."""

import gc
import sys

_TURN_S = 0.001


def spare_cycle_search() -> None:
    """Search for cycles seldom, and never among what the libraries have made by now.

    A job is hundreds of objects, all without cycles, and many jobs are in hand at once. With the
    defaults the search takes a third of the time of taking a job in, and more of delivering it
    (`benchmarks/`).
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(50_000, 20, 100)


def take_short_turns() -> None:
    """Let a thread that waits for the interpreter have it sooner than by default, which is 5 ms.

    A group of jobs is on the disk in half of that, and the writer has to tell who waits for it. So
    do requests, and replies of InfluxDB, while points are made (`benchmarks/`).
    """
    sys.setswitchinterval(_TURN_S)
