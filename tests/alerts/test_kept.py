"""Alerts are part of the record: they are checked, and go with it."""

from pathlib import Path

import pytest

from squash_api.index.checking import check_record
from squash_api.index.jobs import delete_job
from squash_api.judging.alert_texts import LATE
from squash_api.judging.specifications import DEFAULT_MAX_AGE_S
from squash_api.record.copying import Progress
from squash_api.record.installation import move
from squash_api.record.jobs import newest_received_ns
from squash_api.schema.names import SERIES_TAGS
from squash_api.site import Site
from tests.support.answers import record_of_1_2_1
from tests.support.builders import make_settings
from tests.support.definitions import ROOT, spec
from tests.support.raised import (
    AlertedObservatory,
    alerts_in,
    bring_up_to_date,
    events_in,
    make_engine,
)

pytestmark = pytest.mark.sqlite


def findings(site: AlertedObservatory) -> list[str]:
    return [f"{found.kind}: {found.what}" for found in check_record(site.record, site.deriver)]


def test_a_check_finds_what_alerts_refer_to_and_is_not_there(tmp_path: Path) -> None:
    with AlertedObservatory(tmp_path) as site:
        site.define(spec())
        job = site.job(9.0)
        assert len(site.living()) == 1
        site.delete(job)
        assert site.living() == []
        # A deleted job leaves its row.
        assert findings(site) == []
        site.record.write(
            lambda connection: connection.exec_driver_sql(
                """UPDATE alert SET opened_job_id = 77;"""
            )
        )
        assert findings(site) == [
            "reference: 1 of alert name by opened_job_id a job that is not there"
        ]


def test_alerts_go_with_a_record_that_is_moved_and_live_on_there(tmp_path: Path) -> None:
    here, there = tmp_path / "here", tmp_path / "there"
    here.mkdir()
    there.mkdir()
    with AlertedObservatory(here) as old:
        old.define(spec())
        old.job(9.0)
        old.silence("p")
        before, url, now_ns = old.living(), old.settings.database_url, old.now_ns
    so_far = Progress()
    for _ in move(url, url.replace("/here/", "/there/"), so_far):
        pass
    rows = {item.table: item.rows for item in so_far.tables}
    assert [rows[name] for name in ("alert", "alert_group", "alert_event", "silence")] == [
        1,
        1,
        2,
        1,
    ]
    with Site(make_settings(there)) as site:
        engine = make_engine(site, clock=lambda: now_ns)
        bring_up_to_date(site, engine)
        assert alerts_in(site) == before
        delete_job(site.record, 1, account=ROOT)
        bring_up_to_date(site, engine)
        assert alerts_in(site) == []


def test_a_record_that_is_older_than_alerts_gets_those_that_its_standings_have(
    tmp_path: Path,
) -> None:
    (tmp_path / "squash.db").write_bytes(record_of_1_2_1())
    # The service upgrades a record when it opens it.
    with Site(make_settings(tmp_path), is_made=True) as site:
        site.deriver.catch_up()
        with site.record.read() as connection:
            now_ns = (newest_received_ns(connection) or 0) + 10**9
        bring_up_to_date(site, make_engine(site, clock=lambda: now_ns))
        site.standings.refresh(now_ns=now_ns)
        # Others have alerts of other series than standings, or none.
        usual = {
            name
            for name, some in site.definitions.in_force.at(None).by_metric.items()
            if all(item.per == SERIES_TAGS and item.muted_through is None for item in some)
        }
        broken = {
            (item.metric, tuple(sorted(item.tags))): item.severity
            for item in site.standings.present()
            if item.metric in usual
            and item.severity
            and item.time_ns > now_ns - DEFAULT_MAX_AGE_S * 10**9
        }
        found: dict[tuple[str, tuple[tuple[str, str], ...]], int] = {}
        for row in alerts_in(site):
            key = row.metric, tuple(sorted(row.tags.items()))
            if row.metric in usual and not row.branch.startswith(LATE):
                found[key] = max(row.severity, found.get(key, 0))
        assert found == broken
        assert len(found) > 5
        opened = [item for item in events_in(site) if item.kind == "opened"]
        assert {item.detail.get("found") for item in opened} == {"at start"}
