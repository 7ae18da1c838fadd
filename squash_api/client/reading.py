"""Reading measurements: the question as parameters, and the answer as a table."""

import csv
from array import array
from collections.abc import Callable, Iterable, Iterator, Mapping
from datetime import UTC, datetime
from typing import Any

from squash_api.client.wire import SquashClientError
from squash_api.schema.cells import cell_meaning
from squash_api.verify.units import quantity

Texts = str | Iterable[str]
Query = list[tuple[str, str | int | float | bool | None]]


def parameters(given: Mapping[str, Any], meta: Mapping[str, Any]) -> Query:
    """Make the parameters of a question; `meta` holds filters on other metadata, by key."""
    fields = ",".join(_texts(given.get("fields")))
    query = query_of({"format": "csv", **given, "fields": fields or None})
    return query + [(f"meta.{key}", text) for key, value in meta.items() for text in _texts(value)]


def query_of(given: Mapping[str, Any]) -> Query:
    """Make parameters of what is given: none of None, and one of each entry of a list."""
    return [(name, text) for name, value in given.items() for text in _texts(value)]


def read_columns(chunks: Iterable[bytes]) -> dict[str, Any]:
    """Read the columns of a CSV file by name, as arrays of numpy; numbers and texts are exact."""
    import numpy as np  # noqa: PLC0415

    rows = csv.reader(_lines(chunks))
    names = [cell_meaning(name) for name in next(rows, [])]
    if names[:3] != ["time", "job", "metric"]:
        raise SquashClientError(
            "the answer is not a table of measurements: is this a SQuaSH service?"
        )
    columns = [_column(name) for name in names]
    for row in rows:
        for column, text in zip(columns, row, strict=True):
            column.append(text)
    return {name: column.finish(np) for name, column in zip(names, columns, strict=True)}


def as_table(columns: Mapping[str, Any]) -> Any:
    """Make a QTable of columns; the values are a quantity if they share a unit."""
    from astropy.table import QTable  # noqa: PLC0415

    shown = dict(columns)
    units = set(columns["unit"].tolist())
    if len(units) == 1:
        shown["value"] = quantity(columns["value"], units.pop())
    return QTable(shown)


def as_data_frame() -> Callable[[Mapping[str, Any]], Any]:
    """Import pandas, if it is installed, and give the function that makes a DataFrame."""
    try:
        from pandas import DataFrame  # type: ignore[import-untyped]  # noqa: PLC0415
    except ImportError:
        raise ImportError(
            "as_pandas needs pandas, which is not installed: pip install pandas"
        ) from None
    return lambda columns: DataFrame(dict(columns))


class _Numbers:
    """A column of numbers; what is absent is NaN."""

    def __init__(self, kind: str) -> None:
        self._read: Callable[[str], Any] = int if kind == "q" else float
        self._found: array[Any] = array(kind)

    def append(self, text: str) -> None:
        self._found.append(self._read(text or "nan"))

    def finish(self, numpy: Any) -> Any:
        return numpy.array(self._found)


class _Words:
    """A column of text, most of which repeats."""

    def __init__(self, dtype: str) -> None:
        self._dtype = dtype
        self._places = array("q")
        self._words: dict[str, int] = {}

    def append(self, text: str) -> None:
        self._places.append(self._words.setdefault(text, len(self._words)))

    def finish(self, numpy: Any) -> Any:
        words = [cell_meaning(word) for word in self._words]
        if self._dtype != "str":
            # numpy has no time zones; these times are in UTC.
            words = [word.removesuffix("Z") for word in words]
        return numpy.array(words, dtype=self._dtype)[numpy.array(self._places, dtype=numpy.int64)]


def _column(name: str) -> _Numbers | _Words:
    if name == "job":
        return _Numbers("q")
    if name == "value" or (name.startswith("meta.") and not name.endswith(".text")):
        return _Numbers("d")
    return _Words("datetime64[ns]" if name == "time" else "str")


def _lines(chunks: Iterable[bytes]) -> Iterator[str]:
    """Yield lines with their ends; only a newline ends one."""
    rest = b""
    for chunk in chunks:
        *whole, rest = (rest + chunk).split(b"\n")
        for line in whole:
            yield f"{line.decode()}\n"
    if rest:
        yield rest.decode()


def _texts(value: Any) -> list[str]:
    if value is None:
        return []
    if isinstance(value, str | bytes) or not isinstance(value, Iterable):
        value = [value]
    return [text_of(item) for item in value]


def text_of(value: Any) -> str:
    """Write a value as a parameter; times are in UTC if they name no zone."""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, datetime):
        return (value if value.tzinfo else value.replace(tzinfo=UTC)).isoformat()
    return str(value)
