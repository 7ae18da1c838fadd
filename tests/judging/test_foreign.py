from typing import Any

import pytest

from squash_api.judging.foreign import ForeignLimit, foreign_limits


@pytest.mark.parametrize(
    ("metric", "limits"),
    [
        (
            {"minimum": "8", "design": "5", "stretch": "3", "user": "10"},
            [("minimum", "<=", 8), ("design", "<=", 5), ("stretch", "<=", 3), ("user", "<=", 10)],
        ),
        ({"minimum": 3, "design": 5, "user": 4}, [(key, ">=", value) for key, value in
                                                  (("minimum", 3), ("design", 5), ("user", 4))]),
        ({"design": 5, "condition": ">"}, [("design", ">", 5)]),
        ({"condition": "<", "threshold": 7}, [("threshold", "<", 7)]),
        ({"condition": " GE ", "threshold": "7e-1"}, [("threshold", ">=", 0.7)]),
        ({"condition": "=", "threshold": 0}, [("threshold", "==", 0)]),
        ({"lowThreshold": -0.01, "highThreshold": 0.03}, [("low", ">=", -0.01),
                                                          ("high", "<=", 0.03)]),
        ({"lowThreshold": None, "highThreshold": 1}, [("high", "<=", 1)]),
        ({"minimum": "", "description": "x"}, []),
    ],
)  # fmt: skip
def test_the_limits_of_others(metric: dict[str, Any], limits: list[Any]) -> None:
    assert foreign_limits(metric) == ([ForeignLimit(*limit) for limit in limits], [])


@pytest.mark.parametrize(
    ("metric", "remark"),
    [
        ({"user": 5}, "less is taken for it"),
        ({"minimum": 5, "design": 5}, "less is taken for it"),
        ({"minimum": 1, "design": 5, "stretch": 3}, "are not in order"),
        ({"threshold": 5}, "condition: it is missing, so threshold: 5.0 is no limit here"),
        ({"threshold": 5, "condition": "between"}, "condition: 'between' is no operator"),
        ({"condition": "between"}, "condition: 'between' is no operator"),
        ({"minimum": "eight"}, "minimum: 'eight' is not a finite number"),
        ({"highThreshold": float("nan")}, "highThreshold: nan is not a finite number"),
        ({"threshold": [1, 2], "condition": "<"}, "threshold: [1, 2] is not a finite number"),
        ({"minimum": True}, "minimum: True is not a finite number"),
        ({"lowThreshold": 2, "highThreshold": 1}, "no value meets both"),
    ],
)
def test_what_they_do_not_say_is_remarked(metric: dict[str, Any], remark: str) -> None:
    assert remark in " ".join(foreign_limits(metric)[1])
