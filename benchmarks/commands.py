"""R8, R9, R12: how long people wait for generating, starting, the help, and after a start."""

import json
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory, gettempdir

import httpx

from benchmarks.asking import HTML, JSON
from benchmarks.big_record import Size, big_service, make_jobs, metric_name
from benchmarks.checkout import ROOT, Checkout, bare_environment, make_folder
from benchmarks.many_specs import make_specs
from benchmarks.report import Figure, progress
from benchmarks.servers import (
    Server,
    echo_server,
    log_in,
    running,
    service_server,
    service_variables,
)

_ROUNDS = 7
_LONGEST_S = 120
_MANY, _FEW = 1705, 170
_STARTS = 5
# A record with something on every page.
_SMALL = Size(200, 100)
_FIRST_NEW = 1_000_000


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


def measure_first_requests(checkout: Checkout) -> list[Figure]:
    """R12: the first request of each kind, sent as soon as a start has got its first reply."""
    with TemporaryDirectory(dir=make_folder("scratch")) as folder:
        service = big_service(checkout, Path(folder, "first"), _SMALL)
        with running(service):
            token = log_in(service)
        body = next(make_jobs(_SMALL, first=_FIRST_NEW))
        kinds: dict[str, Callable[[httpx.Client], httpx.Response]] = {
            "/": lambda client: client.get("/", headers={"Accept": HTML}),
            "/metric": _ask_with_plot,
            "/report": lambda client: client.get("/report"),
            "POST /job": lambda client: client.post(
                "/job",
                content=body,
                headers={"Authorization": f"JWT {token}", "Content-Type": JSON},
            ),
        }
        found = {
            name: [_first_ms(service, ask) for _ in range(_STARTS)] for name, ask in kinds.items()
        }
    return [
        Figure(
            f"R12 first {name}",
            f"{name}: ms, the first request after a start",
            times,
            bar=200,
            is_ceiling=True,
        )
        for name, times in found.items()
    ]


def _first_ms(service: Server, ask: Callable[[httpx.Client], httpx.Response]) -> float:
    # The client is made before: that takes long.
    client = httpx.Client(base_url=service.url, trust_env=False, timeout=60)
    with client, running(service):
        started = time.perf_counter()
        reply = ask(client)
        took_ms = (time.perf_counter() - started) * 1000
        assert reply.is_success, reply.text
    progress(f"R12 first {reply.request.url.path}: {took_ms:.0f} ms")
    return took_ms


def _ask_with_plot(client: httpx.Client) -> httpx.Response:
    page = client.get(f"/metric/{metric_name(0)}", headers={"Accept": HTML})
    assert page.status_code == 200, page.text
    return client.get(f"/metric/{metric_name(0)}/plot")


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
