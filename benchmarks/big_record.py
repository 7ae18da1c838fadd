"""A record of years and millions of measurements, made by posting all of it to a service.

Every job comes over HTTP, with its date in `env.date`, so the record holds what the service has
accepted, judged and derived itself. Metrics are declared, and each has a specification that a value
breaks now and then. Once made, a record is kept in `build/benchmarks/records`; a service is given a
copy of it.
"""

import math
import random
import shutil
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import httpx
import orjson

from benchmarks.checkout import Checkout, make_folder
from benchmarks.load import make_request, run_load
from benchmarks.report import progress
from benchmarks.servers import (
    Server,
    declare,
    log_in,
    running,
    service_server,
    service_variables,
    stored,
)

DATASETS = ("RC2", "DC2", "ci_hsc")
FILTERS = ("g", "r", "i", "z", "y")
METRICS_OF_A_PACKAGE = 25
_CONNECTIONS = 64
_UNITS = ("mmag", "marcsec", "", "%", "s")
# Grows with every change of what is made here.
_RECIPE = 1


@dataclass(frozen=True)
class Size:
    """The size of a record: number of jobs, measurements of each, and days that they cover.

    `series` is how many jobs make a run, each of another dataset or filter; run by run, they are of
    one of so many `detectors`, if there are any.
    """

    jobs: int
    measurements: int
    days: float = 730
    series: int = len(DATASETS) * len(FILTERS)
    detectors: int = 0

    @property
    def total(self) -> int:
        return self.jobs * self.measurements


def metric_name(index: int) -> str:
    """Return the name of a metric: a package has `METRICS_OF_A_PACKAGE`."""
    return f"big_{index // METRICS_OF_A_PACKAGE}.metric_{index % METRICS_OF_A_PACKAGE:02d}"


def metric_unit(index: int) -> str:
    """Return the unit of a metric."""
    return _UNITS[index % len(_UNITS)]


def big_service(checkout: Checkout, folder: Path, size: Size) -> Server:
    """Return a service on a copy of a record, which is made if it does not exist."""
    folder.mkdir()
    kept = _kept_record(checkout, size)
    # A record has its mark beside it since 2.1.
    for path in kept.parent.glob(f"{kept.name}*"):
        shutil.copyfile(path, folder / f"squash.db{path.name.removeprefix(kept.name)}")
    return service_server(checkout, service_variables(folder, influx=None, deliver="off"))


def _kept_record(checkout: Checkout, size: Size) -> Path:
    shape = f"{size.jobs}x{size.measurements}-{size.days:g}d-{size.series}"
    path = make_folder("records") / f"{checkout.version}-{_RECIPE}-{shape}.db"
    # Recent enough that its last days are the last days.
    if not path.exists() or time.time() - path.stat().st_mtime > 86_400:
        with TemporaryDirectory(dir=path.parent) as folder:
            _make_record(checkout, Path(folder), size)
            for made in Path(folder).glob("squash.db*"):
                shutil.move(made, f"{path}{made.name.removeprefix('squash.db')}")
    return path


def _make_record(checkout: Checkout, folder: Path, size: Size) -> None:
    progress(f"a record of {size.jobs} jobs with {size.measurements} measurements each")
    started = time.perf_counter()
    service = service_server(checkout, service_variables(folder, influx=None, deliver="off"))
    with running(service):
        token = log_in(service)
        define(service, token, size.measurements)
        requests = (make_request("/job", body, token=token) for body in make_jobs(size))
        outcome = run_load(service.port, requests, connections=_CONNECTIONS)
        assert outcome.statuses == {202: size.jobs}, outcome.statuses
        accepted = time.perf_counter()
        stats = stored(service)
        assert stats["number_of_jobs"] == size.jobs, stats
        assert stats["number_of_measurements"] == size.total, stats
        # A few are absent.
        values = _count_values(service, metric_name(size.measurements - 1))
        assert 0.99 * size.jobs - 1 <= values <= size.jobs, values
    database = folder / "squash.db"
    progress(
        f"accepted in {accepted - started:.0f} s, derived {time.perf_counter() - accepted:.0f} s "
        f"later; {database.stat().st_size / 1e6:.0f} MB"
    )


def _count_values(service: Server, metric: str) -> int:
    """Return how many values of a metric are in the index."""
    reply = httpx.get(
        f"{service.url}/measurements",
        params={"metric": metric, "format": "csv"},
        trust_env=False,
        timeout=300,
    )
    assert reply.status_code == 200, reply.text
    return len(reply.content.splitlines()) - 1


def define(
    service: Server, token: str, measurements: int, *, expect: Mapping[str, str] | None = None
) -> None:
    """Declare the metrics, and a specification of each, by which values may be expected."""
    metrics = [
        {"name": metric_name(index), "unit": metric_unit(index), "description": "Made up."}
        for index in range(measurements)
    ]
    limits = [
        {
            "name": f"{metric_name(index)}.design",
            "threshold": {"value": 14.9, "unit": metric_unit(index), "operator": "<="},
            "tags": ["design"],
            **({"expect": expect} if expect else {}),
        }
        for index in range(measurements)
    ]
    declare(service, "metrics", metrics, token=token)
    declare(service, "specs", limits, token=token)


def make_jobs(size: Size, *, first: int = 0, age_days: float = 0) -> Iterator[bytes]:
    """Yield different jobs in the order of their dates, the last of which is so many days ago."""
    now = datetime.now(UTC) - timedelta(days=age_days)
    step = timedelta(days=size.days) / size.jobs
    for number in range(size.jobs):
        date = now - (size.jobs - 1 - number) * step
        yield orjson.dumps(_make_job(first + number, size, date))


def _make_job(number: int, size: Size, date: datetime) -> dict[str, Any]:
    """Return a job; the same number gives the same values."""
    chance = random.Random(number)
    run, place = divmod(number, size.series)
    return {
        "measurements": [
            {
                "metric": metric_name(index),
                "value": _value(chance, number, index),
                "unit": metric_unit(index),
                "identifier": f"{chance.getrandbits(128):032x}",
            }
            for index in range(size.measurements)
        ],
        "blobs": [],
        "meta": {
            "instrument": "HSC",
            "filter_name": FILTERS[place % len(FILTERS)],
            "visit": 1000 + number,
            "airmass": chance.uniform(1, 2),
            "seeing": chance.uniform(0.4, 1.2),
            "observer": f"person {number % 7}",
            **({"detector": run % size.detectors} if size.detectors else {}),
            "env": {
                "env_name": "jenkins",
                "ci_id": str(run),
                "ci_name": "big_drp",
                "ci_dataset": DATASETS[place // len(FILTERS)],
                "ci_url": f"https://ci.example.org/job/{run}/",
                "version_tag": f"w_{run // 7}",
                "date": date.isoformat(),
            },
            "packages": _packages(run),
        },
    }


def _value(chance: random.Random, number: int, index: int) -> float | None:
    value = 10 + math.sin(number / 900 + index) + chance.gauss(0, 1)
    # Sometimes there is none, and sometimes an unexpected one.
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
