"""Measurements made without the LSST stack: astropy quantities in, lsst.verify's JSON out.

This module imports only the standard library, and astropy where a quantity is asked for, because
`squash_api.client` runs where the service's other libraries are not installed.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from math import isfinite
from numbers import Real
from typing import Any, Self
from uuid import uuid4

from squash_api.verify.units import quantity as quantity_of


class DocumentError(ValueError):
    """A document is not a job, a measurement or a blob as lsst.verify writes them."""


@dataclass(slots=True)
class Datum:
    """An extra value: a quantity (scalar or array), a number, text, a boolean or a list.

    A quantity brings its unit; otherwise `unit` defaults to `""`. Numbers that are not finite are
    sent as null.
    """

    value: Any = None
    unit: str | None = None
    label: str | None = None
    description: str | None = None

    def to_json(self, *, where: str = "datum") -> dict[str, Any]:
        """Return the datum as in a job document; errors say `where` it is.

        Raises
        ------
        TypeError
            If the value is masked or complex, or JSON has no equivalent.
        """
        value, unit = self.value, self.unit or ""
        if _is_quantity(value):
            if self.unit is not None:
                raise TypeError(f"{where}: the value is a quantity, so give no other unit")
            _refuse_masked(value, where)
            value, unit = value.value, value.unit.to_string()
        return {
            "value": plain(value, where),
            "unit": unit,
            "label": self.label,
            "description": self.description,
        }


@dataclass(slots=True)
class Blob:
    """Named data that one or several measurements refer to."""

    name: str
    data: dict[str, Any] = field(default_factory=dict)
    identifier: str = field(default_factory=lambda: uuid4().hex)

    def to_json(self) -> dict[str, Any]:
        """Return the blob as in a job document; bare values become data."""
        data = {
            key: (value if isinstance(value, Datum) else Datum(value)).to_json(
                where=f"{self.name}: {key}"
            )
            for key, value in self.data.items()
        }
        return {"identifier": self.identifier, "name": self.name, "data": data}

    @classmethod
    def from_json(cls, document: Any) -> Self:
        """Read a blob of a job document.

        Raises
        ------
        DocumentError
            If it is not one.
        """
        parts = document if isinstance(document, dict) else {}
        name, identifier, data = (parts.get(key) for key in ("name", "identifier", "data"))
        if not isinstance(name, str) or not isinstance(identifier, str):
            raise DocumentError("a blob must be an object with name and identifier")
        if not isinstance(data, dict | None):
            raise DocumentError(f"the data of the blob {name} is not an object")
        return cls(name, {key: _to_datum(item) for key, item in (data or {}).items()}, identifier)


class Measurement:
    """A value of a metric.

    Parameters
    ----------
    metric
        The metric's full name, `package.metric`.
    quantity
        A scalar astropy quantity or a number (dimensionless). None, NaN and infinity are sent as
        null: measured, but absent.
    identifier
        32 hexadecimal digits, new by default. By it the service recognizes a job that it has.
    extras
        Further values by name; see `Datum`.
    notes
        Sent in the job's metadata as `package.metric.<key>`.
    blobs
        Data shared with other measurements.

    Raises
    ------
    TypeError
        If the quantity is an array, complex, masked, a boolean or text.
    ValueError
        If the name is not one of a metric.
    """

    def __init__(
        self,
        metric: str,
        quantity: Any = None,
        *,
        identifier: str | None = None,
        extras: Mapping[str, Any] | None = None,
        notes: Mapping[str, Any] | None = None,
        blobs: Iterable[Blob] = (),
    ) -> None:
        parts = metric.split(".")
        if len(parts) > 2 or not all(parts):
            raise ValueError(f"{metric!r} is not a metric's name: write package.metric")
        self.metric = metric
        self.identifier = identifier or uuid4().hex
        self.value, self.unit = _scalar(quantity, metric)
        self.notes = dict(notes or {})
        self.blobs = list(blobs)
        self._extras = Blob(metric, dict(extras or {}))

    @property
    def extras(self) -> dict[str, Any]:
        """Extra values by name; more may be added."""
        return self._extras.data

    @property
    def quantity(self) -> Any:
        """The value as an astropy quantity, NaN if it is absent; None if it has no unit either."""
        if self.unit is None:
            return None
        value = float("nan") if self.value is None else self.value
        return quantity_of(value, self.unit)

    def linked_blobs(self) -> list[Blob]:
        """Return the blobs that the document refers to: extras first, if there are any."""
        return [*([self._extras] if self._extras.data else []), *self.blobs]

    def to_json(self) -> dict[str, Any]:
        """Return the measurement as in a job document."""
        return {
            "metric": self.metric,
            "identifier": self.identifier,
            "value": self.value,
            "unit": self.unit,
            "blob_refs": [blob.identifier for blob in self.linked_blobs()],
        }

    @classmethod
    def from_json(cls, document: Any, blobs: Mapping[str, Blob]) -> Self:
        """Read a measurement of a job document, without references to blobs that it lacks.

        Raises
        ------
        DocumentError
            If it is not one.
        """
        if not isinstance(document, dict) or not isinstance(document.get("metric"), str):
            raise DocumentError("a measurement must be an object with a metric")
        value, unit = document.get("value"), document.get("unit")
        references = document.get("blob_refs") or []
        if not isinstance(unit, str | None):
            raise DocumentError(f"{document['metric']}: the unit is neither text nor null")
        if not isinstance(references, list):
            raise DocumentError(f"{document['metric']}: blob_refs is not a list")
        try:
            measurement = cls(document["metric"], value, identifier=document.get("identifier"))
        except (TypeError, ValueError) as error:
            raise DocumentError(str(error)) from None
        measurement.unit = unit
        for blob in (blobs[reference] for reference in references if reference in blobs):
            if blob.name == measurement.metric:
                measurement._extras = blob
            else:
                measurement.blobs.append(blob)
        return measurement


def plain(value: Any, where: str) -> Any:
    """Return a value as JSON can hold it; numbers that are not finite become None.

    Sets become sorted lists, numpy's arrays and scalars become lists and numbers.

    Raises
    ------
    TypeError
        If JSON has no equivalent; the message says `where` it is.
    """
    if value is None or isinstance(value, str | bool | int):
        return value
    if isinstance(value, float):
        return value if isfinite(value) else None
    if isinstance(value, Mapping):
        return {str(key): plain(item, f"{where}.{key}") for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [plain(item, f"{where}[{index}]") for index, item in enumerate(value)]
    if isinstance(value, set | frozenset):
        return sorted((plain(item, where) for item in value), key=repr)
    if not _is_quantity(value):
        _refuse_masked(value, where)
        if hasattr(value, "tolist"):
            return plain(value.tolist(), where)
        if isinstance(value, Real):
            return plain(float(value), where)
    raise TypeError(f"{where}: {_described(value)} cannot be written as JSON")


def _to_datum(document: Any) -> Datum:
    """Read a datum; without the key `value` it is a bare value."""
    if isinstance(document, dict) and "value" in document:
        keys = ("value", "unit", "label", "description")
        return Datum(*(document.get(key) for key in keys))
    return Datum(document)


def _scalar(quantity: Any, metric: str) -> tuple[float | None, str | None]:
    """Return the value and the unit of a quantity or number."""
    if quantity is None:
        return None, None
    value, unit = quantity, ""
    _refuse_masked(quantity, metric)
    if _is_quantity(quantity):
        if not quantity.isscalar or quantity.dtype.kind not in "fiu":
            raise TypeError(f"{metric}: {_described(quantity)} is not one real number")
        value, unit = quantity.value, quantity.unit.to_string()
    if isinstance(value, bool) or not isinstance(value, Real):
        raise TypeError(f"{metric}: {_described(value)} is not one real number")
    try:
        number = float(value)
    except OverflowError:
        return None, unit
    return (number if isfinite(number) else None), unit


def _is_quantity(value: Any) -> bool:
    return hasattr(value, "unit") and hasattr(value, "to_value")


def _refuse_masked(value: Any, where: str) -> None:
    if hasattr(value, "mask"):
        raise TypeError(f"{where}: {_described(value)} is masked: fill it, or leave it out")


def _described(value: Any) -> str:
    shape = getattr(value, "shape", ())
    kind = f"{type(value).__name__} of shape {shape}" if shape else type(value).__name__
    text = str(value)
    return f"{kind} {text if len(text) <= 40 else text[:37] + '...'}"
