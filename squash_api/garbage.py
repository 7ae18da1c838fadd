"""Python's search for cycles, kept rare: what jobs are made of has none."""

import gc


def spare_cycle_search() -> None:
    """Search for cycles seldom, and never among what the libraries have made by now.

    A job is hundreds of objects, all without cycles, and many jobs are in hand at once. With the
    defaults the search takes a third of the time of taking a job in, and more of delivering it
    (`benchmarks/`).
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(50_000, 20, 100)
