"""How commands take options, print and end.

Exit codes: 0 success, 1 a finding or a refusal, 2 unusable input. Results go to standard output;
errors, notes and progress bars to standard error.
"""

import getpass
import inspect
import json
import os
import sys
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import wraps
from typing import Annotated, Any, NoReturn, TypeVar, get_args

import typer
from rich import box
from rich.console import Console
from rich.progress import Progress
from rich.table import Table
from rich.text import Text

from squash_api.errors import InvalidInputError, SquashError
from squash_api.record.audit import Actor

Item = TypeVar("Item")
Command = Callable[..., None]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]
AllowMissing = Annotated[
    bool,
    typer.Option(
        "--allow-missing", help="Do not exit with 1 because something was not measured or judged."
    ),
]
AsYes = Annotated[bool, typer.Option("--yes", help="Do not ask.")]

_WIDTH_OF_A_FILE = 1000


def options_as(
    name: str,
    options: Mapping[str, Any],
    *,
    defaults: Mapping[str, Any] | None = None,
    gather: Callable[[dict[str, Any]], Any] = dict,
) -> Callable[[Command], Command]:
    """Add options from a table before a command's own; the command gets them in one argument.

    Parameters
    ----------
    name
        The argument of the command.
    options
        Annotations for typer, by name of the option.
    defaults
        Where the default is neither None nor, for a flag, False.
    gather
        Turns the values by name into the argument.
    """
    known = {key: False for key, kind in options.items() if get_args(kind)[0] is bool}
    known |= defaults or {}

    def decorate(command: Command) -> Command:
        @wraps(command)
        def run(**given: Any) -> None:
            command(**{name: gather({key: given.pop(key) for key in options})}, **given)

        signature = inspect.signature(command)
        own = [item for item in signature.parameters.values() if item.name != name]
        first = [
            inspect.Parameter(
                key,
                inspect.Parameter.KEYWORD_ONLY,
                default=known.get(key),
                annotation=kind,
            )
            for key, kind in options.items()
        ]
        # From these typer makes the options.
        vars(run)["__signature__"] = signature.replace(parameters=[*first, *own])
        run.__annotations__ = {item.name: item.annotation for item in (*first, *own)}
        return run

    return decorate


def print_error(message: str) -> None:
    """Print an error, of one or several lines."""
    typer.echo(f"error: {message}", err=True)


def fail(message: str, *, code: int = 2) -> NoReturn:
    """Print an error and end the command."""
    print_error(message)
    raise typer.Exit(code)


@contextmanager
def failing(*, code: int = 2, code_of_input: int | None = None) -> Iterator[None]:
    """End the command if a `SquashError` is raised, with its message and each detail on a line.

    `code` is the exit code. Where `code_of_input` is given it is used for unusable input.
    """
    try:
        yield
    except SquashError as error:
        if code_of_input is not None and isinstance(error, InvalidInputError):
            code = code_of_input
        fail("\n  ".join([error.message, *(item.msg for item in error.detail[1:])]), code=code)


def confirm(question: str, *, is_agreed: bool) -> None:
    """Ask, unless it is agreed already; end the command with 1 if the answer is no.

    Raises
    ------
    InvalidInputError
        If there is nobody to ask.
    """
    if not is_agreed:
        need_terminal("give --yes")
        typer.confirm(question, abort=True, err=True)


def operator(command: str) -> Actor:
    """Return who the audit trail names for this command: it, and the user of the machine."""
    try:
        person = getpass.getuser()
    except (KeyError, OSError):  # a container whose user has no name
        person = f"uid{os.getuid()}"
    return Actor(command=f"squash {command} ({person})")


def need_terminal(instead: str) -> None:
    """Raise `InvalidInputError` that says what to do instead, unless there is a terminal."""
    if not sys.stdin.isatty():
        raise InvalidInputError(f"There is no terminal: {instead}.")


def print_json(document: Any) -> None:
    """Print a document for a script."""
    typer.echo(json.dumps(document, indent=2))


def print_table(
    columns: Sequence[str],
    rows: Iterable[Sequence[str]],
    *,
    right: Collection[str] = (),
    style: Callable[[Sequence[str]], str | None] = lambda _row: None,
) -> None:
    """Print rows of plain text, in which square brackets are not markup.

    The columns named in `right` are aligned right; `style` chooses the style of a row. Lines are
    folded to the width of a screen, but not in a file or a pipe.
    """
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for column in columns:
        table.add_column(column, justify="right" if column in right else "left", overflow="fold")
    for row in rows:
        table.add_row(*map(Text, row), style=style(row))
    _console().print(table)


def tracked(items: Sequence[Item], *, what: str) -> Iterator[Item]:
    """Yield items, with a progress bar if there are several and the output is a terminal."""
    is_on_stdout = sys.stdout.isatty()
    console = _console(stderr=not is_on_stdout)
    if len(items) < 2 or not console.is_terminal:
        yield from items
        return

    # A result that goes to a file must not be redirected above a bar on standard error.
    with Progress(console=console, transient=True, redirect_stdout=is_on_stdout) as progress:
        yield from progress.track(items, description=what)


def advancing(
    items: Iterable[Item], *, what: str, share: Callable[[], float] | None = None
) -> Iterator[Item]:
    """Yield items, with a progress bar if standard error is a terminal.

    `share` gives the fraction done, 0 to 1; without it the bar only shows activity.
    """
    console = _console(stderr=True)
    if not console.is_terminal:
        yield from items
        return

    with Progress(console=console, transient=True, redirect_stdout=False) as progress:
        task = progress.add_task(what, total=1.0 if share else None)
        for item in items:
            if share is not None:
                progress.update(task, completed=share())
            yield item


def _console(*, stderr: bool = False) -> Console:
    console = Console(stderr=stderr, highlight=False)
    if not console.is_terminal:
        console.width = _WIDTH_OF_A_FILE
    return console
