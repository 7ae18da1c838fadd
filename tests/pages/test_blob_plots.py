import json
from typing import Any

import httpx
import pytest

from squash_api.pages.blobs import bins_of, chosen, draw, read_blob, thinned
from tests.support.calls import Calls

NAMES = [1.0, 2.0, 3.0, 4.0, 5.0]


def blob(**data: Any) -> dict[str, Any]:
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


def test_of_many_points_the_extremes_stay() -> None:
    x = [float(number) for number in range(10_000)]
    y = [0.0] * 10_000
    y[4321], y[7777] = 50.0, -50.0
    kept = thinned(x, y, most=400)
    assert {0, 4321, 7777, 9999} <= set(kept)
    assert len(kept) <= 400
    assert kept == sorted(kept)


def test_what_is_named_is_chosen() -> None:
    data = read_blob(0, blob(a=NAMES, b=[3, 1, 2, 5, 4], c=[1] * 9))
    assert chosen(data, "", "") == (data.array("b"), data.array("a"))
    assert chosen(data, "c", "") == (data.array("c"), None)
    assert chosen(data, "b", "a") == (data.array("b"), data.array("a"))
    assert chosen(data, "b", "c") is None
    assert chosen(data, "x", "") is None


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_labels_are_plain_text_with_the_unit(theme: Any) -> None:
    label = "$$\\href{javascript:alert(1)}{x}$$"
    data = read_blob(0, blob(a={"value": NAMES, "unit": "mag", "label": label}))
    view = data.first_view()
    assert view is not None
    item, note = draw(data, *view, theme)
    assert f"{label} [mag]" in texts(item)
    assert note == "5 values"
    assert "CustomJS" not in json.dumps(item)


def test_what_is_missing_is_said() -> None:
    data = read_blob(0, blob(a=[1, 2, None, 3, 4, 5]))
    view = data.first_view()
    assert view is not None
    assert draw(data, *view, "light")[1] == "5 values, 1 missing"


def test_uncertainties_are_drawn() -> None:
    data = read_blob(0, blob(x=[*NAMES, 6], y=[3, 1, 2, 5, 4, 4], y_err=[1, 1, 1, None, 1, 1]))
    view = data.first_view()
    assert view is not None
    item, note = draw(data, *view, "light")
    assert note == "6 points, with y_err"
    assert "Segment" in json.dumps(item)


def test_pairs_of_which_one_is_missing_are_left_out() -> None:
    data = read_blob(0, blob(a=[1, 2, None, 4, 5, 6], b=[1, None, 3, 4, 5, 6]))
    found = chosen(data, "b", "a")
    assert found is not None
    assert draw(data, *found, "light")[1] == "4 points"


# Over HTTP


def post(calls: Calls, *blobs: dict[str, Any]) -> int:
    reply = calls("POST", "/job", {"measurements": [], "blobs": list(blobs), "meta": {}})
    job: int = reply.json()["id"]
    return job


def test_a_plot_is_json(browser: httpx.Client, calls: Calls) -> None:
    job = post(calls, blob(rms=[3, 1, 2, 5, 4]))
    reply = browser.get(f"/job/{job}/plot", params={"blob": "0", "y": "rms", "theme": "dark"})
    assert (reply.status_code, reply.json()["note"]) == (200, "5 values")
    assert reply.json()["item"]["doc"]


@pytest.mark.parametrize(
    "query", ["blob=1", "blob=-1", "blob=0&y=none", "blob=0&y=rms&x=other", "blob=99999999999999"]
)
def test_what_is_not_there_is_not_found(browser: httpx.Client, calls: Calls, query: str) -> None:
    job = post(calls, blob(rms=[3, 1, 2, 5, 4]))
    assert browser.get(f"/job/{job}/plot?{query}").status_code == 404


def test_odd_parameters_are_refused(browser: httpx.Client, calls: Calls) -> None:
    job = post(calls, blob(rms=[3, 1, 2, 5, 4]))
    assert browser.get(f"/job/{job}/plot?theme=pink").status_code == 422
    assert browser.get("/job/77/plot").status_code == 404
