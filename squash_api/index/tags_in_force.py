"""The list of tags that the points in InfluxDB were written with, kept in the record.

Points with other tags are other series: writing on with another list would split every one in two.
"""

import json
from collections.abc import Sequence

from squash_api.errors import SettingsError
from squash_api.index.derived import rederive_all
from squash_api.record.deliveries import has_sent_any
from squash_api.record.record import Connection, Record, get_state, set_state
from squash_api.schema.names import TAGS, Schema

_KEY = "tags"


def check_tags(record: Record, schema: Schema) -> None:
    """Note the list of tags at the start; refuse another once points have been written.

    Raises
    ------
    SettingsError
        If the list has changed since then.
    """

    def work(connection: Connection) -> Sequence[str]:
        kept = get_state(connection, _KEY)
        if kept is None or not has_sent_any(connection):
            put_tags(connection, schema)
            return schema.tags
        tags: list[str] = json.loads(kept)
        return tags

    kept = record.write(work)
    if set(kept) != set(schema.tags):
        raise SettingsError(
            f"SQUASH_TAGS: the points in InfluxDB were written with the tags {', '.join(kept)}; "
            f"the settings say {', '.join(schema.tags)}. Set it back, or empty the databases and "
            "run: squash replay --into-empty"
        )


def schema_of(record: Record, settings: Schema) -> Schema:
    """Return the schema that the record is kept by; that of the settings if it is new.

    For what only reads: the settings of a shell need not be those of the service.
    """
    with record.read() as connection:
        kept = get_state(connection, _KEY)
    if kept is None:
        return settings
    return Schema(tuple(name for name in json.loads(kept) if name not in TAGS))


def put_tags(connection: Connection, schema: Schema) -> None:
    """Note the list of tags that points are written with from now on."""
    kept = get_state(connection, _KEY)
    if kept is not None and set(json.loads(kept)) != set(schema.tags):
        rederive_all(connection)
    set_state(connection, _KEY, json.dumps(schema.tags))
