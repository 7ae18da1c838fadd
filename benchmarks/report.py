"""Figures, and the page they are written to."""

import os
import platform
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

PAGE = Path(__file__).resolve().parent.parent / "docs" / "performance.md"


@dataclass(frozen=True)
class Figure:
    """A measured ratio, or what its name says, and its bar, if it has one.

    `is_ceiling`: the bar is not to be passed upwards.
    """

    name: str
    meaning: str
    value: float
    bar: float | None
    spread: tuple[float, float] | None = None
    is_ceiling: bool = False

    @property
    def is_met(self) -> bool | None:
        if self.bar is None:
            return None
        return self.value <= self.bar if self.is_ceiling else self.value >= self.bar

    def row(self) -> str:
        spread = "" if self.spread is None else " to ".join(map(_shown, self.spread))
        value = _shown(self.value) if self.spread else f"{self.value:.0f}"
        bar = "" if self.bar is None else f"{self.bar:g}"
        met = {True: "yes", False: "no", None: ""}[self.is_met]
        return f"| {self.name} | {self.meaning} | {value} | {spread} | {bar} | {met} |"


def _shown(value: float) -> str:
    return f"{value:.2f}" if abs(value) < 10 else f"{value:.0f}"


def progress(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def write_page(figures: Sequence[Figure]) -> str:
    """Write the figures to `docs/performance.md` and return the table."""
    table = "\n".join(
        [
            "| figure | what | median | range | bar | met |",
            "| --- | --- | --- | --- | --- | --- |",
            *(figure.row() for figure in figures),
        ]
    )
    page = f"""# Performance

`make bench` writes this page; do not edit it. A ratio compares two sides that handle the same
bodies on the same machine, taking turns within one run. Each figure is the median of five rounds
(R1 and R4: nine) after one warm-up round. Before a figure counts, the benchmark checks that each
side has stored everything. One process next to the servers makes the load.

- R1 ends with the last 202. The index of measurements is derived after that.
- R2 runs `squash serve` with `SQUASH_DELIVER=off`, and `squash deliver` next to it.
- R4 runs one process that delivers inline. Its drain rate is timed from the first batch that
  arrives.

The figures for pages compare two records that cover two years and show the same amount. One has
20,000 jobs with 100 measurements each. The other has only 200 jobs, or only one metric.
Milliseconds are for whole replies: the median of rounds, each of which requests seven metrics one
after the other.

{table}

Measured on {datetime.now(UTC):%Y-%m-%d} with Python {platform.python_version()} on a machine with \
{os.cpu_count()} cores ({platform.machine()}), which ran everything.
"""
    PAGE.write_text(page)
    return table
