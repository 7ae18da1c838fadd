"""Whatever is done one after the other: jobs that were accepted are there, deleted ones are gone.

A simple model is asked the same as the service, after each step. Who does what to whose job is part
of it; so is what InfluxDB has in the end.
"""

from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path
from typing import Any, ClassVar

import httpx
import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    Bundle,
    RuleBasedStateMachine,
    consumes,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from squash_api.site import Site
from tests.support.builders import make_settings
from tests.support.calls import PASSWORD, Calls, log_in
from tests.support.fake_influxdb import KeepingInfluxDB
from tests.support.fuzzing import MANY, examples
from tests.support.in_process import service
from tests.support.site import wait_for

METRICS = ("p.a", "p.b", "q.c")
OF_A_JOB = ("/job/{}", "/status/{}", "/measurement/{}", "/job/{}/report", "/job/{}/blobs")
NAMES = ("ada", "bob", "root")
ADMIN = "root"

names = st.sampled_from(NAMES)
metrics = st.sampled_from(METRICS)
numbers = st.floats(-1e6, 1e6, allow_subnormal=False).map(lambda value: value + 0.0) | st.none()


@dataclass
class Known:
    """What the model knows of a job."""

    owner: str
    document: dict[str, Any]
    values: dict[str, float | None] = field(default_factory=dict)
    is_deleted: bool = False


class Histories(RuleBasedStateMachine):
    """One history of jobs, on a service that has forgotten those before."""

    calls: ClassVar[dict[str, Calls]]
    influxdb: ClassVar[KeepingInfluxDB]
    counter: ClassVar[Iterator[int]] = count()
    jobs = Bundle("jobs")
    newcomers = Bundle("newcomers")

    def __init__(self) -> None:
        super().__init__()
        self.known: dict[int, Known] = {}
        self.has_newcomer = False

    def get(self, path: str) -> Any:
        reply = self.calls["ada"]("GET", path)
        assert reply.status_code == 200, (path, reply.text)
        return reply.json()

    def alive(self) -> dict[int, Known]:
        return {job: known for job, known in self.known.items() if not known.is_deleted}

    @rule(
        target=jobs,
        who=names,
        values=st.dictionaries(metrics, numbers, max_size=3),
        dataset=st.sampled_from(["sky", "sea"]),
    )
    def post(self, who: str, values: dict[str, float | None], dataset: str) -> int:
        number = next(self.counter)
        document = {
            "measurements": [
                {"metric": name, "value": value, "unit": "mag", "identifier": f"{number}.{name}"}
                for name, value in values.items()
            ],
            "meta": {"ci_dataset": dataset, "env": {"ci_id": f"{number % 5}"}, "n": number},
        }
        reply = self.calls[who]("POST", "/job", document)
        assert reply.status_code == 202, reply.text
        told = reply.json()
        assert told["absent"] == [name for name, value in values.items() if value is None]
        assert told["skipped"] == []
        job: int = told["id"]
        assert job not in self.known
        self.known[job] = Known(who, document, dict(values))
        return job

    @rule(job=jobs, who=names)
    def post_again(self, job: int, who: str) -> None:
        known = self.known[job]
        if known.is_deleted or known.owner != who or not known.document["measurements"]:
            return
        reply = self.calls[who]("POST", "/job", known.document)
        assert (reply.status_code, reply.json()["id"]) == (200, job)

    @rule(who=names, document=st.sampled_from([[], {"measurements": [3]}, {"meta": {"env": 1}}]))
    def post_what_is_no_job(self, who: str, document: Any) -> None:
        assert self.calls[who]("POST", "/job", document).status_code == 422

    @rule(job=jobs, who=names, metric=metrics, value=numbers)
    def measure_again(self, job: int, who: str, metric: str, value: float | None) -> None:
        known = self.known[job]
        document = {"metric": metric, "value": value, "unit": "mag"}
        reply = self.calls[who]("POST", f"/measurement/{job}", document)
        assert reply.status_code == self.expected(known, who, 201), reply.text
        if reply.is_success:
            known.values[metric] = value

    @rule(job=jobs, who=names)
    def delete(self, job: int, who: str) -> None:
        known = self.known[job]
        reply = self.calls[who]("DELETE", f"/job/{job}")
        assert reply.status_code == self.expected(known, who, 200), reply.text
        known.is_deleted = known.is_deleted or reply.is_success

    @staticmethod
    def expected(known: Known, who: str, success: int) -> int:
        """Return how a change of a job is answered."""
        if known.is_deleted:
            return 404
        return success if who in {known.owner, ADMIN} else 403

    # To check a password is slow, and meant to be.
    @precondition(lambda self: not self.has_newcomer)
    @rule(target=newcomers)
    def register(self) -> str:
        name = f"newcomer_{next(self.counter)}"
        self.has_newcomer = True
        self.calls[name] = log_in(self.calls[ADMIN].client, name)
        return name

    @rule(name=consumes(newcomers), job=jobs, who=names)
    def leave(self, name: str, job: int, who: str) -> None:
        """Post a job, which stays when its owner is disabled."""
        calls = self.calls.pop(name)
        reply = self.calls[who]("DELETE", f"/user/{name}")
        assert reply.status_code == (200 if who == ADMIN else 403), reply.text
        if who != ADMIN:
            assert calls("DELETE", f"/user/{name}").status_code == 200
        for method, path in (("POST", "/job"), ("DELETE", f"/job/{job}")):
            assert calls(method, path, {}).status_code == 401

    @invariant()
    def lists_are_those_of_the_model(self) -> None:
        alive = self.alive()
        assert self.get("/jobs?limit=1000")["ids"] == sorted(alive)
        measured = {
            (job, name): value
            for job, known in alive.items()
            for name, value in known.values.items()
        }
        stats = self.get("/stats")["stats"]
        assert stats["number_of_jobs"] == len(alive)
        assert stats["number_of_measurements"] == len(measured)
        listed = self.get("/measurements?limit=1000")["measurements"]
        assert {(item["job"], item["metric"]): item["value"] for item in listed} == measured
        found = self.get("/measurements?package=p&package=q")["measurements"]
        assert {(item["job"], item["metric"]): item["value"] for item in found} == {
            key: value for key, value in measured.items() if value is not None
        }
        datasets = {known.document["meta"]["ci_dataset"] for known in alive.values()}
        assert self.get("/datasets")["datasets"] == sorted(datasets)

    @rule(job=jobs)
    def read(self, job: int) -> None:
        known = self.known[job]
        for path in OF_A_JOB:
            for accept in ("application/json", "text/html"):
                reply = self.calls["bob"]("GET", path.format(job), headers={"Accept": accept})
                assert reply.status_code == (404 if known.is_deleted else 200), reply.text
        if not known.is_deleted:
            shown = self.get(f"/job/{job}")["measurements"]
            assert {item["metric"]: item["value"] for item in shown} == known.values

    def teardown(self) -> None:
        """Compare what InfluxDB has with the model, and delete all that is left."""
        self.wait_until_delivered()
        times = set()
        for job, known in self.alive().items():
            assert self.get(f"/status/{job}")["status"] == "SUCCESS"
            time_ns = self.get(f"/job/{job}")["time_ns"]
            kept = {name: value for name, value in known.values.items() if value is not None}
            fields = self.influxdb.values(time_ns)
            assert {name: fields[name] for name in METRICS if name in fields} == kept
            times |= {time_ns} if kept else set()
        assert self.influxdb.times() == times
        for job in self.alive():
            assert self.calls[ADMIN]("DELETE", f"/job/{job}").status_code == 200
        self.wait_until_delivered()
        assert self.influxdb.times() == set()
        super().teardown()

    def wait_until_delivered(self) -> None:
        """Wait until InfluxDB has and has forgotten all that it should."""

        def is_idle() -> bool:
            (state,) = self.get("/readyz")["targets"].values()
            assert (state["status"], state["quarantined"]) == ("ok", 0)
            return not state["waiting"]

        wait_for(is_idle)


@pytest.fixture
def history(tmp_path: Path) -> Iterator[type[Histories]]:
    with closing(Site(make_settings(tmp_path), is_made=True)) as site:
        site.accounts.add(ADMIN, PASSWORD, role="admin")
    influxdb = KeepingInfluxDB()
    with service(
        tmp_path,
        influx_transport=httpx.MockTransport(influxdb),
        influx_url="http://influx.invalid",
        watch="off",
        **MANY,
    ) as client:
        Histories.influxdb = influxdb
        Histories.calls = {name: log_in(client, name) for name in NAMES}
        declared = [{"name": name, "unit": "mag", "description": "Any."} for name in METRICS]
        reply = Histories.calls[ADMIN]("POST", "/metrics", {"metrics": declared})
        assert reply.status_code == 201, reply.text
        yield Histories


def test_any_history_leaves_what_the_model_has(history: type[Histories]) -> None:
    run_state_machine_as_test(history, settings=settings(examples(4), stateful_step_count=25))
