"""Settings of Python for processes with much to do."""

import gc
import sys

_TURN_S = 0.001


def spare_cycle_search() -> None:
    """Collect garbage rarely, and never among the objects that exist now.

    A job is hundreds of objects without cycles, and many jobs are handled at once. With the
    defaults, collecting takes a third of the time of accepting a job, and more of delivering it
    (`benchmarks/`).
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(50_000, 20, 100)


def take_short_turns() -> None:
    """Let threads take turns at the interpreter after less than the default of 5 ms.

    A group of jobs is on disk in half of that, and its writer must then answer those who wait. So
    must requests and replies of InfluxDB while points are made (`benchmarks/`).
    """
    sys.setswitchinterval(_TURN_S)
