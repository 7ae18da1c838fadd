import json
from collections.abc import Mapping
from typing import Any
from urllib.parse import urlencode

import pytest
import requests

from squash_api.errors import InvalidInputError
from squash_api.wires.parts import Parts
from squash_api.wires.simple_job import (
    address_of,
    is_simple,
    read_simple_form,
    read_simple_job,
)

ADDRESS = address_of("quicklook")

PA1 = {
    "metric": "PA1",
    "description": "Photometric Repeatability",
    "units": "millimag",
    "minimum": "8",
    "design": "5",
    "stretch": "3",
    "user": "10",
}
PROTOTYPE: dict[str, Any] = {
    "name": "ci_cfht",
    "build": "1",
    "runtime": "2016-04-24T19:26:12.561564Z",
    "url": "https://ci.lsst.codes/job/ci_cfht/1/",
    "status": 0,
    "measurements": [{"metric": "PA1", "value": 5.0}],
}
QLF: dict[str, Any] = {
    "name": "test",
    "status": 0,
    "measurements": [{"metric": "SNR", "value": 1.0}],
}


def read(document: Any) -> Parts:
    return read_simple_job(json.dumps(document).encode(), ADDRESS)


def form_of(document: Mapping[str, Any]) -> bytes:
    """Return the body that requests makes of a dictionary."""
    made = requests.Request("POST", "http://x", data=document).prepare().body
    assert isinstance(made, str)
    return made.encode()


def values(parts: Parts) -> dict[str, Any]:
    return {item["metric"]: item["value"] for item in parts.measurements}


def test_the_job_of_the_prototype_becomes_measurements_and_a_run() -> None:
    found = read(PROTOTYPE)
    assert values(found) == {"quicklook.PA1": 5.0, "quicklook.job_status": 0}
    assert found.meta == {
        "env": {
            "ci_name": "ci_cfht",
            "ci_id": "1",
            "ci_url": "https://ci.lsst.codes/job/ci_cfht/1/",
            "date": "2016-04-24T19:26:12.561564Z",
            "status": 0,
        }
    }


def test_the_job_of_the_quick_look_framework_needs_only_name_and_status() -> None:
    found = read(QLF)
    assert values(found) == {"quicklook.SNR": 1.0, "quicklook.job_status": 0}
    assert [item.get("identifier") for item in found.measurements] == [None, None]


def test_the_same_job_in_a_form_is_the_same() -> None:
    form = {**PROTOTYPE, "measurements": json.dumps(PROTOTYPE["measurements"])}
    found = read_simple_form(form_of(form), ADDRESS)
    assert values(found) == values(read(PROTOTYPE))
    assert found.measurements == read(PROTOTYPE).measurements


def test_a_job_whose_run_is_named_has_the_same_identifiers_each_time() -> None:
    first, again = read(PROTOTYPE), read({**PROTOTYPE, "status": 1})
    assert [item["identifier"] for item in first.measurements] == [
        item["identifier"] for item in again.measurements
    ]
    other = read({**PROTOTYPE, "build": "2"})
    assert first.measurements[0]["identifier"] != other.measurements[0]["identifier"]


def test_a_metric_keeps_its_package_and_its_unit() -> None:
    item = {"metric": "validate_drp.PA1", "value": "5.5", "units": "millimag"}
    (found, _) = read({**QLF, "measurements": [item]}).measurements
    assert (found["metric"], found["value"], found["unit"]) == ("validate_drp.PA1", 5.5, "millimag")


def test_what_else_a_job_has_is_metadata() -> None:
    found = read({**QLF, "instrument": "DESI", "env": {"env_name": "nersc"}, "end": "2026-01-01"})
    assert found.meta == {
        "instrument": "DESI",
        "end": "2026-01-01",
        "env": {"env_name": "nersc", "ci_name": "test", "status": 0},
    }


def test_a_job_that_has_failed_may_have_no_measurements() -> None:
    assert values(read({"name": "test", "status": 1})) == {"quicklook.job_status": 1}


def test_the_start_is_the_time_of_a_job_without_runtime() -> None:
    assert read({**QLF, "start": "2026-01-01T00:00:00"}).meta["env"]["date"] == (
        "2026-01-01T00:00:00"
    )


def test_keys_of_measurements_that_mean_nothing_are_named() -> None:
    item = {"metric": "SNR", "value": 1.0, "fibre": 3}
    assert read({**QLF, "measurements": [item]}).unknown_keys == ["fibre"]


@pytest.mark.parametrize(
    ("document", "expected"),
    [
        (PROTOTYPE, True),
        (QLF, True),
        ({"status": 1}, True),
        ({**QLF, "meta": {}}, False),
        ({**QLF, "blobs": []}, False),
        ({"measurements": []}, False),
        ({}, False),
        ([], False),
    ],
)
def test_a_simple_job_is_told_from_one_of_lsst_verify(document: Any, *, expected: bool) -> None:
    assert is_simple(json.dumps(document).encode()) is expected


def test_a_body_with_bare_nan_is_told_too() -> None:
    body = b'{"name": "x", "measurements": [{"metric": "SNR", "value": NaN}]}'
    assert is_simple(body)
    found = read_simple_job(body, ADDRESS)
    assert (values(found), found.bare_tokens) == ({"quicklook.SNR": None}, 1)
    assert not is_simple(b"not JSON")


WRONG: list[tuple[dict[str, Any], str, str]] = [
    ({"name": None}, "name", "is missing"),
    ({"name": ["x"]}, "name", "must be text"),
    ({"build": 1.5}, "build", "must be text or a whole number"),
    ({"runtime": "yesterday"}, "runtime", "must be an ISO 8601 date, such as 2016"),
    ({"runtime": 1461525972}, "runtime", "must be an ISO 8601 date"),
    ({"runtime": "1969-12-31"}, "runtime", "must not be before 1970"),
    ({"start": "x"}, "start", "must be an ISO 8601 date"),
    ({"end": "x"}, "end", "must be an ISO 8601 date"),
    ({"url": "javascript:alert(1)"}, "url", "must be an http or https URL"),
    ({"url": 5}, "url", "must be an http or https URL"),
    ({"status": "SUCCESS"}, "status", "must be a number: 0 for success"),
    ({"status": True}, "status", "must be a number"),
    ({"env": "x"}, "env", "must be an object"),
    ({"packages": "x"}, "packages", "must be an object or a list"),
    ({"measurements": {}}, "measurements", "must be a list"),
    ({"measurements": "PA1"}, "measurements", "is neither a list nor JSON: send the job as JSON"),
    ({"measurements": [5]}, "measurements.0", "must be an object with metric and value"),
    ({"measurements": [{"value": 1}]}, "measurements.0.metric", "is missing"),
    ({"measurements": [{"metric": 5, "value": 1}]}, "measurements.0.metric", "must be text"),
    ({"measurements": [{"metric": "SNR"}]}, "measurements.0.value", "is missing: send null"),
    (
        {"measurements": [{"metric": "SNR", "value": "high"}]},
        "measurements.0.value",
        "must be a number or null, not 'high'",
    ),
    (
        {"measurements": [{"metric": "SNR", "value": True}]},
        "measurements.0.value",
        "must be a number or null",
    ),
    (
        {"measurements": [{"metric": "SNR", "value": 1, "units": 5}]},
        "measurements.0.units",
        "must be text or null",
    ),
]


@pytest.mark.parametrize(("changes", "place", "expected"), WRONG)
def test_what_is_wrong_is_named_with_its_place(
    changes: dict[str, Any], place: str, expected: str
) -> None:
    with pytest.raises(InvalidInputError) as caught:
        read({**QLF, **changes})
    (detail,) = caught.value.detail
    assert ".".join(map(str, detail.loc[1:])) == place
    assert detail.msg.startswith(expected)


def test_a_list_that_a_form_has_taken_apart_is_to_be_sent_as_json() -> None:
    with pytest.raises(InvalidInputError, match="send the job as JSON") as caught:
        read_simple_form(
            form_of({**PROTOTYPE, "measurements": PROTOTYPE["measurements"] * 2}), "quicklook"
        )
    assert [detail.loc for detail in caught.value.detail] == [("body", "measurements")]


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        (b"name=a&name=b", "name is there more than once"),
        (b"name=x&measurements=metric&measurements=value", "which is what a form makes of a list"),
        (b"name=x&measurements=metric", "measurements is neither a list nor JSON"),
        (b"name=\xff", "is not a form"),
        (urlencode({f"k{number}": "" for number in range(3000)}).encode(), "at most 2000 fields"),
        (b"", "needs `name`"),
    ],
)
def test_what_is_wrong_with_a_form_is_said(body: bytes, expected: str) -> None:
    with pytest.raises(InvalidInputError, match=expected):
        read_simple_form(body, ADDRESS)
