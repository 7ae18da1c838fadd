from typing import Any

import pytest
from sqlalchemy import event

from squash_api.ingest.stored_job import load_job
from squash_api.record.metrics import declare_metrics
from squash_api.standings.job_states import JobState, JobStates, job_report, total
from tests.support.definitions import ADA, spec
from tests.support.observatory import Observatory


@pytest.fixture
def states(site: Observatory) -> JobStates:
    return site.states


def limit(last: str, value: float = 5.0, **changes: Any) -> dict[str, Any]:
    return spec(f"p.a.{last}", value=value, tags=[last], **changes)


def state(states: JobStates, job_id: int, **options: Any) -> JobState:
    return states.of([job_id], **options)[job_id]


def numbers(state: JobState) -> tuple[tuple[int, ...], int, int]:
    return state.failed, state.passed, state.not_measured


# What a state says


def test_the_worst_level_that_is_broken_is_the_word() -> None:
    assert JobState((1, 0, 0), passed=5).word == "INFO"
    assert JobState((1, 2, 1)).word == "CRITICAL"
    assert JobState((1, 0, 0), passed=1, not_measured=3).word == "not measured"
    assert JobState(not_measured=3).word == "not measured"
    assert JobState().word == "no limit"


def test_passing_needs_a_verdict_and_nothing_of_at_least_warning() -> None:
    assert JobState(passed=1).is_passing()
    assert JobState((2, 0, 0)).is_passing()
    assert not JobState(passed=9, not_measured=1).is_passing()
    assert not JobState((0, 1, 0), passed=9).is_passing()
    assert not JobState(not_measured=1).is_passing()


def test_states_add_up() -> None:
    found = total([JobState((1, 0, 2), 3, 4), JobState((0, 1, 0), 1, 1)])
    assert found == JobState((1, 1, 2), 4, 5)


# Judging from the index


def test_verdicts_are_counted_by_level(site: Observatory, states: JobStates) -> None:
    site.define(limit("minimum", 8.0), limit("design", 5.0), limit("stretch", 3.0))
    assert numbers(state(states, site.job(4.0))) == ((1, 0, 0), 2, 0)
    assert numbers(state(states, site.job(9.0))) == ((1, 1, 1), 0, 0)
    assert numbers(state(states, site.job(None))) == ((0, 0, 0), 0, 3)


def test_metrics_are_counted_by_their_worst_verdict(site: Observatory, states: JobStates) -> None:
    site.define(limit("minimum", 8.0), limit("design", 5.0), limit("stretch", 3.0))
    assert state(states, site.job(4.0)).counts == {"INFO": 1}
    assert state(states, site.job(9.0)).states == {"p.a": "CRITICAL"}
    assert state(states, site.job(None)).counts == {"not measured": 1}
    assert state(states, site.job(1.0, name="p.b")).counts == {}


def test_a_limit_that_cannot_judge_counts_for_nothing(site: Observatory, states: JobStates) -> None:
    site.define(limit("design"))
    job = site.job(1.0)
    site.record.write(lambda connection: declare_metrics(connection, {"p.a": "arcsec"}))
    assert state(states, job, is_now=True).word == "no limit"


def test_a_job_without_limits_has_none(site: Observatory, states: JobStates) -> None:
    site.define(limit("design"))
    assert state(states, site.job(9.0, name="p.b")) == JobState()


def test_only_what_applies_counts(site: Observatory, states: JobStates) -> None:
    site.define(limit("r", metadata_query={"filter_name": "r", "visit": 7}))
    assert state(states, site.job(9.0, filter_name="r", visit=7)).word == "WARNING"
    assert state(states, site.job(9.0, filter_name="r", visit=8)).word == "no limit"


def test_the_limits_at_receipt_count_unless_todays_are_asked_for(
    site: Observatory, states: JobStates
) -> None:
    job = site.job(4.0)
    assert state(states, job).word == "no limit"
    site.define(limit("design", 3.0))
    assert state(states, job).word == "no limit"
    assert state(states, job, is_now=True).word == "WARNING"


def test_a_change_of_the_unit_changes_no_verdict(site: Observatory, states: JobStates) -> None:
    site.define(limit("design", 5.0))
    job = site.job(4.0)
    assert state(states, job).word == "passed"
    document = {"name": "p.a", "unit": "mag", "description": "Another."}
    site.definitions.put("metric", "p.a", document, ADA)
    assert state(states, job).word == "passed"


def test_a_job_that_is_measured_again_is_judged_again(site: Observatory, states: JobStates) -> None:
    from squash_api.index.jobs import post_measurement

    site.define(limit("design", 5.0))
    job = site.job(9.0)
    assert state(states, job).word == "WARNING"
    document = {"metric": "p.a", "value": 1.0, "unit": "mmag"}
    post_measurement(site.record, site.metrics, job_id=job, document=document, account=ADA)
    site.derive()
    assert state(states, job).word == "passed"


def test_deleted_jobs_are_left_out(site: Observatory, states: JobStates) -> None:
    kept, gone = site.job(), site.job()
    site.delete(gone)
    assert states.of([kept, gone, 99]).keys() == {kept}


def test_what_another_job_does_not_measure_counts_for_nothing(
    site: Observatory, states: JobStates
) -> None:
    site.define(limit("design", 5.0), spec("p.b.design", value=5.0))
    job, other = site.job(9.0), site.job(9.0, name="p.b")
    judged = states.judged_by(site.revision, [job, other], like=other)
    assert (judged[job].word, judged[other].word) == ("no limit", "WARNING")


def test_states_agree_with_reports(site: Observatory, states: JobStates) -> None:
    site.define(
        limit("minimum", 8.0),
        limit("mag", 0.005, unit="mag"),
        limit("i", 1.0, metadata_query={"filter_name": "i"}),
        limit("text", 2.0, metadata_query={"note": "a b", "airmass": 1.5}),
        spec("p.b.stretch", value=1.0, tags=["stretch"]),
    )
    jobs = [
        site.job(9.0, filter_name="r"),
        site.job(6.0, filter_name="i"),
        site.job(3.0, note="a b", airmass=1.5),
        site.job(None, note="a b", airmass=1.6),
        site.job(2.0, name="p.b"),
    ]
    found = states.of(jobs)
    for job_id in jobs:
        with site.record.read() as connection:
            row, job = load_job(connection, job_id)
        verdicts = job_report(
            row, job, definitions=site.definitions, metrics=site.metrics, is_now=False
        )
        failed = [item.level for item in verdicts if item.status == "failed"]
        assert numbers(found[job_id]) == (
            tuple(failed.count(level) for level in ("INFO", "WARNING", "CRITICAL")),
            sum(item.status == "passed" for item in verdicts),
            sum(item.status == "not measured" for item in verdicts),
        )


def test_what_is_known_is_not_read_again(site: Observatory, states: JobStates) -> None:
    site.define(limit("design"))
    jobs = [site.job() for _ in range(3)]
    states.of(jobs)
    statements: list[str] = []
    engine = site.record._engine
    event.listen(
        engine, "before_cursor_execute", lambda *arguments: statements.append(arguments[2])
    )
    states.of(jobs)
    assert statements
    assert not [text for text in statements if "FROM measurement" in text]
