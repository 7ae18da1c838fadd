"""Sending the made-up jobs over HTTP, and what the service then says of one of them."""

from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import httpx

from squash_api.client import Job, Squash
from squash_api.demo.processes import DemoError, Stop
from squash_api.demo.running import User

_CONNECTIONS = 3
_TIMEOUT_S = 60.0
_RETRIES = 3


@dataclass(frozen=True, slots=True)
class Judged:
    """A job that was sent: its id, its status and its verdicts, both as the service shows them."""

    job_id: int
    status: dict[str, Any]
    verdicts: list[dict[str, Any]]


def connect(url: str, user: User, *, stop: Stop) -> Squash:
    """Return a client of the service at a URL: it has its token, and heeds a request to stop."""
    squash = Squash(
        url,
        user.name,
        user.password,
        timeout=_TIMEOUT_S,
        retries=_RETRIES,
        # A transport of our own asks no proxy for the loopback address.
        transport=httpx.HTTPTransport(),
        sleep=stop.pause,
    )
    squash.log_in()
    return squash


def send_days(squash: Squash, days: Iterable[Sequence[Job]], *, stop: Stop) -> Iterator[int]:
    """Send days of jobs and yield, of each, how many jobs were accepted.

    The jobs of a day go over a few connections at a time; the next day begins when the service has
    them all, so that it receives the runs in their order, which is what code changes go by.
    """
    with ThreadPoolExecutor(_CONNECTIONS, thread_name_prefix="dispatch") as pool:
        for day in days:
            stop.check()
            yield len(list(pool.map(lambda job: squash.send(job, strict=True), day)))


def judge(squash: Squash, job: Job, *, timeout_s: float = 30.0) -> Judged:
    """Send a job, wait until it is in InfluxDB if there is one, and fetch its verdicts.

    Raises
    ------
    DemoError
        If the service names no id of the job.
    SquashClientError
        If it refuses the job or is not reached.
    """
    reply = squash.send(job, strict=True)
    if reply.job_id is None:
        raise DemoError(f"the service accepted a job without an id: {reply.message}")
    status = squash.wait(reply, timeout_s=timeout_s)
    return Judged(reply.job_id, status, squash.report(reply.job_id))


def delivery_problems(url: str, judged: Judged) -> list[str]:
    """Return, in sentences, what the service at a URL could not bring to InfluxDB, and why."""
    problems = []
    if judged.status.get("status") != "SUCCESS":
        said = f"{judged.status.get('status')}: {judged.status.get('message')}"
        problems.append(f"job {judged.job_id} is {said}")
    answer = httpx.get(f"{url}/readyz", timeout=_TIMEOUT_S, trust_env=False).json()
    for state in answer.get("targets", {}).values():
        if state.get("reason"):
            problems.append(f"InfluxDB is down: {state['reason']}")
        if state.get("quarantined"):
            problems.append(f"InfluxDB refused {state['quarantined']} points for good")
    return problems
