import json
from pathlib import Path
from typing import Any

import httpx
import pytest

from squash_api.pages.blobs import BlobData, bins_of, chosen, draw, is_in_order, read_blob, thinned
from tests.support.calls import Calls

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


NAMES = [1.0, 2.0, 3.0, 4.0, 5.0]


def blob_of(**data: Any) -> dict[str, Any]:
    return {"identifier": "b", "name": "p.a", "data": data}


def texts(node: Any) -> list[str]:
    """Return the axis labels in a document of Bokeh."""
    if isinstance(node, dict):
        own = [node["attributes"]["text"]] if node.get("name") == "PlainText" else []
        return own + [text for item in node.values() for text in texts(item)]
    return [text for item in node for text in texts(item)] if isinstance(node, list) else []


def test_every_value_is_in_one_bin() -> None:
    counts, edges, beyond = bins_of([float(number % 17) for number in range(1000)])
    assert (sum(counts), beyond) == (1000, 0)
    assert (edges[0], edges[-1]) == (0.0, 16.0)
    assert len(edges) == len(counts) + 1


def test_what_is_far_out_is_counted_in_the_outermost_bin() -> None:
    counts, edges, beyond = bins_of([*map(float, range(100)), 1e9])
    assert (sum(counts), beyond) == (101, 1)
    assert edges[-1] < 1000


@pytest.mark.parametrize("values", [[2.0] * 9, [0.0], [1e308, -1e308]])
def test_values_without_a_width_make_one_bin(values: list[float]) -> None:
    counts, edges, beyond = bins_of(values)
    assert (counts, beyond, len(edges)) == ([len(values)], 0, 2)


def test_a_few_values_that_differ_from_many_equal_ones_are_seen() -> None:
    counts, _, beyond = bins_of([1.0] * 100 + [2.0])
    assert (sum(counts), beyond) == (101, 0)
    assert counts[-1] == 1


def test_few_points_stay_as_they_are() -> None:
    assert thinned(NAMES, NAMES, most=5) == [0, 1, 2, 3, 4]


def test_the_extremes_of_many_points_stay() -> None:
    x = [float(number) for number in range(10_000)]
    y = [0.0] * 10_000
    y[4321], y[7777] = 50.0, -50.0
    kept = thinned(x, y, most=400)
    assert {0, 4321, 7777, 9999} <= set(kept)
    assert len(kept) <= 400
    assert kept == sorted(kept)


def test_data_that_are_named_are_chosen() -> None:
    data = read_blob(0, blob_of(a=NAMES, b=[3, 1, 2, 5, 4], c=[1] * 9))
    assert chosen(data, "", "") == (data.array("b"), data.array("a"))
    assert chosen(data, "c", "") == (data.array("c"), None)
    assert chosen(data, "b", "a") == (data.array("b"), data.array("a"))
    assert chosen(data, "b", "c") is None
    assert chosen(data, "x", "") is None


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_labels_are_plain_text_with_the_unit(theme: Any) -> None:
    label = "$$\\href{javascript:alert(1)}{x}$$"
    data = read_blob(0, blob_of(a={"value": NAMES, "unit": "mag", "label": label}))
    view = data.first_view()
    assert view is not None
    item, note = draw(data, *view, theme)
    assert f"{label} [mag]" in texts(item)
    assert note == "5 values"
    assert "CustomJS" not in json.dumps(item)


def test_the_plot_says_how_many_values_are_missing() -> None:
    data = read_blob(0, blob_of(a=[1, 2, None, 3, 4, 5]))
    view = data.first_view()
    assert view is not None
    assert draw(data, *view, "light")[1] == "5 values, 1 missing"


def test_uncertainties_are_drawn() -> None:
    data = read_blob(0, blob_of(x=[*NAMES, 6], y=[3, 1, 2, 5, 4, 4], y_err=[1, 1, 1, None, 1, 1]))
    view = data.first_view()
    assert view is not None
    item, note = draw(data, *view, "light")
    assert note == "6 points, with y_err"
    assert "Segment" in json.dumps(item)


def test_pairs_of_which_one_is_missing_are_left_out() -> None:
    data = read_blob(0, blob_of(a=[1, 2, None, 4, 5, 6], b=[1, None, 3, 4, 5, 6]))
    found = chosen(data, "b", "a")
    assert found is not None
    assert draw(data, *found, "light")[1] == "4 points"


# Over HTTP


def post(calls: Calls, *blobs: dict[str, Any]) -> int:
    reply = calls("POST", "/job", {"measurements": [], "blobs": list(blobs), "meta": {}})
    job: int = reply.json()["id"]
    return job


def test_a_plot_is_json(browser: httpx.Client, calls: Calls) -> None:
    job = post(calls, blob_of(rms=[3, 1, 2, 5, 4]))
    reply = browser.get(f"/job/{job}/plot", params={"blob": "0", "y": "rms", "theme": "dark"})
    assert (reply.status_code, reply.json()["note"]) == (200, "5 values")
    assert reply.json()["item"]["doc"]


@pytest.mark.parametrize(
    "query", ["blob=1", "blob=-1", "blob=0&y=none", "blob=0&y=rms&x=other", "blob=99999999999999"]
)
def test_what_is_not_there_is_not_found(browser: httpx.Client, calls: Calls, query: str) -> None:
    job = post(calls, blob_of(rms=[3, 1, 2, 5, 4]))
    assert browser.get(f"/job/{job}/plot?{query}").status_code == 404


def test_odd_parameters_are_refused(browser: httpx.Client, calls: Calls) -> None:
    job = post(calls, blob_of(rms=[3, 1, 2, 5, 4]))
    assert browser.get(f"/job/{job}/plot?theme=pink").status_code == 422
    assert browser.get("/job/77/plot").status_code == 404
