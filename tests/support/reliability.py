"""What `make soak` runs, and the page that it writes: `python -m tests.support.reliability`.

Some rows: `... kills drain`. What was measured may be kept and added up, here in two runs:

    python -m tests.support.reliability --keep figures.jsonl kills
    python -m tests.support.reliability --keep figures.jsonl faults drain
    python -m tests.support.reliability --page figures.jsonl
"""

import argparse
import json
import os
import platform
import re
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

FIGURES = "SQUASH_TEST_FIGURES"
SEED = "SQUASH_TEST_SEED"
ENGINES = "SQUASH_TEST_ENGINES"
"""If set, all tests that touch a record run on every engine."""

_ROOT = Path(__file__).parents[2]
_PAGE = _ROOT / "docs" / "reliability.md"
_PERFORMANCE = _ROOT / "docs" / "performance.md"

_Notes = Sequence[Mapping[str, Any]]


def note(name: str, **figures: Any) -> None:
    """Add figures of a test to the file that `make soak` reads, if it runs."""
    file = os.environ.get(FIGURES)
    if file:
        with Path(file).open("a") as lines:
            lines.write(json.dumps({"name": name, **figures}) + "\n")


@dataclass(frozen=True)
class Row:
    """A row of the page: what is done to the service, by which tests, and what came of it.

    `shown` makes the words from what the tests noted under `names`, by default the row's name.
    `variables` turn the tests' short form into the long one.
    """

    what: str
    tests: Sequence[str]
    shown: Callable[[_Notes], str]
    variables: Mapping[str, str] = field(default_factory=dict)
    names: Sequence[str] = ()

    def command(self) -> str:
        """The command that makes it, as one types it; the environment may say otherwise."""
        names = {**self.variables, **{name: "" for name in (SEED,) if name in os.environ}}
        words = [f"{name}={os.environ.get(name, value)}" for name, value in names.items()]
        return " ".join([*words, ".venv/bin/pytest", *self.tests])


def _total(notes: _Notes, key: str) -> int:
    return sum(item[key] for item in notes)


def _kills(notes: _Notes) -> str:
    return (
        f"{_total(notes, 'kills')} kills, {_total(notes, 'jobs')} jobs answered with 202; "
        f"lost {_total(notes, 'lost')}, double {_total(notes, 'double')}"
    )


def _drain(notes: _Notes) -> str:
    longest = max(notes, key=lambda item: item["jobs"])
    rate = longest["jobs"] / max(longest["seconds"], 0.1)
    return (
        f"{longest['jobs']} jobs that InfluxDB had missed were sent in {longest['seconds']:g} s, "
        f"{rate:.0f} jobs/s; lost {_total(notes, 'lost')}, double {_total(notes, 'double')}"
    )


def _histories(notes: _Notes) -> str:
    return f"{len(notes)} histories; states that differ 0"


def _hostile(notes: _Notes) -> str:
    by_status: Counter[str] = Counter()
    for item in notes:
        by_status.update(item["by_status"])
    worse = sum(count for status, count in by_status.items() if status.startswith("5"))
    return f"{by_status.total()} requests; answered with 5xx: {worse}"


def _faults(notes: _Notes) -> str:
    return (
        f"{len(notes)} outages with {_total(notes, 'jobs')} jobs; lost 0, double 0, out of order 0"
    )


def _replicas(notes: _Notes) -> str:
    return (
        f"{_total(notes, 'jobs')} jobs answered with 200 or 202, each once in the record, in what "
        f"both show and in InfluxDB; answered with 5xx: {_total(notes, 'errors')}; told that the "
        f"other held the lock for two seconds: {_total(notes, 'waits')}"
    )


def _postgresql(notes: _Notes) -> str:
    return f"{_total(notes, 'jobs')} jobs answered with 202 meanwhile; lost 0, double 0"


def _engines(notes: _Notes) -> str:
    return f"{_total(notes, 'tests')} tests passed"


def _damages(notes: _Notes) -> str:
    return f"{_total(notes, 'damages')} times; afterwards equal to a refill each time"


ROWS: Mapping[str, Row] = {
    "kills": Row(
        "SIGKILL of the service, or of `squash deliver`, at any moment or right before or after a "
        "write to InfluxDB, while 12 clients post; every 202 is compared with the record, with "
        "InfluxDB and with what Kapacitor was told, the order too",
        ("tests/integration/test_kills.py",),
        _kills,
        {"SQUASH_TEST_KILLS": "500", "SQUASH_TEST_REPLICA_KILLS": "0"},
    ),
    "replica kills": Row(
        "SIGKILL of one of three services or three `squash deliver` on one PostgreSQL, at any "
        "moment or right before or after a write to InfluxDB, while 16 clients post; compared as "
        "above",
        ("tests/integration/test_kills.py",),
        _kills,
        {"SQUASH_TEST_KILLS": "0", "SQUASH_TEST_REPLICA_KILLS": "100"},
    ),
    "replicas": Row(
        "Two services on one PostgreSQL, started on it while it is empty; 16 clients send both "
        "jobs of one date, the same jobs, and the same new metrics and definitions at once",
        ("tests/integration/test_postgresql_replicas.py",),
        _replicas,
        {"SQUASH_TEST_REPLICA_JOBS": "10000"},
    ),
    "postgresql": Row(
        "PostgreSQL is restarted, crashes, ends connections (at a COMMIT too), takes no more of "
        "them, is a standby that is promoted, is read-only, has a full disk; a process hangs in "
        "the middle of a transaction",
        ("tests/integration/test_postgresql_faults.py",),
        _postgresql,
    ),
    "engines": Row(
        "Tests of pages, routes, reports, commands and of the way to InfluxDB, which `make test` "
        "runs with SQLite, with a record in PostgreSQL",
        ("-m", "later"),
        _engines,
        {ENGINES: "all"},
    ),
    "faults": Row(
        "InfluxDB and Kapacitor refuse, hang, reset, trickle, are full, answer 500 after they did "
        "it, redirect, are another server; rights revoked, password changed, user, database or "
        "retention policy dropped while jobs arrive",
        ("tests/integration/test_faults.py",),
        _faults,
    ),
    "drain": Row(
        "An outage ends while jobs wait, and the service is stopped in the middle of sending them",
        ("tests/integration/test_graceful_stop.py",),
        _drain,
        {"SQUASH_TEST_QUEUED": "20000"},
    ),
    "hostile": Row(
        "Made-up requests of every route, by everybody, from docs/openapi.json (schemathesis), and "
        "made-up bodies of jobs, in the process and over connections that misbehave",
        (
            "tests/test_any_request.py",
            "tests/test_any_document.py",
            "tests/test_any_history.py",
            "tests/integration/test_hostile_documents.py",
        ),
        _hostile,
        {"SQUASH_TEST_FUZZ": "40"},
        names=("requests", "bodies of jobs", "bodies over connections"),
    ),
    "damages": Row(
        "Points deleted, altered and added in InfluxDB behind the service's back, then "
        "`squash reconcile`",
        ("tests/integration/test_refill_is_live.py",),
        _damages,
        {"SQUASH_TEST_DAMAGES": "20"},
    ),
    "histories": Row(
        "Random histories of jobs: late, corrected, deleted, with restarts of everything. What "
        "Kapacitor knows, with a stand-in and with the real one, and the alerts of the record, are "
        "compared with the newest values",
        (
            "tests/alerts/test_histories.py",
            "tests/alerts/test_runs.py",
            "tests/delivery/test_kapacitor_states.py",
            "tests/integration/test_kapacitor_outlet.py",
        ),
        _histories,
        {"SQUASH_TEST_HISTORIES": "200"},
    ),
}
"""What is run, by name. Another one is a line; its tests call `note` with its name."""

_CUT = """\
| what | in `make test` | in `make soak` | why |
|---|---|---|---|
| tests of pages, routes, reports, commands, delivery | SQLite | PostgreSQL too | minutes |
| kills | 20 | 500 | each takes a start of the service, about 2 s |
| kills of one of three services and three `squash deliver` | 6 | 100 | the same |
| jobs at two replicas at once | 240 | 10,000 | some minutes |
| jobs that wait | 10,000 | 20,000 | storing and sending them takes a minute |
| histories of jobs | 15 | 1,200 | an hour or two |
| made-up requests and bodies | a few of each route | 40 times as many | half an hour |
| damages to InfluxDB | 2 histories | 20 histories | a quarter of an hour |
"""


def main() -> None:
    """Run rows, and write the page if all were run."""
    arguments = _arguments()
    if arguments.page:
        _write_page(_read(arguments.page))
        return
    kept: Path = arguments.keep or _ROOT / "build" / "reliability.jsonl"
    kept.parent.mkdir(exist_ok=True)
    if not arguments.keep:
        kept.unlink(missing_ok=True)
    results = [_run(name, kept) for name in arguments.rows or ROWS]
    is_good = all(results)
    notes = _read(kept)
    if not arguments.rows and is_good:
        _write_page(notes)
    sys.stdout.write(f"{_table(notes)}\n")
    sys.exit(0 if is_good else 1)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m tests.support.reliability",
        description="Without arguments, runs everything and writes docs/reliability.md.",
    )
    parser.add_argument("rows", nargs="*", metavar="ROW", help=", ".join(ROWS))
    parser.add_argument("--keep", type=Path, metavar="FILE", help="add what is measured to a file")
    parser.add_argument("--page", type=Path, metavar="FILE", help="write the page from a file")
    arguments = parser.parse_args()
    if unknown := set(arguments.rows) - ROWS.keys():
        parser.error(f"no such row: {', '.join(sorted(unknown))}")
    return arguments


def _run(name: str, kept: Path) -> bool:
    """Run the tests of a row; return whether all passed."""
    row = ROWS[name]
    sys.stderr.write(f"== {row.command()}\n")
    began = time.monotonic()
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-n", "2", "--dist", "loadfile", *row.tests],
        cwd=_ROOT,
        env={**row.variables, **os.environ, FIGURES: str(kept)},
        check=False,
    )
    if done.returncode == 0:
        with kept.open("a") as lines:
            lines.write(json.dumps({"name": f"{name} command", "text": row.command()}) + "\n")
    sys.stderr.write(f"{name} took {time.monotonic() - began:.0f} s\n")
    return done.returncode == 0


def _read(file: Path) -> dict[str, list[Mapping[str, Any]]]:
    notes: dict[str, list[Mapping[str, Any]]] = {}
    for line in file.read_text().splitlines():
        item = json.loads(line)
        notes.setdefault(item["name"], []).append(item)
    return notes


def _table(notes: Mapping[str, _Notes]) -> str:
    rows = []
    for name, row in ROWS.items():
        commands = dict.fromkeys(item["text"] for item in notes.get(f"{name} command", ()))
        if commands:
            typed = "<br>".join(f"`{text}`" for text in commands)
            found = [item for key in row.names or (name,) for item in notes.get(key, ())]
            rows.append(f"| {row.what} | {row.shown(found)} | {typed} |")
    return "\n".join(["| what was done | what came of it | command |", "|---|---|---|", *rows])


def _shares() -> Iterable[str]:
    """Yield what other clients do to the p99, as `make bench` has measured it."""
    text = _PERFORMANCE.read_text("utf-8")
    for meaning, value in re.findall(r"^\| R5 [^|]*\| ([^|]*) \| ([^|]*) \|", text, re.MULTILINE):
        yield f"| {meaning} | {value} | `make bench ARGS=R5` |"


def _write_page(notes: Mapping[str, _Notes]) -> None:
    shares = "\n".join(_shares())
    _PAGE.write_text(f"""# Reliability

`make soak` writes this page; do not edit it. It runs the long forms of tests that `make test` runs
in a short form. The parts are real: the service, InfluxDB, Kapacitor and the network between them.
Where a real server cannot be made to fail, a proxy in front of it does. Only a row that says so has
a stand-in for Kapacitor, which records what it is told, as the one of the kills does. Chance begins
from seeds, which a failed test prints.

{_table(notes)}

How much other clients slow down `POST /job` (the 99th percentile of its time) is measured by `make
bench`; [performance.md](performance.md) says how:

| with / without | ratio | command |
|---|---|---|
{shares}

What `make test` leaves to `make soak`:

{_CUT}
Measured on {datetime.now(UTC):%Y-%m-%d} with Python {platform.python_version()} on a machine with \
{os.cpu_count()} cores ({platform.machine()}), which ran everything and other work beside it.
""")


if __name__ == "__main__":
    main()
