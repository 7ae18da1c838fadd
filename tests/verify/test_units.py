import re
import struct
import subprocess
import sys
import warnings

import pytest
from astropy.units import Quantity, Unit
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy import errstate

from squash_api.verify import units
from squash_api.verify.units import (
    ALIASES,
    UnitError,
    canonical_unit,
    converter,
    quantity,
    quantity_value,
    unit_doubt,
)

SCALED = [
    ("arcsec", "marcsec"),
    ("mas", "arcsec"),
    ("", "%"),
    ("%", ""),
    ("h", "s"),
    ("mag", "mmag"),
    ("mag", "dex"),
    ("Jy", "nJy"),
    ("deg", "rad"),
    ("1e-6", "%"),
]


@pytest.mark.parametrize(
    ("text", "canonical"),
    [
        ("milliarcsecond", "marcsec"),
        ("mas", "mas"),
        ("nanojansky", "nJy"),
        ("percent", "%"),
        ("count", "ct"),
        ("pixel", "pix"),
        ("B", "byte"),
        ("Celsius", "deg_C"),
        ("1", ""),
        ("", ""),
        (" mag ", "mag"),
        ("mag(AB)", "mag(AB)"),
        ("km/s", "km / s"),
    ],
)
def test_a_unit_has_one_canonical_spelling(text: str, canonical: str) -> None:
    assert canonical_unit(text) == canonical


@pytest.mark.parametrize(("text", "canonical"), sorted(units._EVERYDAY.items()))
def test_everyday_units_are_spelled_as_astropy_spells_them(text: str, canonical: str) -> None:
    assert Unit(text).to_string() == canonical


@pytest.mark.parametrize("text", sorted(ALIASES))
def test_an_alias_is_what_astropy_refuses_in_the_spelling_of_what_it_means(text: str) -> None:
    with pytest.raises(ValueError, match=re.escape(text)):
        Unit(text)
    assert canonical_unit(text) == Unit(ALIASES[text]).to_string() == ALIASES[text]


@pytest.mark.parametrize(
    ("text", "canonical"),
    [
        *(("millimag", "mmag"), ("counts", "ct"), ("seconds", "s"), ("degC", "deg_C")),
        *(("Counts", "ct"), ("SECONDS", "s"), (" DegC ", "deg_C"), ("Milli-Mag", "mmag")),
        *(("milliarcseconds", "marcsec"), ("arcsecs", "arcsec"), ("days", "d"), ("hours", "h")),
        *(("electrons", "electron"), ("ADU", "adu"), ("Pixels", "pix"), ("MAG", "mag")),
        *(("degrees Celsius", "deg_C"), ("AB_mag", "mag(AB)"), ("nanojanskys", "nJy")),
        *(("counts/s", "ct / s"), ("e-/s", "electron / s"), ("adu / e-", "adu / electron")),
        *(("electrons pixels-2", "electron / pix2"), ("1e-6 counts", "1e-06 ct")),
        *(("degC / m", "deg_C / m"), ("fraction / years", "1 / yr")),
    ],
)
def test_what_people_write_is_understood(text: str, canonical: str) -> None:
    assert canonical_unit(text) == canonical


@pytest.mark.parametrize(
    "text",
    [
        *("1e400 m", "furlongs", "mmga", "milimag", "m arcsecs", "K band", "counts per second"),
        # Two units come into question, or none for certain.
        *("MMAG", "MSEC", "mjy", "CT", "mmHg", "ft", "psi", "hp", "asec", "M", "Ks", "E-"),
    ],
)
def test_what_is_not_certain_is_no_unit(text: str) -> None:
    with pytest.raises(UnitError, match="write"):
        canonical_unit(text)


@pytest.mark.parametrize("source", ["counts", "millimag", "ADU", "counts/s"])
def test_an_alias_converts_like_what_it_means(source: str) -> None:
    target = canonical_unit(source)
    convert = converter(source, target)
    assert convert is not None
    assert convert(7.499999999999999) == 7.499999999999999
    assert quantity(2.5, source) == Quantity(2.5, target)
    assert quantity_value(f"2.5 {source}", target) == 2.5


def spellings(name: str) -> set[str]:
    """Return ways to write the name of a unit that people come up with."""
    return {
        *(name, name.upper(), name.lower(), name.capitalize(), name.swapcase()),
        *(f"{name}s", f"{name.upper()}S", f" {name} ", name.replace("_", "")),
        *(name.replace("_", "-"), name.replace("_", " ")),
    }


def test_what_is_understood_is_never_another_quantity_or_scale() -> None:
    """All names of astropy, also those that it reads only if told to; the table is written down."""
    readable, understood, wrong = units._registry(), 0, []
    for name, units_of_name in units._all_units().items():
        for text in spellings(name) - readable.keys():
            meant = units._meant(text, shortest=0)
            if meant is None or units._key(text) in ALIASES:
                continue
            understood += 1
            if any(Unit(meant) != unit for unit in units_of_name):
                wrong.append((text, meant))
    assert not wrong
    assert understood > 10_000


@pytest.mark.parametrize("text", ["deg_F", "degF", "Fahrenheit", "degrees Fahrenheit"])
def test_degrees_fahrenheit_must_be_converted(text: str) -> None:
    with pytest.raises(UnitError, match=r"not deg_C; convert the values, \(x - 32\) / 1\.8"):
        canonical_unit(text)


@pytest.mark.parametrize(
    "text",
    [
        "km / s",
        "m s-1",
        "electron / s",
        "mag",
        "deg2",
        "K m",
        "mag(AB)",
        "1e-6 m",
        "%",
        "m s",
        "s m",
        "coulomb",
        "mC",
        "uF",
    ],
)
def test_a_usual_product_is_not_doubted(text: str) -> None:
    assert unit_doubt(text) is None


@pytest.mark.parametrize(
    "text", ["10**999999999 m", "10^99999999", "10+99999999 m", "m" * 1000, "\ud800", "\x00"]
)
def test_hostile_text_is_refused_at_once(text: str) -> None:
    with pytest.raises(UnitError):
        canonical_unit(text)


@pytest.mark.parametrize("text", ["counts", "Pixels", "millimag", "counts / s", "unitless"])
def test_what_lsst_verify_refuses_is_doubted(text: str) -> None:
    doubt = unit_doubt(text)
    assert doubt is not None
    assert doubt.startswith("lsst.verify refuses the unit")
    assert doubt.endswith(f"write {canonical_unit(text) or repr('')}")


def test_a_discouraged_spelling_gives_no_warning() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert canonical_unit("m/s/kg") == "m / (kg s)"


@pytest.mark.parametrize(("source", "target"), [("mas", "marcsec"), ("mag", "mag"), ("", "1")])
def test_identical_units_give_the_same_number_back(source: str, target: str) -> None:
    value = 7.499999999999999
    convert = converter(source, target)
    assert convert is not None
    assert convert(value) is value


@pytest.mark.parametrize(("source", "target"), SCALED)
@given(value=st.floats(allow_nan=False))
@settings(max_examples=60)
def test_scaled_units_convert_as_astropy_does_to_the_last_bit(
    source: str, target: str, value: float
) -> None:
    convert = converter(source, target)
    assert convert is not None
    with errstate(over="ignore", under="ignore"):
        expected = float(Quantity(value, source).to_value(target))
    assert struct.pack("d", convert(value)) == struct.pack("d", expected)


@pytest.mark.parametrize(("source", "target"), [("mag(AB)", "nJy"), ("nJy", "mag(AB)")])
def test_logarithmic_units_convert_as_astropy_does(source: str, target: str) -> None:
    convert = converter(source, target)
    assert convert is not None
    assert convert(21.5) == float(Quantity(21.5, source, subok=True).to_value(target))


def test_a_logarithm_that_does_not_exist_is_nan_without_a_warning() -> None:
    convert = converter("nJy", "mag(AB)")
    assert convert is not None
    assert convert(-1.0) != convert(-1.0)


def test_percent_and_fraction_differ_by_a_hundred() -> None:
    convert = converter("", "%")
    assert convert is not None
    assert convert(0.25) == 25.0


@pytest.mark.parametrize(
    ("source", "target"),
    [("deg_C", "K"), ("ct", ""), ("mag", "mag(AB)"), ("pix", "arcsec"), ("s", "mag"), ("byte", "")],
)
def test_units_of_other_dimensions_do_not_convert(source: str, target: str) -> None:
    assert converter(source, target) is None


@pytest.mark.parametrize(("source", "target"), [("nonsense", "mag"), ("mag", "nonsense")])
def test_a_conversion_needs_two_units(source: str, target: str) -> None:
    with pytest.raises(UnitError, match="nonsense"):
        converter(source, target)


@pytest.mark.parametrize(
    ("value", "number"),
    [("1e-6", 1e-6), (" 7 ", 7.0), (8, 8.0), (True, 1.0), ("5 mas", 5.0), (2**70, 2.0**70)],
)
def test_a_number_may_be_written_as_text(value: object, number: float) -> None:
    assert quantity_value(value, "marcsec") == number


@pytest.mark.parametrize("value", ["1_000", "", "abc", None, [5], {}, b"5", "5 10**99999999 m"])
def test_what_astropy_reads_no_number_from_is_refused(value: object) -> None:
    with pytest.raises(UnitError, match="is not a number"):
        quantity_value(value, "marcsec")


def test_a_number_in_another_dimension_is_refused() -> None:
    with pytest.raises(UnitError, match="does not convert to the unit 'marcsec'"):
        quantity_value("5 kg", "marcsec")


def test_everyday_units_need_no_astropy() -> None:
    code = (
        "import sys\n"
        "from squash_api.verify.units import canonical_unit, converter\n"
        "assert converter('mmag', 'mmag')(2.5) == 2.5\n"
        "assert canonical_unit('milliarcsecond') == 'marcsec'\n"
        "assert canonical_unit('millimag') == 'mmag'\n"
        "assert 'astropy' not in sys.modules and 'numpy' not in sys.modules\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
