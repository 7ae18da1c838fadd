"""`squash record`: the record itself."""

import sys
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from squash_api.commands.terminal import (
    AsJson,
    AsYes,
    advancing,
    confirm,
    failing,
    print_json,
    print_table,
)
from squash_api.errors import SettingsError
from squash_api.index.checking import Finding, check_record
from squash_api.ingest.ingest import can_read
from squash_api.judging.wording import counted
from squash_api.record.copying import Progress, back_up, send_backup
from squash_api.record.database import damage_of, make_database, place_of, said_of
from squash_api.record.installation import (
    Replaced,
    accept,
    begin_anew,
    is_there,
    let_use,
    move,
    restore,
    salvage,
)
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

    The copy, a file of SQLite wherever the record is, has every job that was answered before the
    command began. It is checked, and on the disk, before it gets its name; an existing file is not
    replaced. It is private: it contains the hashes of passwords.

    Exit code: 0 success, 1 it cannot be made; then there is no file.
    """
    with failing(code=1):
        url = load_settings().database_url
        if file == _STREAM:
            send_backup(url, sys.stdout.buffer)
            return
        back_up(url, Path(file))
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
        confirm(f"Put {file} in the place of {place_of(url)}?", is_agreed=yes)
        if file == _STREAM:
            done = restore(url, sys.stdin.buffer, ids_above=ids_above)
        else:
            done = _restored(url, Path(file), ids_above)
    _print(url, done)


def move_record(
    *,
    to: Annotated[str, typer.Option(help="The other database, as an SQLAlchemy URL.")],
    yes: AsYes = False,
) -> None:
    """Move the record to another database, such as from SQLite to PostgreSQL or back.

    Stop the service first. There must be no record yet at the other place, and in PostgreSQL no
    other table. Rows of each table are counted and compared by a checksum, which is printed. If
    anything fails, or the command is interrupted, the record stays where it is, and nothing is
    there. Afterwards set SQUASH_DATABASE_URL: no command uses the old place by mistake.

    Exit code: 0 success, 1 it cannot be done; then nothing has changed.
    """
    so_far = Progress()
    with failing(code=1):
        url = load_settings().database_url
        with said_of("--to"):
            new_place = place_of(to)
        confirm(f"Move {place_of(url)} to {new_place}?", is_agreed=yes)
        for _ in advancing(move(url, to, so_far), what="moving", share=so_far.share):
            pass
    rows = [[table.table, str(table.rows), table.checksum] for table in so_far.tables]
    print_table(("table", "rows", "checksum"), rows, right={"rows"})
    typer.echo(f"the record is at {new_place} now: set SQUASH_DATABASE_URL to it")


def accept_record(*, ids_above: IdsAbove = 0, yes: AsYes = False) -> None:
    """Go on with the record that is there, although it is not the newest.

    Stop the service first. The service does not start with a record that is older than its mark,
    that has lost its mark or is of another installation. After this command it does, and no id is
    given twice. If there is no record any more, an empty one is made.

    Exit code: 0 success, 1 it cannot be done; then nothing has changed.
    """
    with failing(code=1):
        url = load_settings().database_url
        is_old = is_there(url)
        what = f"the record {place_of(url)}" if is_old else f"an empty record at {place_of(url)}"
        confirm(f"Go on with {what}?", is_agreed=yes)
        done = (accept if is_old else begin_anew)(url, ids_above=ids_above)
    _print(url, done)


def salvage_record(*, to: Annotated[Path, typer.Option(help="File to make.")]) -> None:
    """Copy what can be read of a damaged record into a new one.

    Stop the service first; the damaged file is only read. What is lost is listed, jobs by their
    ids. `squash record restore` puts the new one in its place.

    Exit code: 0 everything could be read, 1 something is lost, 2 it cannot be done.
    """
    with failing():
        lost = list(salvage(load_settings().database_url, to, can_read=can_read))
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
        done = let_use(url, release)
    typer.echo(
        f"{place_of(url)}: {release} can use it (its tables are of version {done.present}, and it "
        f"knows them up to {done.needed})"
    )


def check(*, as_json: AsJson = False) -> None:
    """Check that the record is whole.

    That it is not damaged, that it is not behind its mark, that no job is missing, and that the
    index has what follows from the jobs. The service may be running.

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


def _print(url: str, done: Replaced) -> None:
    ids = f"its last job is {done.last_job}, the next one will be {done.next_job}"
    typer.echo(f"{place_of(url)}: {ids}")
    if done.aside is not None:
        typer.echo(f"the record before is {done.aside}")
    if done.next_job > done.last_job + 1:
        typer.echo(
            f"no job has the ids {done.last_job + 1} to {done.next_job - 1}: points of such jobs "
            "that InfluxDB has are not in the record"
        )
