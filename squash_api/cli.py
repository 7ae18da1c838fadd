"""The command `squash`: its commands by name, each loaded when it is called."""

from importlib import import_module
from typing import Any

import typer
from typer.core import TyperCommand

from squash_api.errors import SettingsError

COMMANDS = {
    "serve": ("serving:serve", "Run the service until it is told to stop."),
    "deliver": (
        "commands.deliver:deliver",
        "Deliver stored jobs to every InfluxDB until told to stop.",
    ),
    "replay": (
        "commands.replay:replay",
        "Send stored jobs to InfluxDB again: all, or those of a time, by id, or to one target.",
    ),
    "dispatch": (
        "commands.dispatch:dispatch",
        "Send job files to the service and show what was left out of them.",
    ),
    "export": (
        "commands.export:export",
        "Write measurements with what their jobs said, in the order of time.",
    ),
    "judge": (
        "commands.judge:judge",
        "Judge a job file by the specifications that apply to it.",
    ),
    "report": (
        "commands.report:report",
        "Report on a run, a period or a release: HTML, JSON, Markdown or JUnit XML.",
    ),
    "generate": (
        "commands.generate:generate",
        "Write Kapacitor's tasks and Chronograf's dashboards, as the specifications ask for.",
    ),
    "demo": (
        "commands.demo:demo",
        "Start a service of its own, fill it with made-up history, judge a fresh job, and stay up.",
    ),
    "specs check": (
        "commands.specs:check",
        "Name all problems in metrics packages, each with file and line.",
    ),
    "specs list": (
        "commands.specs:list_specifications",
        "List all specifications with what their bases give them, sorted by name.",
    ),
    "specs show": (
        "commands.specs:show",
        "Show a specification, where it is written and what it is built on.",
    ),
    "specs export": (
        "commands.specs_export:export",
        "Write the metrics and specifications made through the API as YAML.",
    ),
    "specs backtest": (
        "commands.backtest:backtest",
        "Judge the record's jobs by other specifications, and show what differs.",
    ),
    "live diff": (
        "commands.live:diff",
        "Name the tasks, handlers and dashboards that are not as the specifications ask for.",
    ),
    "live push": (
        "commands.live:push",
        "Make the servers have the tasks, handlers and dashboards that the specifications ask for.",
    ),
    "user add": (
        "commands.users:add",
        "Add a user, whatever the settings say of registration.",
    ),
    "user list": (
        "commands.users:list_accounts",
        "List all users, those who are disabled too.",
    ),
    "user role": (
        "commands.users:role",
        "Make somebody a user or an admin. Tokens given out before end.",
    ),
    "user passwd": (
        "commands.users:passwd",
        "Give somebody another password. Tokens given out before end.",
    ),
    "user disable": (
        "commands.users:disable",
        "Disable a user for good. The name stays taken, and tokens given out before end.",
    ),
}
"""By name: where the function is, and the first line of its docstring, for the list of commands."""

_GROUPS = {
    "specs": "Check and list metrics and specifications.",
    "live": "Compare running Kapacitors and Chronografs with the specifications, and update them.",
    "user": "Add, list and change accounts.",
}


def main() -> None:
    """Run the command; a wrong setting ends it with a sentence and exit code 1."""
    try:
        app()
    except SettingsError as error:
        typer.echo(f"error: {error.message}", err=True)
        raise SystemExit(1) from None


def _make_app() -> typer.Typer:
    """Return `squash` with all its commands, none of them loaded."""
    app = _group("Receive science metrics, keep every job, judge specifications.", name="squash")
    groups = {name: _group(text) for name, text in _GROUPS.items()}
    for path, (_, line) in COMMANDS.items():
        group, _, name = path.rpartition(" ")
        (groups[group] if group else app).command(name, cls=_later(path), help=line)(_nothing)
    for name, inner in groups.items():
        app.add_typer(inner, name=name)
    return app


def load(path: str) -> Any:
    """Import the function of a command, and return the command."""
    module, _, function = COMMANDS[path][0].partition(":")
    app = typer.Typer(add_completion=False)
    found = getattr(import_module(f"squash_api.{module}"), function)
    app.command(path.rpartition(" ")[2])(found)
    return typer.main.get_command(app)


def _group(text: str, *, name: str | None = None) -> typer.Typer:
    return typer.Typer(name=name, help=text, no_args_is_help=True, pretty_exceptions_enable=False)


def _later(path: str) -> type[TyperCommand]:
    """Return a kind of command that knows its name and help, and becomes the whole when called."""

    class Later(TyperCommand):
        """In the place of a command that has not been loaded."""

        def make_context(self, *given: Any, **named: Any) -> Any:
            """Load the command, and return the context of it."""
            return load(path).make_context(*given, **named)

    return Later


def _nothing() -> None:
    """Stand for the function of a command, which is not there yet."""


app = _make_app()
