"""What the blobs of a job hold, as a page shows it: single values, and arrays of numbers. Pure."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from statistics import median
from typing import Any

from squash_api.storable import finite

FEWEST_VALUES = 5
"""Shorter arrays are written out."""

_MOST_LETTERS = 2000
_ERROR_ENDINGS = ("_err", "_error", "err", "_sigma", "_std")


@dataclass(frozen=True, slots=True)
class Single:
    """A datum that is no array to plot: its value as text."""

    key: str
    label: str
    unit: str
    description: str
    text: str


@dataclass(frozen=True, slots=True)
class Numbers:
    """An array of numbers; one of several dimensions is written out row by row.

    `values` has None where a number is missing. `shape` says how many there are, in words.
    """

    key: str
    label: str
    unit: str
    description: str
    values: Sequence[float | None]
    shape: str
    is_flat: bool

    @property
    def axis_label(self) -> str:
        """What an axis says: the label, else the key, with the unit."""
        name = self.label or self.key
        return f"{name} [{self.unit}]" if self.unit else name

    @property
    def present(self) -> list[float]:
        """The values without those that are missing."""
        return [value for value in self.values if value is not None]

    def summary(self) -> "Summary | None":
        """Return what there is to say of the values in three numbers; None if there is none."""
        found = self.present
        return Summary(min(found), median(found), max(found)) if found else None


@dataclass(frozen=True, slots=True)
class Summary:
    """The least, the middle and the largest of some values."""

    least: float
    middle: float
    largest: float


@dataclass(frozen=True, slots=True)
class BlobData:
    """A blob of a job: its place among the job's blobs, and what it holds."""

    index: int
    name: str
    identifier: str | None
    singles: Sequence[Single]
    arrays: Sequence[Numbers]

    def array(self, key: str) -> Numbers | None:
        """Return the array of a key, or None if there is none."""
        return next((item for item in self.arrays if item.key == key), None)

    def partners(self, of: Numbers) -> list[Numbers]:
        """Return the other arrays whose values belong to those of one."""
        return [
            item
            for item in self.arrays
            if item.key != of.key
            and item.is_flat
            and of.is_flat
            and len(item.values) == len(of.values)
        ]

    def error_of(self, array: Numbers) -> Numbers | None:
        """Return the array that holds the uncertainties of another, to judge by the keys."""
        names = {f"{array.key}{ending}".lower() for ending in _ERROR_ENDINGS}
        found = (item for item in self.partners(array) if item.key.lower() in names)
        return next((item for item in found if item.unit == array.unit), None)

    def first_view(self) -> tuple[Numbers, Numbers | None] | None:
        """Return what is best shown first: an array, and the one to show it over, or None.

        Numbers that only grow, or only fall, are what others are measured at.
        """
        errors = {found.key for item in self.arrays if (found := self.error_of(item))}
        for x in self.arrays:
            partners = [item for item in self.partners(x) if item.key not in errors]
            if partners and x.key not in errors and is_in_order(x):
                return next((y for y in partners if not is_in_order(y)), partners[0]), x
        return (self.arrays[0], None) if self.arrays else None


def read_blob(index: int, blob: Mapping[str, Any]) -> BlobData:
    """Return what a blob holds, whatever that is."""
    identifier, data = blob.get("identifier"), blob.get("data")
    singles: list[Single] = []
    arrays: list[Numbers] = []
    if isinstance(data, dict):
        for key, datum in data.items():
            found = _read_datum(key, datum)
            (singles if isinstance(found, Single) else arrays).append(found)  # type: ignore[arg-type]
    elif data is not None:
        singles.append(Single("", "", "", "", _text_of(data)))
    return BlobData(
        index,
        _word(blob.get("name")) or "blob",
        identifier if isinstance(identifier, str) else None,
        singles,
        arrays,
    )


def is_in_order(array: Numbers) -> bool:
    """Tell whether every value is larger than the one before, or every value smaller."""
    values = array.present
    if len(values) != len(array.values) or len(values) < FEWEST_VALUES:
        return False
    pairs = list(pairwise(values))
    return all(a < b for a, b in pairs) or all(a > b for a, b in pairs)


def _read_datum(key: str, datum: Any) -> Single | Numbers:
    """Read a datum; one that is no object with a value is a bare value."""
    value, about = datum, {}
    if isinstance(datum, dict) and "value" in datum:
        value, about = datum["value"], datum
    words = [_word(about.get(name)) for name in ("label", "unit", "description")]
    label, unit, description = words
    numbers = _numbers_of(value)
    if numbers is None:
        return Single(key, label, unit, description, _text_of(value))
    values, shape, is_flat = numbers
    return Numbers(key, label, unit, description, values, shape, is_flat)


def _numbers_of(value: Any) -> tuple[list[float | None], str, bool] | None:
    """Return the numbers of a list, or of lists in it, and their shape; None if it has others."""
    if not isinstance(value, list):
        return None
    rows: list[Any] = value
    dimensions = [len(rows)]
    while rows and all(isinstance(item, list) for item in rows):
        rows = [item for row in rows for item in row]
        dimensions.append(len(rows))
    found = [_number_of(item) for item in rows]
    if any(item is False for item in found):
        return None
    values = [item for item in found if item is not False]
    if sum(item is not None for item in values) < FEWEST_VALUES:
        return None
    if len(dimensions) == 1:
        return values, f"{len(values)} values", True
    return values, f"{len(values)} values in {dimensions[0]} rows", False


def _number_of(item: Any) -> Any:
    """Return a number, None for one that is missing or not finite, and False for anything else."""
    if item is None:
        return None
    if isinstance(item, bool) or not isinstance(item, int | float):
        return False
    return finite(item)


def _text_of(value: Any) -> str:
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    return text if len(text) <= _MOST_LETTERS else f"{text[:_MOST_LETTERS]}\u2026"


def _word(value: Any) -> str:
    """Return a text in one line, if it is one."""
    return " ".join(value.split())[:_MOST_LETTERS] if isinstance(value, str) else ""
