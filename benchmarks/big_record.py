"""A record of two years and millions of measurements, made in a minute.

    python -m benchmarks.big_record big.db [JOBS [MEASUREMENTS]]

Everything in it is what the service would have written: bodies that it would accept, and runs,
contexts and an index of measurements that are stored by its own functions. Only the judging of
each value is left out, which would take most of the time. Metrics are declared, and each has a
specification that a value breaks now and then.
"""

import math
import random
import sys
import time
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import orjson
from sqlalchemy import Connection

from benchmarks.report import progress
from squash_api.accounts.accounts import Account
from squash_api.definitions.definitions import Definitions
from squash_api.index.contexts import JobContext
from squash_api.index.derived import Derived, store_derived
from squash_api.index.runs import Run, store_runs
from squash_api.ingest.document import Job, digest_job
from squash_api.record.jobs import current_revision
from squash_api.record.metrics import Vocabulary
from squash_api.record.record import Record
from squash_api.record.storing import JobStore, NewJob, Stored
from squash_api.record.users import add_user
from squash_api.schema.names import Context, Schema

DAYS = 730
DATASETS = ("RC2", "DC2", "ci_hsc")
FILTERS = ("g", "r", "i", "z", "y")
METRICS_OF_A_PACKAGE = 25
_DAY_NS = 86_400 * 10**9
# Jobs of a run: each dataset in each filter.
_RUN = len(DATASETS) * len(FILTERS)
_BATCH = 500
_UNITS = ("mmag", "marcsec", "", "%", "s")


def metric_name(index: int) -> str:
    """Return the name of a metric: `METRICS_OF_A_PACKAGE` of them make a package."""
    return f"big_{index // METRICS_OF_A_PACKAGE}.metric_{index % METRICS_OF_A_PACKAGE:02d}"


def metric_unit(index: int) -> str:
    """Return the unit of a metric."""
    return _UNITS[index % len(_UNITS)]


def make_big_record(
    path: Path, jobs: int = 20_000, measurements: int = 100, *, end_ns: int | None = None
) -> None:
    """Make a record in a new file; the last job is of `end_ns`, or of now."""
    end_ns = time.time_ns() if end_ns is None else end_ns
    record = Record.open(f"sqlite:///{path}")
    schema = Schema()
    try:
        row = record.write(
            lambda connection: add_user(
                connection, name="bench", password_hash="-", role="admin", created_ns=0
            )
        )
        _define(record, schema, Account(row.user_id, "bench", "admin", 1), measurements)
        for start in range(0, jobs, _BATCH):
            numbers = range(start, min(start + _BATCH, jobs))
            batch = [
                _make_job(
                    number, measurements, end_ns - (jobs - 1 - number) * DAYS * _DAY_NS // jobs
                )
                for number in numbers
            ]
            record.write(partial(_store, batch=batch, schema=schema))
            if start % 5000 == 0:
                progress(f"{numbers.stop} of {jobs} jobs")
    finally:
        record.close()


def _define(record: Record, schema: Schema, account: Account, measurements: int) -> None:
    definitions = Definitions(record, schema, Vocabulary(record, schema))
    metrics = [
        {"name": metric_name(index), "unit": metric_unit(index), "description": "Made up."}
        for index in range(measurements)
    ]
    definitions.post_metrics(metrics, account)
    limits = [
        {
            "name": f"{metric_name(index)}.design",
            "threshold": {"value": 14.9, "unit": metric_unit(index), "operator": "<="},
            "tags": ["design"],
        }
        for index in range(measurements)
    ]
    definitions.post_specs(limits, account)


def _make_job(number: int, measurements: int, time_ns: int) -> tuple[int, dict[str, Any]]:
    """Return the time of job `number` and its document; the same number gives the same values."""
    chance = random.Random(number)
    run, place = divmod(number, _RUN)
    document = {
        "measurements": [
            {
                "metric": metric_name(index),
                "value": _value(chance, number, index),
                "unit": metric_unit(index),
                "identifier": f"{chance.getrandbits(128):032x}",
            }
            for index in range(measurements)
        ],
        "blobs": [],
        "meta": {
            "instrument": "HSC",
            "filter_name": FILTERS[place % len(FILTERS)],
            "visit": 1000 + number,
            "airmass": chance.uniform(1, 2),
            "seeing": chance.uniform(0.4, 1.2),
            "observer": f"person {number % 7}",
            "env": {
                "env_name": "jenkins",
                "ci_id": str(run),
                "ci_name": "big_drp",
                "ci_dataset": DATASETS[place // len(FILTERS)],
                "ci_url": f"https://ci.example.org/job/{run}/",
                "version_tag": f"w_{run // 7}",
            },
            "packages": _packages(run),
        },
    }
    return time_ns, document


def _value(chance: random.Random, number: int, index: int) -> float | None:
    value = 10 + math.sin(number / 900 + index) + chance.gauss(0, 1)
    # Sometimes there is none, and sometimes one that nobody expected.
    kind = chance.random()
    return None if kind < 0.002 else value * 3 if kind > 0.9995 else value


def _packages(run: int) -> list[dict[str, str]]:
    return [
        {
            "name": f"package_{index}",
            "git_sha": f"{run if index == run % 10 else index:040x}",
            "git_url": f"https://github.com/lsst/package_{index}.git",
            "git_branch": "main",
            "eups_version": f"22.0.1-{index}",
        }
        for index in range(10)
    ]


def _store(
    connection: Connection, *, batch: Sequence[tuple[int, dict[str, Any]]], schema: Schema
) -> None:
    """Store jobs, their runs and all that is derived from them, as the service does."""
    revision = current_revision(connection)
    stored = JobStore(digest_job).whole(connection, [_new_job(*item, revision) for item in batch])
    ids = [item.job_id for item in stored if isinstance(item, Stored)]
    assert len(ids) == len(batch), stored
    runs, derived = [], []
    for job_id, (time_ns, document) in zip(ids, batch, strict=True):
        context = schema.context(document["meta"])
        runs.append(_run(job_id, document, context))
        derived.append(_derived(job_id, time_ns, document, context))
    after, through = ids[0] - 1, ids[-1]
    assert store_runs(connection, runs, after=after, through=through)
    assert store_derived(connection, derived, after=after, through=through)


def _new_job(time_ns: int, document: dict[str, Any], revision: int) -> NewJob:
    return NewJob(
        user_id=1,
        user_epoch=1,
        received_ns=time_ns,
        asked_ns=time_ns,
        revision=revision,
        identifiers_digest=None,
        is_deliverable=True,
        body=orjson.dumps(document),
    )


def _run(job_id: int, document: dict[str, Any], context: Context) -> Run:
    run_id = context.fields["run_id"]
    return Run(
        job_id,
        env_name=context.tags["env_name"],
        pipeline=context.tags["pipeline"],
        run_id=str(run_id),
        dataset=context.tags["dataset"],
        packages=Job(meta=document["meta"]).packages,
        measurement_count=len(document["measurements"]),
    )


def _derived(job_id: int, time_ns: int, document: dict[str, Any], context: Context) -> Derived:
    return Derived(
        job_id,
        values={item["metric"]: item["value"] for item in document["measurements"]},
        context=JobContext(job_id, time_ns, time_ns, context),
    )


def _arguments() -> Iterator[Any]:
    if not 1 < len(sys.argv) < 5:
        raise SystemExit(__doc__)
    yield Path(sys.argv[1])
    yield from map(int, sys.argv[2:])


if __name__ == "__main__":
    make_big_record(*_arguments())
