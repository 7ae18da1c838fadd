from collections.abc import Callable
from math import isfinite
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from squash_api.verify.derivation import REDUCERS, Aggregation, Derivation, Reduction, is_reducer

NUMPY: dict[str, Callable[[Any], Any]] = {
    "count": len,
    "max": np.max,
    "mean": np.mean,
    "median": np.median,
    "min": np.min,
    "rms": lambda numbers: np.sqrt(np.mean(np.square(numbers))),
    "std": np.std,
    "sum": np.sum,
    "p0": lambda numbers: np.percentile(numbers, 0),
    "p05": lambda numbers: np.percentile(numbers, 5),
    "p5": lambda numbers: np.percentile(numbers, 5),
    "p99.9": lambda numbers: np.percentile(numbers, 99.9),
    "p100": lambda numbers: np.percentile(numbers, 100),
}


def reduced(by: str, numbers: list[float]) -> float | None:
    return Reduction(by, "blob", "key").of(numbers)


@pytest.mark.parametrize("by", NUMPY)
@given(numbers=st.lists(st.floats(-1e6, 1e6), min_size=1))
def test_an_array_is_reduced_as_numpy_reduces_it(by: str, numbers: list[float]) -> None:
    expected = NUMPY[by](np.array(numbers))
    assert reduced(by, numbers) == pytest.approx(float(expected), rel=1e-9, abs=1e-9)


@given(numbers=st.lists(st.floats(allow_nan=False, allow_infinity=False)))
def test_the_order_of_an_array_makes_no_difference(numbers: list[float]) -> None:
    other = sorted(numbers)
    for by in (*REDUCERS, "p95"):
        assert reduced(by, numbers) == reduced(by, other)


@pytest.mark.parametrize("by", [*REDUCERS, "p95"])
def test_nothing_is_made_from_nothing_but_its_count(by: str) -> None:
    assert reduced(by, []) == (0.0 if by == "count" else None)


@pytest.mark.parametrize("by", [*REDUCERS, "p95"])
def test_what_no_float_can_hold_is_not_made(by: str) -> None:
    found = reduced(by, [1.7e308, 1.7e308, -1.7e308, 1.7e308])
    assert found is None or isfinite(found)


@pytest.mark.parametrize("by", ["p-1", "p101", "p", "p5e1", "p 5", "avg", "", "P95", "p1.1234567"])
def test_other_words_reduce_nothing(by: str) -> None:
    assert not is_reducer(by)


def test_a_derivation_is_read_as_it_is_written() -> None:
    derivation = Derivation(is_zero_missing=True, reduction=Reduction("p95", "b", "k"))
    written = derivation.to_json()
    assert written == {"missing": "zero", "reduce": {"by": "p95", "blob": "b", "key": "k"}}
    assert Derivation.of(written) == derivation
    assert Derivation.of({}).to_json() == {}


def test_an_aggregation_is_read_as_it_is_written() -> None:
    derivation = Derivation(aggregation=Aggregation("p.a", ("fiber", "ccd"), "p05", 3))
    written = derivation.to_json()
    assert written == {
        "aggregate": {"of": "p.a", "over": ["fiber", "ccd"], "by": "p05", "at_least": 3}
    }
    assert Derivation.of(written) == derivation
