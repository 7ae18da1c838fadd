"""The program `squash`: its commands by name. Each is imported only when it is called."""

import gc
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import import_module
from importlib.metadata import version
from typing import Annotated, Any

import typer
from typer.core import TyperCommand

from squash_api.errors import RecordUnavailableError, SettingsError

COMMANDS = {
    "serve": ("serving.serve:serve", "Run the service until it is stopped."),
    "check": (
        "commands.check:check",
        "Look at the settings, the record and every server; say of each fault what to do.",
    ),
    "deliver": (
        "commands.deliver:deliver",
        "Deliver stored jobs, and tell webhooks, Slack and GitHub, until stopped.",
    ),
    "replay": ("commands.replay:replay", "Send stored jobs to InfluxDB, or to Kafka, again."),
    "reconcile": (
        "commands.reconcile:reconcile",
        "Compare InfluxDB with the record, and send again what differs.",
    ),
    "prune": ("commands.prune:prune", "Delete old jobs; without --yes only say what would go."),
    "dispatch": (
        "commands.dispatch:dispatch",
        "Send what pipelines left on disk to the service.",
    ),
    "run": (
        "commands.run:run",
        "Run a command, and send what it took and what it measured as jobs of one run.",
    ),
    "watch": (
        "commands.watch:watch",
        "Send each job file that appears in a folder, once; or run a command for each file.",
    ),
    "notebook run": (
        "commands.notebook:run",
        "Run a notebook by itself, and keep what came of it as a job of the service.",
    ),
    "export": ("commands.export:export", "Write measurements, with the metadata of their jobs."),
    "judge": (
        "commands.judge:judge",
        "Judge jobs on disk by the specifications that apply to them.",
    ),
    "report": ("commands.report:report", "Report on a run, a period or a release."),
    "generate": (
        "commands.generate:generate",
        "Write Kapacitor's tasks, and the dashboards of Chronograf and Grafana.",
    ),
    "demo": ("commands.demo:demo", "Start a private service with made-up history."),
    "specs check": (
        "commands.specs:check",
        "List problems in metrics packages, with file and line.",
    ),
    "specs list": (
        "commands.specs:list_specifications",
        "List all specifications, sorted by name.",
    ),
    "specs show": ("commands.specs:show", "Show a specification, its source and its bases."),
    "specs export": (
        "commands.specs_export:export",
        "Write definitions from the API as YAML: all of the files, or none.",
    ),
    "specs import": (
        "commands.specs_import:import_definitions",
        "Write metrics and limits of another system as YAML: all of the files, or none.",
    ),
    "specs withdraw": (
        "commands.specs_withdraw:withdraw",
        "Withdraw definitions that SQUASH_SPECS no longer has.",
    ),
    "specs backtest": ("commands.backtest:backtest", "Judge past jobs by changed specifications."),
    "specs propose": (
        "commands.specs_propose:specs_propose",
        "Propose limits for a metric, from the values that the record has of it.",
    ),
    "specs review": (
        "commands.specs_review:specs_review",
        "List specifications that say too much, or nothing, by what they have done.",
    ),
    "live diff": ("commands.live:diff", "Compare servers with what the specifications ask for."),
    "live push": ("commands.live:push", "Update servers to what the specifications ask for."),
    "live annotate": (
        "commands.live_annotate:annotate",
        "Annotate Chronograf's graphs with what changed in the code, run by run.",
    ),
    "spool list": (
        "commands.spool:list_waiting",
        "List the jobs that wait to be sent: what, since when and why.",
    ),
    "spool send": ("commands.spool:send", "Send the jobs that wait, the oldest first."),
    "quarantine list": (
        "commands.quarantine:list_entries",
        "List what targets refused, with their reasons.",
    ),
    "quarantine retry": (
        "commands.quarantine:retry",
        "Send it again, after what caused the refusal has been fixed.",
    ),
    "quarantine drop": (
        "commands.quarantine:drop",
        "Give it up: it is no longer counted, nor tried again.",
    ),
    "alerts list": (
        "commands.alerts:list_alerts",
        "List alerts, the newest first: what is broken or late, and who has it.",
    ),
    "alerts ack": (
        "commands.alerts:acknowledge",
        "Say that you have an alert: nobody else needs to look at it.",
    ),
    "alerts unack": (
        "commands.alerts:release",
        "Take an acknowledgement back: the alert needs somebody again.",
    ),
    "alerts resolve": (
        "commands.alerts:resolve",
        "Resolve the alert of a series that reports no more.",
    ),
    "alerts silence": (
        "commands.alerts:silence",
        "Tell nobody of some alerts until a day; they open, and are listed, as ever.",
    ),
    "alerts silences": (
        "commands.alerts:silences",
        "List silences, the newest first, also those that are over.",
    ),
    "alerts unsilence": (
        "commands.alerts:end_silence",
        "End a silence now: what still lives of its alerts is told.",
    ),
    "record init": ("commands.record:init", "Make an empty record at SQUASH_DATABASE_URL."),
    "record backup": ("commands.record:backup", "Copy the record while it is in use."),
    "record restore": (
        "commands.record:restore_backup",
        "Put a backup in the place of the record.",
    ),
    "record move": (
        "commands.record:move_record",
        "Move the record to another database, such as from SQLite to PostgreSQL or back.",
    ),
    "record check": ("commands.record:check", "Check that the record is whole."),
    "record salvage": (
        "commands.record:salvage_record",
        "Copy what can be read of a damaged record into a new one.",
    ),
    "record downgrade": (
        "commands.record:downgrade",
        "Let an older release use the record.",
    ),
    "record accept": (
        "commands.record:accept_record",
        "Go on with the record that is there, although it is not the newest.",
    ),
    "user add": ("commands.users:add", "Add a user, even if registration is closed."),
    "user list": ("commands.users:list_accounts", "List all users, including disabled ones."),
    "user role": ("commands.users:role", "Make somebody a user or an admin, and end their tokens."),
    "user passwd": ("commands.users:passwd", "Change a user's password, and end their tokens."),
    "user disable": (
        "commands.users:disable",
        "Disable a user, end their tokens and revoke their keys.",
    ),
    "user enable": (
        "commands.users:enable",
        "Enable a disabled user again, with the password and role of before.",
    ),
    "key create": (
        "commands.keys:create",
        "Make an API key for a user; it is printed once and kept nowhere.",
    ),
    "key list": (
        "commands.keys:list_keys",
        "List API keys, also those that are revoked or have expired; secrets are not known.",
    ),
    "key revoke": (
        "commands.keys:revoke",
        "Revoke an API key, for good; the service refuses it within a second.",
    ),
    "webhook add": (
        "commands.webhooks:add",
        "Make a webhook; the secret that signs what is sent is printed once.",
    ),
    "webhook list": (
        "commands.webhooks:list_webhooks",
        "List the webhooks, and how sending to them is; secrets are not shown.",
    ),
    "webhook remove": (
        "commands.webhooks:remove",
        "Remove a webhook, and what waits to be sent to it.",
    ),
    "webhook test": (
        "commands.webhooks:test",
        "Send a test to a webhook from here, now, and print what the receiver answers.",
    ),
    "webhook deliveries": (
        "commands.webhooks:deliveries",
        "List what was, or is to be, sent to a webhook, the newest first, with the answers.",
    ),
    "webhook retry": (
        "commands.webhooks:retry",
        "Have what was given up sent again, and what waits at once; the service sends it.",
    ),
    "audit": (
        "commands.audit:audit",
        "Show the audit trail: who changed what, when and from where, the newest first.",
    ),
}
"""By name: where the function is, and the first line of its docstring, which the list shows."""

_GROUPS = {
    "notebook": "Run notebooks.",
    "specs": "Check, list and export metrics and specifications.",
    "live": "Compare and update running Kapacitors, Chronografs and Grafanas.",
    "alerts": "List, acknowledge, silence and resolve alerts.",
    "quarantine": "List, send again or give up what InfluxDB refused.",
    "spool": "List and send the jobs of squash run and squash watch that wait on this machine.",
    "record": "Make, back up, check and restore the record.",
    "user": "Add, list and change accounts.",
    "key": "Make, list and revoke API keys.",
    "webhook": "Make, list, try and remove webhooks, which programs are told of events by.",
}


def main() -> None:
    """Run a command; a wrong setting, or a record out of reach, ends it with a message and 1."""
    try:
        app()
    except (SettingsError, RecordUnavailableError) as error:
        typer.echo(f"error: {error.message}", err=True)
        typer.echo(f"runbook: {error.runbook}", err=True)
        raise SystemExit(1) from None


def _make_app() -> typer.Typer:
    """Make `squash` with all its commands, none of them imported."""
    app = _group("Receive science metrics, keep every job, judge specifications.", name="squash")
    groups = {name: _group(text) for name, text in _GROUPS.items()}
    for path, (_, line) in COMMANDS.items():
        group, _, name = path.rpartition(" ")
        (groups[group] if group else app).command(name, cls=_later(path), help=line)(lambda: None)
    for name, inner in groups.items():
        app.add_typer(inner, name=name)
    app.callback()(_options)
    return app


def _show_version(is_asked: bool) -> None:  # noqa: FBT001 - typer calls it
    if is_asked:
        typer.echo(f"squash {version('squash-api')}")
        raise typer.Exit


def _options(
    *,
    is_version: Annotated[
        bool,
        typer.Option(
            "--version", is_eager=True, callback=_show_version, help="Show the version and exit."
        ),
    ] = False,
) -> None:
    """Receive science metrics, keep every job, judge specifications."""


def load(path: str) -> Any:
    """Import and make a command."""
    module, _, function = COMMANDS[path][0].partition(":")
    app = typer.Typer(add_completion=False)
    with _quick_imports():
        found = getattr(import_module(f"squash_api.{module}"), function)
    settings = vars(found).get("context_settings")
    app.command(path.rpartition(" ")[2], context_settings=settings)(found)
    return typer.main.get_command(app)


@contextmanager
def _quick_imports() -> Iterator[None]:
    """Import without two things that together take a fifth of a start (`benchmarks/`, R9).

    What is imported stays, but Python would look through it again and again for cycles. And
    structlog imports rich if it can, to colour what we write ourselves.
    """
    gc.disable()
    try:
        if "rich" not in sys.modules:
            # So an import of it fails.
            sys.modules["rich"] = None  # type: ignore[assignment]
            try:
                import_module("structlog")
            finally:
                del sys.modules["rich"]
        yield
    finally:
        gc.freeze()
        gc.enable()


def _group(text: str, *, name: str | None = None) -> typer.Typer:
    return typer.Typer(name=name, help=text, no_args_is_help=True, pretty_exceptions_enable=False)


def _later(path: str) -> type[TyperCommand]:
    """Make a stand-in for a command, which imports the command when it is called."""

    class Later(TyperCommand):
        """A command that has not been imported."""

        def make_context(self, *given: Any, **named: Any) -> Any:
            """Make the context of the command itself."""
            return load(path).make_context(*given, **named)

    return Later


app = _make_app()
