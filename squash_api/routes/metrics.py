"""Metrics: what is measured, and in which unit."""

from typing import Annotated, Any, Literal

from fastapi import APIRouter, Query, Request, Response
from pydantic import BaseModel, Field

from squash_api.definitions.in_force import Defined
from squash_api.routes.definitions import (
    Changed,
    ChangedList,
    Message,
    body_of,
    changed_list,
    changed_one,
    list_of,
    require_key,
    same_again,
)
from squash_api.routes.dependencies import AccountDep, JsonObjectDep, PageDep, SiteDep, next_link
from squash_api.routes.replies import errors_of, json_reply
from squash_api.verify.metrics import Metric

router = APIRouter(tags=["metrics"])


class MetricObject(BaseModel):
    """A declared metric."""

    name: str
    package: str
    display_name: str
    description: str
    unit: str = Field(description="As astropy spells it; empty for a dimensionless metric.")
    tags: list[str]
    reference: dict[str, Any] = Field(description="`doc`, `page` and `url`; null where unknown.")
    origin: Literal["api", "yaml"] = Field(description="What is from YAML is changed there only.")
    source: str | None = Field(description="File and line, for YAML.")


class ChangedMetric(MetricObject, Changed):
    """A metric, and what its change has done."""


class MetricPage(BaseModel):
    """A page of metrics."""

    metrics: list[MetricObject]
    next: str | None = Field(description="URL of the next page.")


_METRIC_SCHEMA: dict[str, Any] = {
    "type": "object",
    "properties": {
        "description": {"type": "string"},
        "unit": {"type": "string"},
        "tags": {"type": "array", "items": {"type": "string"}},
        "reference": {"type": "object"},
        "display_name": {"type": "string"},
    },
}
_NAMED_SCHEMA = {
    **_METRIC_SCHEMA,
    "properties": {"name": {"type": "string"}, **_METRIC_SCHEMA["properties"]},
    "required": ["name"],
}
_LIST_SCHEMA = {
    "type": "object",
    "properties": {"metrics": {"type": "array", "items": _NAMED_SCHEMA}},
    "required": ["metrics"],
}
_ONE_BODY = body_of({**_METRIC_SCHEMA, "required": ["description"]})


@router.get("/metrics", response_model=MetricPage, responses=errors_of(422))
def get_metrics(
    request: Request,
    site: SiteDep,
    page: PageDep,
    *,
    package: Annotated[str | None, Query(description="Only metrics of this package.")] = None,
) -> Response:
    """List the declared metrics, in the order of their names."""
    found = site.definitions.list_metrics(package=package, after=page.after, limit=page.limit + 1)
    shown = found[: page.limit]
    link = None
    if len(found) > page.limit:
        link = next_link(request, site, after=shown[-1].content.name)
    return json_reply({"metrics": [_metric_object(defined) for defined in shown], "next": link})


@router.post(
    "/metrics",
    status_code=201,
    response_model=ChangedList,
    responses={**same_again(ChangedList), **errors_of(400, 401, 409, 413, 415, 422)},
    openapi_extra=body_of(_LIST_SCHEMA),
)
def post_metrics(site: SiteDep, account: AccountDep, document: JsonObjectDep) -> Response:
    """Declare metrics, all or none.

    Those that are declared so already are left alone; if all are, the reply is 200. A metric that
    was measured before it was declared, perhaps in another unit, has its jobs sent to InfluxDB
    again.
    """
    change = site.definitions.post("metric", list_of(document, "metrics"), account)
    site.background.wake()
    return json_reply(
        changed_list(change, noun="metric"), status_code=201 if change.stored else 200
    )


@router.get("/metric/{name}", response_model=MetricObject, responses=errors_of(404))
def get_metric(name: str, site: SiteDep) -> Response:
    """Return a declared metric."""
    return json_reply(_metric_object(site.definitions.get("metric", name)))


@router.post(
    "/metric/{name}",
    status_code=201,
    response_model=ChangedMetric,
    responses={**same_again(ChangedMetric), **errors_of(400, 401, 409, 413, 415, 422)},
    openapi_extra=_ONE_BODY,
)
def post_metric(name: str, site: SiteDep, account: AccountDep, document: JsonObjectDep) -> Response:
    """Declare a metric, named `package.metric`. `description` is required.

    Without `unit` it is dimensionless. If it is declared so already the reply is 200; if it is
    declared differently, 400: use PUT.
    """
    require_key(document, "description")
    change = site.definitions.post_one("metric", name, document, account)
    site.background.wake()
    return json_reply(
        {
            **_metric_object(site.definitions.get("metric", name)),
            **changed_one(change, name=name, verb="created"),
        },
        status_code=201 if change.stored else 200,
    )


@router.put(
    "/metric/{name}",
    response_model=ChangedMetric,
    responses=errors_of(400, 401, 403, 404, 409, 413, 415, 422),
    openapi_extra=_ONE_BODY,
)
def put_metric(name: str, site: SiteDep, account: AccountDep, document: JsonObjectDep) -> Response:
    """Replace the whole definition of a metric. For its owner and admins.

    What the body leaves out is left out: without `unit` the metric becomes dimensionless, without
    `tags` it has none. Send what GET returns, with your changes; keys that are none of a definition
    are ignored. With another unit, the jobs that measure the metric are sent to InfluxDB again; a
    unit that the limit of one of its specifications does not convert to is refused.
    """
    require_key(document, "description")
    change = site.definitions.put("metric", name, document, account)
    site.background.wake()
    return json_reply(
        {
            **_metric_object(site.definitions.get("metric", name)),
            **changed_one(change, name=name, verb="changed"),
        }
    )


@router.delete("/metric/{name}", response_model=Message, responses=errors_of(401, 403, 404, 409))
def delete_metric(name: str, site: SiteDep, account: AccountDep) -> Response:
    """Withdraw a metric. For its owner and admins.

    Its measurements and specifications stay, and new values are converted to its last unit.
    """
    site.definitions.delete("metric", name, account)
    return json_reply({"message": f"`{name}` deleted; its measurements and specifications stay."})


def _metric_object(defined: Defined[Metric]) -> dict[str, Any]:
    return {**defined.content.to_json(), "origin": defined.origin, "source": defined.source}
