import gc
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import cached_property
from itertools import count
from pathlib import Path
from typing import Any

import httpx
import pytest
from pydantic import SecretStr

from squash_api.app import create_app
from squash_api.delivery.interpreter import spare_cycle_search, take_short_turns
from squash_api.errors import SettingsError
from squash_api.index.derived import check_tags
from squash_api.record.deliveries import target_names
from squash_api.record.engines import postgresql, sqlite
from squash_api.record.record import Connection, set_state
from squash_api.schema.names import Schema
from squash_api.settings import InfluxTarget
from squash_api.site import Site
from tests.support.builders import (
    add_test_user,
    make_body,
    make_settings,
    measured,
    store_job,
    with_record,
)
from tests.support.fake_influxdb import FakeInfluxDB
from tests.support.in_process import serving

PARTS = [name for name, part in vars(Site).items() if isinstance(part, cached_property)]


def two_targets(tmp_path: Path, **changes: Any) -> Site:
    further = (InfluxTarget(name="base", url="http://b.invalid"),)
    settings = make_settings(
        tmp_path, influx_url="http://a.invalid", influx_targets=further, **changes
    )
    return Site(settings, is_made=True, influx_transport=httpx.MockTransport(FakeInfluxDB()))


# What is opened, and when


def test_nothing_is_opened_that_nobody_asks_for(tmp_path: Path) -> None:
    before = threading.active_count()
    with Site(make_settings(tmp_path), is_made=True) as site:
        assert site.schema.tags
    assert (list(tmp_path.iterdir()), threading.active_count()) == ([], before)


@pytest.mark.parametrize("name", PARTS)
def test_each_part_can_be_the_first_and_is_opened_once(tmp_path: Path, name: str) -> None:
    with two_targets(tmp_path) as site:
        assert getattr(site, name) is getattr(site, name)


@pytest.mark.parametrize("name", PARTS)
def test_a_part_that_two_threads_ask_for_at_once_is_opened_once(tmp_path: Path, name: str) -> None:
    with two_targets(tmp_path) as site:
        both = threading.Barrier(2)

        def ask() -> Any:
            both.wait(60)
            return getattr(site, name)

        with ThreadPoolExecutor(2) as threads:
            one, other = (threads.submit(ask) for _ in range(2))
            assert one.result(60) is other.result(60)


def test_what_is_not_opened_by_the_start_can_be_opened_later(tmp_path: Path) -> None:
    with two_targets(tmp_path) as site:
        site.start()
        assert "reports" not in vars(site)
        site.open_all()
        assert set(PARTS) <= vars(site).keys()


def test_a_start_waits_for_another_replica_that_writes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for engine in (postgresql, sqlite):
        monkeypatch.setattr(engine, "_BUSY_TIMEOUT_MS", 1)
    begun, done = threading.Event(), threading.Event()

    def start(connection: Connection) -> None:
        set_state(connection, "started", "by the other")
        begun.set()
        done.wait(60)

    settings = make_settings(tmp_path)
    with Site(settings, is_made=True) as other, Site(settings, is_made=True) as site:
        other.start()
        writer = threading.Thread(target=other.record.write, args=(start,))
        writer.start()
        assert begun.wait(60)
        # Longer than jobs wait.
        timer = threading.Timer(0.1, done.set)
        timer.start()
        site.start()
        writer.join()
        timer.join()


def test_a_site_starts_while_another_thread_adds_to_its_class(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Where memory is taken, the search for cycles may run, and let another thread run.
    numbers = count()
    with two_targets(tmp_path) as site:
        site.start()

        def add(*_: Any) -> None:
            monkeypatch.setattr(Site, f"other{next(numbers)}", None, raising=False)

        # Python keeps some pairs that are free; these need memory.
        pairs = [(number, number) for number in range(10_000)]
        before = gc.get_threshold()
        gc.callbacks.append(add)
        gc.set_threshold(1)
        try:
            site.open_all()
        finally:
            gc.set_threshold(*before)
            gc.callbacks.remove(add)
    assert next(numbers) > 0
    assert pairs


def test_a_closed_site_has_no_threads(tmp_path: Path) -> None:
    before = set(threading.enumerate())
    with two_targets(tmp_path) as site:
        site.start()
        assert set(threading.enumerate()) != before
    assert set(threading.enumerate()) == before


def test_a_command_needs_no_secret_unless_it_asks_for_accounts(tmp_path: Path) -> None:
    with Site(make_settings(tmp_path, secret=SecretStr("short")), is_made=True) as site:
        assert not site.metrics.now.by_name
        with pytest.raises(SettingsError, match="SQUASH_SECRET"):
            site.accounts  # noqa: B018  asking opens it
        with pytest.raises(SettingsError, match="SQUASH_SECRET"):
            site.start()


# The record


@pytest.mark.sqlite
def test_those_who_only_read_make_no_record(tmp_path: Path) -> None:
    with Site(make_settings(tmp_path)) as site, pytest.raises(SettingsError):
        site.start()
    assert not list(tmp_path.iterdir())


def test_a_wrong_setting_makes_no_record(tmp_path: Path) -> None:
    settings = make_settings(tmp_path, tags=("run_id",))
    with Site(settings, is_made=True) as site, pytest.raises(SettingsError):
        site.start()
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(("tags_of", "is_there"), [("settings", False), ("record", True)])
def test_the_tags_are_those_of_the_settings_or_of_the_record(
    tmp_path: Path, tags_of: Any, *, is_there: bool
) -> None:
    with Site(make_settings(tmp_path, tags=("site",)), is_made=True) as site:
        check_tags(site.record, Schema(("visit",)))
    with Site(make_settings(tmp_path, tags=("site",)), tags_of=tags_of) as site:
        assert ("visit" in site.schema.tags) == is_there


# Delivery


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
    settings = two_targets(tmp_path).settings
    assert [item.name for item in settings.choose_targets(names)] == chosen


def test_an_unknown_target_is_refused_with_the_known_ones(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="no target summit; known targets: base, default"):
        two_targets(tmp_path).settings.choose_targets(["summit"])


def test_without_influxdb_nothing_can_be_chosen(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="SQUASH_INFLUX_URL"):
        make_settings(tmp_path).choose_targets([])


def test_there_is_an_outlet_for_each_target_and_the_record_knows_it(tmp_path: Path) -> None:
    with two_targets(tmp_path) as site:
        outlets = site.outlets(site.settings.targets)
        assert [outlet.name for outlet in outlets] == ["default", "base"]
        with site.record.read() as connection:
            assert target_names(connection) == ["base", "default"]
        for outlet in outlets:
            outlet.close()


# How Python is set


@pytest.fixture
def as_before() -> Iterator[None]:
    before, turn_s = gc.get_threshold(), sys.getswitchinterval()
    yield
    gc.set_threshold(*before)
    sys.setswitchinterval(turn_s)
    gc.unfreeze()


@pytest.mark.usefixtures("as_before")
def test_the_search_for_cycles_is_rare_but_not_off() -> None:
    spare_cycle_search()
    assert gc.isenabled()
    assert gc.get_threshold()[0] > 10_000


@pytest.mark.usefixtures("as_before")
def test_what_exists_is_left_out_of_the_search() -> None:
    spare_cycle_search()
    assert gc.get_freeze_count() > 0


@pytest.mark.usefixtures("as_before")
def test_a_thread_waits_no_longer_than_the_disk_takes() -> None:
    sys.setswitchinterval(0.005)
    take_short_turns()
    assert sys.getswitchinterval() < 0.005


@pytest.mark.sqlite
def test_a_site_that_only_reads_changes_nothing_and_shows_what_another_stores(
    tmp_path: Path,
) -> None:
    with Site(with_record(make_settings(tmp_path)), is_made=True) as writing:
        writing.start()
        add_test_user(writing.record)
        reading = make_settings(tmp_path, read_only="on", write_url="https://squash.example.org")
        app = create_app(reading)
        assert app.state.site.background._readers == [app.state.site.events]
        job_id = store_job(writing.record, body=make_body(measured("p.a", 1.5)))
        writing.deriver.catch_up()
        with serving(app) as client:
            assert client.get(f"/job/{job_id}").status_code == 200
            refused = client.post("/job", json={})
            assert (refused.status_code, refused.json()["code"]) == (503, "only_reads")
            words = "SQUASH_READ_ONLY is on. Write to https://squash.example.org."
            assert words in refused.json()["message"]
            assert client.get("/readyz").json()["status"] == "read-only"


@pytest.mark.sqlite
def test_a_site_that_only_reads_makes_no_record(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="there is no record at"):
        create_app(make_settings(tmp_path, read_only="on"))
    assert list(tmp_path.iterdir()) == []
