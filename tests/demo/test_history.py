import json
from datetime import UTC, date, datetime, timedelta
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from squash_api.client import Job
from squash_api.commands.judge import judge_file
from squash_api.demo.history import FILTERS, History, make_history, run_id_of
from squash_api.ingest.document import decode_job
from squash_api.metrics_packages.loading import MetricsPackage, load_metrics_packages
from squash_api.schema.names import Schema

NOW = datetime(2026, 11, 22, 1, 30, tzinfo=UTC)
ROOT = Path(__file__).parents[2]


@cache
def history() -> History:
    return make_history(days=60, now=NOW, seed=17)


@cache
def package() -> MetricsPackage:
    return load_metrics_packages(
        [ROOT / "specs" / "srd", ROOT / "examples" / "specs" / "camera"], today=date.min
    )


def documents(made: History) -> list[dict[str, Any]]:
    return [job.to_json() for day in made.days for job in day] + [
        made.fresh.to_json(),
        made.spare.to_json(),
    ]


def moment(job: Job) -> datetime:
    return datetime.fromisoformat(job.meta["env"]["date"])


def violations(job: Job) -> set[str]:
    body = json.dumps(job.to_json()).encode()
    verdicts, _ = judge_file(decode_job(body), package(), tags=[])
    return {item.name for item in verdicts if item.status == "failed"}


def in_red(index: int) -> Job:
    return next(job for job in history().days[index] if job.meta["filter_name"] == "r")


def test_the_same_seed_and_time_give_the_same_jobs() -> None:
    assert documents(make_history(days=60, now=NOW, seed=17)) == documents(history())


def test_another_seed_gives_other_jobs() -> None:
    assert documents(make_history(days=60, now=NOW, seed=18)) != documents(history())


def test_sixty_days_have_a_job_per_filter_each() -> None:
    assert [len(day) for day in history().days] == [len(FILTERS)] * 60


def test_the_days_follow_each_other_and_end_yesterday() -> None:
    days = [{moment(job).date() for job in day} for day in history().days]
    assert days == [{NOW.date() - timedelta(days=60 - index)} for index in range(60)]


def test_the_fresh_job_is_of_now() -> None:
    assert moment(history().fresh) == NOW


def test_no_job_is_of_the_future() -> None:
    early = datetime(2026, 11, 22, 0, 0, 1, tzinfo=UTC)
    made = make_history(days=2, now=early, seed=17)
    assert all(moment(job) <= early for day in made.days for job in day)


def test_a_time_of_another_zone_is_of_its_day_in_utc() -> None:
    zoned = NOW.astimezone(datetime.strptime("-0500", "%z").tzinfo)
    made = make_history(days=1, now=zoned, seed=17)
    assert moment(made.days[0][0]).date() == date(2026, 11, 21)


def test_no_identifier_of_a_measurement_occurs_twice() -> None:
    found = [item["identifier"] for job in documents(history()) for item in job["measurements"]]
    # The spare job is not sent with the others, but may be sent after them.
    assert len(set(found)) == len(found)


def test_the_jobs_of_a_day_share_their_run_and_no_others_do() -> None:
    runs = [{run_id_of(job) for job in day} for day in history().days]
    assert all(len(run) == 1 for run in runs)
    assert len(set.union(*runs)) == 60


def test_every_metric_is_declared_in_the_specs_of_this_repository() -> None:
    names = {name for day in history().days for job in day for name in job.measurements}
    assert names <= package().metrics.keys()


def test_every_metadata_value_can_be_a_tag_or_field() -> None:
    context = Schema().context(history().fresh.meta)
    assert not context.cleanings
    assert context.tags == {
        "env_name": "ldf",
        "instrument": "CFHT",
        "dataset": "cfht_nightly",
        "dataset_repo_url": "https://example.org/cfht_nightly.git",
        "filter": "r",
        "pipeline": "validate_drp",
        "camera_name": "MegaCam",
    }


@pytest.mark.parametrize("name", FILTERS)
def test_photometry_fails_in_every_job_of_the_regression_and_in_no_other(name: str) -> None:
    failed = [
        index
        for index, day in enumerate(history().days)
        for job in day
        if f"validate_drp.PA1.minimum_{name}" in violations(job)
    ]
    assert failed == list(history().regression)


def test_the_regression_lies_in_the_middle() -> None:
    assert history().regression == range(30, 36)


def test_the_culprit_changes_when_the_regression_begins_and_ends() -> None:
    commits = [day[0].meta["packages"]["meas_base"]["git_sha"] for day in history().days]
    changes = [index for index in range(1, 60) if commits[index] != commits[index - 1]]
    assert changes == [30, 36]


def test_other_specifications_fail_on_some_days_and_recover() -> None:
    failed = [violations(in_red(index)) for index in range(60)]
    # Those that fail now and then, apart from the regression.
    calm: list[set[str]] = [
        found for index, found in enumerate(failed) if index not in history().regression
    ]
    comes_and_goes = set().union(*calm) - calm[0].intersection(*calm)
    assert len({name.split(".")[1] for name in comes_and_goes}) >= 2


def test_the_fresh_job_passes_some_fails_some_and_lacks_some() -> None:
    body = json.dumps(history().fresh.to_json()).encode()
    verdicts, skipped = judge_file(decode_job(body), package(), tags=[])
    assert {item.status for item in verdicts} == {"passed", "failed", "not measured"}
    assert not skipped


def test_the_temperature_stays_within_what_a_camera_has() -> None:
    for start in (NOW, NOW + timedelta(days=182)):
        made = make_history(days=365, now=start, seed=3)
        values = [
            job.measurements["camera.AvgCameraBodySurfaceTemp"].value
            for day in made.days
            for job in day
        ]
        assert all(value is not None and -5.0 < value < 25.0 for value in values)


def test_one_day_has_its_regression_too() -> None:
    made = make_history(days=1, now=NOW, seed=17)
    assert made.regression == range(1)
    assert len(made.days) == 1
