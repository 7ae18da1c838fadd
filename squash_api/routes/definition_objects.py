"""What the routes of definitions answer: metrics and specifications, and what changed, in JSON."""

from typing import Annotated, Any, Literal

from pydantic import BaseModel, Field, WithJsonSchema

from squash_api.judging.kinds.registry import KINDS
from squash_api.verify.derivation import REDUCERS


class Message(BaseModel):
    """A reply for people to read."""

    message: str


class Changed(Message):
    """The effect of a change to definitions."""

    requeued_jobs: int = Field(
        description="Number of jobs that are sent to InfluxDB again, because a unit changed, or "
        "how values are derived."
    )


class ChangedList(Changed):
    """The effect of posting a list of definitions."""

    stored: int
    unchanged: int = Field(
        description="Number of definitions that existed already, exactly the same."
    )


class ReductionObject(BaseModel):
    """How a metric's values are made from arrays in blobs."""

    by: str = Field(
        pattern=f"^({'|'.join(REDUCERS)}|p[0-9.]+)$",
        description=f"{', '.join(REDUCERS)}, or a percentile such as `p95`.",
    )
    blob: str = Field(description="The name of the blobs.")
    key: str = Field(description="The name of the array in them.")


class AggregationObject(BaseModel):
    """How a metric's values are made from another metric's in a run."""

    of: str = Field(description="The other metric.")
    over: list[str] = Field(description="Keys of metadata; of each combination, one value counts.")
    by: str = Field(description="As in `reduce`.")
    at_least: int = Field(default=1, description="With fewer values it is absent.")


class MetricObject(BaseModel):
    """A declared metric."""

    name: str
    package: str
    display_name: str
    description: str
    unit: str = Field(description="In astropy's spelling; empty if the metric is dimensionless.")
    tags: list[str]
    reference: dict[str, Any] = Field(description="`doc`, `page` and `url`; null if unknown.")
    missing: Literal["zero"] | None = Field(
        default=None, description="With `zero`, a value of 0 is absent. Absent if it is a value."
    )
    reduce: ReductionObject | None = Field(
        default=None,
        description="From which arrays in blobs the values are made. Absent if from none.",
    )
    aggregate: AggregationObject | None = Field(
        default=None,
        description="From which values of a run the values are made. Absent if from none.",
    )
    origin: Literal["api", "yaml"] = Field(
        description="A definition from YAML can only be changed there."
    )
    source: str | None = Field(description="File and line, if it is from YAML.")
    other_units: list[str] = Field(
        default=[],
        description="Units of values that do not convert to `unit`, which only a user has set. "
        "Absent if there are none.",
    )
    units_by: dict[str, str | None] = Field(
        default={}, description="For admins: the users who have set a unit, and which."
    )


class ChangedMetric(MetricObject, Changed):
    """A metric, and the effect of the change."""


class MetricWithLimits(ChangedMetric):
    """A metric and its limits, as simple clients have posted them, and the effect of that."""

    limits: list[dict[str, Any]] = Field(description="The specifications that were posted.")
    withdrawn: list[str] = Field(description="Names of specifications that were withdrawn.")
    notes: list[str] = Field(description="How values are compared, and what was not done.")


class MetricPage(BaseModel):
    """A page of metrics."""

    metrics: list[MetricObject]
    next: str | None = Field(description="URL of the next page.")


def _key_of(kind: str) -> Any:
    """Return the type of the key of a kind, in a definition."""
    return Annotated[dict[str, Any], WithJsonSchema(dict(*KINDS[kind].SCHEMA.values()))] | None


class SpecObject(BaseModel):
    """A specification in force, with the key of its type; `alert` and `expect` if it has them."""

    name: str
    metric: str
    threshold: _key_of("threshold") = None  # type: ignore[valid-type]  # as the kind reads it
    range: _key_of("range") = None  # type: ignore[valid-type]
    trend: _key_of("trend") = None  # type: ignore[valid-type]
    compound: _key_of("compound") = None  # type: ignore[valid-type]
    tags: list[str]
    metadata_query: dict[str, Any] = Field(
        description='What a job\'s metadata must be: values, `{">=": 1}`, or `{"in": [1, 2]}`.'
    )
    type: Literal["threshold", "range", "trend", "compound"]
    alert: dict[str, Any] | None = None
    expect: dict[str, Any] | None = None
    origin: Literal["api", "yaml"] = Field(
        description="A definition from YAML can only be changed there."
    )
    source: str | None = Field(description="File and line, if it is from YAML.")


class ChangedSpec(SpecObject, Changed):
    """A specification, and the effect of the change."""


class SpecPage(BaseModel):
    """A page of specifications."""

    specs: list[SpecObject]
    next: str | None = Field(description="URL of the next page.")
