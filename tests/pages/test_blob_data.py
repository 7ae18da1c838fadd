import json
from pathlib import Path
from typing import Any

import pytest

from squash_api.pages.blobs import BlobData, is_in_order, read_blob

REAL = Path(__file__).parents[3] / "shared" / "data" / "jobs" / "cfht_r.verify.json"


def datum(value: Any, **about: Any) -> dict[str, Any]:
    return {"value": value, "unit": "mag", "label": "M", "description": "What it is.", **about}


def read(**data: Any) -> BlobData:
    return read_blob(3, {"identifier": "b1", "name": "p.a", "data": data})


def test_a_datum_is_read_with_what_is_said_of_it() -> None:
    (single,) = read(D=datum(5.0, unit="arcmin")).singles
    assert (single.key, single.text, single.unit) == ("D", "5.0", "arcmin")
    assert (single.label, single.description) == ("M", "What it is.")


def test_numbers_are_an_array() -> None:
    blob = read(mag=datum([3.0, 1, None, 2.0, 4.5, float("nan"), 9]))
    (array,) = blob.arrays
    assert list(array.values) == [3.0, 1.0, None, 2.0, 4.5, None, 9.0]
    assert (array.shape, array.axis_label) == ("7 values", "M [mag]")
    assert array.summary() == (1.0, 3.0, 9.0)
    assert (blob.index, blob.name, blob.identifier) == (3, "p.a", "b1")


def test_rows_of_numbers_are_one_array() -> None:
    (array,) = read(m=datum([[1, 2, 3], [4, 5]])).arrays
    assert list(array.values) == [1.0, 2.0, 3.0, 4.0, 5.0]
    assert (array.shape, array.is_flat) == ("5 values in 2 rows", False)


@pytest.mark.parametrize(
    ("value", "text"),
    [
        ([17.0, 21.5], "[17.0, 21.5]"),
        (["a"] * 6, json.dumps(["a"] * 6)),
        ([True] * 6, json.dumps([True] * 6)),
        ([1, 2, 3, 4, "5"], '[1, 2, 3, 4, "5"]'),
        ([None] * 6, json.dumps([None] * 6)),
        ([[1, 2], 3, 4, 5, 6], "[[1, 2], 3, 4, 5, 6]"),
        ([], "[]"),
        ("r", "r"),
        (None, "null"),
        ({"a": 1}, '{"a": 1}'),
        (10**400, None),
    ],
)
def test_all_else_is_written_out(value: Any, text: str | None) -> None:
    (single,) = read(x=datum(value)).singles
    assert text is None or single.text == text


def test_a_bare_value_is_a_datum() -> None:
    blob = read(bare=[1, 2, 3, 4, 5], text="t")
    assert [item.key for item in blob.arrays] == ["bare"]
    assert [item.text for item in blob.singles] == ["t"]


@pytest.mark.parametrize("blob", [{}, {"data": None, "name": 5, "identifier": []}, {"data": {}}])
def test_an_odd_blob_is_empty(blob: dict[str, Any]) -> None:
    found = read_blob(0, blob)
    assert (found.name, found.identifier) == ("blob", None)
    assert not found.singles
    assert not found.arrays
    assert found.first_view() is None


def test_data_that_are_no_object_are_written_out() -> None:
    assert [item.text for item in read_blob(0, {"data": [1, 2]}).singles] == ["[1, 2]"]


def test_labels_are_one_line() -> None:
    (array,) = read(snr=datum([1, 2, 3, 4, 5], label="SNR(r\nFilter name)")).arrays
    assert array.axis_label == "SNR(r Filter name) [mag]"
    assert len(read(x=datum("a", label="x" * 10_000)).singles[0].label) <= 2000


def test_a_text_of_ten_kilobytes_is_cut() -> None:
    (single,) = read(x=datum("x" * 10_000)).singles
    assert single.text.endswith("…")
    assert len(single.text) <= 2001


# What belongs together


def test_only_arrays_of_the_same_length_are_partners() -> None:
    blob = read(a=[1, 2, 3, 4, 5], b=[5, 3, 2, 1, 9], c=[1] * 6, d=[[1, 2, 3, 4, 5]] * 1)
    first = blob.array("a")
    assert first is not None
    assert [item.key for item in blob.partners(first)] == ["b"]
    assert blob.array("x") is None


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ([1, 2, 3, 4, 5], True),
        ([5, 4, 3, 2, 1], True),
        ([1, 2, 2, 3, 4], False),
        ([1, 3, 2, 4, 5], False),
        ([1, 2, None, 4, 5, 6], False),
    ],
)
def test_numbers_are_in_order_if_they_only_grow_or_fall(
    values: list[float | None], *, expected: bool
) -> None:
    assert is_in_order(read(x=values).arrays[0]) is expected


def test_ordered_numbers_are_what_others_are_shown_over() -> None:
    blob = read(
        radius=datum([1, 2, 3, 4, 5]), xip_err=datum([1, 1, 1, 2, 1]), xip=datum([3, 1, 2, 5, 4])
    )
    view = blob.first_view()
    assert view is not None
    y, x = view
    assert x is not None
    assert (y.key, x.key) == ("xip", "radius")
    error = blob.error_of(y)
    assert error is not None
    assert error.key == "xip_err"


def test_where_all_are_in_order_the_first_is_what_others_are_shown_over() -> None:
    view = read(r=[1, 2, 3, 4, 5], xi=[5, 4, 3, 2, 1], xi_err=[1, 2, 3, 4, 5]).first_view()
    assert view is not None
    assert view[1] is not None
    assert (view[0].key, view[1].key) == ("xi", "r")


def test_uncertainties_have_the_same_unit() -> None:
    blob = read(a=datum([1, 2, 3, 4, 4]), a_err=datum([1, 2, 3, 4, 4], unit="mmag"))
    assert blob.error_of(blob.arrays[0]) is None


def test_an_array_without_partners_is_shown_by_itself() -> None:
    view = read(rms=[3, 1, 2, 5, 4]).first_view()
    assert view is not None
    assert (view[0].key, view[1]) == ("rms", None)


def test_a_real_job_is_read() -> None:
    if not REAL.exists():
        pytest.skip("needs the data from outside")
    job = json.loads(REAL.read_text())
    blobs = {item["name"]: read_blob(0, item) for item in job["blobs"]}
    views = {name: blob.first_view() for name, blob in blobs.items()}
    shown = {
        name: (view[0].key, view[1].key if view[1] else None)
        for name, view in views.items()
        if view is not None
    }
    assert shown["validate_drp.TE1"] == ("xip", "radius")
    assert shown["validate_drp.AM1"] == ("rmsDistMas", None)
    assert "PhotometricErrorModel" not in shown
    assert blobs["validate_drp.PA1"].array("magDiff") is not None
