"""Rubin's night: 1,000 visits of 189 detectors with 30 metrics each, all on one machine.

`make bench-night` measures it four times and writes docs/night.md: with the record in SQLite, and
in PostgreSQL with two replicas of the service; as lsst.verify's jobs, and as Sasquatch's records.
Beside it run `squash deliver`, InfluxDB, and Kapacitor with its tasks, which tells a stand-in for
Slack. `make bench-night ARGS="--visits 50"` is a short night, and writes nothing.

First the whole night comes as fast as it is taken; then some visits like those of a real night, of
which each begins when all of the last one is through.
"""

import argparse
import contextlib
import json
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, closing
from dataclasses import asdict, dataclass, field
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory, gettempdir
from typing import Any, Self
from uuid import UUID

import httpx
import orjson

from benchmarks.checkout import ROOT, Checkout
from benchmarks.load import Script, make_get, make_request, run_scripts
from benchmarks.report import machine, progress
from benchmarks.servers import (
    CREDENTIALS,
    Server,
    deliver_server,
    free_port,
    influx_server,
    log_in,
    query,
    running,
    service_server,
    service_variables,
    stored,
    wait_until,
)
from benchmarks.steady import percentile
from tests.support.http_server import HttpServer
from tests.support.kapacitord import Kapacitord
from tests.support.postgresql import PostgreSQL

PAGE = ROOT / "docs" / "night.md"
VISITS, DETECTORS, METRICS = 1000, 189, 30
_BANDS = "ugrizy"
_PACKAGE = "night"
_CLIENTS = 32
_SINGLE_VISITS = 20
_BAR_S = 600
_LIMIT, _BROKEN = 50.0, 60.0
_WIRES = {"jobs": "lsst.verify's jobs", "records": "Sasquatch's records"}
_ENGINES = {"sqlite": "SQLite", "postgresql": "PostgreSQL, 2 replicas"}
_SASQUATCH = "/sasquatch-rest-proxy"
_TEXT = {"type": "string", "default": ""}
_TOLD = re.compile(r"filter ([a-z]), .*?detector (\d+)")


@dataclass
class Told:
    """When Slack was told of a series, by band and detector, in s of this machine's clock."""

    times: dict[tuple[str, int], float] = field(default_factory=dict)

    def __call__(self, request: httpx.Request) -> httpx.Response:
        now = time.perf_counter()
        for item in json.loads(request.read())["attachments"]:
            if found := _TOLD.search(item["text"]):
                self.times.setdefault((found[1], int(found[2])), now)
        return httpx.Response(200, text="ok")


@dataclass(frozen=True)
class Phase:
    """What jobs took in a part of a night: of the reply, of being seen in InfluxDB, of the message.

    Each is the median and the p99, in s. `told` are the messages that came of those `wanted`.
    """

    reply_s: tuple[float, float]
    visible_s: tuple[float, float]
    told_s: tuple[float, float]
    told: int
    wanted: int


@dataclass(frozen=True)
class Result:
    """What a night took: times in s, memory and sizes in MB; `backlog` is of jobs, at most."""

    wire: str
    engine: str
    visits: int
    accepted_s: float
    visible_s: float
    at_once: Phase
    one_by_one: Phase
    backlog: int
    memory_mb: dict[str, float]
    record_mb: float
    series: int


@dataclass
class _Night:
    """The jobs of a night, and what is known of each: when it was accepted."""

    wire: str
    visits: int
    token: str
    replies: list[float] = field(default_factory=list)
    accepted: dict[tuple[int, int], float] = field(default_factory=dict)
    statuses: dict[int, int] = field(default_factory=dict)

    def band(self, visit: int) -> str:
        """Return the band of a visit; the telescope changes it five times a night."""
        return _BANDS[min(visit * len(_BANDS) // self.visits, len(_BANDS) - 1)]

    def first_of_band(self, visit: int) -> int:
        return next(number for number in range(visit + 1) if self.band(number) == self.band(visit))

    def breaking(self, visit: int) -> int:
        """Return the detector that gets worse with a visit, and stays so in this band."""
        return (visit - self.first_of_band(visit)) * 73 % DETECTORS

    def values(self, visit: int, detector: int, broken: set[int]) -> dict[str, float]:
        start = (visit * DETECTORS + detector) * 0.618
        found = {
            f"metric_{index:02d}": (start + index * 0.377) % 1 * (_LIMIT - 1)
            for index in range(METRICS)
        }
        if detector in broken:
            found["metric_00"] = _BROKEN + visit % 7
        return found

    def scripts(self, visits: Sequence[int], clients: int) -> list[Script]:
        """Return what each client does: it takes the next job as soon as it has a reply."""
        left = iter([(visit, detector) for visit in visits for detector in range(DETECTORS)])
        broken: dict[int, set[int]] = {}
        for visit in visits:
            first = self.first_of_band(visit)
            broken[visit] = {self.breaking(number) for number in range(first, visit + 1)}

        def client() -> Script:
            for visit, detector in left:
                values = self.values(visit, detector, broken[visit])
                for request in self._requests(visit, detector, values):
                    begun = time.perf_counter()
                    yield request
                    ended = time.perf_counter()
                self.replies.append(ended - begun)
                self.accepted[visit, detector] = ended

        return [client() for _ in range(clients)]

    def _requests(self, visit: int, detector: int, values: dict[str, float]) -> Iterator[bytes]:
        """Yield what is sent for a detector; the last request brings its values."""
        tags = {
            "instrument": "LSSTCam",
            "detector": detector,
            "band": self.band(visit),
            "visit": visit,
        }
        if self.wire == "jobs":
            document = {
                "measurements": [
                    {
                        "metric": f"{_PACKAGE}.{name}",
                        "identifier": f"{(visit * DETECTORS + detector) * METRICS + index:032x}",
                        "value": value,
                        "unit": "mmag",
                        "blob_refs": [],
                    }
                    for index, (name, value) in enumerate(values.items())
                ],
                "blobs": [],
                "meta": {
                    **tags,
                    "filter_name": tags["band"],
                    "env": {"env_name": "night", "ci_name": "nightly", "ci_id": str(visit)},
                },
            }
            yield make_request("/job", orjson.dumps(document), token=self.token)
            return
        yield make_get(f"{_SASQUATCH}/v3/clusters", accept="*/*")
        topic = f"lsst.dm.{_PACKAGE}"
        asked = {"topic_name": topic, "partitions_count": 1}
        place = f"{_SASQUATCH}/v3/clusters/squash/topics"
        yield make_request(place, orjson.dumps(asked), token=self.token)
        # Nobody is told of old values.
        now_s = time.time()
        record = {
            "id": str(UUID(int=visit * DETECTORS + detector + 1)),
            "run": f"night/{visit}",
            "dataset_type": "night_metrics",
            "timestamp": now_s,
            "run_timestamp": now_s,
            **{name: str(value) for name, value in tags.items()},
            "physical_filter": tags["band"],
            **values,
        }
        fields = [
            {"name": name, **(_TEXT if isinstance(value, str) else {"type": "double"})}
            for name, value in record.items()
        ]
        schema = {"type": "record", "namespace": "lsst.dm", "name": _PACKAGE, "fields": fields}
        body = {"value_schema": json.dumps(schema), "records": [{"value": record}]}
        yield make_request(f"{_SASQUATCH}/topics/{topic}", orjson.dumps(body), token=self.token)


class _Visible:
    """Notes when each visit of one detector is seen in InfluxDB, in a thread of its own."""

    def __init__(self, influx: Server) -> None:
        self.times: list[float] = []
        self._influx = influx
        self._ends = threading.Event()
        self._thread = threading.Thread(target=self._look)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ends.set()
        self._thread.join()

    def _look(self) -> None:
        # Few series, so that asking costs InfluxDB little.
        asked = f"SELECT count(metric_01) FROM \"{_PACKAGE}\" WHERE detector = '{DETECTORS - 1}'"
        while not self._ends.wait(0.05):
            series = query(self._influx, asked)
            count = series[0]["values"][0][1] if series else 0
            self.times += [time.perf_counter()] * (count - len(self.times))


def measure(checkout: Checkout, wire: str, engine: str, visits: int) -> Result:
    """Measure a night."""
    with ExitStack() as stack:
        folder = Path(stack.enter_context(TemporaryDirectory()))
        told = Told()
        slack = stack.enter_context(HttpServer(told))
        influx = influx_server(folder)
        stack.enter_context(running(influx))
        tasks = _generate(checkout, folder)
        kapacitor = stack.enter_context(
            Kapacitord(folder / "kapacitor", tasks, slack=f"{slack.url}/hook")
        )
        address = kapacitor.url.removesuffix("/kapacitor/v1")
        variables = {
            **service_variables(folder, influx=influx.url, kapacitor=address, deliver="off"),
            "SQUASH_SPECS": str(folder / "specs"),
        }
        size: Callable[[], float] = partial(_file_mb, folder)
        services = 1
        if engine == "postgresql":
            kept = {"fsync": "on", "full_page_writes": "on", "autovacuum": "on"}
            server = stack.enter_context(PostgreSQL(**kept))
            variables["SQUASH_DATABASE_URL"] = server.url_of("squash_template")
            size = partial(_database_mb, server)
            services = 2
        replicas = [service_server(checkout, {**variables, **_port()}) for _ in range(services)]
        deliver = deliver_server(checkout, variables)
        stack.enter_context(running(*replicas, deliver))
        single = min(_SINGLE_VISITS, visits)
        night = _Night(wire, visits + single, _key(checkout, variables, replicas[0]))
        visible = stack.enter_context(_Visible(influx))
        run = _Run(night, [item.port for item in replicas], visible, told)
        at_once = run.phase(range(visits), at_once=True)
        accepted_s, visible_s, backlog = run.accepted_s, run.visible_s, run.backlog
        one_by_one = run.phase(range(visits, visits + single), at_once=False)
        jobs = (visits + single) * DETECTORS
        counted = stored(replicas[0])
        assert counted["number_of_jobs"] == jobs, counted
        assert counted["number_of_measurements"] == jobs * METRICS, counted
        counts = query(influx, "SHOW SERIES EXACT CARDINALITY")
        memory = {
            "service": max(item.peak_memory_mb() for item in replicas),
            "deliver": deliver.peak_memory_mb(),
            "InfluxDB": influx.peak_memory_mb(),
        }
        return Result(
            wire,
            engine,
            visits,
            accepted_s,
            visible_s,
            at_once,
            one_by_one,
            backlog,
            memory,
            size(),
            sum(item["values"][0][0] for item in counts),
        )


class _Run:
    """Sends the jobs of a night, and measures what becomes of them."""

    def __init__(self, night: _Night, ports: Sequence[int], visible: _Visible, told: Told) -> None:
        self.accepted_s = self.visible_s = 0.0
        self.backlog = 0
        self._night, self._ports, self._visible, self._told = night, ports, visible, told

    def phase(self, visits: Sequence[int], *, at_once: bool) -> Phase:
        """Send visits, all at once or each when the last one is through."""
        night, started = self._night, time.perf_counter()
        night.replies.clear()
        for some in [visits] if at_once else [[visit] for visit in visits]:
            outcome = run_scripts(self._ports, night.scripts(some, _CLIENTS))
            assert outcome.statuses.keys() <= {200, 201, 202}, outcome.statuses
            self.accepted_s = time.perf_counter() - started
            seen = some[-1] + 1
            self.backlog = (seen - len(self._visible.times)) * DETECTORS
            wait_until(lambda: len(self._visible.times) >= seen, seconds=1200)  # noqa: B023
            self.visible_s = time.perf_counter() - started
            wanted = [(night.band(visit), night.breaking(visit)) for visit in some]
            # A message may not come: a series that has become worse anew is told only once.
            with contextlib.suppress(AssertionError):
                wait_until(lambda: self._told.times.keys() >= {*wanted}, seconds=30)  # noqa: B023
        last = DETECTORS - 1
        lags = [self._visible.times[visit] - night.accepted[visit, last] for visit in visits]
        told = [
            self._told.times[series] - night.accepted[visit, series[1]]
            for visit in visits
            if (series := (night.band(visit), night.breaking(visit))) in self._told.times
        ]
        return Phase(
            reply_s=_pair(night.replies),
            visible_s=_pair(lags),
            # Not one message, if it is so.
            told_s=_pair(told or [float("nan")]),
            told=len(told),
            wanted=len(visits),
        )


def _pair(values: Sequence[float]) -> tuple[float, float]:
    return percentile(values, 50), percentile(values, 99)


def _generate(checkout: Checkout, folder: Path) -> Path:
    """Write the metrics package, and return the directory of Kapacitor that is made from it."""
    specs = folder / "specs"
    (specs / "metrics").mkdir(parents=True)
    (specs / "specs" / _PACKAGE).mkdir(parents=True)
    names = [f"metric_{index:02d}" for index in range(METRICS)]
    metrics = "".join(f"{name}:\n  description: Made up.\n  unit: mmag\n" for name in names)
    (specs / "metrics" / f"{_PACKAGE}.yaml").write_text(metrics)
    # The first tells of each series by itself, as Kapacitor does it; the others of groups.
    limits = [
        f"---\nname: design\nmetric: {name}\n"
        f"threshold: {{operator: '<=', unit: mmag, value: {_LIMIT}}}\ntags: [design]\n"
        f"{'alert: {group: none}' if not index else ''}\n"
        for index, name in enumerate(names)
    ]
    for name, text in zip(names, limits, strict=True):
        (specs / "specs" / _PACKAGE / f"{name}.yaml").write_text(text)
    output = folder / "generated"
    _squash(checkout, {}, "generate", f"--specs={specs}", f"--output={output}")
    return output / "kapacitor"


def _key(checkout: Checkout, variables: dict[str, str], service: Server) -> str:
    """Return a key that may send jobs, which no login is needed for."""
    log_in(service)
    user = CREDENTIALS["username"]
    return _squash(checkout, variables, "key", "create", user, "night", "--scope=job:write")


def _squash(checkout: Checkout, variables: dict[str, str], *arguments: str) -> str:
    done = subprocess.run(
        [str(checkout.squash), *arguments],
        cwd=gettempdir(),
        env={**checkout.environment, **variables},
        stdout=subprocess.PIPE,
        text=True,
        check=True,
        timeout=120,
    )
    return done.stdout.strip()


def _port() -> dict[str, str]:
    port = str(free_port())
    return {"SQUASH_PORT": port, "SQUASH_URL": f"http://127.0.0.1:{port}"}


def _file_mb(folder: Path) -> float:
    return sum(path.stat().st_size for path in folder.glob("squash.db*")) / 1e6


def _database_mb(server: PostgreSQL) -> float:
    with closing(server.connect("squash_template")) as connection:
        found = connection.execute("SELECT pg_database_size(current_database())").fetchone()
    assert found is not None
    return int(found[0]) / 1e6


def write_page(results: Sequence[Result]) -> str:
    """Write docs/night.md and return the table."""
    table = make_table(results)
    visits = min(item.visits for item in results)
    rate = min(item.visits * DETECTORS / item.visible_s for item in results)
    jobs = VISITS * DETECTORS
    part = "" if visits == VISITS else f" What follows is of the first {visits:,} visits."
    PAGE.write_text(f"""# Rubin's night

`make bench-night` writes this page; do not edit it. A night is {VISITS:,} visits of {DETECTORS}
detectors with {METRICS} metrics each, in {len(_BANDS)} bands: {jobs:,} jobs and
{jobs * METRICS / 1e6:.1f} million values.{part} All of it goes through the API, with {_CLIENTS}
connections and a key: as lsst.verify's jobs, or as Sasquatch's records, each with the requests for
clusters and its topic before it. One machine runs all: the clients, the service, `squash deliver`,
InfluxDB, Kapacitor with its tasks, and a stand-in for Slack. With each visit, one more detector
gets worse, and stays so, which Slack is to be told of.

First all visits come as fast as they are taken. Then {results[0].one_by_one.wanted} more come like
those of a real night: all jobs of a visit at the same time, when the last visit is through. Pairs
are the median and the p99; of what follows, from the reply to the job on. `visible` means that
InfluxDB counts it.

{table}

A real night takes ten hours: {VISITS / 600:.1f} visits a minute, {jobs / 36_000:.1f} jobs a second.
The slowest of these, {rate:.0f} jobs a second from the first request until InfluxDB has all, needs
{jobs / rate / 60:.0f} minutes for a night, {jobs / rate / 360:.1f}% of its time. So each visit is
through long before the next one comes, and what came in a night without InfluxDB is there soon
after it is back.

{machine()}
""")
    return table


def make_table(results: Sequence[Result]) -> str:
    """Return the figures of nights side by side."""
    rows: list[tuple[str, Callable[[Result], str]]] = [
        ("all accepted, s", lambda item: f"{item.accepted_s:.0f}"),
        ("all visible, s", lambda item: f"{item.visible_s:.0f}"),
        (
            f"a whole night at this rate, s (bar: {_BAR_S})",
            lambda item: f"{item.visible_s * VISITS / item.visits:.0f}",
        ),
        ("jobs/s accepted", lambda item: f"{item.visits * DETECTORS / item.accepted_s:.0f}"),
        ("all at once: 202, ms", lambda item: _ms(item.at_once.reply_s)),
        ("all at once: visible, s", lambda item: _s(item.at_once.visible_s)),
        ("all at once: message, s", lambda item: _s(item.at_once.told_s)),
        ("visit by visit: 202, ms", lambda item: _ms(item.one_by_one.reply_s)),
        ("visit by visit: visible, s", lambda item: _s(item.one_by_one.visible_s)),
        ("visit by visit: message, s", lambda item: _s(item.one_by_one.told_s)),
        (
            "messages that came",
            lambda item: (
                f"{item.at_once.told + item.one_by_one.told} of "
                f"{item.at_once.wanted + item.one_by_one.wanted}"
            ),
        ),
        ("backlog after the last 202, jobs", lambda item: str(item.backlog)),
        *(
            (f"memory of {name} at most, MB", partial(_memory, name))
            for name in ("service", "deliver", "InfluxDB")
        ),
        ("record, MB", lambda item: f"{item.record_mb:.0f}"),
        (
            "record, MB for a million values",
            lambda item: f"{item.record_mb * 1e6 / _values(item):.0f}",
        ),
        ("series in InfluxDB", lambda item: str(item.series)),
    ]
    heads = [f"{_ENGINES[item.engine]}, {_WIRES[item.wire]}" for item in results]
    lines = [["", *heads], ["---"] * (len(heads) + 1)]
    lines += [[name, *(shown(item) for item in results)] for name, shown in rows]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in lines)


def _values(result: Result) -> int:
    return (result.visits + result.one_by_one.wanted) * DETECTORS * METRICS


def _memory(name: str, result: Result) -> str:
    return f"{result.memory_mb[name]:.0f}"


def _ms(pair: Sequence[float]) -> str:
    return "; ".join(f"{value * 1000:.0f}" for value in pair)


def _s(pair: Sequence[float]) -> str:
    return "; ".join(f"{value:.1f}" for value in pair)


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.night", description=__doc__)
    parser.add_argument("--visits", type=int, default=VISITS, help="of a shorter night")
    parser.add_argument("--wire", choices=_WIRES, help="only by this one")
    parser.add_argument("--record", choices=_ENGINES, help="only with this one")
    parser.add_argument("--keep", type=Path, metavar="FILE", help="append the result as JSON")
    parser.add_argument("--page", type=Path, metavar="FILE", help="write the page of kept results")
    arguments = parser.parse_args()
    if arguments.page:
        kept = [json.loads(line) for line in arguments.page.read_text().splitlines()]
        print(write_page([_result(item) for item in kept]))
        return
    # Ending this process by its id ends the servers that it has started, too.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    results = []
    for engine in [arguments.record] if arguments.record else _ENGINES:
        for wire in [arguments.wire] if arguments.wire else _WIRES:
            results.append(measure(Checkout(), wire, engine, arguments.visits))
            progress(make_table(results[-1:]))
            if arguments.keep:
                with arguments.keep.open("a") as file:
                    file.write(f"{json.dumps(asdict(results[-1]))}\n")
    is_whole = len(results) == len(_ENGINES) * len(_WIRES) and arguments.visits == VISITS
    print(write_page(results) if is_whole else make_table(results))


def _result(found: dict[str, Any]) -> Result:
    phases = {name: Phase(**found[name]) for name in ("at_once", "one_by_one")}
    return Result(**{**found, **phases})


if __name__ == "__main__":
    main()
