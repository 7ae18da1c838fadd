"""`squash` as processes of their own that begin at once, from one that has imported it already."""

import multiprocessing
import os
import sys
from collections.abc import Mapping, Sequence
from multiprocessing.process import BaseProcess
from pathlib import Path

_CONTEXT = multiprocessing.get_context("forkserver")
_CONTEXT.set_forkserver_preload(["squash_api.commands.watch", "tests.support.forked"])


def start_squash(
    arguments: Sequence[str], *, environment: Mapping[str, str], folder: Path
) -> BaseProcess:
    """Start a command; what it writes is added to the file `output` of the folder."""
    process = _CONTEXT.Process(
        target=_run, args=(list(arguments), dict(environment), str(folder)), daemon=True
    )
    process.start()
    return process


def _run(arguments: list[str], environment: dict[str, str], folder: str) -> None:
    from squash_api import cli

    os.chdir(folder)
    os.environ.clear()
    os.environ.update(environment)
    output = os.open("output", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    for fd in (1, 2):
        os.dup2(output, fd)
    sys.stdout = os.fdopen(1, "w", buffering=1)
    sys.stderr = os.fdopen(2, "w", buffering=1)
    sys.argv = ["squash", *arguments]
    cli.main()
