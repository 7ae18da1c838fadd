"""Units as astropy understands them: spelling and conversion.

astropy is imported for the first unit that is not in `_EVERYDAY`, never with this module.
"""

import re
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from functools import cache, lru_cache, partial
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

ALIASES = {
    "dimensionless": "",
    "unitless": "",
    "none": "",
    "fraction": "",
    "ratio": "",
    "percentage": "%",
    "percents": "%",
    "ppm": "1e-06",
    "ppb": "1e-09",
    "sec": "s",
    "secs": "s",
    "msec": "ms",
    "usec": "us",
    "millisec": "ms",
    "microsec": "us",
    "mins": "min",
    "hrs": "h",
    "days": "d",
    "weeks": "wk",
    "years": "yr",
    "yrs": "yr",
    "degs": "deg",
    "degreec": "deg_C",
    "degreesc": "deg_C",
    "degreecelsius": "deg_C",
    "degreescelsius": "deg_C",
    "celcius": "deg_C",
    "centigrade": "deg_C",
    "\u00b0c": "deg_C",
    "degk": "K",
    "degreesk": "K",
    "degreekelvin": "K",
    "degreeskelvin": "K",
    "magnitude": "mag",
    "magnitudes": "mag",
    "mmags": "mmag",
    "millimag": "mmag",
    "millimags": "mmag",
    "millimagnitude": "mmag",
    "millimagnitudes": "mmag",
    "abmag": "mag(AB)",
    "abmags": "mag(AB)",
    "magab": "mag(AB)",
    "stmag": "mag(ST)",
    "magst": "mag(ST)",
    "milliarcsec": "marcsec",
    "milliarcsecs": "marcsec",
    "microarcsec": "uarcsec",
    "microarcsecs": "uarcsec",
    "e-": "electron",
    "cts": "ct",
    "cnt": "ct",
    "cnts": "ct",
    "px": "pix",
    "bits": "bit",
    "nanojanskies": "nJy",
    "microjanskies": "uJy",
    "millijanskies": "mJy",
    "janskies": "Jy",
    "maggies": "mgy",
    "metre": "m",
    "metres": "m",
    "kilometre": "km",
    "kilometres": "km",
    "centimetre": "cm",
    "centimetres": "cm",
    "millimetre": "mm",
    "millimetres": "mm",
    "micrometre": "um",
    "micrometres": "um",
    "nanometre": "nm",
    "nanometres": "nm",
}
"""The one table of what people write and astropy refuses, with astropy's spelling of what it means.

The names are in lower case, without blanks, underscores, hyphens and dots, and are found however a
text is written. In addition astropy's own names are understood in the plural and in another case,
where only one unit comes into question. astropy is asked first: no unit gets another meaning.
"""

# In capitals these could be others: a megasecond, a megamagnitude, an exponent.
_AS_WRITTEN = frozenset({"msec", "usec", "mmags", "e-"})
# The words of a text such as `counts / second`, but not the exponent of a number.
_WORD = re.compile(r"(?<![\w.])e-(?!\d)|[^\W\d_]+(?:_[^\W\d_]+)*")
# A number and what follows it, as in `5 millimag`.
_NUMBER_AND_UNIT = re.compile(r"\s*([+-]?(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?)\s*(\D.*)", re.ASCII)

_FAHRENHEIT = {
    *("degf", "fahrenheit", "degreef", "degreesf", "degreefahrenheit", "degreesfahrenheit", "°f")
}

# What `deg C` and the like are taken for: a product of these two units.
_PRODUCTS = {
    ("C", "deg"): "deg_C",
    ("K", "deg"): "K",
    ("F", "deg"): "",
    ("AB", "mag"): "mag(AB)",
    ("ST", "mag"): "mag(ST)",
}
_ALONE = {
    "C": "coulomb, of electric charge: for temperatures write deg_C",
    "F": "farad, of capacitance: for temperatures convert the values, (x - 32) / 1.8, to deg_C",
}
_SHORTEST_NAME = 5
# A single letter in the other case is too often something else.
_SHORTEST_KEY = 2
_NO_HINT = "one in its spelling, or '' for none"
_EMPTY = "''"

# Python computes an integer power before astropy sees it: minutes of work for ten characters.
_HUGE_POWER = re.compile(r"(?:\*\*|\^|\+)[\s(+-]*\d{4,}")
_NUMBER = re.compile(r"[+-]?\d+(?:\.\d*)?(?:[eE][+-]?\d+)?\Z", re.ASCII)
_PROBES = (0.1, 1.0, -7.3, 12345.6789, 3e-17, 1e300)
_WARNINGS_LOCK = Lock()

# Texts that are no units, and why: astropy takes ten times longer for them than for others. They
# are kept apart from units, so that no number of wrong texts pushes a unit out.
_MOST_WRONG = 4096
_wrong: dict[str, str] = {}
_parses_left: ContextVar[int | None] = ContextVar("parses_left", default=None)


class UnitError(ValueError):
    """The text is not a unit, or the value does not convert to the unit."""


@lru_cache(maxsize=4096)
def canonical_unit(text: str) -> str:
    """Return astropy's spelling of a unit, `""` for a dimensionless one.

    What astropy refuses is understood through `ALIASES`.

    Raises
    ------
    UnitError
        If the unit is known to neither.
    """
    plain = text.strip(" ")
    everyday = _EVERYDAY.get(plain)
    if everyday is None:
        everyday = ALIASES.get(plain)
    if everyday is not None:
        return everyday
    spelling = str(_unit(text).to_string())
    if len(spelling) > MAX_UNIT_LENGTH:
        raise UnitError(f"{_shown(text)} is not a unit: astropy's spelling of it is too long")
    return spelling


def is_unit(text: str) -> bool:
    """Return whether a text is a unit."""
    try:
        canonical_unit(text)
    except UnitError:
        return False
    return True


@lru_cache(maxsize=4096)
def is_alias(text: str) -> bool:
    """Return whether a text is a unit that astropy refuses."""
    if _EVERYDAY.get(text.strip(" ")) is not None or not is_unit(text):
        return False
    return _as_astropy_reads(text) is None


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
    return partial(_through_astropy, old=old, new=new)


def convert_all(values: Sequence[float], source: str, target: str) -> list[float] | None:
    """Convert numbers from one unit to the other; None if they do not convert.

    Raises
    ------
    UnitError
        If either text is not a unit.
    """
    convert = converter(source, target)
    if not isinstance(convert, partial):
        return None if convert is None else [convert(value) for value in values]
    import numpy as np  # noqa: PLC0415

    old, new = convert.keywords["old"], convert.keywords["new"]
    # One call for all: one for each takes minutes for a million.
    with np.errstate(all="ignore"):
        quantity = astropy_units().Quantity(np.array(values, dtype=float), old, subok=True)
        converted: list[float] = quantity.to_value(new).tolist()
    return converted


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
    if isinstance(value, str):
        _spend_parse()
        value = _readable(value)
    units, target = astropy_units(), _unit(unit)
    try:
        with _WARNINGS_LOCK, warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return float(units.Quantity(value, target).value)
    except units.UnitConversionError:
        raise UnitError(f"{_shown(value)} does not convert to the unit '{unit}'") from None
    except (ValueError, TypeError, ArithmeticError):
        raise UnitError(f"{_shown(value)} is not a number") from None


def _readable(value: str) -> str:
    """Return a number with its unit in astropy's spelling, or the text as it is."""
    match = _NUMBER_AND_UNIT.fullmatch(value)
    if match is None:
        return value
    try:
        return f"{match[1]} {canonical_unit(match[2])}"
    except UnitError:
        return value


def quantity(value: Any, unit: str) -> Any:
    """Make an astropy quantity, or a magnitude and the like, of a number or an array.

    The unit may be an alias.

    Raises
    ------
    UnitError
        If the text is not a unit.
    """
    return astropy_units().Quantity(value, _unit(unit), subok=True)


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


@contextmanager
def few_parses(most: int) -> Iterator[None]:
    """Let astropy read at most so many new texts; others then raise `UnitError`.

    For requests, which have room for thousands of them: each takes milliseconds.
    """
    token = _parses_left.set(most)
    try:
        yield
    finally:
        _parses_left.reset(token)


def _spend_parse() -> None:
    left = _parses_left.get()
    if left is None:
        return
    if left <= 0:
        raise UnitError("there are too many different units in one request: send it in parts")
    _parses_left.set(left - 1)


def _unit(text: str) -> Any:
    """Return the unit that a text means, if astropy can read back its own spelling of it."""
    if len(text) > MAX_UNIT_LENGTH or _HUGE_POWER.search(text):
        raise UnitError(f"{_shown(text)} is not a unit: write it in astropy's spelling")
    problem = _wrong.get(text)
    if problem is not None:
        raise UnitError(problem)
    return _parsed(text)


# Errors are not kept by this cache.
@lru_cache(maxsize=4096)
def _parsed(text: str) -> Any:
    _spend_parse()
    unit = _as_astropy_reads(text)
    if unit is None:
        unit = _as_people_mean(text)
    if unit is not None:
        return unit
    problem = _no_unit(text)
    with _WARNINGS_LOCK:
        while len(_wrong) >= _MOST_WRONG:
            del _wrong[next(iter(_wrong))]
        _wrong[text] = problem
    raise UnitError(problem)


def _as_astropy_reads(text: str) -> Any:
    """Return astropy's unit for a text, None if it has none."""
    try:
        with _WARNINGS_LOCK, warnings.catch_warnings():
            warnings.simplefilter("ignore")
            unit = _parse(text)
            _parse(unit.to_string())
    except (ValueError, TypeError, ArithmeticError):
        return None
    return unit


def _as_people_mean(text: str) -> Any:
    """Return the unit for a text that astropy refuses, by `ALIASES`, whole or by words; or None.

    What would become a doubtful product, such as degree times coulomb, is none.
    """
    meant = _meant(text)
    spelling = _WORD.sub(_meant_word, text) if meant is None else meant
    if spelling == text or len(spelling) > MAX_UNIT_LENGTH:
        return None
    unit = _as_astropy_reads(spelling)
    return unit if unit is None or _product_doubt(spelling, unit) is None else None


def _meant_word(match: re.Match[str]) -> str:
    word = match[0]
    meant = None if word in _registry() else _meant(word)
    return word if meant is None else meant or "1"


def _parse(text: str) -> Any:
    return astropy_units().Unit(text)


def unit_doubt(text: str) -> str | None:
    """Tell why a unit in a metrics package is not what lsst.verify, and astropy, make of it.

    `C` is the coulomb, `deg C` a product, coulomb degree, and `m mag` is metre times magnitude;
    `counts` is understood only here.

    Raises
    ------
    UnitError
        If the text is not a unit.
    """
    if text.strip() in _ALONE:
        return f"the unit {_shown(text)} is the {_ALONE[text.strip()]}"
    if _EVERYDAY.get(text.strip()) is not None:
        return None
    unit = _unit(text)
    if is_alias(text):
        return (
            f"lsst.verify refuses the unit {_shown(text)}: write {canonical_unit(text) or _EMPTY}"
        )
    return _product_doubt(text, unit)


def _product_doubt(text: str, unit: Any) -> str | None:
    bases = [str(base) for base in getattr(unit, "bases", ())]
    if len(bases) < 2 or any(power != 1 for power in unit.powers) or unit.scale != 1:
        return None
    joined = "".join(text.split())
    meant = _PRODUCTS.get((min(bases), max(bases)))
    # A metre second is a quantity that may be meant.
    if meant is None and joined not in (text.strip(), "ms"):
        meant = _EVERYDAY.get(joined)
    if meant is None:
        return None
    remedy = f"write {meant}" if meant else "convert the values to deg_C"
    return f"the unit {_shown(text)} is a product, {' times '.join(bases)}: {remedy}"


def _meant(text: str, *, shortest: int = _SHORTEST_KEY) -> str | None:
    """Return astropy's spelling of what a text that it refuses certainly means, or None.

    Case, underscores and a plural may differ from astropy's names. Where two units come into
    question, as milli- and mega- do, it is None.
    """
    written, key = text.strip(), _key(text)
    alias = ALIASES.get(written)
    if alias is None and key not in _AS_WRITTEN:
        alias = ALIASES.get(key)
    if alias is not None or len(key) < shortest:
        return alias
    names = _names_by_key().get(key, ())
    units = [unit for name in names for unit in _all_units()[name]]
    # Others, as imperial ones, astropy reads only if it is told to.
    readable = [name for name in names if name in _registry()]
    is_sure = any(name in _EVERYDAY or len(name) >= _SHORTEST_NAME for name in readable)
    if not is_sure or any(unit != units[0] for unit in units):
        return None
    return canonical_unit(readable[0])


def _key(text: str) -> str:
    return re.sub(r"[\s_.-]", "", text).casefold()


def _registry() -> dict[str, Any]:
    registry: dict[str, Any] = astropy_units().get_current_unit_registry().registry
    return registry


@cache
def _all_units() -> dict[str, list[Any]]:
    """Return the units of astropy by name, with those that it reads only if it is told to."""
    from astropy.units import cds, cgs, imperial  # noqa: PLC0415

    found = {name: [unit] for name, unit in _registry().items()}
    for module in (imperial, cgs, cds):
        for name, unit in vars(module).copy().items():
            if isinstance(unit, astropy_units().UnitBase):
                found.setdefault(name, []).append(unit)
    return found


@cache
def _names_by_key() -> dict[str, list[str]]:
    """Return the names of units, without case and underscores, in the singular and the plural."""
    found: dict[str, list[str]] = {}
    for name in _all_units():
        for key in {_key(name), f"{_key(name)}s"}:
            found.setdefault(key, []).append(name)
    return found


def _no_unit(text: str) -> str:
    what = f"{_shown(text)} is not a unit that astropy knows"
    if _key(text) in _FAHRENHEIT:
        return f"{what}: degrees Fahrenheit are not deg_C; convert the values, (x - 32) / 1.8"
    return f"{what}: write {_meant(text, shortest=0) or _NO_HINT}"
