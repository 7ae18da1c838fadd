"""What the routes of definitions answer: metrics and specifications, and what changed, in JSON.

They are types for the OpenAPI document alone, as those in `answer_objects.py`.
"""

from typing import Annotated, Any, Literal, NotRequired, TypedDict

import msgspec

from squash_api.judging.kinds.registry import KINDS
from squash_api.routes.answer_objects import Message
from squash_api.verify.derivation import REDUCERS


def _key_of(kind: str) -> Any:
    """Return the type of the key of a kind, in a definition."""
    (schema,) = KINDS[kind].SCHEMA.values()
    return Annotated[dict[str, Any], msgspec.Meta(extra_json_schema=dict(schema))]


class Changed(Message):
    """The effect of a change to definitions."""

    requeued_jobs: int
    """Number of jobs that are sent to InfluxDB again, because a unit changed, or how values are
    derived.
    """


class ChangedList(Changed):
    """The effect of posting a list of definitions."""

    stored: int
    """Number of definitions that were stored."""
    unchanged: int
    """Number of definitions that existed already, exactly the same."""


class ReductionObject(TypedDict):
    """How a metric's values are made from arrays in blobs."""

    by: Annotated[str, msgspec.Meta(pattern=f"^({'|'.join(REDUCERS)}|p[0-9.]+)$")]
    """The rule: a word, or a percentile such as `p95`."""
    blob: str
    """The name of the blobs."""
    key: str
    """The name of the array in them."""


class AggregationObject(TypedDict):
    """How a metric's values are made from another metric's in a run."""

    of: str
    """The other metric."""
    over: list[str]
    """Keys of metadata; of each combination, one value counts."""
    by: str
    """As in `reduce`."""
    at_least: NotRequired[int]
    """With fewer values it is absent; 1 if this is."""


class MetricObject(TypedDict):
    """A declared metric."""

    name: str
    """Its full name."""
    package: str
    """Its verification package."""
    display_name: str
    """Its name without the package."""
    description: str
    """What it measures."""
    unit: str
    """In astropy's spelling; empty if the metric is dimensionless."""
    tags: list[str]
    """Words to find it by."""
    reference: dict[str, Any]
    """`doc`, `page` and `url`; null if unknown."""
    missing: NotRequired[Literal["zero"]]
    """With `zero`, a value of 0 is absent. Absent if it is a value."""
    reduce: NotRequired[ReductionObject]
    """From which arrays in blobs the values are made. Absent if from none."""
    aggregate: NotRequired[AggregationObject]
    """From which values of a run the values are made. Absent if from none."""
    origin: Literal["api", "yaml"]
    """A definition from YAML can only be changed there."""
    source: str | None
    """File and line, if it is from YAML."""
    other_units: NotRequired[list[str]]
    """Units of values that do not convert to `unit`, which only a user has set. Absent if there are
    none.
    """
    units_by: NotRequired[dict[str, str | None]]
    """For admins: the users who have set a unit, and which."""


class ChangedMetric(MetricObject, Changed):
    """A metric, and the effect of the change."""


class SpecObject(TypedDict):
    """A specification in force, with the key of its type; `alert` and `expect` if it has them."""

    name: str
    """Its full name."""
    metric: str
    """The metric that it is of."""
    threshold: NotRequired[_key_of("threshold")]  # type: ignore[valid-type]  # as the kind reads it
    """The limit, if it is a threshold."""
    range: NotRequired[_key_of("range")]  # type: ignore[valid-type]
    """The limit, if it is a range."""
    trend: NotRequired[_key_of("trend")]  # type: ignore[valid-type]
    """The limit, if it follows from the values before."""
    compound: NotRequired[_key_of("compound")]  # type: ignore[valid-type]
    """The limit, if it counts other specifications that are broken."""
    tags: list[str]
    """Words to find it by; those of levels give its level."""
    metadata_query: dict[str, Any]
    """What a job's metadata must be: values, `{">=": 1}`, or `{"in": [1, 2]}`."""
    type: Literal["threshold", "range", "trend", "compound"]
    """Which of the four it is."""
    alert: NotRequired[dict[str, Any]]
    """How its alerts are sent."""
    expect: NotRequired[dict[str, Any]]
    """How often a value should arrive."""
    origin: Literal["api", "yaml"]
    """A definition from YAML can only be changed there."""
    source: str | None
    """File and line, if it is from YAML."""


class ChangedSpec(SpecObject, Changed):
    """A specification, and the effect of the change."""


class MetricWithLimits(ChangedMetric):
    """A metric and its limits, as simple clients have posted them, and the effect of that."""

    limits: list[SpecObject]
    """The specifications that were posted."""
    withdrawn: list[str]
    """Names of specifications that were withdrawn."""
    notes: list[str]
    """How values are compared, and what was not done."""
