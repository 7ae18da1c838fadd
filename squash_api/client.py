"""A small client of SQuaSH, for people without the LSST stack; it needs only httpx and astropy.

    >>> import astropy.units as u
    >>> from squash_api.client import Job, Measurement
    >>> job = Job([Measurement("camera.Temperature", 11.5 * u.deg_C)], meta={"instrument": "LSSTCam"})
    >>> job.dispatch(api_user="me", api_password="...", api_url="https://squash.example.org")

Source of the format: the job document of lsst.verify, and the requests that its
`Job.dispatch` makes. astropy is imported only where a quantity is asked for.
"""

import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self
from uuid import uuid4

import httpx

_ACCEPT = "application/json; version=1.0"
_ACCEPTED = (200, 201, 202)
_TRY_AGAIN = (429, 502, 503, 504)
_TRY_AGAIN_AFTER = (httpx.NetworkError, httpx.RemoteProtocolError, httpx.ConnectTimeout)
_CONNECT_TIMEOUT_S = 30.0
_FIRST_PAUSE_S = 0.5
_LONGEST_PAUSE_S = 30.0
_FIRST_POLL_S = 0.2
_LONGEST_POLL_S = 5.0
_JOB_ID = re.compile(r"`(\d+)`")


class SquashClientError(Exception):
    """A job could not be read or sent.

    `status_code` and `code` are those of the service's answer, None without one. `detail` is the
    service's list of `{loc, msg, type}`; the text of the error shows each on a line.
    """

    def __init__(
        self,
        message: str,
        *,
        status_code: int | None = None,
        code: str | None = None,
        detail: Iterable[Mapping[str, Any]] = (),
    ) -> None:
        super().__init__(message)
        self.message = message
        self.status_code = status_code
        self.code = code
        self.detail = [dict(line) for line in detail]

    def __str__(self) -> str:
        return "\n  ".join([self.message, *map(_detail_text, self.detail)])


@dataclass(frozen=True, slots=True)
class Reply:
    """The service's answer to a job that it has stored.

    `absent` names the metrics measured as null, NaN or infinite; `skipped` holds `{metric, reason}`
    of each value left out; `undeclared` metrics are stored like the others. `is_repeat` tells that
    the service had this very job already. `job_id` is None only if the service names none.
    """

    job_id: int | None
    status_url: str
    message: str
    absent: list[str] = field(default_factory=list)
    skipped: list[dict[str, str]] = field(default_factory=list)
    undeclared: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    is_repeat: bool = False


@dataclass(slots=True)
class Datum:
    """A value beside a measurement: a quantity (scalar or array), number, text, boolean or list.

    The unit comes with a quantity; without one it is `""`. Numbers that are not finite are sent as
    null.
    """

    value: Any = None
    unit: str | None = None
    label: str | None = None
    description: str | None = None

    def to_json(self) -> dict[str, Any]:
        """Return the datum as a job document holds it."""
        value, unit = self.value, self.unit or ""
        if _is_quantity(value):
            if self.unit is not None:
                raise TypeError("the datum's value is a quantity: give it no other unit")
            _refuse_masked(value, "a datum")
            value, unit = value.value, value.unit.to_string()
        return {
            "value": _plain(value, "a datum"),
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
        """Return the blob as a job document holds it; what is no `Datum` yet becomes one."""
        data = {
            key: (value if isinstance(value, Datum) else Datum(value)).to_json()
            for key, value in self.data.items()
        }
        return {"identifier": self.identifier, "name": self.name, "data": data}


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
        32 hexadecimal digits, a new one by default. It tells the service a job it already has.
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
        If the name cannot be that of a metric.
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
        """Further values by name, to read and to add to."""
        return self._extras.data

    @property
    def quantity(self) -> Any:
        """The value as an astropy quantity, NaN if it is absent; None if it has no unit either."""
        if self.unit is None:
            return None
        from astropy.units import Quantity  # noqa: PLC0415

        value = float("nan") if self.value is None else self.value
        return Quantity(value, self.unit, subok=True)

    def linked_blobs(self) -> list[Blob]:
        """Return the blobs that the document refers to, extras first and only if there are any."""
        return [*([self._extras] if self._extras.data else []), *self.blobs]

    def to_json(self) -> dict[str, Any]:
        """Return the measurement as a job document holds it."""
        return {
            "metric": self.metric,
            "identifier": self.identifier,
            "value": self.value,
            "unit": self.unit,
            "blob_refs": [blob.identifier for blob in self.linked_blobs()],
        }

    @classmethod
    def from_json(cls, document: Any, blobs: Mapping[str, Blob]) -> Self:
        """Read a measurement of a job document; references to blobs not in it are dropped."""
        if not isinstance(document, dict) or not isinstance(document.get("metric"), str):
            raise ValueError("a measurement is an object with a metric")
        value, unit = document.get("value"), document.get("unit")
        if not isinstance(unit, str | None):
            raise ValueError(f"{document['metric']}: the unit must be text or null")
        measurement = cls(document["metric"], identifier=document.get("identifier"))
        try:
            measurement.value = _scalar(value, measurement.metric)[0]
        except TypeError as error:
            raise ValueError(str(error)) from None
        measurement.unit = unit
        for reference in document.get("blob_refs") or ():
            blob = blobs.get(reference)
            if blob is not None and blob.name == measurement.metric:
                measurement._extras = blob
            elif blob is not None:
                measurement.blobs.append(blob)
        return measurement


class Job:
    """Measurements and metadata that belong together, as lsst.verify defines them.

    `measurements` is a dictionary by metric: a later measurement of a metric replaces the earlier.
    """

    def __init__(
        self, measurements: Iterable[Measurement] = (), *, meta: Mapping[str, Any] | None = None
    ) -> None:
        self.measurements: dict[str, Measurement] = {}
        self.meta = dict(meta or {})
        for measurement in measurements:
            self.add(measurement)

    def add(self, measurement: Measurement) -> None:
        """Add a measurement, in place of one of the same metric."""
        self.measurements[measurement.metric] = measurement

    def to_json(self) -> dict[str, Any]:
        """Return what dispatch sends: `measurements`, `blobs` and `meta`, for JSON."""
        measurements = list(self.measurements.values())
        blobs = {blob.identifier: blob for item in measurements for blob in item.linked_blobs()}
        notes = {
            f"{item.metric}.{key}": note
            for item in measurements
            for key, note in item.notes.items()
        }
        return {
            "measurements": [item.to_json() for item in measurements],
            "blobs": [blob.to_json() for blob in blobs.values()],
            "meta": _plain({**self.meta, **notes}, "meta"),
        }

    @classmethod
    def from_json(cls, document: Any) -> Self:
        """Read a job document; its `metrics` and `specs` are ignored.

        Raises
        ------
        ValueError
            If it is not a job.
        """
        measurements, blobs, meta = job_parts(document)
        by_identifier = {blob.identifier: blob for blob in map(_blob_from_json, blobs)}
        job = cls([Measurement.from_json(item, by_identifier) for item in measurements])
        for key, value in meta.items():
            metric, _, note = _split_note(key)
            if metric in job.measurements:
                job.measurements[metric].notes[note] = value
            else:
                job.meta[key] = value
        return job

    @classmethod
    def read(cls, path: str | Path) -> Self:
        """Read a file that `write` or lsst.verify wrote; a bare NaN in it is read as null.

        Raises
        ------
        SquashClientError
            If it cannot be read or is not a job, with the file's name.
        """
        try:
            return cls.from_json(read_json(path))
        except ValueError as error:
            raise SquashClientError(f"{path}: {error}") from None

    def write(self, path: str | Path) -> None:
        """Write the job to a file that lsst.verify can read too."""
        # lsst.verify does not read a file without these two.
        document = {**self.to_json(), "metrics": [], "specs": []}
        text = json.dumps(document, indent=2, sort_keys=True, allow_nan=False)
        Path(path).write_text(text, encoding="ascii")

    def dispatch(
        self,
        *,
        api_user: str,
        api_password: str,
        api_url: str,
        timeout: float = 900.0,
        strict: bool = False,
        retries: int = 5,
    ) -> Reply:
        """Send the job; sending it again is safe, the service knows it by its identifiers.

        Raises
        ------
        SquashClientError
            If the service refuses it or cannot be reached.
        """
        with Squash(api_url, api_user, api_password, timeout=timeout, retries=retries) as squash:
            return squash.send(self, strict=strict)
