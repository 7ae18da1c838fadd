"""Specifications: the limits that metrics are judged by."""

from typing import Annotated, Any, Literal

from fastapi import APIRouter, Query, Request, Response
from pydantic import BaseModel, Field

from squash_api.definitions.in_force import Defined
from squash_api.judging.kinds.registry import KEYS, KINDS
from squash_api.judging.kinds.threshold import Operator
from squash_api.judging.specifications import Specification
from squash_api.routes.definitions import (
    Changed,
    ChangedList,
    Message,
    body_of,
    changed_list,
    changed_one,
    list_of,
    same_again,
)
from squash_api.routes.dependencies import AccountDep, JsonObjectDep, PageDep, SiteDep, next_link
from squash_api.routes.replies import errors_of, json_reply

router = APIRouter(tags=["specifications"])


class Threshold(BaseModel):
    """A limit; a value passes if `value operator threshold` holds."""

    value: float
    unit: str
    operator: Operator


class SpecObject(BaseModel):
    """A specification in force. `alert` and `expect` are there if the definition has them."""

    name: str
    metric: str
    threshold: Threshold
    tags: list[str]
    metadata_query: dict[str, Any] = Field(description="What a job's metadata must say.")
    type: str
    alert: dict[str, Any] | None = None
    expect: dict[str, Any] | None = None
    origin: Literal["api", "yaml"] = Field(description="What is from YAML is changed there only.")
    source: str | None = Field(description="File and line, for YAML.")


class ChangedSpec(SpecObject, Changed):
    """A specification, and what its change has done."""


class SpecPage(BaseModel):
    """A page of specifications."""

    specs: list[SpecObject]
    next: str | None = Field(description="URL of the next page.")


# Those that every kind of specification has.
_REQUIRED = [key for key in KEYS if all(key in kind.SCHEMA for kind in KINDS.values())]
_SPEC_SCHEMA: dict[str, Any] = {
    "type": "object",
    "properties": {
        **KEYS,
        "tags": {"type": "array", "items": {"type": "string"}},
        "metadata_query": {"type": "object"},
        "alert": {"type": "object"},
        "expect": {"type": "object"},
    },
    "required": _REQUIRED,
}
_NAMED_SCHEMA = {
    **_SPEC_SCHEMA,
    "properties": {"name": {"type": "string"}, **_SPEC_SCHEMA["properties"]},
    "required": ["name", *_REQUIRED],
}
_LIST_SCHEMA = {
    "type": "object",
    "properties": {"specs": {"type": "array", "items": _NAMED_SCHEMA}},
    "required": ["specs"],
}


@router.get("/specs", response_model=SpecPage, responses=errors_of(422))
def get_specs(
    request: Request,
    site: SiteDep,
    page: PageDep,
    *,
    metric: Annotated[str | None, Query(description="Only those of this metric.")] = None,
    dataset_name: Annotated[
        str | None, Query(description="Only those whose query asks for this dataset.")
    ] = None,
    filter_name: Annotated[
        str | None, Query(description="Only those whose query asks for this filter.")
    ] = None,
    tag: Annotated[str | None, Query(description="Only those with this tag.")] = None,
) -> Response:
    """List the specifications in force, in the order of their names."""
    found = site.definitions.list_specs(
        metric=metric,
        dataset_name=dataset_name,
        filter_name=filter_name,
        tag=tag,
        after=page.after,
        limit=page.limit + 1,
    )
    shown = found[: page.limit]
    link = None
    if len(found) > page.limit:
        link = next_link(request, site, after=shown[-1].content.name)
    return json_reply({"specs": [_spec_object(defined) for defined in shown], "next": link})


@router.post(
    "/specs",
    status_code=201,
    response_model=ChangedList,
    responses={**same_again(ChangedList), **errors_of(400, 401, 409, 413, 415, 422)},
    openapi_extra=body_of(_LIST_SCHEMA),
)
def post_specs(site: SiteDep, account: AccountDep, document: JsonObjectDep) -> Response:
    """Define specifications, all or none.

    Each is named `package.metric.name`, after a declared metric. Those that exist so already are
    left alone; if all do, the reply is 200. Jobs are judged by what was in force when they came.
    """
    change = site.definitions.post_specs(list_of(document, "specs"), account)
    return json_reply(
        changed_list(change, noun="specification"), status_code=201 if change.stored else 200
    )


@router.get("/spec/{name}", response_model=SpecObject, responses=errors_of(404))
def get_spec(name: str, site: SiteDep) -> Response:
    """Return a specification in force."""
    return json_reply(_spec_object(site.definitions.get_spec(name)))


@router.post(
    "/spec/{name}",
    status_code=201,
    response_model=ChangedSpec,
    responses={**same_again(ChangedSpec), **errors_of(400, 401, 404, 409, 413, 415, 422)},
    openapi_extra=body_of(_SPEC_SCHEMA),
)
def post_spec(name: str, site: SiteDep, account: AccountDep, document: JsonObjectDep) -> Response:
    """Define a specification, named `package.metric.name` after a declared metric.

    If it exists so already the reply is 200; if it exists with another definition, 400: use PUT.
    """
    change = site.definitions.post_spec(name, document, account)
    return json_reply(
        {
            **_spec_object(site.definitions.get_spec(name)),
            **changed_one(change, name=name, verb="created"),
        },
        status_code=201 if change.stored else 200,
    )


@router.put(
    "/spec/{name}",
    response_model=ChangedSpec,
    responses=errors_of(400, 401, 403, 404, 409, 413, 415, 422),
    openapi_extra=body_of(_SPEC_SCHEMA),
)
def put_spec(name: str, site: SiteDep, account: AccountDep, document: JsonObjectDep) -> Response:
    """Replace the whole definition of a specification. For its owner and admins.

    What the body leaves out is left out. Jobs that came before are judged as before, unless
    `?specs=now` asks otherwise.
    """
    change = site.definitions.put_spec(name, document, account)
    return json_reply(
        {
            **_spec_object(site.definitions.get_spec(name)),
            **changed_one(change, name=name, verb="changed"),
        }
    )


@router.delete("/spec/{name}", response_model=Message, responses=errors_of(401, 403, 404, 409))
def delete_spec(name: str, site: SiteDep, account: AccountDep) -> Response:
    """Take a specification out of force. For its owner and admins."""
    site.definitions.delete_spec(name, account)
    return json_reply({"message": f"`{name}` deleted."})


def _spec_object(defined: Defined[Specification]) -> dict[str, Any]:
    content = defined.content
    return {
        **content.to_json(),
        "metric": content.metric,
        "origin": defined.origin,
        "source": defined.source,
    }
