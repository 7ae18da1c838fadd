import math
import sys
from itertools import permutations
from typing import Any

import pytest
from influxdb_client.client.write.point import Point

from squash_api.influx.client import (
    InfluxClient,
)
from squash_api.influx.points import EncodedPoint, job_to_points
from squash_api.influx.writing import deliver
from squash_api.schema import names as schema
from squash_api.settings import InfluxTarget
from tests.support.influxd import Influxd

TIME_NS = 1_790_000_000_123_456_789


def encode(
    values: dict[str, float],
    meta: dict[str, Any] | None = None,
    code_changes: tuple[str, int] | None = None,
) -> list[EncodedPoint]:
    return job_to_points(
        job_id=7,
        squash_url="http://squash/job/7",
        time_ns=TIME_NS,
        values=values,
        context=schema.Schema().context(meta or {}),
        code_changes=code_changes,
    )


def test_a_line_reads_as_documented() -> None:
    meta = {"instrument": "HSC", "visit": 1228, "env": {"env_name": "ldf", "run_id": "R 7"}}
    assert encode({"validate_drp.AM1": 7.5, "validate_drp.p.AM2": 2.0}, meta) == [
        EncodedPoint(
            "validate_drp",
            'validate_drp,env_name=ldf,instrument=HSC meta.visit=1228,run_id="R_7",squash_id=7,'
            'squash_url="http://squash/job/7",timestamp=1.7900000001234568e+18,'
            f"AM1=7.5,p.AM2=2.0 {TIME_NS}",
        )
    ]


def test_packages_come_in_order_of_first_appearance() -> None:
    points = encode({"b.x": 1.0, "a.x": 2.0, "b.y": 3.0})
    assert [point.measurement for point in points] == ["b", "a"]
    assert points[0].line.startswith("b ")
    assert ",x=1.0,y=3.0 " in points[0].line


def test_a_job_without_values_has_no_point() -> None:
    assert encode({}, {"instrument": "HSC"}) == []


def test_the_same_input_gives_the_same_bytes() -> None:
    meta = {"env": {"b": 1, "a": "x"}, "filter": "r"}
    assert encode({"p.M": 0.1}, meta) == encode({"p.M": 0.1}, meta)


def test_another_order_of_the_same_metrics_is_another_order_of_their_values() -> None:
    values = {"p.a": 1.5, "q.b": 2.5, "p.c": 3.5}
    for names in permutations(values):
        points = encode({name: values[name] for name in names})
        found = {
            f"{point.measurement}.{key}": float(number)
            for point in points
            for key, _, number in (
                assignment.partition("=") for assignment in point.line.split(" ")[1].split(",")
            )
            if key in {"a", "b", "c"}
        }
        assert found == values


@pytest.mark.parametrize("count", [1, 1000, 1001, 3000])
def test_a_job_may_have_any_number_of_metrics(count: int) -> None:
    (point,) = encode({f"p.m{number}": float(number) for number in range(count)})
    assert f",m{count - 1}={count - 1}.0 " in point.line


def test_a_text_may_be_longer_than_what_is_remembered() -> None:
    text = "x, y" * 10_000
    (point,) = encode({"p.a": 1.0}, {"note": text, "short": "x, y"})
    assert f'meta.note.text="{text.replace(" ", "_")}"' in point.line
    assert 'meta.short.text="x,_y"' in point.line


@pytest.mark.parametrize(
    "value",
    [
        0.0,
        -0.0,
        0.1,
        1 / 3,
        5e-324,
        sys.float_info.max,
        -sys.float_info.min,
        1e16,
        1e22,
        1e-7,
        2**63,
    ],
)
def test_a_number_is_written_to_the_last_bit_and_as_a_float(value: float) -> None:
    text = encode({"p.M": value})[0].line.rpartition("M=")[2].split(" ")[0]
    assert not text.endswith("i")
    assert float(text) == value
    assert math.copysign(1, float(text)) == math.copysign(1, value)


def test_unknown_code_changes_have_no_field() -> None:
    assert "code_changes" not in encode({"p.M": 1.0}, code_changes=None)[0].line


def test_no_code_changes_are_a_count_of_zero() -> None:
    assert (
        'code_changes="",code_changes_counts=0,'
        in encode({"p.M": 1.0}, code_changes=("", 0))[0].line
    )


def test_code_changes_are_a_text_and_a_count() -> None:
    line = encode({"p.M": 1.0}, code_changes=("[afw](https://x.example/afw), -old", 2))[0].line
    assert 'code_changes="[afw](https://x.example/afw), -old",code_changes_counts=2,' in line


HOSTILE = [
    "a,b",
    "a=b",
    "a b",
    ' "a" b',
    '"',
    "'",
    "a\\b",
    "\\a",
    "\\\\\\b",
    "a\\n",
    ",,==  ",
    "a,b=c d=1 5",
    '",x="',
    "αβ 😀 \u00a0\u3000\ufeff\ufffd",
    "a#b",
    "!~#",
    "{{x}}",
    "%s",
]


def test_the_database_holds_what_the_library_alone_would_have_written(
    influxd: Influxd, influx_target: InfluxTarget
) -> None:
    ours: list[str] = []
    theirs: list[str] = []
    for number, text in enumerate(HOSTILE):
        values = {"plain.M": 0.1 + number, f"{text}.M": 1e300, f"plain.{text}": -0.0}
        meta = {"dataset": text, "instrument": "HSC", text: 3, f"{text}2": text, "ci_id": text}
        context = schema.Schema(extra_tags=("a=b,c",)).context({**meta, "a=b,c": text})
        points = job_to_points(
            job_id=number,
            squash_url="http://squash/job/1",
            time_ns=TIME_NS + number,
            values=values,
            context=context,
            code_changes=("", 0),
        )
        ours += [point.line for point in points]
        theirs += _lines_of_the_library(number, values, context)
    for database, lines in ((f"{influx_target.database}_theirs", theirs), (None, ours)):
        target = influx_target.model_copy(update={"database": database} if database else {})
        with InfluxClient(target) as client:
            assert deliver(client, lines) == []
    export = influxd.export(influx_target.database)
    assert export == influxd.export(f"{influx_target.database}_theirs")
    assert export.count(b"\n") + 1 == 2 * len(HOSTILE)


def _lines_of_the_library(
    number: int, values: dict[str, float], context: schema.Context
) -> list[str]:
    points: dict[str, Any] = {}
    for metric, value in values.items():
        measurement, key = schema.split_metric_name(metric)
        point: Any = points.setdefault(measurement, Point(measurement))  # type: ignore[no-untyped-call]
        point.field(key, value)
    for point in points.values():
        for key, text in context.tags.items():
            point.tag(key, text)
        for key, field in context.fields.items():
            point.field(key, field)
        point.field("squash_id", float(number)).field("squash_url", "http://squash/job/1")
        point.field("timestamp", float(TIME_NS + number)).time(TIME_NS + number)
        point.field("code_changes", "").field("code_changes_counts", 0.0)
    return [point.to_line_protocol() for point in points.values()]
