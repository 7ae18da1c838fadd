"""A `MetricValue`, one measurement of lsst.verify in YAML as the butler keeps it.

Source: lsst/verify, `yamlpersistance.py`.
"""

from collections.abc import Mapping
from typing import Any

from squash_api.wires.bundle import package_of_dataset_type, run_date
from squash_api.wires.data_id import data_id_metadata

TAGS = ("lsst.verify.Measurement", "lsst.verify.Blob", "lsst.verify.Datum")
"""The tags of such files; what they mark is a plain mapping here, and no other tag is known."""

_OWN = ("metric", "identifier", "value", "unit")


def is_metric_value(document: Any) -> bool:
    """Tell a measurement by itself from other documents."""
    return (
        isinstance(document, Mapping)
        and {"metric", "value"} <= document.keys()
        and "measurements" not in document
    )


def metric_value_parts(document: Mapping[str, Any], data_id: Mapping[str, str]) -> dict[str, Any]:
    """Turn a measurement into the parts of a job; its time is in `env.date` if it is known.

    A bare name of a metric gets the package of the dataset type `metricvalue_<package>_<metric>`.
    Data in a document of YAML may still be dates, or not finite.

    Raises
    ------
    TypeError
        If it is not a measurement.
    """
    metric = document["metric"]
    if not isinstance(metric, str) or not metric:
        raise TypeError("metric is not text")
    package = package_of_dataset_type(data_id.get("dataset_type", ""), metric)
    name = metric if "." in metric or package is None else f"{package}.{metric}"
    notes, blobs = document.get("notes") or {}, document.get("blobs") or []
    if not isinstance(notes, Mapping):
        raise TypeError("notes is not a mapping")
    if not isinstance(blobs, list) or not all(isinstance(blob, Mapping) for blob in blobs):
        raise TypeError("blobs is not a list of blobs")
    # lsst.verify's jobs leave out empty extras too.
    blobs = [
        {**blob, "identifier": _text(blob.get("identifier"))}
        for blob in blobs
        if blob.get("data") or blob.get("name") != metric
    ]
    measurement = {
        **{key: document.get(key) for key in _OWN},
        "metric": name,
        "identifier": _text(document.get("identifier")),
        "value": _number(document["value"]),
        "blob_refs": document.get("blob_refs") or [blob["identifier"] for blob in blobs],
    }
    meta = {
        **{_note_key(str(key), name): note for key, note in notes.items()},
        **data_id_metadata(data_id, date=run_date(data_id.get("run", ""))),
    }
    return {"measurements": [measurement], "blobs": blobs, "meta": meta}


def _note_key(key: str, metric: str) -> str:
    return key if key.startswith(f"{metric}.") else f"{metric}.{key}"


def _text(identifier: Any) -> Any:
    """Return an identifier as text; YAML reads one of digits alone as a number."""
    return str(identifier) if isinstance(identifier, int) else identifier


def _number(value: Any) -> Any:
    """Read text such as 1e-6, which YAML 1.1 does not take for a number."""
    if not isinstance(value, str):
        return value
    try:
        return float(value)
    except ValueError:
        return value
