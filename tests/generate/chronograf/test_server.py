import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from squash_api.generate.chronograf.server import Chronograf, Dashboard
from squash_api.generate.output import MARK
from squash_api.generate.servers import ServerError, UnreachableError


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
    chronograf.put(dashboard(), None)
    (found,) = chronograf.dashboards()
    assert found.name == "Metrics"
    assert found.id != "2000"


def test_what_the_server_keeps_is_equal_to_what_was_sent(chronograf: Chronograf) -> None:
    chronograf.put(dashboard(), None)
    assert dashboard().equals(chronograf.dashboards()[0])


def test_the_server_keeps_the_mark_in_a_note(chronograf: Chronograf) -> None:
    chronograf.put(dashboard(), None)
    assert chronograf.dashboards()[0].is_ours


def test_a_dashboard_is_replaced_under_its_id(chronograf: Chronograf) -> None:
    chronograf.put(dashboard(), None)
    (old,) = chronograf.dashboards()
    chronograf.put(dashboard(name="Metrics", w=6), old)
    (new,) = chronograf.dashboards()
    assert new.id == old.id
    assert dashboard(w=6).equals(new)
    assert not dashboard().equals(new)


def test_a_dashboard_that_is_refused_is_told(chronograf: Chronograf) -> None:
    with pytest.raises(ServerError, match=r"Unparsable JSON \(400\)"):
        chronograf.put(dashboard(w=1.5), None)
    assert chronograf.dashboards() == []


def test_a_dashboard_is_taken_away(chronograf: Chronograf) -> None:
    chronograf.put(dashboard(), None)
    chronograf.put(dashboard("Others"), None)
    first = next(found for found in chronograf.dashboards() if found.name == "Metrics")
    chronograf.remove(first)
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
    with pytest.raises(ServerError, match="reads it from a file"):
        chronograf.remove(found)
    place.unlink()


def test_another_server_is_not_taken_for_a_chronograf(kapacitor_url: str) -> None:
    with pytest.raises(UnreachableError, match="there is no Chronograf at"):
        Chronograf(kapacitor_url)
