import io
import re
from html import unescape
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from squash_api.errors import InvalidInputError
from squash_api.routes.blobs import chosen_arrays, csv_of, npy_of
from tests.support.calls import Calls

pytestmark = pytest.mark.sqlite

BLOB = {
    "identifier": "a/b",
    "name": "psf è",
    "data": {
        "mag": {"value": [17.5, None, 0.1], "unit": "mag", "label": None, "description": None},
        "n": [1, 2, 3],
        "image": {"value": [[1.0, 2.0], [3.0, None]], "unit": "ct"},
        "short": [1.0],
        "name": {"value": "r", "unit": ""},
        "flags": {"value": [True, False], "unit": ""},
        "ragged": [[1.0], [2.0, 3.0]],
        "cube": [[[1.0]]],
        "long one": {"value": [0, 1, 2, 3, 4], "unit": "s"},
    },
}


def of(*keys: str, **data: Any) -> Any:
    return chosen_arrays({"data": data} if data else BLOB, keys)


def loaded(content: bytes) -> Any:
    return np.load(io.BytesIO(content), allow_pickle=False)


def test_arrays_of_one_length_are_columns_with_their_units() -> None:
    assert csv_of(of("mag", "n")).decode() == "mag [mag],n\n17.5,1.0\n,2.0\n0.1,3.0\n"


def test_all_arrays_of_one_dimension_are_taken_unless_some_are_chosen() -> None:
    data = {"x": [1.0, 2.0], "y": [3.0, 4.0], "z": [[1.0, 2.0]], "t": "text"}
    assert [array.key for array in of(**data)] == ["x", "y"]


def test_one_array_is_an_array_of_numpy_in_its_shape() -> None:
    assert loaded(npy_of(of("image"))).tolist()[0] == [1.0, 2.0]
    assert np.isnan(loaded(npy_of(of("image")))[1, 1])
    assert loaded(npy_of(of("cube"))).shape == (1, 1, 1)


def test_several_arrays_are_fields_of_one() -> None:
    found = loaded(npy_of(of("mag", "n")))
    assert found.dtype.names == ("mag", "n")
    assert found["n"].tolist() == [1.0, 2.0, 3.0]
    wide = {"μ": [1.0], "x y": [2.0]}
    assert loaded(npy_of(of(**wide))).dtype.names == ("μ", "x y")


def test_an_array_of_two_dimensions_is_a_table() -> None:
    assert csv_of(of("image")).decode() == "image[0] [ct],image[1] [ct]\n1.0,2.0\n3.0,\n"


@pytest.mark.parametrize("value", [[], [[], []]])
def test_an_empty_array_is_an_empty_file(value: Any) -> None:
    assert loaded(npy_of(of(x=value))).size == 0
    assert csv_of(of(x=value)).decode().strip() in {"x", ""}


def test_no_header_is_run_by_a_spreadsheet() -> None:
    assert csv_of(of(**{"=1+1": [1.0]})).startswith(b"'=1+1\n")


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        (["nothing"], "'nothing' is not in the blob, which has: mag, n, image, short, name and 4"),
        (["name"], "'name' is not an array"),
        (["flags"], "'flags' is not an array of numbers"),
        (["ragged"], "'ragged' has rows of different lengths"),
        (["mag", "image"], "'image' has more than one dimension: ask for it alone"),
        (["mag", "short"], "the arrays are of different lengths: choose some of one length: mag"),
        ([], "The arrays are of different lengths: choose some of one length: mag (3), n (3), sho"),
    ],
)
def test_what_is_no_file_is_refused(keys: list[str], message: str) -> None:
    with pytest.raises(InvalidInputError, match=re.escape(message[1:])):
        of(*keys)


@pytest.mark.parametrize("data", [{}, None, [1], {"x": "text"}])
def test_a_blob_without_arrays_is_refused(data: Any) -> None:
    with pytest.raises(InvalidInputError, match="The blob has no array of numbers"):
        chosen_arrays({"data": data}, [])


def test_what_a_format_cannot_hold_is_refused() -> None:
    with pytest.raises(InvalidInputError, match="'cube' has 3 dimensions: take format=npy"):
        csv_of(of("cube"))
    with pytest.raises(InvalidInputError, match="has no name"):
        npy_of(of(**{"": [1.0], "x": [1.0]}))
    with pytest.raises(InvalidInputError, match=r"choose one of: x, y\."):
        of(x=[[1.0]], y=[[1.0]])


@pytest.fixture(scope="module")
def job(shared_calls: Calls) -> tuple[Calls, str]:
    document = {"measurements": [], "blobs": [BLOB], "meta": {}}
    reply = shared_calls("POST", "/job", document)
    return shared_calls, f"/job/{reply.json()['id']}"


def test_a_file_is_downloaded_from_the_links_of_the_page(job: tuple[Calls, str]) -> None:
    calls, path = job
    page = calls("GET", path, headers={"Accept": "text/html"}).text
    (address,) = re.findall(r'href="([^"]*format=csv[^"]*)"', page)
    assert calls("GET", unescape(address)).text.startswith("long one [s]\n0.0\n1.0\n")
    reply = calls("GET", f"{path}/blob/a%2Fb?format=npy&key=mag&key=n")
    assert loaded(reply.content)["n"].tolist() == [1.0, 2.0, 3.0]
    name = Path(path).name
    expected = f'attachment; filename="job-{name}-psf_.npy"'
    assert reply.headers["content-disposition"] == expected
    csv = calls("GET", f"{path}/blob/a%2Fb?format=csv&key=n")
    assert (csv.text, csv.headers["content-type"]) == (
        "n\n1.0\n2.0\n3.0\n",
        "text/csv; charset=utf-8",
    )


@pytest.mark.parametrize(
    ("query", "place"), [("format=csv", "key"), ("key=n", "key"), ("format=xls", "format")]
)
def test_a_wrong_question_is_422_with_its_place(
    job: tuple[Calls, str], query: str, place: str
) -> None:
    calls, path = job
    reply = calls("GET", f"{path}/blob/a%2Fb?{query}")
    assert (reply.status_code, reply.json()["detail"][0]["loc"]) == (422, ["query", place])


def test_without_a_format_a_blob_is_as_it_was_posted(job: tuple[Calls, str]) -> None:
    calls, path = job
    assert calls("GET", f"{path}/blob/a%2Fb").json() == BLOB
    assert calls("GET", f"{path}/blob/c?format=csv").status_code == 404
