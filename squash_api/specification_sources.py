"""Where the specifications in force come from: the chain of bases in YAML, or a user of the API."""

import threading
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import structlog

from squash_api.definitions_in_force import Defined
from squash_api.errors import SettingsError
from squash_api.record.definitions import current
from squash_api.record.record import Record
from squash_api.record.users import get_user
from squash_api.schema import Schema
from squash_api.verify.metrics_package import load_metrics_packages
from squash_api.verify.specifications import Specification

_log = structlog.get_logger(__name__)


class SpecificationSources:
    """Knows what specifications were made from. Safe to use from many threads.

    The files are read when they are asked for first. The record does not keep the bases; so of a
    specification that has changed in its file since the start, there are none.

    Parameters
    ----------
    record
        Where the definitions are.
    directories
        The metrics packages.
    schema
        The names in InfluxDB.
    """

    def __init__(self, record: Record, directories: Sequence[Path], schema: Schema) -> None:
        self._record = record
        self._directories = directories
        self._schema = schema
        self._lock = threading.Lock()
        self._loaded: Mapping[str, Specification] | None = None

    def bases(self, defined: Defined[Specification]) -> tuple[str, ...]:
        """Return what a specification was merged from, the nearest last."""
        if defined.origin != "yaml":
            return ()
        found = self._from_files().get(defined.content.name)
        is_it = found == defined.content and str(found.source) == defined.source if found else False
        return found.bases if found is not None and is_it else ()

    def authors(self, names: Iterable[str]) -> dict[str, str]:
        """Return who wrote the specifications from the API, as they are now."""
        wanted = list(names)
        if not wanted:
            return {}
        with self._record.read() as connection:
            rows = current(connection, "spec", names=wanted)
            ids = {name: row.user_id for name, row in rows.items() if row.user_id is not None}
            users = {user_id: get_user(connection, user_id) for user_id in set(ids.values())}
        found = {name: users[user_id] for name, user_id in ids.items()}
        return {name: user.name for name, user in found.items() if user is not None}

    def _from_files(self) -> Mapping[str, Specification]:
        with self._lock:
            if self._loaded is None:
                self._loaded = self._load()
            return self._loaded

    def _load(self) -> Mapping[str, Specification]:
        if not self._directories:
            return {}
        try:
            return load_metrics_packages(self._directories, schema=self._schema).specifications
        except (SettingsError, OSError) as error:
            # They were there when the service started.
            _log.warning("the metrics packages cannot be read any more", reason=str(error))
            return {}
