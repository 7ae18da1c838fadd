"""Figures, the page they are written to, and the files they are kept in to be compared."""

import json
import os
import platform
import sys
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from statistics import median

from benchmarks.checkout import ROOT

PAGE = ROOT / "docs" / "performance.md"


@dataclass(frozen=True)
class Figure:
    """A measured ratio, or what its name says: what each round gave, and its bar, if it has one.

    `is_ceiling`: the less the better; the bar is not to be passed upwards.
    """

    name: str
    meaning: str
    rounds: Sequence[float]
    bar: float | None
    is_ceiling: bool = False

    @property
    def value(self) -> float:
        return median(self.rounds)

    @property
    def spread(self) -> tuple[float, float]:
        return min(self.rounds), max(self.rounds)

    @property
    def is_met(self) -> bool | None:
        if self.bar is None:
            return None
        return self.value <= self.bar if self.is_ceiling else self.value >= self.bar

    def row(self) -> str:
        has_spread = len(self.rounds) > 1
        spread = " to ".join(map(_shown, self.spread)) if has_spread else ""
        value = _shown(self.value) if has_spread else f"{self.value:.0f}"
        bar = "" if self.bar is None else f"{self.bar:g}"
        met = {True: "yes", False: "no", None: ""}[self.is_met]
        return f"| {self.name} | {self.meaning} | {value} | {spread} | {bar} | {met} |"


def _shown(value: float) -> str:
    return f"{value:.2f}" if abs(value) < 10 else f"{value:.0f}"


def progress(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def keep(figures: Iterable[Figure], path: Path) -> None:
    """Append figures to a file, one per line, as JSON."""
    with path.open("a") as file:
        file.writelines(f"{json.dumps(asdict(figure))}\n" for figure in figures)


def kept(path: Path) -> dict[str, Figure]:
    """Return the figures of a file by name; of one that was measured again, all rounds."""
    figures: dict[str, Figure] = {}
    for line in path.read_text().splitlines():
        figure = Figure(**json.loads(line))
        before = figures.get(figure.name)
        rounds = [*(before.rounds if before else ()), *figure.rounds]
        figures[figure.name] = Figure(**{**asdict(figure), "rounds": rounds})
    return figures


def compare(before: Path, after: Path) -> str:
    """Return a table of the figures that two files have.

    Worse is a figure whose median went the wrong way by more than its range was wide before.
    """
    old, new = kept(before), kept(after)
    rows = [_compared(old[name], new[name]) for name in old if name in new]
    return "\n".join(
        [
            "| figure | before | range | after | range | worse by more than its range |",
            "| --- | --- | --- | --- | --- | --- |",
            *rows,
        ]
    )


def _compared(old: Figure, new: Figure) -> str:
    by = new.value - old.value if new.is_ceiling else old.value - new.value
    width = old.spread[1] - old.spread[0]
    cells = [
        old.name,
        *(
            text
            for figure in (old, new)
            for text in (_shown(figure.value), " to ".join(map(_shown, figure.spread)))
        ),
        "yes" if by > width else "no",
    ]
    return f"| {' | '.join(cells)} |"


def write_page(figures: Sequence[Figure]) -> str:
    """Write the figures to `docs/performance.md` and return the table."""
    table = make_table(figures)
    page = f"""# Performance

Written by `make bench`; do not edit. Ratios within one run, both sides with the same bodies, on the
same machine at the same time, taking turns; medians of five rounds or more after one that warms up.
What either side has stored is counted before a figure is taken. The service is reached from outside
alone: by its command and over HTTP. `make bench ARGS="R5 R8"` measures some of the figures and
writes nothing; `--help` says how two checkouts are compared.

- R1 ends with the last 202; the index of measurements is derived after that.
- R2 runs `squash serve` with `SQUASH_DELIVER=off` and `squash deliver` beside it.
- R3 asks for the root, a token and the job, one after the other, over connections that stay open.
- R4 is one process that delivers inline; its drain rate is timed from the first batch that arrives.
- R5 sends each job at its time, however late the replies are; the others are in a process of their
  own. The readers ask for all kinds of pages over 2 million measurements.
- R6: a stall is how much longer than usual the longest of the replies to `/healthz` took, asked for
  every 2 ms; memory is what the process has more of after 10,000 jobs than before.
- R7: both sides show as much; the front page is asked for just after a job.
- R8 and R9 are whole processes, imports and all. The service starts with a record that is there.

The other figures of pages are over records of two years: one of 20,000 jobs with 100 measurements
each, and beside it one with 200 jobs, or with one metric, so that both sides show as much.
Milliseconds are of whole replies, medians of rounds of which each asks for seven metrics, one after
the other.

{table}

Measured on {datetime.now(UTC):%Y-%m-%d} with Python {platform.python_version()}, \
{os.cpu_count()} cores ({platform.machine()}), all of it on these.
"""
    PAGE.write_text(page)
    return table


def make_table(figures: Sequence[Figure]) -> str:
    return "\n".join(
        [
            "| figure | what | median | range | bar | met |",
            "| --- | --- | --- | --- | --- | --- |",
            *(figure.row() for figure in figures),
        ]
    )
