"""Values that metrics have from arrays in the blobs of a job.

A job is read with them, as if its sender had measured them; so whatever reads a job's measurements
has them too. The record keeps only what was sent: they follow from that and from the definitions.
"""

from collections.abc import Mapping
from typing import Any

from squash_api.ingest.document import Job, Measured
from squash_api.schema.text import finite
from squash_api.verify.derivation import Reduction
from squash_api.verify.metrics import KnownMetric, Reductions
from squash_api.verify.units import UnitError, convert_all


class Reduced(Measured, gc=False):
    """A measurement that was made from an array, or why it cannot be."""

    fault: str | None = None


def with_reduced(job: Job, reductions: Reductions) -> Job:
    """Return a job with what metrics have from its blobs, after its own measurements.

    A measurement of the metric itself wins. Of blobs with the same name, the last with the array
    counts. A number alone is an array of one.
    """
    if not reductions:
        return job
    blobs = list(job.blobs_named(reductions))
    measured = {item.metric for item in job.measurements} if blobs else set()
    found: dict[str, Reduced] = {}
    for blob in blobs:
        data = blob.get("data")
        arrays: dict[str, Any] = data if isinstance(data, dict) else {}
        for name, metric in reductions[blob["name"]]:
            reduction = metric.derivation.reduction
            if reduction is not None and name not in measured and reduction.key in arrays:
                found[name] = _reduce(name, metric, reduction, arrays[reduction.key])
                identifier = blob.get("identifier")
                found[name].blob_refs = [identifier] if isinstance(identifier, str) else None
    return job.adding(list(found.values())) if found else job


def _reduce(name: str, metric: KnownMetric, reduction: Reduction, datum: Any) -> Reduced:
    """Reduce an array in the metric's unit, or else in its own, which is then a reason to skip."""
    value, unit = datum, None
    if isinstance(datum, Mapping) and "value" in datum:
        value, unit = datum["value"], datum.get("unit")
    numbers = _numbers_in(value)
    if numbers is None or not isinstance(unit, str | None):
        what = "is not an array of numbers" if numbers is None else "has a unit that is not text"
        return Reduced(name, fault=f"'{reduction.key}' of the blob '{reduction.blob}' {what}")
    target = metric.unit or ""
    if unit is not None and unit != target and reduction.by != "count":
        try:
            converted = convert_all(numbers, unit, target)
        except UnitError:
            converted = None
        if converted is None:
            return Reduced(name, reduction.of(numbers), unit)
        numbers = [number for number in converted if finite(number) is not None]
    return Reduced(name, reduction.of(numbers), target)


def _numbers_in(value: Any) -> list[float] | None:
    """Return the finite numbers of an array of any dimensions; None if it holds anything else."""
    waiting, numbers = [value], []
    while waiting:
        item = waiting.pop()
        if isinstance(item, list):
            waiting += item
        elif isinstance(item, int | float) and not isinstance(item, bool):
            number = finite(item)
            numbers += [] if number is None else [number]
        elif item is not None:
            return None
    return numbers
