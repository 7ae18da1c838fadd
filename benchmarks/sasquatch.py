"""R10: records a second by Sasquatch's wire / R1's numerator, jobs a second by `POST /job`.

Eight clients send bundles in a loop, as the dispatcher does: the cluster once, then for each action
its topic and its record. Every record has the time of its run, as at Rubin.
"""

import json
import random
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory
from uuid import UUID

from benchmarks.bodies import make_body
from benchmarks.checkout import Checkout
from benchmarks.load import Script, make_get, make_requests, run_load, run_scripts
from benchmarks.report import Figure, progress
from benchmarks.servers import (
    declare,
    prepare,
    running,
    service_server,
    service_variables,
    stored,
)

_ROUNDS = 9
_CLIENTS = 8
_BUNDLES = 240
_ACTIONS = 10
_METRICS = 5
_JOBS = 2000
_CONNECTIONS = 64
_ROOT = "/sasquatch-rest-proxy"
_TEXT = {"type": "string", "default": ""}
_DATA_ID = "detector patch skymap visit tract physical_filter instrument band exposure group"


def measure(checkout: Checkout) -> list[Figure]:
    with TemporaryDirectory() as folder:
        variables = service_variables(Path(folder), influx=None, deliver="off")
        service = service_server(checkout, variables)
        with running(service):
            token = prepare(service)
            declare(service, "metrics", _metrics(), token=token)
            ratios, jobs, bundles = [], 0, 0
            for number in range(_ROUNDS + 1):
                bodies = [make_body(jobs + index) for index in range(_JOBS)]
                theirs = run_load(
                    service.port,
                    make_requests("/job", bodies, token=token),
                    connections=_CONNECTIONS,
                )
                assert theirs.statuses == {202: _JOBS}, theirs.statuses
                jobs += _JOBS
                stored(service)
                sent = iter([_calls(bundles + index, token) for index in range(_BUNDLES)])
                scripts = [_client(sent) for _ in range(_CLIENTS)]
                ours = run_scripts(service.port, scripts)
                records = _BUNDLES * _ACTIONS
                assert ours.statuses == {200: _BUNDLES + records, 201: records}, ours.statuses
                bundles += _BUNDLES
                counted = stored(service)
                assert counted["number_of_jobs"] == jobs + bundles * _ACTIONS, counted
                values = jobs * 100 + bundles * _ACTIONS * _METRICS
                assert counted["number_of_measurements"] == values, counted
                # The first round warms up.
                if number:
                    rate = records / ours.seconds
                    ratios.append(rate / theirs.rate)
                    progress(f"R10 round {number}: {rate:.0f} / {theirs.rate:.0f} a second")
    return [
        Figure(
            "R10",
            f"records/s stored by Sasquatch's wire ({_CLIENTS} clients, bundles of "
            f"{2 * _ACTIONS + 1} calls, {_METRICS} values a record) / R1's numerator",
            ratios,
            bar=0.6,
        )
    ]


def _client(bundles: Iterator[list[bytes]]) -> Script:
    for calls in bundles:
        for call in calls:  # noqa: UP028  a list takes no replies
            yield call


def _metrics() -> list[dict[str, str]]:
    return [
        {"name": f"action{action}.metric{index}", "description": "made up", "unit": "mmag"}
        for action in range(_ACTIONS)
        for index in range(_METRICS)
    ]


def _calls(number: int, token: str) -> list[bytes]:
    """Return the requests of a bundle; the same number gives the same bytes."""
    chance = random.Random(number)
    clusters = make_get(f"{_ROOT}/v3/clusters", accept="*/*")
    calls = [clusters]
    identifier = UUID(int=chance.getrandbits(128))
    time_s = 1_778_814_765.0 + number // 189
    meta = {
        "id": str(identifier),
        "run": f"HSC/runs/RC2/w_2026_20/{number // 189}",
        "dataset_type": "objectTableCore_metrics",
        "reference_package": "",
        "reference_package_version": "",
        "reference_package_timestamp": 0.0,
        "run_timestamp": time_s,
        "timestamp": time_s,
        "dataset_tag": "HSC/RC2",
        **dict.fromkeys(_DATA_ID.split(), ""),
        "detector": str(number % 189),
        "instrument": "LSSTCam",
        "band": "r",
        "day_obs": "20260515",
        "visit": str(number // 189),
        "tags": ["lsst", "srd"],
    }
    for action in range(_ACTIONS):
        values = {f"metric{index}": chance.uniform(0, 50) for index in range(_METRICS)}
        record = {**meta, **values}
        schema = {
            "type": "record",
            "namespace": "lsst.dm",
            "name": f"action{action}",
            "fields": [
                {"name": key, **(_TEXT if isinstance(value, str) else {"type": "double"})}
                for key, value in record.items()
            ],
        }
        topic = {"topic_name": f"lsst.dm.action{action}", "partitions_count": 1}
        body = {"value_schema": json.dumps(schema), "records": [{"value": record}]}
        for path, sent in (
            (f"{_ROOT}/v3/clusters/squash/topics", topic),
            (f"{_ROOT}/topics/lsst.dm.action{action}", body),
        ):
            calls += make_requests(path, [json.dumps(sent).encode()], token=token)
    return calls
