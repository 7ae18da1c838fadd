"""The floor of draining: read each body, decode it, format its values, write 250 at a time.

It does nothing that could be left out: no check, no metadata beyond one constant text, no cursor,
no look at what changed in the code, one thread. It prints how many jobs a second that was.
"""

import http.client
import sqlite3
import sys
import time
from collections.abc import Iterator
from itertools import islice
from operator import add

import msgspec
import orjson

_TOGETHER = 250
_SHARED = (
    "dataset=bench,env_name=jenkins,filter=HSC-R,instrument=HSC,pipeline=bench_drp,status=0,tract=1"
    ' code_changes="[package_1](https://github.com/lsst/package_1/commit/0000000000000000000000000'
    '000000000000001)",code_changes_counts=1,meta.airmass=1.745017184411272,meta.visit=5,run_id="0"'
    ',run_url="https://ci.example.org/job/0/"'
)


class _Measured(msgspec.Struct, gc=False):
    metric: str
    value: float


class _Document(msgspec.Struct, gc=False):
    measurements: list[_Measured]


def _lines(path: str, jobs: int) -> Iterator[str]:
    decode = msgspec.json.Decoder(_Document).decode
    keys: list[str] = []
    query = "SELECT id, time_ns, body FROM (SELECT * FROM job ORDER BY id DESC LIMIT ?) ORDER BY id"
    for job_id, time_ns, body in sqlite3.connect(path).execute(query, (jobs,)):
        measured = decode(body).measurements
        keys = keys or [f"{item.metric.partition('.')[2]}=" for item in measured]
        package = measured[0].metric.partition(".")[0]
        numbers = orjson.dumps([item.value for item in measured])[1:-1].decode().split(",")
        yield (
            f"{package},{_SHARED},squash_id={job_id},squash_url="
            f'"http://127.0.0.1:8000/job/{job_id}",timestamp={time_ns:.1f},'
            f"{','.join(map(add, keys, numbers))} {time_ns}"
        )


def main() -> None:
    path, port, database, jobs = sys.argv[1:]
    to = http.client.HTTPConnection("127.0.0.1", int(port))
    lines = _lines(path, int(jobs))
    started = time.perf_counter()
    while batch := list(islice(lines, _TOGETHER)):
        to.request("POST", f"/write?db={database}&precision=ns", "\n".join(batch).encode())
        reply = to.getresponse()
        assert reply.status == 204, reply.read()
        reply.read()
    print(int(jobs) / (time.perf_counter() - started))


main()
