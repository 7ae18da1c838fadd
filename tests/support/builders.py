"""Settings and an open record for a test, untouched by the developer's own environment."""

from pathlib import Path
from typing import Any

from pydantic import SecretStr

from squash_api.record.record import Record
from squash_api.settings import Settings

SECRET = "a secret of tests, longer than 32 bytes"


def make_settings(tmp_path: Path, **changes: Any) -> Settings:
    """Return settings with the record in `tmp_path`; `changes` are fields of `Settings`.

    Every field is passed, so that neither the environment nor a `.env` has a say.
    """
    fields: dict[str, Any] = {
        name: field.get_default(call_default_factory=True, validated_data={})
        for name, field in Settings.model_fields.items()
    }
    fields |= {
        "secret": SecretStr(SECRET),
        "database_url": f"sqlite:///{tmp_path / 'squash.db'}",
        "registration": "open",
        "influx_url": None,
    }
    return Settings(_env_file=None, **(fields | changes))


def open_record(tmp_path: Path) -> Record:
    """Open (and make, the first time) the record that `make_settings(tmp_path)` names."""
    return Record.open(make_settings(tmp_path).database_url)
