"""Measure and write `docs/performance.md`: `python -m benchmarks [R1] [R2] [R4] [pages]`."""

import sys

from benchmarks import acceptance, end_to_end, outage, pages
from benchmarks.report import write_page

_MEASURES = {
    "R1": lambda: [acceptance.measure()],
    "R2": end_to_end.measure,
    "R4": outage.measure,
    "pages": pages.measure,
}


def main() -> None:
    chosen = sys.argv[1:] or list(_MEASURES)
    figures = [figure for name in chosen for figure in _MEASURES[name]()]
    if len(chosen) == len(_MEASURES):
        print(write_page(figures))
    else:
        print(*(figure.row() for figure in figures), sep="\n")


main()
