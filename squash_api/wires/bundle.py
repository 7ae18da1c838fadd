"""analysis_tools' `MetricMeasurementBundle` as the butler keeps it: the parts of a job.

Source: lsst/analysis_tools, `interfaces/_metricMeasurementBundle.py` and
`interfaces/datastore/_dispatcher.py`. Unlike what the dispatcher sends, the file has units and
nulls; it lacks the data id, which `squash_api.wires.data_id` has.
"""

import re
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from squash_api.wires.data_id import data_id_metadata

_PREFIX = "__"
_NAMES = {
    "__dataset_identifier": "dataset_tag",
    "__reference_package": "reference_package",
}
_NOT_METADATA = frozenset({"__metricNamePrefix", "__timestamp_version"})
_METRIC_VALUE = "metricvalue_"
_STAMP = "%Y%m%dT%H%M%S%z"
_EXPLICIT = "explicit_timestamp:"


def is_bundle(document: Any) -> bool:
    """Tell a bundle from other JSON: it has keys of its own, or is lists of measurements alone.

    An older one has no such keys.
    """
    if not isinstance(document, Mapping):
        return False
    if any(key in _NOT_METADATA or key in _NAMES for key in document):
        return True
    lists = list(document.values())
    return any(lists) and all(
        isinstance(items, list) and all(map(_is_measurement, items)) for items in lists
    )


def _is_measurement(item: Any) -> bool:
    return isinstance(item, Mapping) and "metric" in item


def bundle_parts(document: Mapping[str, Any], data_id: Mapping[str, str]) -> dict[str, Any]:
    """Turn a bundle into the parts of a job; its time is in `env.date` if it is known.

    Parameters
    ----------
    document
        What `is_bundle` is true of.
    data_id
        By the names of `squash_api.wires.data_id.KEYS`.

    Raises
    ------
    TypeError
        If something in it is no measurement.
    ValueError
        If its `__` keys cannot be understood.
    """
    prefix = document.get("__metricNamePrefix") or ""
    actions = {key: items for key, items in document.items() if not key.startswith(_PREFIX)}
    for action, items in actions.items():
        if not isinstance(items, list):
            raise TypeError(f"not a bundle: {action} is not a list of measurements")
        wrong = [index for index, item in enumerate(items) if not _is_measurement(item)]
        if wrong:
            raise TypeError(f"not a bundle: {action}[{wrong[0]}] is not a measurement")
    measurements = [
        {**item, "metric": metric_name(f"{prefix}{action}", item["metric"], data_id)}
        for action, items in actions.items()
        for item in items
    ]
    own = {
        _NAMES.get(key, key.removeprefix(_PREFIX)): value
        for key, value in document.items()
        if key.startswith(_PREFIX) and key not in _NOT_METADATA
    }
    date = _date(document.get("__timestamp_version"), data_id.get("run", ""))
    return {
        "measurements": measurements,
        "blobs": [],
        "meta": data_id_metadata({**own, **data_id}, date=date),
    }


def metric_name(topic: str, metric: Any, data_id: Mapping[str, Any]) -> Any:
    """Return the full name of a metric of a topic, which is its namespace's name for an action.

    The package is the topic, or that of the dataset type `metricvalue_<package>_<metric>`.
    """
    if not isinstance(metric, str) or "." in metric:
        return metric
    return f"{package_of_dataset_type(data_id.get('dataset_type'), metric) or topic}.{metric}"


def package_of_dataset_type(dataset_type: Any, metric: str) -> str | None:
    """Return the package that a dataset type `metricvalue_<package>_<metric>` names, or None."""
    if not isinstance(dataset_type, str):
        return None
    inner = dataset_type.removeprefix(_METRIC_VALUE).removesuffix(f"_{metric}")
    is_named = dataset_type == f"{_METRIC_VALUE}{inner}_{metric}" and inner
    return inner if is_named else None


def run_date(run: str) -> str | None:
    """Return the time in the name of a run, `.../20260515T031245Z`, as ISO 8601; None if none."""
    stamp = run.rpartition("/")[2]
    if not re.match(r"\d{8}T\d{6}Z\Z", stamp):
        return None
    try:
        return datetime.strptime(stamp, _STAMP).astimezone(UTC).isoformat()
    except ValueError:
        return None


def _date(version: Any, run: str) -> str | None:
    """Return the time that the dispatcher would send, as far as the file tells."""
    if not isinstance(version, str) or _EXPLICIT not in version:
        return run_date(run)
    text = version.partition(_EXPLICIT)[2]
    try:
        return datetime.strptime(text, _STAMP).astimezone(UTC).isoformat()
    except ValueError:
        raise ValueError(
            f"__timestamp_version: {version!r} is not {_EXPLICIT}YYYYMMDDTHHMMSSZ"
        ) from None
