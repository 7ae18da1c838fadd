"""Whatever a job says, InfluxDB holds the right points and no others."""

import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from squash_api.influx.client import (
    InfluxClient,
)
from squash_api.influx.points import job_to_points
from squash_api.influx.writing import deliver
from squash_api.schema.names import Schema, split_metric_name
from squash_api.settings import InfluxTarget
from tests.support.influxd import Influxd

NOW_NS = 1_790_000_000_000_000_000
SCHEMA = Schema(extra_tags=("site", "a,b=c"))
JOBS = 4
EXAMPLES = 90

FRAGMENTS = [
    *("\\", ",", " ", "=", '"', "'", "#", "!", "~", "#!~#", "\\\\", "\\,", '\\"', "\\=", "\\ "),
    *("\n", "\r\n", "\t", "\x00", "\x7f", "\x85", "\u2028", "\ud800", "\udfff\ud800", "\ufffd"),
    *("Ωμ", "é", "😀", "\u00a0", "\u3000", "\ufeff", "{{", "%s", "$", "`", "/", ".", "_", "1i"),
    *("time", "a", "b", "\nforged,t=v f=1 5\n", ",forged=1", '",forged="1', "m,t=v f=1 5"),
]
hostile = st.lists(st.sampled_from(FRAGMENTS), max_size=6).map("".join) | st.text(max_size=6)

KEYS = [
    *("instrument", "filter_name", "physical_filter", "filter", "ci_dataset", "dataset", "status"),
    *("ci_name", "env_name", "site", "a,b=c", "ci_id", "run_id", "ci_url", "version_tag", "date"),
    *("time", "packages", "visit", "AM1", "squash_id", "squash_url", "timestamp", "code_changes"),
    *("meta.visit", "visit.text", "meta.visit.text", "", "note", "_field", "name"),
]
keys = st.sampled_from(KEYS) | hostile
scalars = (
    hostile
    | st.sampled_from(["", "plain", "https://ci.example/1", 'https://h/"\\,x=1', "x" * 1100])
    | st.floats()
    | st.integers(-(2**70), 2**70)
    | st.booleans()
    | st.none()
    | st.lists(st.floats() | hostile | st.booleans(), max_size=3)
)
metas = st.dictionaries(
    keys,
    scalars | st.dictionaries(keys, scalars | st.dictionaries(keys, scalars, max_size=2)),
    max_size=6,
)
numbers = st.floats(allow_nan=False, allow_infinity=False) | st.sampled_from(
    [0.0, -0.0, 1.0, 1e22, 5e-324, sys.float_info.max, 2.0**63, 1 / 3]
)
names = (
    st.sampled_from(["pkg.AM1", "pkg.visit", "pkg.time", "pkg.dataset", "pkg.meta.x", "pkg", "."])
    | st.builds("{}.{}".format, hostile, hostile)
    | st.builds("pkg.{}".format, hostile)
)
jobs = st.tuples(metas, st.dictionaries(names, numbers, max_size=5))


def written(text: str) -> str:
    """What becomes of a name or tag value, said in another way than the code does."""
    while (shorter := re.sub(r'\\([,= "]|$)', r"\1", text)) != text:
        text = shorter
    return text.replace("#!~", "#~")


def expected_points(
    number: int, meta: dict[str, Any], values: dict[str, float]
) -> Iterator[dict[str, Any]]:
    context = SCHEMA.context(meta)
    packages: dict[str, dict[str, float]] = {}
    for metric, value in values.items():
        if not SCHEMA.name_problem(metric):
            measurement, key = split_metric_name(metric)
            packages.setdefault(written(measurement), {})[written(key)] = value
    own = {"squash_id": float(number), "squash_url": f"http://s/job/{number}"}
    for measurement, fields in packages.items():
        yield {
            "measurement": measurement,
            "tags": {written(key): written(text) for key, text in context.tags.items()},
            "fields": {written(key): value for key, value in context.fields.items()}
            | {**own, "timestamp": float(NOW_NS + number)}
            | fields,
            "time": NOW_NS + number,
        }


def lines_of(number: int, meta: dict[str, Any], values: dict[str, float]) -> list[str]:
    points = job_to_points(
        job_id=number,
        squash_url=f"http://s/job/{number}",
        time_ns=NOW_NS + number,
        values={name: value for name, value in values.items() if not SCHEMA.name_problem(name)},
        context=SCHEMA.context(meta),
        code_changes=None,
    )
    return [point.line for point in points]


def in_order(points: list[dict[str, Any]]) -> list[str]:
    # repr tells -0.0 from 0.0, and compares every float to the last bit.
    return sorted(
        repr(
            (
                point["time"],
                point["measurement"],
                sorted(point["tags"].items()),
                sorted(point["fields"].items()),
            )
        )
        for point in points
    )


def test_any_jobs_become_the_right_points_and_no_others(
    influxd: Influxd, influx_target: InfluxTarget
) -> None:
    seen = 0

    @settings(
        max_examples=EXAMPLES,
        deadline=None,
        derandomize=True,
        database=None,
        phases=(Phase.explicit, Phase.generate, Phase.shrink),
        suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
    )
    @given(st.lists(jobs, min_size=JOBS, max_size=JOBS))
    def check(documents: list[tuple[dict[str, Any], dict[str, float]]]) -> None:
        nonlocal seen
        influxd.query(f"DROP DATABASE {influx_target.database}")
        lines: list[str] = []
        wanted: list[dict[str, Any]] = []
        for number, (meta, values) in enumerate(documents):
            # Every job has a value, so that its metadata is put to the test.
            some = {"pkg.M": 1.5, **values}
            lines += lines_of(number, meta, some)
            wanted += expected_points(number, meta, some)
        with InfluxClient(influx_target) as client:
            assert deliver(client, lines) == []
        assert in_order(influxd.points(influx_target.database)) == in_order(wanted)
        seen += len(documents)

    check()
    assert seen >= 300


HOSTILE = [
    *FRAGMENTS,
    "a#!~#b",
    "a#!~",
    "#!~#f",
    "a\\,b",
    "\\\\=",
    'x\\" y',
    ",\\",
    "a\\ b=c\\,d",
]


def test_hostile_text_survives_a_restart_of_influxdb(tmp_path: Path) -> None:
    lines: list[str] = []
    wanted: list[dict[str, Any]] = []
    for number, text in enumerate(HOSTILE):
        meta = {"dataset": text, "instrument": f"x{text}", text: 1.5, f"k{text}": text}
        values = {f"p{text}.M": 1.0, f"p.{text}": 2.0, f"p.m{text}": -0.0}
        lines += lines_of(number, meta, values)
        wanted += expected_points(number, meta, values)
    with Influxd(tmp_path / "influxd") as server:
        target = InfluxTarget(url=server.url, database="d")
        with InfluxClient(target) as client:
            assert deliver(client, lines) == []
        assert in_order(server.points("d")) == in_order(wanted)
        server.kill()
        server.start()
        assert in_order(server.points("d")) == in_order(wanted)


@pytest.mark.parametrize("text", HOSTILE)
def test_a_line_never_spills_into_the_next(text: str) -> None:
    for line in lines_of(0, {"dataset": text, text: text}, {f"p{text}.M": 1.0, f"p.{text}": 2.0}):
        assert not re.search(r"[\x00-\x1f\x7f]", line)
        assert line.endswith(f" {NOW_NS}")
