"""P1: jobs accepted a second with the record in PostgreSQL / with it in SQLite, on one machine.

PostgreSQL keeps what it confirms, as SQLite does: its `fsync` is on. It shares the processors with
the service, which it would not where a facility needs it.
"""

from contextlib import ExitStack
from pathlib import Path
from tempfile import TemporaryDirectory

from benchmarks.bodies import make_body
from benchmarks.checkout import Checkout
from benchmarks.load import make_requests, run_load
from benchmarks.report import Figure, progress
from benchmarks.servers import (
    Server,
    prepare,
    running,
    service_server,
    service_variables,
    stored,
)
from tests.support.postgresql import PostgreSQL

_ROUNDS = 5
_JOBS = 2000
_CONNECTIONS = 64


def measure(checkout: Checkout) -> list[Figure]:
    with ExitStack() as stack:
        folder = Path(stack.enter_context(TemporaryDirectory()))
        kept = {"fsync": "on", "full_page_writes": "on", "autovacuum": "on"}
        url = stack.enter_context(PostgreSQL(**kept)).url_of("squash_template")
        in_file = service_variables(folder, influx=None, deliver="off")
        in_server = [
            service_variables(folder, influx=None, deliver="off") | {"SQUASH_DATABASE_URL": url}
            for _ in range(2)
        ]
        sqlite, one, other = (service_server(checkout, each) for each in (in_file, *in_server))
        stack.enter_context(running(sqlite, one, other))
        to_file, to_server = prepare(sqlite), prepare(one)
        engines, replicas = [], []
        for number in range(_ROUNDS + 1):
            bodies = [make_body(number * _JOBS + index) for index in range(_JOBS)]
            plain = _rate([sqlite], bodies, to_file)
            alone = _rate([one], bodies, to_server)
            others = [make_body((_ROUNDS + 1 + number) * _JOBS + index) for index in range(_JOBS)]
            both = _rate([one, other], others, to_server)
            if number:
                engines.append(alone / plain)
                replicas.append(both / alone)
                progress(f"P1 round {number}: {plain:.0f}, {alone:.0f}, {both:.0f} a second")
        assert stored(sqlite)["number_of_jobs"] == (_ROUNDS + 1) * _JOBS
        assert stored(one)["number_of_jobs"] == 2 * (_ROUNDS + 1) * _JOBS
    return [
        Figure("P1", "accepted jobs/s, record in PostgreSQL / in SQLite", engines, bar=None),
        Figure("P1", "accepted jobs/s, two replicas on two cores / one", replicas, bar=None),
    ]


def _rate(servers: list[Server], bodies: list[bytes], token: str) -> float:
    """Post the jobs, by turns to each of the servers."""
    requests = make_requests("/job", bodies, token=token)
    ports = [server.port for server in servers]
    outcome = run_load(ports, requests, connections=_CONNECTIONS)
    assert outcome.statuses == {202: len(bodies)}, outcome.statuses
    # The index is derived after the replies, but must not run into what comes next.
    stored(servers[0])
    return outcome.rate
