import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from squash_api.generate.files import MARK
from squash_api.generate.live.chronograf import Chronograf
from squash_api.generate.live.http import LiveError, UnreachableError
from squash_api.generate.live.objects import Dashboard


def dashboard(name: str = "Metrics", **changes: Any) -> Dashboard:
    cell = {
        "i": "a",
        "x": 0,
        "y": 0,
        "w": 12,
        "h": 3,
        "name": "What it is",
        "type": "note",
        "note": f'*Made by {MARK}* "a" < b & c',
        "queries": [{"query": "", "queryConfig": None, "source": "", "type": "influxql"}],
    }
    document = {
        "id": "2000",
        "name": name,
        "generated": MARK,
        "organization": "default",
        "cells": [{**cell, **changes}],
        "templates": [],
    }
    return Dashboard(name, "2000", document)


@pytest.fixture
def chronograf(chronograf_url: str) -> Iterator[Chronograf]:
    server = Chronograf(chronograf_url)
    yield server
    server.close()


def test_an_empty_server_has_nothing(chronograf: Chronograf) -> None:
    assert chronograf.dashboards() == []


def test_a_dashboard_is_made_under_an_id_of_the_server(chronograf: Chronograf) -> None:
    chronograf.create_dashboard(dashboard())
    (found,) = chronograf.dashboards()
    assert found.name == "Metrics"
    assert found.id != "2000"


def test_what_the_server_keeps_is_equal_to_what_was_sent(chronograf: Chronograf) -> None:
    chronograf.create_dashboard(dashboard())
    assert dashboard().equals(chronograf.dashboards()[0])


def test_the_server_keeps_the_mark_in_a_note(chronograf: Chronograf) -> None:
    chronograf.create_dashboard(dashboard())
    assert chronograf.dashboards()[0].is_ours


def test_a_dashboard_is_replaced_under_its_id(chronograf: Chronograf) -> None:
    chronograf.create_dashboard(dashboard())
    (old,) = chronograf.dashboards()
    chronograf.replace_dashboard(old, dashboard(name="Metrics", w=6))
    (new,) = chronograf.dashboards()
    assert new.id == old.id
    assert dashboard(w=6).equals(new)
    assert not dashboard().equals(new)


def test_a_dashboard_that_is_refused_is_told(chronograf: Chronograf) -> None:
    with pytest.raises(LiveError, match=r"Unparsable JSON \(400\)"):
        chronograf.create_dashboard(dashboard(w=1.5))
    assert chronograf.dashboards() == []


def test_a_dashboard_is_taken_away(chronograf: Chronograf) -> None:
    chronograf.create_dashboard(dashboard())
    chronograf.create_dashboard(dashboard("Others"))
    first = next(found for found in chronograf.dashboards() if found.name == "Metrics")
    chronograf.delete_dashboard(first)
    assert [found.name for found in chronograf.dashboards()] == ["Others"]


def test_a_dashboard_of_a_file_is_listed_as_it_is(
    chronograf: Chronograf, live_resources: Path
) -> None:
    place = live_resources / "a.dashboard"
    place.write_text(json.dumps(dashboard().document))
    (found,) = chronograf.dashboards()
    assert (found.id, dashboard().equals(found)) == ("2000", True)
    place.unlink()


def test_a_dashboard_of_a_file_is_not_taken_away(
    chronograf: Chronograf, live_resources: Path
) -> None:
    place = live_resources / "a.dashboard"
    place.write_text(json.dumps(dashboard().document))
    (found,) = chronograf.dashboards()
    with pytest.raises(LiveError, match="reads it from a file"):
        chronograf.delete_dashboard(found)
    place.unlink()


def test_another_server_is_not_taken_for_a_chronograf(kapacitor_url: str) -> None:
    with pytest.raises(UnreachableError, match="there is no Chronograf at"):
        Chronograf(kapacitor_url)
