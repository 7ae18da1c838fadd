"""The command `squash`."""

from typing import Annotated

import typer

from squash_api.commands import backtest as backtest_command
from squash_api.commands import deliver as deliver_command
from squash_api.commands import demo as demo_command
from squash_api.commands import dispatch as dispatch_command
from squash_api.commands import export as export_command
from squash_api.commands import generate as generate_command
from squash_api.commands import judge as judge_command
from squash_api.commands import live, specs, specs_export, users
from squash_api.commands import replay as replay_command
from squash_api.commands import report as report_command
from squash_api.errors import SettingsError
from squash_api.settings import load_settings

app = typer.Typer(
    name="squash",
    help="Receive science metrics, keep every job, judge specifications.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
)


@app.command()
def serve(
    host: Annotated[str | None, typer.Option(help="Instead of SQUASH_HOST.")] = None,
    port: Annotated[int | None, typer.Option(help="Instead of SQUASH_PORT.")] = None,
) -> None:
    """Run the service until it is told to stop."""
    # The web framework takes most of a second to import, and only `serve` needs it.
    from squash_api.logs import configure_logs  # noqa: PLC0415
    from squash_api.serving import serve as serve_until_told  # noqa: PLC0415

    given = {"host": host, "port": port}
    configure_logs()
    settings = load_settings(**{key: value for key, value in given.items() if value is not None})
    serve_until_told(settings)


app.command()(deliver_command.deliver)
app.command()(replay_command.replay)
app.command()(dispatch_command.dispatch)
app.command()(export_command.export)
app.command()(judge_command.judge)
app.command()(report_command.report)
app.command()(generate_command.generate)
app.command()(demo_command.demo)
specs.app.command("export")(specs_export.export)
specs.app.command("backtest")(backtest_command.backtest)
app.add_typer(specs.app, name="specs")
app.add_typer(live.app, name="live")
app.add_typer(users.app, name="user")


def main() -> None:
    """Run the command; a wrong setting ends it with a sentence and exit code 1."""
    try:
        app()
    except SettingsError as error:
        typer.echo(f"error: {error.message}", err=True)
        raise SystemExit(1) from None
