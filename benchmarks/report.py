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

Written by `make bench`; do not edit. Ratios within one run, both sides with the same bodies, on the
same machine at the same time, taking turns; medians of five rounds (R1 and R4: nine) after one that
warms up. What either side has stored is counted before a figure is taken. The load comes from one
process beside the servers. R1 ends with the last 202; the index of measurements is derived after
that. R2 runs `squash serve` with `SQUASH_DELIVER=off` and `squash deliver` beside it; R4 one
process that delivers inline; its drain rate is timed from the first batch that arrives.

The figures of pages are over records of two years: one of 20,000 jobs with 100 measurements each,
and beside it one with 200 jobs, or with one metric, so that both sides show as much. Milliseconds
are of whole replies, medians of rounds of which each asks for seven metrics, one after the other.

{table}

Measured on {datetime.now(UTC):%Y-%m-%d} with Python {platform.python_version()}, \
{os.cpu_count()} cores ({platform.machine()}), all of it on these.
"""
    PAGE.write_text(page)
    return table
