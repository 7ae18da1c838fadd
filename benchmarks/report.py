"""Figures, the page that shows them, and the files that keep them for comparison."""

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
    """A measured ratio, or what its name says, of each round; and its bar, if it has one.

    With `is_ceiling` less is better, and the bar is the most that is allowed.
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
    """Return the figures of a file by name, each with all rounds that were measured."""
    figures: dict[str, Figure] = {}
    for line in path.read_text().splitlines():
        figure = Figure(**json.loads(line))
        before = figures.get(figure.name)
        rounds = [*(before.rounds if before else ()), *figure.rounds]
        figures[figure.name] = Figure(**{**asdict(figure), "rounds": rounds})
    return figures


def compare(before: Path, after: Path) -> str:
    """Return a table of the figures that two files have.

    A figure is worse if its median got worse by more than the width of its previous range.
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

`make bench` writes this page; do not edit it. A ratio compares two sides that handle the same
bodies on the same machine, taking turns within one run. Each figure is the median of five rounds or
more after one warm-up round. Before a figure counts, the benchmark checks that each side has stored
everything. It uses the service only from outside: through its command and over HTTP. `make bench
ARGS="R5 R8"` measures only these figures and writes nothing; `ARGS=--help` says how to compare two
checkouts. All limits are on, the counts of jobs and bytes too, and each metric has a specification
that a value breaks now and then, which opens an alert. [hot-paths.md](hot-paths.md) says where the
time goes.

- R1 ends with the last 202. The index of measurements is derived after that.
- R2 runs the service as it is by default. It also tells Kapacitor, as in R4 and R11, for which
  something stands in.
- R3 requests the root, a token and the job, one after the other, over connections that stay open.
- R4 runs the service alone, which delivers itself. Accepting is faster while InfluxDB is down: by
  how much is what delivering beside it costs. The drain rate is timed from the first batch that
  arrives; the loop of its floor checks nothing and notes nothing.
- R5 sends each job at its scheduled time, however late the replies are. The other clients run in
  their own process. The readers request all kinds of pages over 2 million measurements.
- R6 requests `/healthz` every 2 ms. A stall is how much longer than usual the slowest reply took.
  Memory is how much the process has grown after 10,000 jobs.
- R7: both records show the same amount; the front page is requested just after a job.
- R8 and R9 time whole processes, including imports. The service starts with an existing record.
- R10 sends each record of a bundle with its topic, as Rubin's dispatcher does.
- R11 runs one service as it is by default, which derives, delivers, raises alerts and watches too.
- R12 requests each report just after a job.

The other figures for pages compare two records that cover two years and show the same amount. One
has 20,000 jobs with 100 measurements each. The other has only 200 jobs, or only one metric.
Milliseconds are for whole replies: the median of rounds, each of which requests seven metrics one
after the other.

{table}

{machine()}
"""
    PAGE.write_text(page)
    return table


def machine() -> str:
    """Say when and on what it has been measured."""
    return (
        f"Measured on {datetime.now(UTC):%Y-%m-%d} with Python {platform.python_version()} on a "
        f"machine with\n{os.cpu_count()} cores ({platform.machine()}), which ran everything."
    )


def make_table(figures: Sequence[Figure]) -> str:
    return "\n".join(
        [
            "| figure | what | median | range | bar | met |",
            "| --- | --- | --- | --- | --- | --- |",
            *(figure.row() for figure in figures),
        ]
    )
