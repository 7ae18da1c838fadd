from typing import Any, cast

import pytest

from squash_api.influx.client import InfluxClient
from squash_api.influx.reading import parse_line, read_points


class Answering:
    """An InfluxDB that has one point with this field."""

    def __init__(self, cell: Any) -> None:
        self._cell = cell

    def query(self, _influxql: str) -> list[dict[str, Any]]:
        return [{"name": "p", "columns": ["time", "x"], "values": [[1, self._cell]]}]


@pytest.mark.parametrize(
    ("cell", "text"),
    [
        (1795807859905707300, "1795807859905707264"),
        (1795807859905707300, "1.7958078599057073e+18"),
        (3, "3"),
        (-0.5, "-0.5"),
        ("3", '"3"'),
    ],
)
def test_a_value_that_is_read_equals_that_of_its_line(cell: Any, text: str) -> None:
    client = cast("InfluxClient", Answering(cell))
    assert read_points(client, ["p"], first_ns=0, last_ns=2) == [parse_line(f"p x={text} 1")]
