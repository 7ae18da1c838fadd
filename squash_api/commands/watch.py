"""`squash watch`: send the jobs that appear in a folder, or launch a command for each file."""

import os
import signal
from datetime import UTC, datetime
from hashlib import sha256
from pathlib import Path
from threading import Event, Thread
from typing import Annotated, Any

import typer

from squash_api.commands.data_id import with_data_id
from squash_api.commands.dispatch import environment_of, is_ci, with_changes
from squash_api.commands.terminal import fail
from squash_api.pipelines.launching import Launcher, runs_folder, words_for
from squash_api.pipelines.outputs import bear_leases
from squash_api.pipelines.spool import Sender, state_folder
from squash_api.pipelines.watch_state import StateError, WatchState
from squash_api.pipelines.watching import Dispatcher, Taker, Watched, Watcher
from squash_api.wires.data_id import KEYS, DataId

_JOB_FILES = ("*.json", "*.yaml", "*.yml", "*.json.gz", "*.yaml.gz", "*.yml.gz")


_Folder = Annotated[str, typer.Argument(metavar="DIR", help="The folder, with those in it.")]
_Url = Annotated[str | None, typer.Option(envvar="SQUASH_URL", help="Root of the service.")]
_User = Annotated[
    str | None,
    typer.Option(envvar="SQUASH_USER", help="Name of the user; not needed with a key."),
]
_Pattern = Annotated[
    list[str] | None,
    typer.Option(
        help="Names of the files to take, such as '*.fits'; may be repeated. "
        "Else JSON and YAML, with --exec all."
    ),
]
_Stable = Annotated[
    float | None,
    typer.Option(
        metavar="SECONDS",
        min=0.0,
        help="A file is complete when it has not changed for so long; else when it is closed, "
        "and on network disks after 5 s.",
    ),
]
_Poll = Annotated[
    float | None,
    typer.Option(
        metavar="SECONDS",
        min=0.1,
        help="Look through the folder so often, instead of being told; on network disks 5.",
    ),
]
_NewOnly = Annotated[
    bool, typer.Option("--new-only", help="Leave out what is there when it is first started.")
]
_Exec = Annotated[
    str | None,
    typer.Option(
        "--exec",
        metavar="COMMAND",
        help="Run this for each file, within squash run; {} is its path, {name} its name.",
    ),
]
_Jobs = Annotated[int, typer.Option(min=1, help="How many commands run at a time.")]
_Outputs = Annotated[
    str | None,
    typer.Option(metavar="DIR", help="Where a command writes what it measures, as for squash run."),
]
_Pipeline = Annotated[str | None, typer.Option(help="Name of the pipeline, as for squash run.")]
_State = Annotated[
    Path | None,
    typer.Option("--state", metavar="FILE", help="What was taken; else one for each folder."),
]


def watch(
    *,
    data_id: DataId,
    folder: _Folder,
    url: _Url = None,
    user: _User = None,
    pattern: _Pattern = None,
    stable: _Stable = None,
    poll: _Poll = None,
    new_only: _NewOnly = False,
    command: _Exec = None,
    jobs: _Jobs = 1,
    outputs: _Outputs = None,
    pipeline: _Pipeline = None,
    state_file: _State = None,
) -> None:
    """Send each job file that appears in a folder, once; or run a command for each file.

    A file is taken when it is complete, also if it came while this did not run. Nothing is moved:
    a state file remembers what was taken. A file that has changed is a new one. What is no job is
    named once, with why. While the service cannot be reached, jobs wait in the spool.

    Ends after SIGTERM or Ctrl-C, when the commands that run have ended; a second one ends these.

    Exit code: 0 stopped, 2 it cannot begin.
    """
    if not os.path.isdir(folder):  # noqa: PTH112
        fail(f"{folder}: is not a folder")
    patterns = tuple(pattern or (("*",) if command else _JOB_FILES))
    watched = Watched(folder, patterns, stable, poll, new_only)
    sender = Sender.of(os.environ, url=url, user=user)
    stop, hurry = _stops()
    try:
        with WatchState(state_file or _state_path(folder, is_launching=bool(command))) as state:
            taker: Taker
            if command:
                options = _run_options(
                    data_id, url=url, user=user, outputs=outputs, pipeline=pipeline
                )
                taker = _launcher(state, command, options, jobs, hurry)
                if sender.trouble is None:
                    # What runs did not send in time; no launch waits for that.
                    spooled = _dispatcher(folder, state, sender, data_id)
                    Thread(target=spooled.send_spooled, args=(stop,), daemon=True).start()
            else:
                taker = _dispatcher(folder, state, sender, data_id)
            Watcher(watched, state, taker, say=_say).run(stop)
    except StateError as error:
        fail(str(error))


watch = with_data_id(watch)


def _stops() -> tuple[Event, Event]:
    """Return what the first and the second signal that ask for an end set."""
    stop, hurry = Event(), Event()
    bear_leases()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: (hurry if stop.is_set() else stop).set())
    return stop, hurry


def _state_path(folder: str, *, is_launching: bool) -> Path:
    """Name the state of a folder; what launches and what sends have one each."""
    real = os.path.realpath(folder)
    what = "exec" if is_launching else "dispatch"
    digest = sha256(os.fsencode(real)).hexdigest()[:12]
    name = f"{os.path.basename(real) or 'root'}-{digest}-{what}.db"  # noqa: PTH119
    return state_folder(os.environ) / "watch" / name


def _completed(document: dict[str, Any], written_s: float) -> dict[str, Any]:
    """Add an environment, as squash dispatch does for one file."""
    if is_ci(os.environ):
        return with_changes(document)
    began = datetime.fromtimestamp(written_s, UTC)
    return with_changes(document, default_env=environment_of("local", os.environ, now=began))


def _dispatcher(folder: str, state: WatchState, sender: Sender, data_id: DataId) -> Dispatcher:
    if sender.trouble is not None:
        fail(sender.trouble)
    return Dispatcher(folder, state, sender, data_id=data_id, complete=_completed, say=_say)


def _launcher(
    state: WatchState, template: str, options: list[str], most: int, hurry: Event
) -> Launcher:
    try:
        words_for(template, "file")
    except ValueError as error:
        fail(f"--exec {template!r}: is no command: {error}")
    return Launcher(
        runs_folder(state.path),
        state,
        template=template,
        options=options,
        most=most,
        variables=os.environ,
        hurry=hurry,
        say=_say,
    )


def _run_options(data_id: DataId, **given: str | None) -> list[str]:
    """Make the options of squash run from those of this command."""
    options = {name: text for name, text in given.items() if text is not None}
    extra = [f"--extra={key}={text}" for key, text in data_id.values.items() if key not in KEYS]
    options |= {key: text for key, text in data_id.values.items() if key in KEYS}
    if data_id.template is not None:
        options["path_template"] = data_id.template.text
    return [*(f"--{name.replace('_', '-')}={text}" for name, text in options.items()), *extra]


def _say(text: str) -> None:
    typer.echo(text)
