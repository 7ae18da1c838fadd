import json
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from squash_api.ingest.document import JobValues, decode_accepted_job, decode_job
from squash_api.ingest.values import decode_values, packages_in, packages_text
from tests.support.builders import make_body, measured


def packages_of(job: JobValues) -> Any:
    text = packages_text(job.meta)
    return None if text is None else packages_in(text) or None


def read(job: JobValues) -> list[Any]:
    """Return what the points and the run of a job are made of; -0.0 and 0.0 are told apart."""
    rest = {key: value for key, value in job.meta.items() if key != "packages"}
    values = [(item.metric, repr(item.value), item.unit) for item in job.measurements]
    return [values, repr(rest), packages_of(job), job.env]


BODIES = {
    "nothing": b"{}",
    "nulls": b'{"measurements": null, "blobs": null, "meta": null}',
    "usual": make_body(measured("p.a", 1.5), measured("p.b", None), tract=5, env={"ci_id": "1"}),
    "values": make_body(*(measured("p.a", value) for value in (True, "x", 7, -0.0, 2**70))),
    "unknown keys": b'{"x": [1], "measurements": [{"metric": "p.a", "value": 1, "y": {"z": 2}}]}',
    "a single measurement": b'{"measurements": {"metric": "p.a", "value": 1.5}}',
    "blobs": make_body(measured(), blobs=[{"identifier": "b", "data": {"x": 2**70}}]),
    "tokens": b'{"measurements": [{"metric": "p.a", "value": NaN}], "meta": {"x": Infinity}}',
    "packages by name": make_body(packages={"afw": {"name": "afw", "git_sha": "a1"}}),
    "a list of packages": make_body(packages=[{"name": "afw"}, {"name": "ip", "git_sha": None}]),
    "no packages": make_body(packages={}),
    "an empty list": make_body(packages=[]),
    "null for packages": make_body(packages=None),
    "spaces for packages": b'{"meta": {"packages": { } }}',
    "half a pair": b'{"meta": {"packages": {"a": {"name": "\\ud800"}}, "x": "\\udfff"}}',
    "large numbers": make_body(x=2**70, y=[2**64], packages={"a": {"name": "a", "n": 2**70}}),
    "larger numbers": b'{"meta": {"x": %s, "packages": {"a": %s}}}' % (b"9" * 5000, b"9" * 5000),
    "deep": b'{"meta": {"x": %s1%s}}' % (b"[" * 200, b"]" * 200),
    "deep packages": b'{"meta": {"packages": %s1%s}}' % (b"[" * 200, b"]" * 200),
    "twice": b'{"meta": {"x": 1}, "meta": {"x": 2, "x": 3, "packages": [], "packages": {}}}',
    "letters": '{"meta": {"unit": "µm", "packages": {"ä": {"name": "ä"}}}}'.encode(),
}


@pytest.mark.parametrize("body", BODIES.values(), ids=BODIES.keys())
def test_what_is_read_is_what_reading_all_of_it_says(body: bytes) -> None:
    decode_job(body)
    assert read(decode_values(body)) == read(decode_accepted_job(body))


_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)


@given(
    st.dictionaries(st.text(), _JSON, max_size=4),
    st.none() | st.lists(_JSON, max_size=2) | st.dictionaries(st.text(), _JSON, max_size=3),
    st.lists(st.none() | st.booleans() | st.integers() | st.floats() | st.text(), max_size=3),
)
def test_any_metadata_and_values_are_read_alike(
    meta: dict[str, Any], packages: Any, values: list[Any]
) -> None:
    meta = {key: value for key, value in meta.items() if key != "env"}
    measurements = [{"metric": "p.a", "value": value, "unit": "s"} for value in values]
    body = json.dumps({"measurements": measurements, "meta": {**meta, "packages": packages}})
    assert read(decode_values(body.encode())) == read(decode_accepted_job(body.encode()))


def test_packages_stay_text_until_somebody_asks() -> None:
    job = decode_values(BODIES["packages by name"])
    assert isinstance(job.meta["packages"], msgspec.Raw)
