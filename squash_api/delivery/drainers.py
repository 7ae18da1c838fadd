"""Drainers for the targets of the settings, for commands that deliver outside the service."""

from collections.abc import Sequence

from squash_api.delivery.drainer import Drainer
from squash_api.errors import SettingsError
from squash_api.index.deriver import Deriver
from squash_api.record.metrics import Vocabulary
from squash_api.record.record import Record
from squash_api.schema.names import Schema
from squash_api.settings import InfluxTarget, Settings


def chosen_targets(settings: Settings, names: Sequence[str]) -> list[InfluxTarget]:
    """Return the targets of these names, or all if none is named.

    Raises
    ------
    SettingsError
        If there is no such target, or none at all.
    """
    known = {target.name: target for target in settings.targets}
    if not known:
        raise SettingsError("SQUASH_INFLUX_URL: no InfluxDB is configured.")
    unknown = [name for name in names if name not in known]
    if unknown:
        raise SettingsError(
            f"There is no target {unknown[0]}; there are: {', '.join(sorted(known))}."
        )
    return [known[name] for name in dict.fromkeys(names or known)]


def make_drainers(
    record: Record, schema: Schema, settings: Settings, targets: Sequence[InfluxTarget]
) -> list[Drainer]:
    """Return a drainer for each target."""
    vocabulary = Vocabulary(record, schema)
    deriver = Deriver(record, vocabulary)
    return [
        Drainer(
            target,
            record=record,
            vocabulary=vocabulary,
            deriver=deriver,
            squash_url=settings.url,
        )
        for target in targets
    ]
