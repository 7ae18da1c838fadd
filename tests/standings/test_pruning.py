"""Old jobs are deleted in small transactions, once, as a deleted job is."""

import json
from itertools import islice
from pathlib import Path
from typing import Any

import pytest

from squash_api.delivery.reader import NO_WAIT
from squash_api.index.pruning import Age
from squash_api.record.audit import UNKNOWN, list_noted
from squash_api.record.deliveries import ensure_targets, pending_erasures
from squash_api.record.jobs import get_job, job_ids
from squash_api.record.record import Record
from squash_api.standings.keeping import Planner, Terms
from squash_api.standings.pruning import Retention, last_round, prune
from tests.support.builders import make_body, measured, store_job
from tests.support.definitions import ADA
from tests.support.observatory import DAY_NS, NOW_NS, Observatory

YEAR_AGO_NS = NOW_NS - 365 * DAY_NS


def fill(site: Observatory, *ages: float, **meta: Any) -> list[int]:
    site.record.write(lambda connection: ensure_targets(connection, ["summit"]))
    return [site.job(ago_ns=int(age * DAY_NS), **meta) for age in ages]


def prune_all(site: Observatory, *, most: int | None = None, **options: Any) -> int:
    """Prune what is older than a year; return the number of transactions."""
    terms = Terms(Age(YEAR_AGO_NS, ()), takes_last=options.pop("takes_last", False))
    planner = Planner(site.reader, site.states, terms)
    plan = planner.plan()
    steps = prune(site.record, site.reader, planner, plan, by=UNKNOWN, **options)
    return sum(1 for _ in islice(steps, most))


def left(record: Record) -> list[int]:
    with record.read() as connection:
        return job_ids(connection, after=0, limit=1000)


def noted(record: Record) -> list[tuple[str, str, dict[str, Any]]]:
    with record.read() as connection:
        rows = list_noted(connection, limit=10, action="job")
        return [(row.action, row.subject, row.detail) for row in rows]


def test_a_pruned_job_leaves_a_tombstone_and_its_points_are_erased(site: Observatory) -> None:
    jobs = fill(site, 500, 400, 1)
    prune_all(site)
    assert left(site.record) == jobs[1:]
    with site.record.read() as connection:
        row = get_job(connection, jobs[0])
        (erasure,) = pending_erasures(connection, "summit", limit=9)
    assert row is not None
    assert (row.body, row.deleted_ns is None) == (None, False)
    assert (erasure.job_id, erasure.measurements, erasure.is_deleted) == (jobs[0], ("p",), True)


def test_points_stay_if_that_is_asked_for(site: Observatory) -> None:
    jobs = fill(site, 500, 400, 1)
    prune_all(site, keeps_points=True)
    assert left(site.record) == jobs[1:]
    with site.record.read() as connection:
        assert pending_erasures(connection, "summit", limit=9) == []


def test_values_that_stand_stay_as_they_are(site: Observatory) -> None:
    fill(site, 500, 400, 0.2)
    before = site.stand()
    prune_all(site)
    assert site.stand() == before
    assert site.values() == [1.0]


def test_a_prune_is_noted_once_and_only_if_something_goes(
    site: Observatory, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("squash_api.index.pruning._BATCH", 2)
    fill(site, *range(410, 400, -1), 1)
    size = 9 * len(make_body(measured("p.a", 1.0), instrument="HSC"))
    assert prune_all(site) == 5
    assert noted(site.record) == [("job.prune", "2025-09-21T14:14:00Z", {"jobs": 9, "bytes": size})]
    assert prune_all(site) == 0
    assert len(noted(site.record)) == 1


def test_what_an_interrupted_prune_leaves_goes_with_the_next(
    site: Observatory, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("squash_api.index.pruning._BATCH", 2)
    jobs = fill(site, *range(410, 400, -1), 1)
    prune_all(site, most=2)
    assert left(site.record) == jobs[4:]
    prune_all(site)
    assert left(site.record) == jobs[9:]


def test_a_job_that_is_needed_by_now_stays(site: Observatory) -> None:
    jobs = fill(site, 500, 450, 400, 1)
    planner = Planner(site.reader, site.states, Terms(Age(YEAR_AGO_NS, ())))
    plan = planner.plan()
    site.record.write(
        lambda connection: connection.exec_driver_sql(
            "INSERT INTO added_measurement (job_id, document, user_id, created_ns)"
            f" VALUES ({jobs[0]}, '{json.dumps(measured('p.b'))}', {ADA.user_id}, {NOW_NS})"
        )
    )
    assert plan.jobs == 2
    *_, done = prune(site.record, site.reader, planner, plan, by=UNKNOWN)
    assert done.jobs == 1
    assert left(site.record) == [jobs[0], *jobs[2:]]


def test_jobs_that_were_read_are_deleted_in_parts_by_their_size(
    site: Observatory, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("squash_api.index.pruning._BATCH_BYTES", 10)
    fill(site, 500, 450, 400, 1)
    assert prune_all(site) == 2
    assert len(left(site.record)) == 2


def test_a_metric_that_no_job_has_any_more_is_forgotten(site: Observatory) -> None:
    store_job(
        site.record,
        body=make_body(measured("old.m", 1.0)),
        new_units={"old.m": "mmag"},
        revision=site.revision,
        asked_ns=YEAR_AGO_NS - 2,
        received_ns=YEAR_AGO_NS - 2,
    )
    site.derive()
    prune_all(site)
    site.metrics.refresh()
    assert "old.m" in site.metrics.now.by_name
    prune_all(site, takes_last=True)
    site.metrics.refresh()
    assert "old.m" not in site.metrics.now.by_name


class _Daily(Retention):
    """Prunes without waiting, at a time that the test sets."""

    def __init__(self, site: Observatory, *, stops_after: int = 1000) -> None:
        self.now_ns = NOW_NS
        self.waits = 0
        self.stops_after = stops_after
        super().__init__(
            site.record, site.reader, site.states, keep_s=365 * 86_400, clock=lambda: self.now_ns
        )

    def pause(self, seconds: float) -> None:  # noqa: ARG002
        self.waits += 1
        if self.waits >= self.stops_after:
            self.stop()


def test_once_a_day_whole_days_that_are_too_old_go(site: Observatory) -> None:
    jobs = fill(site, 500, 450, 400, 365.9, 0.5)
    daily = _Daily(site)
    daily.step()
    with site.record.read() as connection:
        found = last_round(connection)
    assert found is not None
    # 2025-09-21, which is not over yet for what is kept.
    assert found.to_json()["before"] == "2025-09-21T00:00:00Z"
    assert (found.jobs, found.kept["compared"], found.done_ns) == (3, 1, NOW_NS)
    assert left(site.record) == jobs[3:]
    jobs += fill(site, 499)
    daily.step()
    assert left(site.record) == jobs[3:]
    daily.now_ns += DAY_NS
    daily.step()
    assert left(site.record) == [jobs[3], jobs[4]]


def test_of_several_services_one_prunes_and_another_goes_on_if_it_has_stopped(
    site: Observatory, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("squash_api.index.pruning._BATCH", 1)
    fill(site, *range(410, 400, -1), 1)
    first, second = _Daily(site, stops_after=3), _Daily(site)
    assert first.step() == NO_WAIT
    assert len(left(site.record)) == 8
    second.step()
    assert len(left(site.record)) == 2
    assert [item[0] for item in noted(site.record)] == ["job.prune", "job.prune"]


def test_one_that_has_died_holds_its_lease_for_ten_minutes(
    site: Observatory, monkeypatch: pytest.MonkeyPatch
) -> None:
    fill(site, 500, 450, 1)
    first, second = _Daily(site), _Daily(site)
    monkeypatch.setattr(Planner, "plan", lambda _self: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        first.step()
    monkeypatch.undo()
    second.step()
    assert len(left(site.record)) == 3
    second.now_ns += 601 * 10**9
    second.step()
    assert len(left(site.record)) == 2


def test_it_waits_while_influxdb_has_many_points_to_delete(
    site: Observatory, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("squash_api.standings.pruning._MOST_ERASURES", 1)
    monkeypatch.setattr("squash_api.index.pruning._BATCH", 1)
    fill(site, *range(410, 400, -1), 1)
    daily = _Daily(site, stops_after=20)
    daily._targets = ("summit",)
    site.record.write(
        lambda connection: connection.exec_driver_sql("UPDATE target SET sent_through = 11")
    )
    daily.step()
    assert len(left(site.record)) == 9


def test_without_the_setting_nothing_is_pruned(tmp_path: Path) -> None:
    with Observatory(tmp_path) as site:
        assert site.retention() is None


def test_with_the_setting_the_service_prunes(tmp_path: Path) -> None:
    with Observatory(tmp_path, keep="400d") as site:
        found = site.retention()
        assert found is not None
        assert found._keep_ns == 400 * DAY_NS
