"""Units as astropy understands them: spelling and conversion.

astropy is imported for the first unit that is not in `_EVERYDAY`, never with this module.
"""

import re
import warnings
from collections.abc import Callable
from difflib import get_close_matches
from functools import cache, lru_cache
from threading import Lock
from typing import Any

MAX_UNIT_LENGTH = 100
"""The longest text, in characters, that is tried as a unit."""

_CANONICAL = (
    "% mag mmag arcsec arcmin mas marcsec deg rad pix ct electron adu byte Jy nJy "
    "s ms min h m mm um micron nm K deg_C V A W Pa Hz"
)
_EVERYDAY = {unit: unit for unit in ("", *_CANONICAL.split())} | {
    "1": "",
    "percent": "%",
    "pct": "%",
    "milliarcsecond": "marcsec",
    "degree": "deg",
    "radian": "rad",
    "pixel": "pix",
    "count": "ct",
    "nanojansky": "nJy",
    "second": "s",
    "minute": "min",
    "hour": "h",
    "Celsius": "deg_C",
}
"""Common units with astropy's canonical spelling; a test compares it with astropy."""

_MEANT = {
    "dimensionless": '""',
    "unitless": '""',
    "none": '""',
    "fraction": '""',
    "counts": "ct",
    "seconds": "s",
    "secs": "s",
    "sec": "s",
    "minutes": "min",
    "hours": "h",
    "pixels": "pix",
    "degc": "deg_C",
    "magnitude": "mag",
    "magnitudes": "mag",
    "mags": "mag",
    "millimag": "mmag",
    "millimagnitude": "mmag",
    "milliarcsec": "marcsec",
    "bytes": "byte",
    "electrons": "electron",
    "percentage": "%",
    "ppm": "1e-6",
}

# Python computes an integer power before astropy sees it: minutes of work for ten characters.
_HUGE_POWER = re.compile(r"(?:\*\*|\^|\+)[\s(+-]*\d{4,}")
_NUMBER = re.compile(r"[+-]?\d+(?:\.\d*)?(?:[eE][+-]?\d+)?\Z", re.ASCII)
_PROBES = (0.1, 1.0, -7.3, 12345.6789, 3e-17, 1e300)
_WARNINGS_LOCK = Lock()


class UnitError(ValueError):
    """The text is not a unit, or the value does not convert to the unit."""


@lru_cache(maxsize=4096)
def canonical_unit(text: str) -> str:
    """Return astropy's spelling of a unit, `""` for a dimensionless one.

    Raises
    ------
    UnitError
        If astropy does not know the unit; the message suggests a similar one.
    """
    everyday = _EVERYDAY.get(text.strip(" "))
    return everyday if everyday is not None else str(_unit(text).to_string())


@lru_cache(maxsize=4096)
def converter(source: str, target: str) -> Callable[[float], float] | None:
    """Return the function that converts numbers from one unit to the other.

    Returns None if they do not convert. Results equal `Quantity(value, source).to_value(target)` to
    the last bit (for logarithmic units, those of `Magnitude` and the like).

    Raises
    ------
    UnitError
        If either text is not a unit.
    """
    spelling = canonical_unit(source), canonical_unit(target)
    if spelling[0] == spelling[1]:
        return _unchanged
    old, new = _unit(source), _unit(target)
    if old == new:
        return _unchanged
    try:
        scale = float(old.to(new))
        expected = [_through_astropy(probe, old, new) for probe in _PROBES]
    except (astropy_units().UnitsError, TypeError, ArithmeticError):
        return None
    if [probe * scale for probe in _PROBES] == expected:
        return lambda value: value * scale
    if list(_PROBES) == expected:
        return _unchanged
    return lambda value: _through_astropy(value, old, new)


def quantity_value(value: Any, unit: str) -> float:
    """Read a YAML or JSON scalar as astropy does, as a number in the given unit.

    A text may hold a number (`"1e-6"`) or a number with a convertible unit (`"5 arcsec"`).

    Raises
    ------
    UnitError
        If it is not a number, or its unit does not convert.
    """
    if isinstance(value, float) or (type(value) is int and abs(value) < 1 << 53):
        return float(value)
    if isinstance(value, str) and len(value) < MAX_UNIT_LENGTH and _NUMBER.match(value):
        return float(value)
    if not isinstance(value, str | bool | int):
        raise UnitError(f"{_shown(value)} is not a number")
    if isinstance(value, str) and (len(value) > MAX_UNIT_LENGTH or _HUGE_POWER.search(value)):
        raise UnitError(f"{_shown(value)} is not a number")
    units = astropy_units()
    try:
        with _WARNINGS_LOCK, warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return float(units.Quantity(value, _parse(unit)).value)
    except units.UnitConversionError:
        raise UnitError(f"{_shown(value)} does not convert to the unit '{unit}'") from None
    except (ValueError, TypeError, ArithmeticError):
        raise UnitError(f"{_shown(value)} is not a number") from None


@cache
def astropy_units() -> Any:
    """Return `astropy.units`, which takes half a second to import."""
    import astropy.units  # noqa: PLC0415

    return astropy.units


def _shown(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."


def _unchanged(value: float) -> float:
    return value


def _through_astropy(value: float, old: Any, new: Any) -> float:
    import numpy as np  # noqa: PLC0415

    with np.errstate(all="ignore"):
        return float(astropy_units().Quantity(value, old, subok=True).to_value(new))


def _unit(text: str) -> Any:
    """Return astropy's unit for a text, if astropy can read back its own spelling of it."""
    if len(text) > MAX_UNIT_LENGTH or _HUGE_POWER.search(text):
        raise UnitError(f"{_shown(text)} is not a unit: write it in astropy's spelling")
    try:
        with _WARNINGS_LOCK, warnings.catch_warnings():
            warnings.simplefilter("ignore")
            unit = _parse(text)
            _parse(unit.to_string())
    except (ValueError, TypeError, ArithmeticError):
        raise UnitError(_no_unit(text)) from None
    return unit


def _parse(text: str) -> Any:
    return astropy_units().Unit(text)


def _no_unit(text: str) -> str:
    meant = _MEANT.get(text.strip().lower())
    near = [meant] if meant else get_close_matches(text, [*_EVERYDAY], n=2, cutoff=0.7)
    if near:
        return f"{_shown(text)} is not a unit that astropy knows: write {' or '.join(near)}"
    shown = _shown(text)
    return f"{shown} is not a unit that astropy knows: write one in its spelling, or '' for none"
