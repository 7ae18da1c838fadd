from typing import Any

import pytest

from squash_api.errors import InvalidInputError
from squash_api.judging.kinds.threshold import Threshold
from squash_api.judging.simple_metric import SimpleMetric, limits_text, read_simple_metric
from squash_api.judging.specifications import Specification, specification_from_json
from squash_api.schema.names import Schema
from squash_api.verify.metrics import metric_from_json
from tests.wires.test_simple_job import PA1

SNR = {"name": "SNR", "description": "Signal to noise", "condition": ">", "threshold": 5}


def read(document: dict[str, Any], *before: Specification) -> SimpleMetric:
    known = metric_from_json({"name": "quicklook.PA1", "description": "d", "unit": "mmag"})
    return read_simple_metric(
        document,
        package="quicklook",
        schema=Schema(),
        metrics={"quicklook.PA1": known} if before else {},
        specifications={"quicklook.PA1": before},
    )


def details(document: dict[str, Any]) -> list[str]:
    with pytest.raises(InvalidInputError) as caught:
        read(document)
    return [f"{'.'.join(map(str, item.loc))}: {item.msg}" for item in caught.value.detail]


def limit(name: str = "minimum", operator: str = ">", **more: Any) -> Specification:
    threshold = {"value": 8.0, "unit": "mmag", "operator": operator}
    return specification_from_json({"name": f"quicklook.PA1.{name}", "threshold": threshold} | more)


def test_the_metric_of_the_prototype_is_read() -> None:
    found = read(PA1)
    assert found.metric == {
        "name": "quicklook.PA1",
        "description": "Photometric Repeatability",
        "unit": "mmag",
    }
    assert limits_text(found.limits) == (
        "<= 8 mmag (minimum), <= 5 mmag (design), <= 3 mmag (stretch), <= 10 mmag (user)"
    )
    made = {key: specification_from_json(item) for key, item in found.limits.items()}
    assert {key: item.level for key, item in made.items()} == {
        "minimum": "CRITICAL",
        "design": "WARNING",
        "stretch": "INFO",
        "user": "WARNING",
    }


def test_the_metric_of_the_quick_look_framework_is_read() -> None:
    found = read(SNR)
    assert found.name == "quicklook.SNR"
    made = specification_from_json(found.limits["threshold"])
    assert made.name == "quicklook.SNR.threshold"
    assert made.criterion == Threshold(5.0, "", ">")


def test_a_metric_with_a_package_keeps_it() -> None:
    assert read({**PA1, "metric": "validate_drp.PA1"}).name == "validate_drp.PA1"


@pytest.mark.parametrize(
    ("changes", "expected", "why"),
    [
        ({}, "<=", "smaller values are better, since stretch is below minimum"),
        ({"minimum": 3, "stretch": 8}, ">=", "larger values are better, since stretch is above"),
        ({"design": None, "stretch": None}, "<=", "taken for granted that smaller values are"),
        ({"minimum": 5, "stretch": 5}, "<=", "taken for granted"),
        ({"minimum": 8, "design": 8}, "<=", "since stretch is below minimum"),
        ({"condition": ">"}, ">", "values must be > their limits, as you say"),
        ({"condition": "\u2265"}, ">=", "as you say"),
        ({"operator": "="}, "==", "as you say"),
        ({"condition": " LE "}, "<=", "as you say"),
    ],
)
def test_the_operator_is_written_or_follows_from_the_order_of_the_levels(
    changes: dict[str, Any], expected: str, why: str
) -> None:
    found = read({**PA1, **changes})
    assert {item["threshold"]["operator"] for item in found.limits.values()} == {expected}
    assert any(why in note for note in found.notes)


def test_one_level_is_compared_as_the_limits_there_are() -> None:
    found = read({"metric": "PA1", "design": 9}, limit())
    assert found.limits["design"]["threshold"]["operator"] == ">"
    assert "values are compared as before" in found.notes


def test_what_is_not_spoken_of_stays_as_it_is() -> None:
    alert = {"channel": "#dm"}
    found = read({"metric": "PA1", "minimum": 7}, limit(alert=alert, tags=["mine"]), limit("user"))
    assert found.metric["description"] == "d"
    assert found.metric["unit"] == "mmag"
    assert found.limits["minimum"]["alert"] == alert
    assert found.limits["minimum"]["tags"] == ["mine"]
    assert [*found.limits] == ["minimum"]
    assert (
        "`quicklook.PA1.user` stays as it is: send `user` with null to withdraw it" in found.notes
    )


@pytest.mark.parametrize("nothing", [None, "", " "])
def test_a_limit_that_is_nothing_is_withdrawn(nothing: str | None) -> None:
    found = read({"metric": "PA1", "minimum": nothing}, limit())
    assert (found.limits, found.withdrawn) == ({}, ("quicklook.PA1.minimum",))


def test_a_limit_may_have_a_unit_of_its_own() -> None:
    found = read({**PA1, "minimum": "0.008 mag"})
    assert found.limits["minimum"]["threshold"] == {"value": 8.0, "unit": "mmag", "operator": "<="}


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"metric": None}, "metric: the name of the metric is missing"),
        ({"metric": 5}, "metric: the name of the metric is not text"),
        ({"metric": "a b"}, "metric: 'quicklook.a b' may contain only letters"),
        ({"metric": "a.b.c"}, "metric: 'a.b.c' is not a metric's name"),
        ({"metric": "status"}, "metric: 'quicklook.status': 'status' is the name of a tag"),
        ({"metric": "PA1", "name": "PA2"}, "name: `metric` and `name` are different"),
        ({"description": None}, "description: the description is missing"),
        ({"description": 5}, "description: the description is not text"),
        ({"units": "furlongs"}, "units: 'furlongs' is not a unit"),
        ({"unit": "mag"}, "unit: `units` and `unit` are different"),
        ({"minimum": "abc"}, "minimum: 'abc' is not a number"),
        ({"minimum": True}, "minimum: True is not a number"),
        ({"minimum": [8]}, "minimum: [8] is not a number"),
        ({"minimum": "inf"}, "minimum: 'inf' is not finite"),
        ({"minimum": "5 kg"}, "minimum: '5 kg' does not convert to the unit 'mmag'"),
        ({"minimum": 4}, "design: the levels are in no order (minimum 4, design 5, stretch 3)"),
        ({"condition": "~"}, "condition: '~' is not an operator: write one of < <= > >= == !="),
        ({"condition": 5}, "condition: 5 is not an operator"),
        ({"threshold": 5}, "condition: is missing: say how values compare with `threshold`"),
    ],
)
def test_what_is_wrong_is_named_with_its_place(changes: dict[str, Any], expected: str) -> None:
    found = details({**PA1, **changes})
    assert len(found) == 1
    assert found[0].startswith(expected)
