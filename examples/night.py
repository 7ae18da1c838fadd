"""An app on a night's data: one HTML page with a plot of each metric, from a running service.

    python examples/night.py http://localhost:8000 --since 1d --output night.html

The page is one file that loads nothing; mail it, or serve it anywhere. Change `panel` to show what
your night needs. Source: the first training piece of FAFF, the Rubin task force on first-look
analysis: an app of one's own on the data of a night.
"""

import argparse
import sys
from collections.abc import Iterable, Iterator
from html import escape
from pathlib import Path
from typing import Any
from urllib.parse import quote

from squash_api.client import Squash, SquashClientError

WIDTH, HEIGHT, EDGE = 640, 200, 12
STYLE = (
    "body{font:16px sans-serif;margin:2rem auto;padding:0 1rem;max-width:42rem}"
    "svg{width:100%;background:#f4f6f8}a{color:#0b57a4}"
    "polyline{fill:none;stroke:#9db4c8}circle{fill:#0b57a4}"
)


def main() -> None:
    """Write the page, and say where it is."""
    parser = argparse.ArgumentParser(description="Make a page of a night's measurements.")
    parser.add_argument("url", help="root of the service, such as http://localhost:8000")
    parser.add_argument("--since", default="1d", help="a date, or how long ago (default: 1d)")
    parser.add_argument("--metric", action="append", default=[], help="may be repeated")
    parser.add_argument("--output", type=Path, default=Path("night.html"))
    given = parser.parse_args()
    try:
        table = Squash(given.url).measurements(given.metric, since=given.since)
    except SquashClientError as error:
        sys.exit(f"night.py: {error}")
    given.output.write_text(page(table, url=given.url, since=given.since), encoding="utf-8")
    print(f"{len(table)} values of {len(set(table['metric']))} metrics: {given.output}")


def page(table: Any, *, url: str, since: str) -> str:
    """Make the page of a table of measurements, with a panel for each metric."""
    metrics = sorted(set(table["metric"]))
    panels = [panel(name, table[table["metric"] == name], url=url) for name in metrics]
    title = f"Since {escape(since)}: {len(table)} values"
    return (
        '<!DOCTYPE html>\n<html lang="en">\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width">\n'
        f"<title>{title}</title>\n<style>{STYLE}</style>\n<h1>{title}</h1>\n"
        + ("\n".join(panels) or "<p>Nothing was measured.</p>")
        + "\n</html>\n"
    )


def panel(metric: str, rows: Any, *, url: str) -> str:
    """Draw the values of a metric over time; each point links to its job."""
    values = [float(getattr(value, "value", value)) for value in rows["value"]]
    times = [int(time.astype("int64")) for time in rows["time"]]
    unit = str(rows["unit"][0])
    points = list(zip(scaled(times, WIDTH), scaled(values, -HEIGHT), strict=True))
    line = " ".join(f"{x:.1f},{y:.1f}" for x, y in points)
    dots = "".join(
        f'<a href="{escape(url.rstrip("/"))}/job/{job}"><circle cx="{x:.1f}" cy="{y:.1f}" r="4">'
        f"<title>{value:g} {escape(unit)}, job {job}</title></circle></a>"
        for (x, y), value, job in zip(points, values, rows["job"], strict=True)
    )
    link = f"{escape(url.rstrip('/'))}/metric/{quote(metric, safe='')}"
    return (
        f'<h2><a href="{link}">{escape(metric)}</a></h2>\n'
        f"<p>{len(values)} values, from {min(values):g} to {max(values):g} {escape(unit)}</p>\n"
        f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{escape(metric)} over time">'
        f'<polyline points="{line}"/>{dots}</svg>'
    )


def scaled(numbers: Iterable[float], length: int) -> Iterator[float]:
    """Spread numbers over a length in pixels; over a negative one from its far end."""
    found = list(numbers)
    low, span = min(found), (max(found) - min(found)) or 1
    for number in found:
        part = (number - low) / span
        share = part if length > 0 else 1 - part
        yield EDGE + share * (abs(length) - 2 * EDGE)


if __name__ == "__main__":
    main()
