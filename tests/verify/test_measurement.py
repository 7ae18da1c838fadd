import json
import subprocess
import sys
from fractions import Fraction
from typing import Any

import astropy.units as u
import numpy as np
import pytest
from astropy.utils.masked import Masked

from squash_api.verify.measurement import Blob, Datum, DocumentError, Measurement, plain


def value_and_unit(quantity: Any) -> tuple[float | None, str | None]:
    document = Measurement("p.m", quantity).to_json()
    return document["value"], document["unit"]


def test_importing_measurements_does_not_import_astropy() -> None:
    code = "import sys, squash_api.verify.measurement; print('astropy' in sys.modules)"
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "False"


@pytest.mark.parametrize(
    ("quantity", "expected"),
    [
        (7.5 * u.milliarcsecond, (7.5, "marcsec")),
        (3 * u.percent, (3.0, "%")),
        (2 * u.dimensionless_unscaled, (2.0, "")),
        (11.5 * u.deg_C, (11.5, "deg_C")),
        (u.Quantity(1.5, u.nJy, dtype="f4"), (1.5, "nJy")),
        (u.Magnitude(20.5, u.mag(u.AB)), (20.5, "mag(AB)")),
        (4, (4.0, "")),
        (0, (0.0, "")),
        (np.float32(0.5), (0.5, "")),
        (np.int64(3), (3.0, "")),
        (Fraction(1, 4), (0.25, "")),
        (None, (None, None)),
        (float("nan"), (None, "")),
        (-np.inf * u.mmag, (None, "mmag")),
        (np.nan * u.mmag, (None, "mmag")),
        (10**400, (None, "")),
    ],
)
def test_a_quantity_becomes_a_number_and_a_unit(
    quantity: Any, expected: tuple[float | None, str | None]
) -> None:
    assert value_and_unit(quantity) == expected


@pytest.mark.parametrize(
    "quantity",
    [
        [1.0, 2.0] * u.mmag,
        [1.0] * u.mmag,
        (1 + 2j) * u.mmag,
        Masked(1.0 * u.mmag, mask=True),
        np.ma.masked,
        np.array([1.0]),
        np.array(1.0),
        1j,
        True,
        np.bool_(True),
        "4.5",
        [1.0],
    ],
)
def test_what_is_not_one_real_number_is_refused_by_name(quantity: Any) -> None:
    with pytest.raises(TypeError, match=r"^p\.m: "):
        Measurement("p.m", quantity)


@pytest.mark.parametrize("name", ["", "p.", ".m", "p.m.s", "."])
def test_an_impossible_metric_name_is_refused(name: str) -> None:
    with pytest.raises(ValueError, match=r"write package\.metric"):
        Measurement(name, 1.0)


def test_every_measurement_has_an_identifier_of_its_own() -> None:
    first, second = Measurement("p.m").identifier, Measurement("p.m").identifier
    assert (len(first), int(first, 16) >= 0, first != second) == (32, True, True)


def test_a_value_is_given_back_as_a_quantity() -> None:
    assert Measurement("p.m", 4.5 * u.mmag).quantity == 4.5 * u.mmag


def test_an_absent_value_is_given_back_as_nan_in_its_unit() -> None:
    quantity = Measurement("p.m", np.nan * u.mmag).quantity
    assert (np.isnan(quantity.value), quantity.unit) == (True, u.mmag)


def test_what_was_not_measured_has_no_quantity() -> None:
    assert Measurement("p.m").quantity is None


def test_a_value_is_written_with_all_its_digits() -> None:
    value = 0.1 + 0.2
    assert json.loads(json.dumps(value_and_unit(value * u.s)[0])) == value


def test_a_measurement_without_extras_refers_to_no_blob() -> None:
    assert Measurement("p.m", 1.0).to_json()["blob_refs"] == []


def test_extras_added_later_are_referred_to() -> None:
    measurement = Measurement("p.m", 1.0)
    measurement.extras["n"] = 3
    assert [blob.name for blob in measurement.linked_blobs()] == ["p.m"]


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ([1.0, np.nan] * u.mmag, ([1.0, None], "mmag")),
        (np.arange(4.0).reshape(2, 2) * u.s, ([[0.0, 1.0], [2.0, 3.0]], "s")),
        (2 * u.s, (2.0, "s")),
        ("text", ("text", "")),
        (True, (True, "")),
        (5, (5, "")),
        (None, (None, "")),
        (np.array([1, 2]), ([1, 2], "")),
    ],
)
def test_a_datum_is_written_with_its_unit(value: Any, expected: tuple[Any, str]) -> None:
    document = Datum(value).to_json()
    assert (document["value"], document["unit"]) == expected


def test_a_datum_has_label_and_description() -> None:
    assert Datum(5, "s", "five", "seconds").to_json() == {
        "value": 5,
        "unit": "s",
        "label": "five",
        "description": "seconds",
    }


def test_a_datum_with_two_units_is_refused() -> None:
    with pytest.raises(TypeError, match="give no other unit"):
        Datum(5 * u.s, "s").to_json()


@pytest.mark.parametrize(
    "value", [Masked(1.0 * u.s), np.ma.array([1, 2], mask=[False, True]), [1j] * u.s]
)
def test_a_datum_that_json_cannot_hold_is_refused_by_name(value: Any) -> None:
    with pytest.raises(TypeError, match=r"^shared: k"):
        Blob("shared", {"k": value}).to_json()


def test_a_blob_is_read_back_equal() -> None:
    document = Blob("shared", {"k": Datum([1.0] * u.s, label="x")}).to_json()
    assert Blob.from_json(document).to_json() == document


@pytest.mark.parametrize("document", [3, {}, {"identifier": "b1"}, {"identifier": 1, "name": "n"}])
def test_what_is_no_blob_is_refused(document: Any) -> None:
    with pytest.raises(DocumentError, match="a blob must be an object"):
        Blob.from_json(document)


def test_a_measurement_is_read_back_equal() -> None:
    document = Measurement("p.m", 4.5 * u.mmag).to_json()
    assert Measurement.from_json(document, {}).to_json() == document


def test_a_reference_to_no_blob_is_dropped() -> None:
    document = Measurement("p.m", 1.0).to_json() | {"blob_refs": ["gone"]}
    assert Measurement.from_json(document, {}).to_json()["blob_refs"] == []


def test_the_blob_named_like_its_metric_holds_the_extras() -> None:
    blob = Blob("p.m", {"n": Datum(3)}, "b1")
    document = {"metric": "p.m", "value": 1.0, "unit": "", "blob_refs": ["b1"]}
    assert Measurement.from_json(document, {"b1": blob}).extras["n"].value == 3


@pytest.mark.parametrize(
    "changes",
    [
        {"metric": 3},
        {"metric": "a.b.c"},
        {"unit": 3},
        {"blob_refs": 3},
        {"value": "text"},
        {"value": True},
        {"value": [1.0]},
        {"value": {}},
    ],
)
def test_what_is_no_measurement_is_refused(changes: dict[str, Any]) -> None:
    document = {"metric": "p.m", "value": 1.0, "unit": "", **changes}
    with pytest.raises(DocumentError):
        Measurement.from_json(document, {})


def test_a_set_is_written_as_a_sorted_list() -> None:
    assert plain({"b", "a"}, "x") == ["a", "b"]


def test_a_quantity_in_metadata_is_refused() -> None:
    with pytest.raises(TypeError, match=r"^meta\.seeing: Quantity"):
        plain({"seeing": 1.0 * u.arcsec}, "meta")
