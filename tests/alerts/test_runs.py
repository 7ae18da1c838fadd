"""`alert.after` and `alert.min_runs`, at every boundary, on every kind of specification."""

import os
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from random import Random
from statistics import median
from typing import Any

import pytest

from squash_api.index.jobs import post_measurement
from squash_api.judging.alert_history import AlertHistory, PastJob
from squash_api.judging.alert_plan import watched_metrics
from squash_api.judging.specifications import specification_from_json
from tests.support.builders import STORE, make_body, make_new_job, measured, store_job
from tests.support.definitions import ADA, metric, spec
from tests.support.raised import AlertedObservatory

HISTORIES = int(os.environ.get("SQUASH_TEST_HISTORIES", "1"))
MINUTE_NS = 60 * 10**9
WELL, BROKEN = 1.0, 9.0
KINDS: dict[str, dict[str, Any]] = {
    "threshold": {"threshold": {"value": 5, "unit": "mmag", "operator": "<="}},
    "range": {"type": "range", "range": {"low": 0, "high": 5, "unit": "mmag"}},
    "trend": {
        "type": "trend",
        "trend": {"n": 3, "k": 3, "floor": 2, "unit": "mmag", "min_history": 3},
    },
    "job": {"type": "compound", "compound": {"any": ["a.x", "b.x"]}},
    "run": {"type": "compound", "compound": {"any": ["a.x", "b.x"], "over": "run"}},
}
# How many of how many runs, and the least number of runs.
CASES: list[tuple[int | None, int | None, int | None]] = [
    (None, None, None),
    (1, 1, None),
    (1, 3, None),
    (2, 3, None),
    (3, 3, None),
    (None, None, 3),
    (2, 3, 4),
]

History = list[tuple[int, float | None]]
"""The jobs of a series in the order of their times: the run of each, and its value."""


def histories() -> list[History]:
    """Return all histories of three runs, and some longer ones with several jobs in a run."""
    random = Random(14)
    values = (WELL, BROKEN, None)
    found = [list(enumerate(some)) for some in product(values, repeat=3)]
    for _ in range(20):
        runs = sorted(random.choices(range(7), k=10))
        found.append([(run, random.choice(values)) for run in runs])
    return found


def name_of(kind: str, number: int) -> str:
    return f"p.{kind}{number}"


def definitions() -> Iterator[dict[str, Any]]:
    yield spec("p.a.x")
    yield spec("p.b.x", value=100.0)
    for kind, written in KINDS.items():
        for number, (runs, of, least) in enumerate(CASES):
            after = {"after": {"runs": runs, "of": of}} if runs else {}
            least_runs = {"min_runs": least} if least else {}
            yield {
                "name": f"{name_of(kind, number)}.x",
                **written,
                "alert": {"per": ["detector"], **after, **least_runs},
            }


METRICS = ["p.a", "p.b", *(name_of(kind, n) for kind in KINDS for n in range(len(CASES)))]


def should_be_raised(kind: str, number: int, history: History) -> bool:
    """Say what the documentation says, without any code of the service."""
    newest: dict[int, float] = {}
    any_broken: set[int] = set()
    for run, value in reversed(history):
        if value is not None:
            newest.setdefault(run, value)
            if value > 5:
                any_broken.add(run)
    runs = list(newest)
    values = list(newest.values())

    def is_broken(place: int) -> bool:
        if kind == "run":
            return runs[place] in any_broken
        if kind != "trend":
            return values[place] > 5
        before = values[place + 1 : place + 4]
        if len(before) < 3:
            return False
        middle = median(before)
        scatter = median(abs(value - middle) for value in before)
        return abs(values[place] - middle) > max(2, 3 * 1.4826 * scatter)

    needed, of, least = CASES[number]
    if len(values) < max(least or 0, 1):
        return False
    broken = [is_broken(place) for place in range(min(of or 1, len(values)))]
    return sum(broken) >= (needed or 1)


def expected() -> set[tuple[str, str]]:
    return {
        (name_of(kind, number), str(detector))
        for kind in KINDS
        for number in range(len(CASES))
        for detector, history in enumerate(histories())
        if should_be_raised(kind, number, history)
    }


def shuffled() -> list[tuple[int, int, int, float | None]]:
    """Return the jobs of all histories in random order: detector, minute, run, value."""
    jobs = [
        (detector, minute, run, value)
        for detector, history in enumerate(histories())
        for minute, (run, value) in enumerate(history)
    ]
    Random(14).shuffle(jobs)
    return jobs


def meta_of(detector: int, run: int) -> dict[str, Any]:
    """Return the metadata of a job; the histories have nothing to do with each other."""
    return {"detector": detector, "run_id": f"{run} of {detector}", "pipeline": "n"}


def test_the_table_has_both_answers_for_every_kind_and_case() -> None:
    found = expected()
    for kind in KINDS:
        for number in range(len(CASES)):
            count = sum(name == name_of(kind, number) for name, _ in found)
            # Of a trend, two or three broken in a row are rare.
            assert 0 < count < len(histories()) or kind == "trend"


@pytest.mark.sqlite
def test_the_engine_raises_what_the_runs_say(tmp_path: Path) -> None:
    with AlertedObservatory(tmp_path) as site:
        site.define_metrics(*(metric(name) for name in METRICS if name not in ("p.a", "p.b")))
        site.define(*definitions())
        site.metrics.refresh()
        revision = site.revision
        jobs = []
        for detector, minute, run, value in shuffled():
            body = make_body(*(measured(name, value) for name in METRICS), **meta_of(detector, run))
            time_ns = site.now_ns - (100 - minute) * MINUTE_NS
            jobs.append(
                make_new_job(
                    body=body, asked_ns=time_ns, received_ns=site.now_ns, revision=revision
                )
            )
        site.record.write(lambda connection: STORE.whole(connection, jobs))
        rows = site.living()
        found = {(row.metric, row.tags["detector"]) for row in rows if "detector" in row.tags}
        assert {item for item in found if item[0] not in ("p.a", "p.b")} == expected()
        site.restart()
        assert site.living() == rows


@pytest.mark.sqlite
def test_a_backtest_says_the_same(tmp_path: Path) -> None:
    with AlertedObservatory(tmp_path) as site:
        specifications = [specification_from_json(item) for item in definitions()]
        site.define_metrics(*(metric(name) for name in METRICS if name not in ("p.a", "p.b")))
        declared = site.definitions.in_force.at(None).declared
        history = AlertHistory(watched_metrics(specifications, declared, site.schema))
        state: dict[tuple[str, str], str] = {}
        for job_id, (detector, minute, run, value) in enumerate(shuffled(), start=1):
            if value is None:
                continue
            job = PastJob(
                job_id,
                site.now_ns,
                site.now_ns - (100 - minute) * MINUTE_NS,
                site.schema.context(meta_of(detector, run)),
                dict.fromkeys(METRICS, value),
            )
            for _, change in history.play(job):
                if change is not None:
                    state[change.metric, str(detector)] = change.level
        raised = {key for key, level in state.items() if level != "OK"}
        assert {item for item in raised if item[0] not in ("p.a", "p.b")} == expected()


FEW = [name_of(kind, number) for kind in ("threshold", "trend", "run") for number in (3, 5, 6)]
"""The metrics of random histories."""


@dataclass
class Job:
    """A job as the test remembers it."""

    job_id: int
    detector: int
    minute: int
    run: int
    value: float | None


@pytest.mark.parametrize("seed", range(HISTORIES))
def test_after_any_history_what_is_raised_is_what_the_runs_say(tmp_path: Path, seed: int) -> None:
    random = Random(seed)
    with AlertedObservatory(tmp_path) as site:
        site.define_metrics(*(metric(name) for name in FEW))
        wanted = {"p.a", "p.b", *FEW}
        site.define(*(item for item in definitions() if item["name"].rpartition(".")[0] in wanted))
        site.metrics.refresh()
        jobs: list[Job] = []
        for _ in range(60):
            change_something(site, random, jobs)
            if random.random() < 0.1:
                site.restart()
            if random.random() < 0.3:
                check(site, jobs)
        check(site, jobs)


def change_something(site: AlertedObservatory, random: Random, jobs: list[Job]) -> None:
    """Send, correct, withdraw or delete a job of three runs ago or now, of any time."""
    value = random.choice([WELL, BROKEN, BROKEN, None])
    chance = random.random()
    if len(jobs) < 4 or chance < 0.6:
        free = [minute for minute in range(100) if all(job.minute != minute for job in jobs)]
        job = Job(0, random.randrange(2), random.choice(free), random.randrange(9), value)
        time_ns = site.now_ns - (100 - job.minute) * MINUTE_NS
        job.job_id = store_job(
            site.record,
            body=make_body(
                *(measured(name, value) for name in ("p.a", "p.b", *FEW)),
                **meta_of(job.detector, job.run),
            ),
            asked_ns=time_ns,
            received_ns=site.now_ns,
            revision=site.revision,
        )
        jobs.append(job)
        return
    job = random.choice(jobs)
    if chance < 0.75:
        jobs.remove(job)
        site.delete(job.job_id)
        return
    job.value = value
    for name in ("p.a", "p.b", *FEW):
        document = measured(name, value)
        post_measurement(
            site.record, site.metrics, job_id=job.job_id, document=document, account=ADA
        )


def check(site: AlertedObservatory, jobs: list[Job]) -> None:
    found = {(row.metric, row.tags["detector"]) for row in site.living() if row.metric in FEW}
    should = set()
    for detector in range(2):
        some = sorted((job for job in jobs if job.detector == detector), key=lambda job: job.minute)
        history = [(job.run, job.value) for job in some]
        for kind, number in product(("threshold", "trend", "run"), (3, 5, 6)):
            if should_be_raised(kind, number, history):
                should.add((name_of(kind, number), str(detector)))
    assert found == should
