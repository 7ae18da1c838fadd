"""A record of any number of values in minutes: some jobs are posted, the others are copies of them.

The service accepts, derives, judges and delivers the first jobs, as `benchmarks.big_record` has it.
Their rows are then copied within the SQLite file, each time with later ids and times, in the order
of the keys. So the index is what the service would have made of as many jobs. Only the bodies of
the copies are all one small job, for which nothing here asks; the real ones take 16 kB each.
"""

import json
import shutil
import sqlite3
import time
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory

from benchmarks.big_record import Size, define, make_jobs
from benchmarks.checkout import Checkout, make_folder
from benchmarks.load import make_requests, run_load
from benchmarks.report import progress
from benchmarks.servers import (
    Server,
    kapacitor_server,
    log_in,
    running,
    service_server,
    service_variables,
    stored,
    wait_until,
)

_CONNECTIONS = 8
# Grows with every change of what is made here.
_RECIPE = 1


@dataclass(frozen=True)
class Bulk:
    """How many times the jobs of a seed are there; the seed is the first of them.

    If they are expected, each series is to have a value every day.
    """

    seed: Size
    times: int
    is_expected: bool = False

    @property
    def jobs(self) -> int:
        """How many jobs there are: one of each time is small, and has no value."""
        return (self.seed.jobs + 1) * self.times

    @property
    def total(self) -> int:
        return self.seed.total * self.times


def bulk_service(checkout: Checkout, folder: Path, bulk: Bulk, *, influx: Server) -> Server:
    """Return a service on a record, which is made if it does not exist; it delivers inline.

    The record itself is used, since a copy would take as long as the measurement.
    """
    kept = _kept(checkout, bulk)
    variables = service_variables(folder, influx=influx.url, deliver="inline")
    return service_server(checkout, {**variables, "SQUASH_DATABASE_URL": f"sqlite:///{kept}"})


def _kept(checkout: Checkout, bulk: Bulk) -> Path:
    seed = bulk.seed
    many = f"{bulk.times}x{seed.jobs}x{seed.measurements}"
    shape = f"{many}-{seed.days:g}d-{seed.series}-{seed.detectors}{'e' * bulk.is_expected}"
    path = make_folder("records") / f"bulk-{checkout.version}-{_RECIPE}-{shape}.db"
    if not path.exists() or time.time() - path.stat().st_mtime > 86_400:
        with TemporaryDirectory(dir=path.parent) as folder:
            started = time.perf_counter()
            _seed(checkout, Path(folder), bulk)
            made = Path(folder, "squash.db")
            seeded = time.perf_counter()
            multiply(made, bulk)
            progress(
                f"{bulk.total:,} values: posted in {seeded - started:.0f} s, copied in "
                f"{time.perf_counter() - seeded:.0f} s; {made.stat().st_size / 1e6:.0f} MB"
            )
            for found in Path(folder).glob("squash.db*"):
                shutil.move(found, f"{path}{found.name.removeprefix('squash.db')}")
    return path


def _seed(checkout: Checkout, folder: Path, bulk: Bulk) -> None:
    """Post the first jobs; InfluxDB has them, and alerts have been raised, at the end."""
    seed = bulk.seed
    influx = kapacitor_server()
    variables = service_variables(folder, influx=influx.url, deliver="inline")
    # More than what is allowed by default.
    variables["SQUASH_NEW_SERIES_PER_DAY"] = str(10**6)
    service = service_server(checkout, variables)
    small = replace(seed, jobs=1, measurements=0, days=0)
    with running(influx, service):
        token = log_in(service)
        expect = {"every": "24h", "grace": "6h"} if bulk.is_expected else None
        define(service, token, seed.measurements, expect=expect)
        # They are the oldest: copies are younger.
        age_days = seed.days * (bulk.times - 1)
        bodies = [
            *make_jobs(seed, age_days=age_days),
            *make_jobs(small, first=seed.jobs, age_days=age_days),
        ]
        requests = make_requests("/job", bodies, token=token)
        outcome = run_load(service.port, requests, connections=_CONNECTIONS)
        assert outcome.statuses == {202: len(bodies)}, outcome.statuses
        stats = stored(service)
        assert stats["number_of_measurements"] == seed.total, stats
        file = folder / "squash.db"
        wait_until(lambda: _is_quiet(file), seconds=600)


def _is_quiet(file: Path) -> bool:
    """Return whether all jobs have been delivered, and followed by the alerts."""
    with closing(sqlite3.connect(f"file:{file}?mode=ro", uri=True)) as record:
        (jobs,) = record.execute("SELECT max(id) FROM job").fetchone()
        (sent,) = record.execute("SELECT sent_through FROM target").fetchone()
        found = record.execute("SELECT value FROM state WHERE key = 'alerts'").fetchone()
    return bool(sent == jobs and found and json.loads(found[0])["through"] == jobs)


def multiply(file: Path, bulk: Bulk) -> None:
    """Copy all jobs of a record of SQLite, so that it has them so many times."""
    with closing(sqlite3.connect(file, isolation_level=None, timeout=60)) as record:
        # The file is of no use until it is whole.
        record.execute("PRAGMA journal_mode = OFF")
        record.execute("PRAGMA synchronous = OFF")
        record.execute("PRAGMA cache_size = -400000")
        record.execute("BEGIN")
        _multiply_jobs(record, bulk)
        _multiply_values(record, bulk)
        _move_cursors(record)
        record.execute("COMMIT")
        record.execute("PRAGMA journal_mode = WAL")


def _steps(record: sqlite3.Connection, bulk: Bulk) -> Iterator[dict[str, int]]:
    """Yield what is added to the ids and times of each copy."""
    (jobs,) = record.execute("SELECT max(id) FROM job").fetchone()
    (versions,) = record.execute("SELECT max(version) FROM job_context").fetchone()
    (runs,) = record.execute("SELECT max(CAST(run_id AS INTEGER)) + 1 FROM job_run").fetchone()
    span_ns = int(bulk.seed.days * 86_400 * 10**9)
    for number in range(1, bulk.times):
        yield {
            "seed": jobs,
            "jobs": number * jobs,
            "versions": number * versions,
            "runs": number * runs,
            "span": number * span_ns,
        }


def _multiply_jobs(record: sqlite3.Connection, bulk: Bulk) -> None:
    # All were received when they were made, but now.
    age_ns = int(bulk.seed.days * 86_400 * 10**9) * (bulk.times - 1)
    for table in ("job", "job_context"):
        record.execute(f"UPDATE {table} SET received_ns = received_ns - ?", (age_ns,))
    for step in list(_steps(record, bulk)):
        for statement in _COPIES:
            record.execute(statement, step)


def _multiply_values(record: sqlite3.Connection, bulk: Bulk) -> None:
    (jobs,) = record.execute("SELECT max(job_id) FROM job_run").fetchone()
    seed = jobs // bulk.times
    record.execute("CREATE TEMP TABLE seed AS SELECT * FROM measurement ORDER BY 1, 2")
    record.execute("CREATE INDEX temp.by_metric ON seed (metric_id)")
    record.execute("DELETE FROM measurement")
    for (metric_id,) in record.execute("SELECT DISTINCT metric_id FROM seed ORDER BY 1").fetchall():
        for number in range(bulk.times):
            record.execute(
                "INSERT INTO measurement SELECT metric_id, job_id + ?, value FROM seed "
                "WHERE metric_id = ? ORDER BY job_id",
                (number * seed, metric_id),
            )
    record.execute("DROP TABLE seed")


def _move_cursors(record: sqlite3.Connection) -> None:
    """Let all that follows the jobs be at the last one."""
    (jobs,) = record.execute("SELECT max(id) FROM job").fetchone()
    (versions,) = record.execute("SELECT max(version) FROM job_context").fetchone()
    record.execute("UPDATE sqlite_sequence SET seq = ? WHERE name = 'job'", (jobs,))
    record.execute("UPDATE target SET sent_through = ?, taken_through = ?", (jobs, jobs))
    for key in ("runs_through", "derived_through"):
        record.execute("UPDATE state SET value = ? WHERE key = ?", (str(jobs), key))
    (text,) = record.execute("SELECT value FROM state WHERE key = 'alerts'").fetchone()
    moved = json.dumps({**json.loads(text), "version": versions, "through": jobs}, sort_keys=True)
    record.execute("UPDATE state SET value = ? WHERE key = 'alerts'", (moved,))


_COPIES = (
    """
    INSERT INTO job (id, user_id, received_ns, asked_ns, time_ns, revision, digest,
                     identifiers_digest, is_deliverable, size, body, wire, address)
    SELECT id + :jobs, user_id, received_ns + :span, asked_ns + :span, time_ns + :span, revision,
           digest, randomblob(length(identifiers_digest)), is_deliverable, size,
           (SELECT body FROM job WHERE id = :seed), wire, address
    FROM job WHERE id <= :seed ORDER BY id
    """,
    """
    INSERT INTO job_run (job_id, env_name, pipeline, run_id, dataset, package_set_id,
                         previous_job_id, measurement_count)
    SELECT job_id + :jobs, env_name, pipeline, CAST(CAST(run_id AS INTEGER) + :runs AS TEXT),
           dataset, package_set_id, previous_job_id + :jobs, measurement_count
    FROM job_run WHERE job_id <= :seed ORDER BY job_id
    """,
    """
    INSERT INTO job_context (job_id, version, time_ns, received_ns, tag_set_id, run_id, run_url,
                             version_tag, fields)
    SELECT job_id + :jobs, version + :versions, time_ns + :span, received_ns + :span, tag_set_id,
           CAST(CAST(run_id AS INTEGER) + :runs AS TEXT), run_url, version_tag, fields
    FROM job_context WHERE job_id <= :seed ORDER BY job_id
    """,
)
