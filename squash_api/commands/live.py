"""`squash live`: running Kapacitors, Chronografs and Grafanas, compared with specifications."""

from collections.abc import Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import asdict
from typing import Annotated, Any

import typer

from squash_api.commands.generate import Inputs, with_inputs
from squash_api.commands.specs import limit_text
from squash_api.commands.terminal import AsJson, fail, options_as, print_json, print_table
from squash_api.generate.comparison import Comparison, Step, compare, server_of
from squash_api.generate.comparison import push as push_all
from squash_api.generate.files import FilesError, task_of
from squash_api.generate.kapacitor.hand_changes import HandChange, hand_changes, metric_alone
from squash_api.generate.kapacitor.server import Task
from squash_api.generate.outputs import SERVED
from squash_api.generate.servers import Server, ServerError, UnreachableError
from squash_api.influx.client import InfluxClient, InfluxError
from squash_api.influx.reading import subscriptions
from squash_api.judging.wording import counted
from squash_api.metrics_packages.loading import MetricsPackage, resolve_packages
from squash_api.metrics_packages.resolution import Resolved
from squash_api.settings import load_settings

Servers = Mapping[str, Server]
"""Running servers, by the name of their output."""


def _variable(setting: str) -> str:
    return f"SQUASH_{setting.upper()}"


_with_servers = options_as(
    "urls",
    {
        output.name: Annotated[
            str | None,
            typer.Option(f"--{output.name}", help=f"Instead of {_variable(output.setting)}."),
        ]
        for output in SERVED
    },
)


@_with_servers
@with_inputs
def diff(
    *,
    urls: Mapping[str, str | None],
    inputs: Inputs,
    as_json: AsJson = False,
) -> None:
    """Compare servers with what the specifications ask for.

    The committed files and the servers are each compared with what is generated now; tasks,
    handlers, dashboards and Grafana's alerting that differ are listed. For a threshold that was
    changed on the server the YAML that adopts it is shown. A server without a URL is not asked. A
    note says whether Kapacitor subscribes to an InfluxDB, and whether Grafana lacks the data
    source.

    Exit code: 0 no differences, 1 something differs, 2 a server cannot be reached.
    """
    with _connected(urls) as servers:
        comparison = _compare(inputs, servers)
        found = [note for server in servers.values() for note in server.notes()]
        notes = [f"{note.what}: {note.advice}" for note in found]
    for note in (*notes, *_subscription_notes()):
        typer.echo(f"note: {note}", err=True)
    adoptions = _adoptions(inputs, comparison)
    if as_json:
        differences = [asdict(item) for item in comparison.differences]
        print_json({"differences": differences, "adoptions": [item for _, item in adoptions]})
    else:
        _print_differences(comparison)
        for change, adoption in adoptions:
            _print_adoption(change, adoption)
    raise typer.Exit(1 if comparison.differences else 0)


@_with_servers
@with_inputs
def push(
    *,
    urls: Mapping[str, str | None],
    inputs: Inputs,
    prune: Annotated[
        bool, typer.Option("--prune", help="Delete what was generated and is no longer needed.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Update servers to what the specifications ask for.

    Each task is started as a check; one that fails gets its old script back. Only tasks,
    handlers, dashboards and what of Grafana's alerting differs are changed, and only generated
    ones. If a server goes away meanwhile, what is not done is named.

    Exit code: 0 success, 1 a server refuses something, 2 a server cannot be reached.
    """
    steps: list[Step] = []
    with _connected(urls) as servers:
        comparison = _compare(inputs, servers)
        stale = [item for item in comparison.differences if item.file not in ("same", "absent")]
        if stale:
            note = "committed files are not as generated: run squash generate, and commit"
            typer.echo(f"note: {len(stale)} {note}", err=True)
        try:
            for step in push_all(comparison, servers, prune=prune):
                steps.append(step)
                if not as_json:
                    typer.echo(_step_text(step))
        except UnreachableError as error:
            if as_json:
                print_json([asdict(step) for step in steps])
            raise UnreachableError(f"{error}\n{_not_done(comparison, steps)}") from error
    if as_json:
        print_json([asdict(step) for step in steps])
    failed = sum(step.outcome == "failed" for step in steps)
    if failed:
        fail(f"{failed} of {len(steps)} failed", code=1)
    if not as_json and not steps:
        typer.echo("Nothing to do.")


def _subscription_notes() -> Iterator[str]:
    """Yield a note for each subscription that sends Kapacitor what the service tells it."""
    settings = load_settings()
    for target in settings.targets if settings.kapacitors else ():
        try:
            with InfluxClient(target) as client:
                found = subscriptions(client)
        except InfluxError:
            # It is unavailable, or has no subscriptions.
            continue
        for item in found:
            yield (
                f"InfluxDB {target.name} sends its points to {', '.join(item.destinations)}; the "
                "service writes to Kapacitor itself (SQUASH_KAPACITOR_URL). If that is the same "
                f"Kapacitor, old values raise alerts. In InfluxDB run: {item.removal}"
            )


def _compare(inputs: Inputs, servers: Servers) -> Comparison:
    live = [thing for server in servers.values() for thing in server.things()]
    kinds = [kind for item in SERVED if item.name in servers for kind in item.kinds]
    try:
        return compare(inputs.make(), inputs.output, live, kinds)
    except FilesError as error:
        fail(str(error))


@contextmanager
def _connected(urls: Mapping[str, str | None]) -> Iterator[Servers]:
    """Connect to the servers that have a URL; a failure ends the command."""
    settings = load_settings()
    urls = {item.name: urls[item.name] or getattr(settings, item.setting) for item in SERVED}
    if not any(urls.values()):
        options = " or ".join(f"--{item.name}" for item in SERVED)
        variables = " or ".join(_variable(item.setting) for item in SERVED)
        fail(f"which servers? Give {options}, or set {variables}")
    with ExitStack() as opened:
        try:
            yield {
                item.name: opened.enter_context(
                    server_of(item)(
                        url,
                        token=settings.token_of(item.name),
                        variables=settings.file_variables,
                    )
                )
                for item in SERVED
                if (url := urls[item.name])
            }
        except ServerError as error:
            fail(str(error))


def _adoptions(inputs: Inputs, comparison: Comparison) -> list[tuple[HandChange, dict[str, Any]]]:
    """Find limits that were changed on the server, and where to write the YAML that adopts each."""

    def make(package: MetricsPackage) -> str:
        return task_of(package, schema=inputs.schema, **inputs.place)

    changes: list[HandChange] = []
    for item in comparison.differences:
        there = comparison.live.get(item.key)
        is_changed = item.server == "changed" and item.name in inputs.package.metrics
        if is_changed and isinstance(there, Task):
            changes += hand_changes(metric_alone(inputs.package, item.name), make, there.script)
    resolved = resolve_packages(inputs.directories, schema=inputs.schema) if changes else {}
    return [(change, _adoption(change, resolved[change.specification.name])) for change in changes]


def _adoption(change: HandChange, resolved: Resolved) -> dict[str, Any]:
    specification = change.specification
    written = resolved.locate(*change.path)
    # Not in a base: others may be built on it.
    is_own = resolved.says(*change.path)
    return {
        "specification": specification.name,
        **dict(sorted(specification.criterion.to_json()[change.path[0]].items())),
        "server_value": change.value,
        "source": str(written if is_own else specification.source),
        "base": None if is_own else str(written),
        "yaml": change.yaml,
    }


def _print_differences(comparison: Comparison) -> None:
    if not comparison.differences:
        typer.echo(f"{counted(len(comparison.generated), 'object')}, all the same")
        return
    print_table(
        ("kind", "name", "file", "server", "remark"),
        [
            (item.kind, item.name, item.file, item.server, item.remark)
            for item in comparison.differences
        ],
    )
    typer.echo(counted(len(comparison.differences), "difference"))


def _print_adoption(change: HandChange, adoption: dict[str, Any]) -> None:
    limit, value = limit_text(change.specification), adoption["server_value"]
    lines = [
        "",
        f"{adoption['specification']}: {limit}, but {value!r} on the server",
        f"  {adoption['source']}: to adopt it: {adoption['yaml']}",
    ]
    if adoption["base"] is not None:
        lines.append(f"  {adoption['base']}: the base that the value comes from now")
    typer.echo("\n".join(lines))


def _not_done(comparison: Comparison, steps: Iterable[Step]) -> str:
    """Return which differences on the servers are left, after some steps."""
    done = {(step.kind, step.name) for step in steps}
    left = [
        f"{item.kind} {item.name}"
        for item in comparison.differences
        if item.server not in ("same", "absent") and item.key not in done
    ]
    return f"  {len(done)} done, {len(left)} not: {', '.join(left)}"


def _step_text(step: Step) -> str:
    words = f": {step.words}" if step.words else ""
    return f"{step.outcome:<8} {step.kind} {step.name}{words}"
