"""`squash demo`: a private service with some weeks of made-up history, to look at."""

import os
import shlex
import shutil
import sys
import time
from collections import Counter
from collections.abc import Sequence
from contextlib import ExitStack
from datetime import UTC, datetime
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Annotated

import typer

from squash_api.client import SquashClientError, Verdict
from squash_api.commands.terminal import fail, print_error, print_table, tracked
from squash_api.demo.history import History, make_history, run_id_of
from squash_api.demo.influxdb import Influx, find_influxd, given_influx, private_influxd
from squash_api.demo.processes import DemoError, Stop, Stopped, stopped_by_signals
from squash_api.demo.running import (
    RECORD,
    Judged,
    Service,
    User,
    connect,
    delivery_problems,
    find_specs,
    judge,
    register_user,
    running_service,
    send_days,
    server_of,
)
from squash_api.demo.surroundings import look_around
from squash_api.judging.kinds.registry import shown_criterion
from squash_api.judging.wording import counted, number_text

_SEED = 17
_STYLES_OF_FAILED = {"CRITICAL": "bold red", "WARNING": "red", "INFO": "yellow"}
_QUERY = 'SELECT "PA1" FROM "validate_drp" WHERE time > now() - 7d GROUP BY "filter"'


def demo(
    *,
    once: Annotated[bool, typer.Option("--once", help="Exit after printing the verdicts.")] = False,
    port: Annotated[
        int | None,
        typer.Option(
            min=0, max=65535, help="Port of the service; 0: any free one. Default: 8000 if free."
        ),
    ] = None,
    days: Annotated[int, typer.Option(min=1, max=1000, help="Days of history.")] = 60,
    specs: Annotated[
        list[Path] | None,
        typer.Option(
            help="Directory of a metrics package; may be repeated. "
            "Default: all in ./specs, and ./examples/specs/camera."
        ),
    ] = None,
) -> None:
    """Start a private service with made-up history.

    A new job is judged, and the service stays up. Everything is in a temporary directory and on
    loopback ports, and is deleted at the end. Values go to the InfluxDB of SQUASH_INFLUX_URL, else
    to a private influxd if one is on PATH.

    Exit code: 0 success, 1 something failed, 130 stopped before the verdicts.
    """
    is_good = False
    with stopped_by_signals() as stop:
        try:
            is_good = _play(once=once, port=port, days=days, specs=specs or [], stop=stop)
        except Stopped:
            typer.echo("Stopped before the end.", err=True)
            raise typer.Exit(130) from None
        except (DemoError, SquashClientError) as error:
            fail(str(error), code=1)
    raise typer.Exit(0 if is_good else 1)


def _play(*, once: bool, port: int | None, days: int, specs: Sequence[Path], stop: Stop) -> bool:
    """Run the whole demo. Whether all went well; every process has ended when this returns."""
    packages = find_specs(directory=Path.cwd(), given=specs)
    with ExitStack() as stack:
        directory = Path(stack.enter_context(TemporaryDirectory(prefix="squash-demo-")))
        influx = _open_influx(stack, directory=directory, stop=stop)
        service = stack.enter_context(
            running_service(
                directory=directory,
                port=port,
                specs=packages,
                variables=os.environ,
                influx_variables=influx.variables if influx else {},
                stop=stop,
            )
        )
        user = register_user(service)
        _show("record", f"{directory / RECORD} (deleted at the end)")
        _show("service", f"{service.url}, with {', '.join(path.name for path in packages)}")
        history = make_history(days=days, now=datetime.now(UTC), seed=_SEED)
        judged, problems = _dispatch(history, service, user, stop=stop)
        _print_verdicts(judged.verdicts)
        for problem in problems:
            print_error(problem)
        _print_places(history, judged, service=service, influx=influx)
        _show("user", f"{user.name}, with the password {user.password}")
        _print_surroundings(service, influx)
        if not once:
            _print_next_steps(history, service=service, user=user, directory=directory)
            _stay_up(service, influx, stop=stop)
    return not problems


def _open_influx(stack: ExitStack, *, directory: Path, stop: Stop) -> Influx | None:
    given = given_influx(os.environ)
    if given is not None:
        _show("InfluxDB", f"{given.url}, database {given.database} (SQUASH_INFLUX_URL)")
        return given
    program, said = find_influxd()
    if program is None:
        _show("InfluxDB", f"none: {said}; SQUASH_INFLUX_URL can name one")
        return None
    influx = stack.enter_context(private_influxd(program, directory=directory, stop=stop))
    _show("InfluxDB", f"{influx.url}, database {influx.database} (private, {said})")
    return influx


def _dispatch(
    history: History, service: Service, user: User, *, stop: Stop
) -> tuple[Judged, list[str]]:
    """Send the history and the new job; if the service has died, fail with the end of its log."""
    start = time.monotonic()
    days = f"{len(history.days)} day{'s' if len(history.days) > 1 else ''}"
    try:
        with connect(service.url, user, stop=stop) as squash:
            progress = tracked(history.days, what=f"Dispatching {days}")
            count = sum(send_days(squash, progress, stop=stop))
            _show(
                "history", f"{counted(count, 'job')} of {days} in {time.monotonic() - start:.1f} s"
            )
            judged = judge(squash, history.fresh)
        return judged, delivery_problems(service.url, judged)
    except SquashClientError:
        stop.check()
        service.child.check()
        raise


def _print_verdicts(verdicts: Sequence[Verdict]) -> None:
    rows = []
    for verdict in verdicts:
        unit, value, margin = verdict["unit"], verdict["value"], verdict["margin"]
        limit = shown_criterion(verdict, unit)
        row = (
            verdict["status"],
            verdict["specification"],
            "" if value is None else f"{value:.4g} {unit}".rstrip(),
            "" if limit is None else f"{limit.words(number_text, is_ascii=True)} {unit}".rstrip(),
            verdict["level"],
            "" if margin is None else f"{margin:+.0%}",
        )
        rows.append(row)
    typer.echo()
    columns = ("status", "specification", "value", "limit", "level", "margin")
    print_table(columns, rows, right=("value", "margin"), style=_style)
    counts = Counter(verdict["status"] for verdict in verdicts)
    shown = ", ".join(f"{counts[word]} {word}" for word in ("passed", "failed", "not measured"))
    typer.echo(f"{counted(len(verdicts), 'specification')} judged the new job: {shown}.\n")


def _style(row: Sequence[str]) -> str:
    if row[0] == "failed":
        return _STYLES_OF_FAILED[row[4]]
    return "green" if row[0] == "passed" else "dim"


def _print_places(
    history: History, judged: Judged, *, service: Service, influx: Influx | None
) -> None:
    worse = run_id_of(history.days[history.regression.start][0])
    root, job_id = service.url, judged.job_id
    _show("pages", f"{root}/")
    _show("API", f"{root}/docs")
    _show("job", f"{root}/job/{job_id}")
    _show("verdicts", f"{root}/job/{job_id}/report")
    _show("status", f"{root}/status/{job_id}")
    _show("changes", f"{root}/code_changes/{worse}  (the run in which photometry got worse)")
    if influx is not None:
        _show("InfluxDB", query_command(influx))


def _print_surroundings(service: Service, influx: Influx | None) -> None:
    """Name what was found and used, on one line, and what the demo did without, each on its own."""
    server, lacks = server_of(service.url) if influx is not None else (None, [])
    parts = list(look_around(influxdb=server, lacks=lacks, variables=os.environ))
    _show("with", "; ".join(part.words for part in parts if part.is_used))
    for part in parts:
        if not part.is_used:
            _show("without", part.words)


def query_command(influx: Influx) -> str:
    """Make a shell command that asks InfluxDB for values; it contains no password."""
    words = ["curl", "-G", f"{influx.url}/query"]
    words += ["--data-urlencode", f"db={influx.database}", "--data-urlencode", f"q={_QUERY}"]
    line = shlex.join(words)
    if "SQUASH_INFLUX_TOKEN" in influx.variables:
        return f'{line} -H "Authorization: Token $SQUASH_INFLUX_TOKEN"'
    if "SQUASH_INFLUX_USER" in influx.variables:
        return f"{line} -u {shlex.quote(influx.variables['SQUASH_INFLUX_USER'])}"
    return line


def _print_next_steps(history: History, *, service: Service, user: User, directory: Path) -> None:
    another = directory / "another.verify.json"
    history.spare.write(another)
    typer.echo("\nDispatch another job:")
    line = ["dispatch", str(another), "--url", service.url, "--user", user.name]
    typer.echo(f"  SQUASH_PASSWORD={user.password} {_own_command()} {shlex.join(line)}")
    typer.echo(f"\nCtrl-C ends it all and deletes {directory}.")


def _own_command() -> str:
    """How to call `squash` from a shell in this directory."""
    if shutil.which("squash"):
        return "squash"
    program = Path(sys.executable).with_name("squash")
    if not program.exists():
        return f"{shlex.quote(sys.executable)} -m squash_api"
    is_near = program.is_relative_to(Path.cwd())
    return shlex.quote(str(program.relative_to(Path.cwd()) if is_near else program))


def _stay_up(service: Service, influx: Influx | None, *, stop: Stop) -> None:
    """Wait for a request to stop. Raises `DemoError` if a process ends by itself."""
    children = [service.child, *([influx.child] if influx and influx.child else [])]
    try:
        while True:
            stop.pause(0.5)
            for child in children:
                child.check()
    except Stopped:
        typer.echo("\nEnding.")


def _show(what: str, text: str) -> None:
    typer.echo(f"{what:<10}{text}")
