from pathlib import Path
from typing import Any

import pytest

from squash_api.delivery.drainers import chosen_targets, make_drainers
from squash_api.errors import SettingsError
from squash_api.record.deliveries import target_names
from squash_api.schema.names import Schema
from squash_api.settings import InfluxTarget, Settings
from tests.support.builders import make_settings, open_record


def two_targets(tmp_path: Path, **changes: Any) -> Settings:
    further = (InfluxTarget(name="base", url="http://b"),)
    return make_settings(tmp_path, influx_url="http://a", influx_targets=further, **changes)


@pytest.mark.parametrize(
    ("names", "chosen"),
    [
        ([], ["default", "base"]),
        (["base"], ["base"]),
        (["base", "default"], ["base", "default"]),
        (["base", "base"], ["base"]),
    ],
)
def test_targets_are_chosen_by_name(tmp_path: Path, names: list[str], chosen: list[str]) -> None:
    assert [item.name for item in chosen_targets(two_targets(tmp_path), names)] == chosen


def test_an_unknown_target_is_refused_with_the_known_ones(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="no target summit; there are: base, default"):
        chosen_targets(two_targets(tmp_path), ["summit"])


def test_without_influxdb_nothing_can_be_chosen(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="SQUASH_INFLUX_URL"):
        chosen_targets(make_settings(tmp_path), [])


def test_there_is_a_drainer_for_each_target_and_the_record_knows_it(tmp_path: Path) -> None:
    settings = two_targets(tmp_path)
    record = open_record(tmp_path)
    drainers = make_drainers(record, Schema(), settings, settings.targets)
    assert [drainer.name for drainer in drainers] == ["default", "base"]
    with record.read() as connection:
        assert target_names(connection) == ["base", "default"]
    for drainer in drainers:
        drainer.stop()
        drainer.run()
    record.close()
