"""`squash record`: the record itself."""

import typer

from squash_api.commands.terminal import failing
from squash_api.record.database import make_database, place_of
from squash_api.settings import load_settings


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
