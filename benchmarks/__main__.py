"""Measure and write `docs/performance.md`: `python -m benchmarks`; some figures: `... R5 R8`.

Of a comparison, one run each, and as often as there is time for, by turns:

    python -m benchmarks --checkout ../old --json before.json
    python -m benchmarks --json after.json
    python -m benchmarks --compare before.json after.json

The page of figures that were measured by and by, and kept with `--json`:

    python -m benchmarks --page after.json
"""

import argparse
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path

from benchmarks import (
    acceptance,
    commands,
    crowding,
    end_to_end,
    engines,
    evenness,
    heavy,
    outage,
    pages,
    sasquatch,
    scale,
    sequence,
    ten_million,
)
from benchmarks.checkout import ROOT, Checkout
from benchmarks.report import Figure, compare, keep, kept, make_table, progress, write_page

_MEASURES: dict[str, Callable[[Checkout], list[Figure]]] = {
    "R1": acceptance.measure,
    "R2": end_to_end.measure,
    "R3": sequence.measure,
    "R4": outage.measure,
    "R5": crowding.measure,
    "R6": heavy.measure,
    "R7": ten_million.measure,
    "R8": commands.measure_generating,
    "R9": commands.measure_starting,
    "R10": sasquatch.measure,
    "R11": evenness.measure,
    "R12": lambda checkout: [
        *pages.measure_report(checkout),
        *commands.measure_first_requests(checkout),
    ],
    "P1": engines.measure,
    "pages": pages.measure,
}
# Only when they are named, since they take long.
_LONG: dict[str, Callable[[Checkout], list[Figure]]] = {
    "S": scale.measure,
    "S1": scale.measure_length,
    "S2": scale.measure_series,
    "S3": scale.measure_watch,
}


def main() -> None:
    arguments = _arguments()
    if arguments.compare:
        print(compare(*arguments.compare))
        return
    if arguments.page:
        print(write_page([*kept(arguments.page).values()]))
        return
    # Ending this process by its id ends the servers that it has started, too.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    checkout = Checkout(arguments.checkout.resolve())
    figures: list[Figure] = []
    for name in arguments.figures or _MEASURES:
        started = time.perf_counter()
        measured = {**_MEASURES, **_LONG}[name](checkout)
        progress(f"{name} took {time.perf_counter() - started:.0f} s")
        figures += measured
        if arguments.json:
            keep(measured, arguments.json)
    is_all = not arguments.figures and not arguments.json and checkout.root == ROOT
    print(write_page(figures) if is_all else make_table(figures))


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks", description="Without arguments, writes docs/performance.md."
    )
    parser.add_argument(
        "figures", nargs="*", metavar="FIGURE", help=", ".join([*_MEASURES, *_LONG])
    )
    parser.add_argument(
        "--checkout", type=Path, default=ROOT, help="folder whose code is measured, with its .venv"
    )
    parser.add_argument("--json", type=Path, metavar="FILE", help="append the figures as JSON")
    parser.add_argument(
        "--compare", type=Path, nargs=2, metavar="FILE", help="show kept figures before and after"
    )
    parser.add_argument("--page", type=Path, metavar="FILE", help="write the page of kept figures")
    arguments = parser.parse_args()
    if unknown := set(arguments.figures) - _MEASURES.keys() - _LONG.keys():
        parser.error(f"no such figure: {', '.join(sorted(unknown))}")
    return arguments


main()
