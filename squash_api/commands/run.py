"""`squash run`: run a command, and send what it took and what it measured."""

import os
import sys
import threading
import time
from datetime import UTC, datetime
from typing import Annotated, Any

import typer

from squash_api.commands.data_id import with_data_id
from squash_api.pipelines.outputs import CLAIMS_VARIABLE, bear_leases
from squash_api.pipelines.reporting import Report, Run, look, report
from squash_api.pipelines.run_job import RUN_VARIABLE, run_environment
from squash_api.pipelines.running import Ended, run_command
from squash_api.pipelines.spool import Sender
from squash_api.wires.data_id import DataId

# A folder that takes longer to look through is asked what has changed since the command began.
_LONGEST_LOOK_S = 2.0


_Command = Annotated[
    list[str], typer.Argument(metavar="-- COMMAND", help="The command with its arguments.")
]
_Url = Annotated[str | None, typer.Option(envvar="SQUASH_URL", help="Root of the service.")]
_User = Annotated[
    str | None,
    typer.Option(envvar="SQUASH_USER", help="Name of the user; not needed with a key."),
]
_Outputs = Annotated[
    str, typer.Option(metavar="DIR", help="Where the command writes what it measures.")
]
_Pipeline = Annotated[
    str | None, typer.Option(help="Name of the pipeline; else that of the CI or the command.")
]
_Tail = Annotated[
    int,
    typer.Option(metavar="KIB", min=0, max=4096, help="How much of the output's end to send."),
]
_Within = Annotated[
    float, typer.Option(metavar="SECONDS", min=0.0, help="How long sending may delay the end.")
]
_StatusFd = Annotated[
    int | None,
    typer.Option(metavar="FD", min=3, help="Write the exit status to this file descriptor."),
]


def run(
    *,
    data_id: DataId,
    command: _Command,
    url: _Url = None,
    user: _User = None,
    outputs: _Outputs = ".",
    pipeline: _Pipeline = None,
    tail: _Tail = 64,
    within: _Within = 5.0,
    status_fd: _StatusFd = None,
) -> None:
    """Run a command, and send what it took and what it measured as jobs of one run.

    Exit status, wall and processor time, peak memory and the tail of the output become a job with
    the metrics run.*. Job files, bundles and measurements that the command wrote go with it, if it
    is complete. Input, output and signals pass through.

    Whatever becomes of the jobs, the command is not held up: what cannot be sent waits in the
    spool. The credentials are those of squash dispatch; nobody is asked for a password.

    Exit code: that of the command; 128 and the number of the signal that ended it; 127 if there is
    no such command, 126 if it cannot be started.
    """
    variables = dict(os.environ)
    claims = variables.pop(CLAIMS_VARIABLE, None)
    named = data_id.values.get("run")
    env = run_environment(
        command, variables, now=datetime.now(UTC), run_id=named, pipeline=pipeline
    )
    sender = Sender.of(variables, url=url, user=user, timeout_s=max(within, 0.1))
    hurry = threading.Event()
    bear_leases()
    before = look(outputs, sender, until_s=time.monotonic() + _LONGEST_LOOK_S)
    ended = run_command(
        command,
        variables={**variables, RUN_VARIABLE: str(env["run_id"])},
        tail_bytes=tail * 1024,
        hurry=hurry,
    )
    if ended.problem is not None:
        _say(ended.problem)
    what = Run(command, env, variables, data_id, outputs, before, claims)
    outcome = report(what, ended, sender, within_s=within, hurry=hurry)
    _tell(outcome)
    _end(ended, status_fd)


# What follows the command is the command's.
vars(run)["context_settings"] = {"allow_interspersed_args": False}
run = with_data_id(run)


def _tell(outcome: Report) -> None:
    """Say what went wrong, and on a terminal what went well: the output is the command's."""
    for note in outcome.notes:
        _say(note)
    if sys.stderr.isatty():
        for sent in outcome.sent:
            if sent.reply is not None:
                _say(f"{sent.entry.source}: job {sent.reply.job_id}, {sent.reply.status_url}")


def _say(text: str) -> None:
    try:
        typer.echo(f"squash run: {text}", err=True)
    except OSError:  # nobody listens
        return


def _end(ended: Ended, status_fd: int | None) -> Any:
    """End with the status of the command, whatever a thread still waits for."""
    if status_fd is not None:
        try:
            os.write(status_fd, f"{ended.status}\n".encode())
        except OSError as error:
            _say(f"--status-fd {status_fd}: {error.strerror}")
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except OSError:
            continue
    os._exit(ended.status)
