"""`squash record`: the record itself."""

import sys
from collections.abc import Iterator
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Annotated

import typer

from squash_api.commands.terminal import AsJson, AsYes, confirm, failing, print_json
from squash_api.errors import SettingsError
from squash_api.index.checking import Finding, check_record
from squash_api.judging.wording import counted
from squash_api.record.database import damage_of, make_database, path_of, place_of
from squash_api.record.engines.sqlite_copies import back_up, require_unused, send_copy
from squash_api.record.installation import Replaced, accept, begin_anew, restore, salvage
from squash_api.record.record import Record
from squash_api.record.versions import go_back
from squash_api.settings import load_settings
from squash_api.site import Site

_STREAM = "-"
IdsAbove = Annotated[
    int,
    typer.Option(
        "--ids-above",
        min=0,
        max=10**9,
        help="New jobs get ids above this one, such as the last that InfluxDB has.",
    ),
]


def init() -> None:
    """Make an empty record at SQUASH_DATABASE_URL.

    Its directory must exist. A record that is there already is left as it is.

    Exit code: 0 success, 1 it cannot be made.
    """
    with failing(code=1):
        url = load_settings().database_url
        is_new = make_database(url)
    typer.echo(
        f"{place_of(url)}: {'an empty record was made' if is_new else 'it is there already'}"
    )


def backup(
    file: Annotated[str, typer.Argument(help="File to make, or - for standard output.")],
) -> None:
    """Copy the record while it is in use.

    The copy has every job that was answered before the command began. It is checked, and on the
    disk, before it gets its name; an existing file is not replaced. It is private: it contains the
    hashes of passwords.

    Exit code: 0 success, 1 it cannot be made; then there is no file.
    """
    with failing(code=1):
        path = path_of(load_settings().database_url)
        _require_there(path)
        if file == _STREAM:
            send_copy(path, sys.stdout.buffer)
            return
        back_up(path, Path(file))
    typer.echo(f"{file}: {Path(file).stat().st_size / 1e6:.1f} MB")


def restore_backup(
    file: Annotated[str, typer.Argument(help="A backup, or - for standard input.")],
    *,
    ids_above: IdsAbove = 0,
    yes: AsYes = False,
) -> None:
    """Put a backup in the place of the record.

    Stop the service first. The record that is there now is kept under another name. No id is given
    twice: new jobs get ids above the last that was given, as far as the mark or the present record
    knows it. Jobs that were received after the backup are gone.

    Exit code: 0 success, 1 it cannot be done; then nothing has changed.
    """
    with failing(code=1):
        url = load_settings().database_url
        path = path_of(url)
        if not path.parent.is_dir():
            raise SettingsError(f"the directory {path.parent} does not exist: make it first")
        confirm(f"Put {file} in the place of {path}?", is_agreed=yes)
        if file == _STREAM:
            done = restore(url, sys.stdin.buffer, ids_above=ids_above)
        else:
            done = _restored(url, Path(file), ids_above)
    _print(path, done)


def accept_record(*, ids_above: IdsAbove = 0, yes: AsYes = False) -> None:
    """Go on with the record that is there, although it is not the newest.

    Stop the service first. The service does not start with a record that is older than its mark,
    that has lost its mark or is of another installation. After this command it does, and no id is
    given twice. If there is no record any more, an empty one is made.

    Exit code: 0 success, 1 it cannot be done; then nothing has changed.
    """
    with failing(code=1):
        url = load_settings().database_url
        path = path_of(url)
        is_there = path.exists() and path.stat().st_size > 0
        what = f"the record {path}" if is_there else f"an empty record at {path}"
        confirm(f"Go on with {what}?", is_agreed=yes)
        done = (accept if is_there else begin_anew)(url, ids_above=ids_above)
    _print(path, done)


def salvage_record(*, to: Annotated[Path, typer.Option(help="File to make.")]) -> None:
    """Copy what can be read of a damaged record into a new one.

    Stop the service first; the damaged file is only read. What is lost is listed, jobs by their
    ids. `squash record restore` puts the new one in its place.

    Exit code: 0 everything could be read, 1 something is lost, 2 it cannot be done.
    """
    with failing():
        lost = list(salvage(load_settings().database_url, to))
    for line in lost:
        typer.echo(line)
    typer.echo(f"{to}: {'what could be read' if lost else 'everything'} is in it")
    raise typer.Exit(1 if lost else 0)


def downgrade(
    release: Annotated[str, typer.Argument(help="The release, such as 1.2.1.")],
    *,
    yes: AsYes = False,
) -> None:
    """Let an older release use the record.

    Stop the service first. For 1.2, 1.3 and 2.0: later releases need only be started. Nothing is
    lost: when a newer release is started again, all is as it was, with what came meanwhile.

    Exit code: 0 success, 1 it cannot be done; then nothing has changed.
    """
    with failing(code=1):
        url = load_settings().database_url
        confirm(f"Let {release} use the record at {place_of(url)}?", is_agreed=yes)
        require_unused(path_of(url))
        record = Record.open(url)
        try:
            done = record.write(partial(go_back, release=release))
        finally:
            record.close()
    typer.echo(
        f"{place_of(url)}: {release} can use it (its tables are of version {done.present}, and it "
        f"knows them up to {done.needed})"
    )


def check(*, as_json: AsJson = False) -> None:
    """Check that the record is whole.

    That its file is not damaged, that it is not behind its mark, that no job is missing, and that
    the index has what follows from the jobs. The service may be running.

    Exit code: 0 it is, 1 something is wrong, 2 it cannot be checked.
    """
    with failing():
        found = list(_findings())
    if as_json:
        print_json({"is_whole": not found, "findings": [asdict(item) for item in found]})
    else:
        for item in found:
            typer.echo(f"{item.kind}: {item.what}")
        typer.echo(f"{counted(len(found), 'finding')}" if found else "the record is whole")
    raise typer.Exit(1 if found else 0)


def _findings() -> Iterator[Finding]:
    settings = load_settings()
    damage = damage_of(settings.database_url)
    if damage is not None:
        # What else can be read of it is perhaps wrong too.
        yield Finding("file", damage)
        return
    with Site(settings, tags_of="record") as site:
        yield from check_record(site.record, site.deriver)


def _restored(url: str, file: Path, ids_above: int) -> Replaced:
    log = file.with_name(f"{file.name}-wal")
    if log.exists() and log.stat().st_size:
        raise SettingsError(
            f"a part of {file} is in {log.name}: it is no backup but a record in use; make a "
            "backup of it with `squash record backup`, and restore that"
        )
    try:
        with file.open("rb") as source:
            return restore(url, source, ids_above=ids_above)
    except OSError as error:
        raise SettingsError(f"{file} cannot be restored: {error.strerror or error}") from error


def _require_there(path: Path) -> None:
    if not path.exists():
        raise SettingsError(f"SQUASH_DATABASE_URL: there is no record at {path}")


def _print(path: Path, done: Replaced) -> None:
    typer.echo(f"{path}: its last job is {done.last_job}, the next one will be {done.next_job}")
    if done.aside is not None:
        typer.echo(f"the files of the record before are {done.aside}*")
    if done.next_job > done.last_job + 1:
        typer.echo(
            f"no job has the ids {done.last_job + 1} to {done.next_job - 1}: points of such jobs "
            "that InfluxDB has are not in the record"
        )
