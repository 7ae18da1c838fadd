"""R8 and R9: how long people wait at a terminal for generating, starting and the help."""

import json
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory, gettempdir

from benchmarks.checkout import ROOT, Checkout, bare_environment
from benchmarks.many_specs import make_specs
from benchmarks.report import Figure, progress
from benchmarks.servers import echo_server, running, service_server, service_variables

_ROUNDS = 7
_LONGEST_S = 120
_MANY, _FEW = 1705, 170


def measure_generating(checkout: Checkout) -> list[Figure]:
    with TemporaryDirectory() as name:
        folder = Path(name)
        for count in (_MANY, _FEW):
            make_specs(folder / str(count), count)
            _check_specs(checkout, folder / str(count), count)
        ratios = []
        for number in range(_ROUNDS + 1):
            many, few = (
                _seconds(
                    [
                        str(checkout.squash),
                        "generate",
                        f"--specs={folder / str(count)}",
                        # A new directory, so that all files must be written.
                        f"--output={folder / f'output_{count}_{number}'}",
                    ],
                    checkout.environment,
                )
                for count in (_MANY, _FEW)
            )
            # The first round warms the disk up.
            if number:
                ratios.append(many / few)
                assert _tasks(folder / f"output_{_MANY}_{number}") > 9 * _tasks(
                    folder / f"output_{_FEW}_{number}"
                )
                progress(f"R8 round {number}: {many:.2f} / {few:.2f} s")
    return [
        Figure(
            "R8",
            f"`squash generate` of {_MANY:,} specifications / of {_FEW}",
            ratios,
            bar=8,
            is_ceiling=True,
        )
    ]


def _tasks(output: Path) -> int:
    return sum(1 for _ in output.rglob("*.tick"))


def _check_specs(checkout: Checkout, specs: Path, count: int) -> None:
    listed = subprocess.run(
        [str(checkout.squash), "specs", "list", "--json", str(specs)],
        env=checkout.environment,
        stdout=subprocess.PIPE,
        check=True,
        timeout=_LONGEST_S,
    )
    assert len(json.loads(listed.stdout)) == count


def measure_starting(checkout: Checkout) -> list[Figure]:
    return [_start(checkout), _help(checkout)]


def _start(checkout: Checkout) -> Figure:
    ratios = []
    with TemporaryDirectory() as folder:
        service = service_server(
            checkout, service_variables(Path(folder), influx=None, deliver="off")
        )
        bare = echo_server()
        # The first round makes the record.
        for number in range(_ROUNDS + 1):
            seconds = []
            for server in (service, bare):
                with running(server):
                    seconds.append(server.answered_s)
            if number:
                ours, theirs = seconds
                ratios.append(ours / theirs)
                progress(f"R9 start round {number}: {ours:.2f} / {theirs:.2f} s")
    return Figure(
        "R9 start",
        "start of the service to the first reply / of a bare FastAPI and uvicorn program",
        ratios,
        bar=2,
        is_ceiling=True,
    )


def _help(checkout: Checkout) -> Figure:
    ratios = []
    for number in range(_ROUNDS + 1):
        ours = _seconds([str(checkout.squash), "--help"], checkout.environment)
        theirs = _seconds(
            [sys.executable, str(ROOT / "benchmarks" / "bare_command.py"), "--help"],
            bare_environment(),
        )
        if number:
            ratios.append(ours / theirs)
            progress(f"R9 help round {number}: {ours:.2f} / {theirs:.2f} s")
    return Figure(
        "R9 help",
        "`squash --help` / the same of a bare typer program",
        ratios,
        bar=1.3,
        is_ceiling=True,
    )


def _seconds(command: Sequence[str], environment: Mapping[str, str]) -> float:
    started = time.perf_counter()
    # A pipe, since without one the end is polled for in steps of up to 50 ms.
    subprocess.run(
        command,
        cwd=gettempdir(),
        env=environment,
        stdout=subprocess.PIPE,
        check=True,
        timeout=_LONGEST_S,
    )
    return time.perf_counter() - started
