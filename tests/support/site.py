"""A running service, the InfluxDB it delivers to, and somebody who is logged in to it."""

import json
import time
import uuid
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Self, TypeVar

import httpx

from tests.support.calls import Calls, log_in
from tests.support.influxd import Influxd
from tests.support.records import in_record
from tests.support.service import Service

TIMEOUT_S = 60.0
AS_JSON = {"Content-Type": "application/json"}
_POLL_S = 0.02
_Result = TypeVar("_Result")


def wait_for(condition: Callable[[], _Result], *, timeout_s: float = TIMEOUT_S) -> _Result:
    """Ask until the answer is true, and return it; what it was last is in the failure."""
    deadline = time.monotonic() + timeout_s
    while True:
        answer = condition()
        if answer:
            return answer
        assert time.monotonic() < deadline, f"still {answer!r} after {timeout_s} s"
        time.sleep(_POLL_S)


def new_package() -> str:
    """Return a name of a verification package that no other test uses."""
    return f"package_{uuid.uuid4().hex}"


def job_document(
    values: Mapping[str, Any], *, unit: str | None = "", **meta: Any
) -> dict[str, Any]:
    """Return a job with a measurement for each value, all in one unit, each with an identifier."""
    return {
        "measurements": [
            {
                "metric": name,
                "identifier": uuid.uuid4().hex,
                "value": value,
                "unit": unit,
                "blob_refs": [],
            }
            for name, value in values.items()
        ],
        "blobs": [],
        "meta": {"packages": {}, **meta},
    }


class Site:
    """What a test needs of a running service.

    `database` is the one in `influxd`; the user `ada` is logged in as `calls`.
    """

    def __init__(self, service: Service, influxd: Influxd, database: str) -> None:
        self.service = service
        self.influxd = influxd
        self.database = database
        self.client = httpx.Client(base_url=service.url, timeout=TIMEOUT_S, trust_env=False)
        self.calls = self.log_in("ada")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.client.close()

    def log_in(self, name: str) -> Calls:
        """Register a user, unless there is one of this name, and log in."""
        client: Any = self.client  # mypy takes httpx's options for none at all
        return log_in(client, name)

    def get(self, path: str) -> Any:
        """Return what is at a path."""
        reply = self.client.get(path)
        assert reply.status_code == 200, reply.text
        return reply.json()

    def dispatch(self, document: Mapping[str, Any]) -> dict[str, Any]:
        """Post a job, and return the reply to it."""
        # As lsst.verify does, with all that is not ASCII escaped, lone surrogates too.
        reply = self.calls("POST", "/job", content=json.dumps(document), headers=AS_JSON)
        assert reply.status_code == 202, reply.text
        body: dict[str, Any] = reply.json()
        return body

    def deliver(self, *documents: Mapping[str, Any]) -> list[int]:
        """Post jobs, wait until they are delivered, and return their ids."""
        ids = [self.dispatch(document)["id"] for document in documents]
        self.wait_until_delivered(ids)
        return ids

    def status(self, job_id: int) -> dict[str, Any]:
        """Return the status of a job."""
        body: dict[str, Any] = self.get(f"/status/{job_id}")
        return body

    def wait_for_status(self, job_id: int, status: str) -> dict[str, Any]:
        """Wait until a job has this status, and return all that is said about it."""
        wait_for(lambda: self.status(job_id)["status"] == status)
        return self.status(job_id)

    def wait_until_delivered(self, ids: Iterable[int]) -> None:
        """Wait until every one of these jobs is in InfluxDB."""
        for job_id in ids:
            self.wait_for_status(job_id, "SUCCESS")

    def wait_until_idle(self) -> dict[str, Any]:
        """Wait until nothing waits to be delivered, and return what `/readyz` says."""

        def is_idle() -> bool:
            return not any(item["waiting"] for item in self.get("/readyz")["targets"].values())

        wait_for(is_idle)
        body: dict[str, Any] = self.get("/readyz")
        return body

    def points(self, package: str | None = None) -> list[dict[str, Any]]:
        """Return the points in InfluxDB, of one verification package if it is given, by time."""
        found = self.influxd.points(self.database, package)
        return sorted(found, key=lambda point: (point["time"], point["measurement"]))

    def values(self, name: str) -> list[Any]:
        """Return the values of a metric in InfluxDB, by time."""
        package, _, key = name.partition(".")
        return [point["fields"][key] for point in self.points(package) if key in point["fields"]]


def expire_leases(site: Site) -> None:
    """Let the time go by in which nobody takes over from an outlet that was killed."""
    in_record(site.service.folder, "UPDATE target SET lease_until_ns = 0")
