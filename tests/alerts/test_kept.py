"""Alerts are part of the record: they are checked, and go with it."""

from pathlib import Path

import pytest

from squash_api.index.checking import check_record
from squash_api.index.jobs import delete_job
from squash_api.record.copying import Progress
from squash_api.record.installation import move
from squash_api.site import Site
from tests.support.builders import make_settings
from tests.support.definitions import ROOT, spec
from tests.support.raised import AlertedObservatory, alerts_in, bring_up_to_date, make_engine

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
