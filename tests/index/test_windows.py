from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from squash_api.index import values, windows
from squash_api.index.derived import mark_for_rederivation, waiting_for_rederivation
from squash_api.index.windows import MeasuredJob, Wanted, Windows
from tests.support.measured_jobs import MeasuredJobs


@pytest.fixture
def jobs(tmp_path: Path) -> Iterator[MeasuredJobs]:
    with MeasuredJobs(tmp_path) as jobs:
        yield jobs


def read(jobs: MeasuredJobs, *names: str, window: int = 4096, **wanted: Any) -> list[MeasuredJob]:
    jobs.deriver.catch_up()
    found: list[MeasuredJob] = []
    with jobs.record.read() as connection:
        plan = Windows(connection).plan(Wanted(jobs.ids(*(names or ("p.a",))), **wanted))
        at_ns: int | None = -1
        while at_ns is not None:
            result = Windows(connection).read(plan, after_ns=at_ns, jobs=window)
            found.extend(result.jobs)
            assert result.through_ns is None or result.through_ns > at_ns
            at_ns = result.through_ns
    return found


def ids(found: list[MeasuredJob]) -> list[int]:
    return [item.job_id for item in found]


@pytest.mark.parametrize("window", [1, 2, 3, 4096])
def test_jobs_come_in_the_order_of_time_whatever_the_windows(
    jobs: MeasuredJobs, window: int
) -> None:
    for number, time_ns in enumerate((50, 10, 30, 20, 40)):
        jobs.add({"p.a": number}, time_ns=time_ns)
    found = read(jobs, window=window)
    assert [(item.time_ns, item.values[0][1]) for item in found] == [
        (10, 1.0),
        (20, 3.0),
        (30, 2.0),
        (40, 4.0),
        (50, 0.0),
    ]


def test_values_of_a_job_come_in_the_order_of_the_wanted_metrics(jobs: MeasuredJobs) -> None:
    jobs.add({"p.a": 1, "p.b": 2, "q.a": 3})
    (found,) = read(jobs, "q.a", "p.a")
    assert found.values == [(jobs.ids("q.a")[0], 3.0), (jobs.ids("p.a")[0], 1.0)]


def test_a_job_without_the_metric_is_left_out(jobs: MeasuredJobs) -> None:
    jobs.add({"q.a": 3})
    assert read(jobs) == []


@pytest.mark.parametrize(("has_absent", "expected"), [(False, []), (True, [None])])
def test_absent_values_come_where_they_are_wanted(
    jobs: MeasuredJobs, expected: list[None], *, has_absent: bool
) -> None:
    jobs.add({"p.a": None})
    assert [item.values[0][1] for item in read(jobs, has_absent=has_absent)] == expected


def test_both_ends_of_the_time_count(jobs: MeasuredJobs) -> None:
    for time_ns in (10, 20, 30, 40):
        jobs.add({"p.a": 1}, time_ns=time_ns)
    assert [item.time_ns for item in read(jobs, since_ns=20, until_ns=30)] == [20, 30]


@pytest.mark.parametrize("window", [1, 4096])
@pytest.mark.parametrize(
    ("tags", "expected"),
    [
        ({"filter": ["r"]}, [1]),
        ({"filter": ["r", "R"]}, [1, 3]),
        ({"filter": ["r", "i"], "instrument": ["HSC"]}, [1, 2]),
        ({"filter": ['"r"%_']}, [4]),
        ({"filter": ["z"]}, []),
        ({"tract": ["r"]}, []),
    ],
)
def test_tags_are_compared_exactly(
    jobs: MeasuredJobs, tags: dict[str, list[str]], expected: list[int], window: int
) -> None:
    for name in ("r", "i", "R", '"r"%_'):
        instrument = "hsc" if name == "R" else "HSC"
        jobs.add({"p.a": 1}, filter=name, instrument=instrument)
    assert ids(read(jobs, tags=tags, window=window)) == expected


def test_many_sets_of_tags_give_the_same(
    jobs: MeasuredJobs, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(values, "_MOST_SETS_IN_SQL", 1)
    for tract in range(5):
        jobs.add({"p.a": 1}, tract=tract, filter="r" if tract % 2 else "i")
    assert ids(read(jobs, tags={"filter": ["r"]})) == [2, 4]


@pytest.mark.parametrize("window", [1, 4096])
def test_jobs_of_runs_and_listed_jobs_are_found(jobs: MeasuredJobs, window: int) -> None:
    for number in range(6):
        jobs.add({"p.a": number}, env={"ci_id": str(number // 2)}, time_ns=100 - number)
    assert ids(read(jobs, run_ids=["0", "2"], window=window)) == [6, 5, 2, 1]
    assert ids(read(jobs, job_ids=[2, 5, 77], window=window)) == [5, 2]
    assert ids(read(jobs, job_ids=[2, 5], run_ids=["0"], window=window)) == [2]
    assert ids(read(jobs, run_ids=["0", "1"], since_ns=97, until_ns=99, window=window)) == [4, 3, 2]
    assert read(jobs, job_ids=[]) == []


def test_jobs_of_a_version_are_found(jobs: MeasuredJobs) -> None:
    for version in ("w_1", "w_2", None):
        jobs.add({"p.a": 1}, version_tag=version)
    assert [item.version_tag for item in read(jobs, version_tags=["w_2"])] == ["w_2"]


def test_metadata_comes_where_it_is_wanted(jobs: MeasuredJobs) -> None:
    jobs.add({"p.a": 1}, airmass=1.25, note="good", run_url="https://ci/1", ci_id="7")
    (bare,) = read(jobs)
    (full,) = read(jobs, has_fields=True)
    assert (bare.fields, bare.run_id, bare.run_url) == ({}, "7", "https://ci/1")
    assert full.fields == {"meta.airmass": 1.25, "meta.note.text": "good"}


def test_jobs_are_chosen_by_their_metadata(jobs: MeasuredJobs) -> None:
    for airmass in (1.0, 1.5, 2.0):
        jobs.add({"p.a": 1}, airmass=airmass)
    found = read(jobs, suits=lambda fields: fields["meta.airmass"] == 1.5)
    assert (ids(found), found[0].fields) == ([2], {})


def test_deleted_jobs_and_those_after_the_last_are_left_out(jobs: MeasuredJobs) -> None:
    for _ in range(4):
        jobs.add({"p.a": 1})
    jobs.deriver.catch_up()
    jobs.delete(2)
    assert ids(read(jobs, through=3)) == [1, 3]
    assert ids(read(jobs, job_ids=[2, 3])) == [3]


@pytest.mark.parametrize("spread", [1, 100])
def test_windows_end_where_their_jobs_have_too_many_values(
    jobs: MeasuredJobs, monkeypatch: pytest.MonkeyPatch, spread: int
) -> None:
    monkeypatch.setattr(windows, "MOST_VALUES", 4)
    for number in range(1, 400):
        if number % spread == 0:
            jobs.add({"p.a": number, "p.b": number, "q.a": number}, time_ns=number)
        else:
            jobs.add({}, time_ns=number)
    jobs.deriver.catch_up()
    with jobs.record.read() as connection:
        wanted = Wanted(jobs.ids("p.a", "p.b", "q.a"), since_ns=100, until_ns=310)
        reading = Windows(connection)
        first = reading.read(reading.plan(wanted), after_ns=None, jobs=4096)
    assert sum(len(item.values) for item in first.jobs) <= 4
    found = read(jobs, "p.a", "p.b", "q.a", since_ns=100, until_ns=310)
    assert [len(item.values) for item in found] == [3] * len(range(100, 311, spread))


def test_the_time_of_what_is_looked_at_is_known(jobs: MeasuredJobs) -> None:
    for number in range(5):
        jobs.add({"p.a": 1}, time_ns=10 + number, ci_id=str(number % 2))
    jobs.deriver.catch_up()
    with jobs.record.read() as connection:
        reading = Windows(connection)
        spans = [
            reading.span(reading.plan(Wanted(jobs.ids("p.a"), **more)))
            for more in (
                {},
                {"since_ns": 12, "until_ns": 13},
                {"run_ids": ["1"]},
                {"tags": {"filter": ["x"]}},
                {"since_ns": 99},
            )
        ]
    assert spans == [(10, 14), (12, 13), (11, 13), (0, 0), (0, 0)]


def test_jobs_that_wait_to_be_derived_again_are_named(jobs: MeasuredJobs) -> None:
    for _ in range(3):
        jobs.add({"p.a": 1})
    jobs.deriver.catch_up()
    with jobs.record.read() as connection:
        assert waiting_for_rederivation(connection, [1, 2]) == set()
    jobs.record.write(lambda connection: mark_for_rederivation(connection, [2, 3]))
    with jobs.record.read() as connection:
        assert waiting_for_rederivation(connection, [1, 2]) == {2}


@pytest.fixture
def four_jobs(tmp_path: Path) -> Iterator[MeasuredJobs]:
    """Jobs 1 to 4 of the times 40, 30, 20, 10 and the runs a, a, b, b."""
    jobs = MeasuredJobs(tmp_path)
    for number, name in enumerate(["r", "i", "R", 'r"%']):
        jobs.add({}, time_ns=40 - 10 * number, filter=name, ci_id="aabb"[number], instrument="HSC")
    jobs.deriver.catch_up()
    yield jobs
    jobs.close()


def listed(jobs: MeasuredJobs, **changes: Any) -> list[tuple[int, int]] | None:
    with jobs.record.read() as connection:
        found = Windows(connection).plan(Wanted([1], **changes)).listed
    return None if found is None else list(found)


def test_without_names_no_jobs_are_listed(four_jobs: MeasuredJobs) -> None:
    assert listed(four_jobs) is None
    assert listed(four_jobs, job_ids=[]) == []


def test_named_jobs_come_in_the_order_of_time(four_jobs: MeasuredJobs) -> None:
    assert listed(four_jobs, job_ids=[1, 3, 99]) == [(20, 3), (40, 1)]
    assert listed(four_jobs, run_ids=["a"]) == [(30, 2), (40, 1)]
    assert listed(four_jobs, run_ids=["a", "b"], job_ids=[4, 2]) == [(10, 4), (30, 2)]


def test_both_ends_of_the_time_count_for_listed_jobs(four_jobs: MeasuredJobs) -> None:
    assert listed(four_jobs, run_ids=["a", "b"], since_ns=20, until_ns=30) == [(20, 3), (30, 2)]


def test_deleted_jobs_are_not_listed(four_jobs: MeasuredJobs) -> None:
    four_jobs.delete(2)
    assert listed(four_jobs, run_ids=["a"]) == [(40, 1)]
