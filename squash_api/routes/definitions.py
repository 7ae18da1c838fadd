"""Definitions: the metrics that are measured, and the specifications that they are judged by.

Both kinds have the same routes but for their lists, so they are made from a table of two lines.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from inspect import cleandoc
from typing import Annotated, Any
from urllib.parse import quote

from fastapi import APIRouter, Query, Request, Response

from squash_api.accounts.accounts import Account
from squash_api.definitions.changes import NOUNS, Change
from squash_api.definitions.in_force import Defined
from squash_api.errors import MOST_PLACES, NotFoundError, sentence
from squash_api.judging.kinds.registry import KEYS, KINDS
from squash_api.judging.simple_metric import LIMIT_KEYS, SimpleMetric, limits_text
from squash_api.judging.specifications import Specification
from squash_api.judging.wording import counted
from squash_api.record.definitions import Kind
from squash_api.record.metrics import other_units
from squash_api.record.users import get_user
from squash_api.routes.dependencies import (
    AccountDep,
    JsonObjectDep,
    ObjectOrFormDep,
    PageDep,
    SiteDep,
    ViewerDep,
    body_of,
    object_schema,
    paged_reply,
    required,
    wrong_value,
)
from squash_api.routes.parameters import KnownParametersRoute
from squash_api.routes.replies import errors_of, json_reply
from squash_api.site import Site

metrics_router = APIRouter(tags=["metrics"], route_class=KnownParametersRoute)
specifications_router = APIRouter(tags=["specifications"], route_class=KnownParametersRoute)


@metrics_router.get("/metrics", responses=errors_of(422))
def get_metrics(
    request: Request,
    site: SiteDep,
    page: PageDep,
    *,
    package: Annotated[str | None, Query(description="Only metrics of this package.")] = None,
) -> Response:
    """List the declared metrics, sorted by name."""
    found = site.definitions.list_metrics(package=package, after=page.after, limit=page.limit + 1)
    return paged_reply(request, page, "metrics", found, cursor=_name_of, show=_shown)


_NUMBER = {"type": ["number", "string", "null"]}
_SIMPLE_PROPERTIES: dict[str, Any] = {
    "metric": {"type": "string", "description": "Or `name`."},
    "description": {"type": "string"},
    "units": {"type": "string", "description": "Or `unit`."},
    "condition": {"type": "string", "description": "How values compare with the limits."},
    **dict.fromkeys(LIMIT_KEYS, _NUMBER),
}


@metrics_router.post(
    "/metric",
    status_code=201,
    responses={
        200: {
            "description": "The same definitions existed already.",
            "content": {"application/json": {"schema": {}}},
        },
        **errors_of(400, 401, 403, 409, 413, 415, 422, 429),
    },
    openapi_extra=body_of(
        object_schema(_SIMPLE_PROPERTIES),
        {
            "metric": "PA1",
            "description": "Photometric Repeatability",
            "units": "millimag",
            "minimum": 8,
            "design": 5,
            "stretch": 3,
        },
        form=object_schema(_SIMPLE_PROPERTIES),
        form_example={"metric": "PA2", "description": "Outlier cut", "units": "mmag"},
    ),
)
def post_metric_with_limits(
    site: SiteDep, account: AccountDep, document: ObjectOrFormDep
) -> Response:
    """Declare a metric with its limits, as simple clients post it, or change what was declared.

    The body is JSON or a form. A metric without package belongs to `SQUASH_DEFAULT_PACKAGE`. The
    limits `minimum`, `design`, `stretch`, `user` and `threshold` become specifications; null
    withdraws one, and what is not named stays as it is. Without `condition` the order of the levels
    tells whether smaller or larger values are better, and the reply says which. Only the owner of a
    definition and admins may change it.
    """
    package = site.settings.default_package
    found, change = site.definitions.put_with_limits(document, account, package=package)
    site.wake()
    limits = [site.definitions.get("spec", item["name"]) for item in found.limits.values()]
    return json_reply(
        {
            **_shown(site.definitions.get("metric", found.name)),
            "limits": [_shown(item) for item in limits],
            "withdrawn": change.withdrawn,
            "notes": found.notes,
            "message": _said_of(found, change),
            "requeued_jobs": change.requeued_jobs,
        },
        status_code=201 if change.stored or change.withdrawn else 200,
    )


def _said_of(found: SimpleMetric, change: Change) -> str:
    """Say what has become of a metric and its limits, and how values are compared."""
    names = [*change.stored, *(f"{name} (withdrawn)" for name in change.withdrawn)]
    done = f"stored: {', '.join(names)}" if names else "already had this definition"
    must = f"values must be {limits_text(found.limits)}" if found.limits else ""
    said = [f"`{found.name}` {done}", *([must] if must else []), *found.notes]
    return " ".join([sentence("; ".join(said)), *_consequences(change)])


@specifications_router.get("/specs", responses=errors_of(422))
def get_specs(
    request: Request,
    site: SiteDep,
    page: PageDep,
    *,
    metric: Annotated[str | None, Query(description="Only specifications of this metric.")] = None,
    dataset_name: Annotated[
        str | None,
        Query(description="Only specifications whose `metadata_query` names this dataset."),
    ] = None,
    filter_name: Annotated[
        str | None,
        Query(description="Only specifications whose `metadata_query` names this filter."),
    ] = None,
    tag: Annotated[str | None, Query(description="Only specifications with this tag.")] = None,
) -> Response:
    """List the specifications in force, sorted by name."""
    found = site.definitions.list_specs(
        metric=metric,
        dataset_name=dataset_name,
        filter_name=filter_name,
        tag=tag,
        after=page.after,
        limit=page.limit + 1,
    )
    return paged_reply(request, page, "specs", found, cursor=_name_of, show=_shown)


@dataclass(frozen=True, slots=True)
class _Routes:
    """What differs between the routes of metrics and those of specifications."""

    kind: Kind
    router: APIRouter
    properties: dict[str, Any]
    """JSON schemas of the keys of a definition."""
    needs: tuple[str, ...]
    """Keys that one definition must have."""
    needs_in_list: tuple[str, ...]
    post_errors: tuple[int, ...]
    named: str
    example: dict[str, Any]


_SAME_AGAIN: dict[int | str, dict[str, Any]] = {
    200: {
        "description": "The same definition existed already.",
        "content": {"application/json": {"schema": {}}},
    }
}
# Of a mapping the keys are taken: in YAML that is a set.
_STRINGS = {"type": ["array", "string", "object"], "items": {"type": "string"}}
_TABLE = (
    _Routes(
        "metric",
        metrics_router,
        {
            "description": {"type": "string"},
            "unit": {"type": "string"},
            "tags": _STRINGS,
            "reference": {"type": "object"},
            "display_name": {"type": "string"},
            "missing": {"enum": ["zero"]},
            "reduce": {"type": ["string", "object"]},
            "aggregate": {"type": "object"},
        },
        needs=("description",),
        needs_in_list=("name",),
        post_errors=(400, 401, 409, 413, 415, 422, 429),
        named="camera.Pressure",
        example={"description": "Pressure in the camera.", "unit": "mbar", "tags": ["camera"]},
    ),
    _Routes(
        "spec",
        specifications_router,
        {
            "type": {"type": "string", "enum": [*KINDS]},
            **KEYS,
            "tags": _STRINGS,
            # As in lsst.verify, whatever is empty asks for nothing.
            "metadata_query": {"description": "An object: the metadata that a job must have."},
            "alert": {"type": "object"},
            "expect": {"type": "object"},
        },
        needs=(),
        needs_in_list=("name",),
        post_errors=(400, 401, 404, 409, 413, 415, 422, 429),
        named="camera.Pressure.minimum",
        example={
            "threshold": {"operator": "<=", "value": 1.5, "unit": "mbar"},
            "tags": ["minimum"],
            "metadata_query": {"instrument": "LSSTCam"},
        },
    ),
)
# The texts of the OpenAPI document, by operation.
_TEXTS = {
    "post_metrics": """Declare metrics, all or none.

    Metrics that exist with the same definition stay as they are; if all do, the status is 200. If a
    metric was measured before it was declared, its jobs are sent to InfluxDB again, since their
    unit may have been another.
    """,
    "get_metric": """Return a declared metric.

    For one that is only measured, the 404 says where its values are.
    """,
    "post_metric": """Declare a metric, named `package.metric`. `description` is required.

    Without `unit` the metric is dimensionless. If it exists with the same definition the status is
    200; with another definition it is 400, and PUT changes it.
    """,
    "put_metric": """Replace the whole definition of a metric.

    Only its owner and admins may do this. Anything missing from the body is removed: without `unit`
    the metric becomes dimensionless, and without `tags` it has none. You can send what GET returns,
    with your changes; keys that do not belong to a definition are ignored. If the unit changes, the
    jobs that measure the metric are sent to InfluxDB again. A unit is refused if a limit on the
    metric does not convert to it.
    """,
    "delete_metric": """Withdraw a metric. Only its owner and admins may do this.

    Its measurements and specifications stay. New values are converted to its last unit.
    """,
    "post_specs": """Define specifications, all or none.

    Each is named `package.metric.name`, after a declared metric. It has the key of its type, which
    is `threshold` if it names none. Specifications that exist with the
    same definition stay as they are; if all do, the status is 200. A job is judged by the
    specifications that were in force when it was received.
    """,
    "get_spec": """Return a specification in force.""",
    "post_spec": """Define a specification, named `package.metric.name` after a declared metric.

    It has the key of its type. If it exists with the same definition the status is 200; with
    another definition it is 400, and PUT changes it.
    """,
    "put_spec": """Replace the whole definition of a specification.

    Only its owner and admins may do this. Anything missing from the body is removed. Jobs received
    earlier are still judged by the old definition, unless a request has `?specs=now`.
    """,
    "delete_spec": """Withdraw a specification. Only its owner and admins may do this.""",
}


def _or_null(table: _Routes) -> dict[str, Any]:
    """Return the schemas of the keys of a definition, where null is as good as nothing."""
    return {
        key: schema if key in table.needs else {"anyOf": [schema, {"type": "null"}]}
        for key, schema in table.properties.items()
    }


def _add_routes(table: _Routes) -> None:
    kind = table.kind
    key = f"{kind}s"
    properties = _or_null(table)
    each = object_schema({"name": {"type": "string"}, **properties}, *table.needs_in_list)
    list_body = body_of(
        object_schema({key: {"type": "array", "items": each}}, key),
        {key: [{"name": table.named, **table.example}]},
    )
    one_body = body_of(object_schema(properties, *table.needs), table.example)
    _add(
        table,
        _post_list,
        f"post_{key}",
        f"/{key}",
        status_code=201,
        responses={**_SAME_AGAIN, **errors_of(400, 401, 409, 413, 415, 422, 429)},
        openapi_extra=list_body,
    )
    add = partial(_add, table, path=f"/{kind}/{{name}}")
    add(_get, f"get_{kind}", responses=errors_of(404))
    add(
        _post,
        f"post_{kind}",
        status_code=201,
        responses={**_SAME_AGAIN, **errors_of(*table.post_errors)},
        openapi_extra=one_body,
    )
    add(
        _put,
        f"put_{kind}",
        responses=errors_of(400, 401, 403, 404, 409, 413, 415, 422),
        openapi_extra=one_body,
    )
    errors = errors_of(401, 403, 404, 409)
    add(_delete, f"delete_{kind}", responses=errors)


def _add(
    table: _Routes, answer: Callable[..., Response], name: str, path: str, **options: Any
) -> None:
    table.router.add_api_route(
        path,
        partial(answer, table.kind),
        methods=[name.partition("_")[0].upper()],
        name=name,
        description=cleandoc(_TEXTS[name]),
        **options,
    )


def _post_list(kind: Kind, site: SiteDep, account: AccountDep, document: JsonObjectDep) -> Response:
    documents = required(document, f"{kind}s")
    if not isinstance(documents, list):
        raise wrong_value(f"{kind}s", "must be a list", "list_type")
    change = site.definitions.post(kind, documents, account)
    site.wake()
    return json_reply(
        changed_list(change, noun=NOUNS[kind]), status_code=201 if change.stored else 200
    )


def _get(kind: Kind, name: str, site: SiteDep, viewer: ViewerDep) -> Response:
    try:
        found = site.definitions.get(kind, name)
    except NotFoundError:
        site.reader.catch_up()
        entry = site.board.entry(name) if kind == "metric" else None
        if entry is None or not entry.rows:
            raise
        # Search, the standings and the metric's page have it.
        where = f"/measurements?metric={quote(name, safe='')}"
        message = f"`{name}` is measured, but not declared; its values are at `{where}`."
        raise NotFoundError(message) from None
    return json_reply(_shown(found) | _units(site, name, viewer))


def _post(
    kind: Kind, name: str, site: SiteDep, account: AccountDep, document: JsonObjectDep
) -> Response:
    if kind == "metric":
        required(document, "description")
    change = site.definitions.post_one(kind, name, document, account)
    site.wake()
    shown = _shown(site.definitions.get(kind, name))
    return json_reply(
        {**shown, **changed_one(change, name=name, verb="created")},
        status_code=201 if change.stored else 200,
    )


def _put(
    kind: Kind, name: str, site: SiteDep, account: AccountDep, document: JsonObjectDep
) -> Response:
    if kind == "metric":
        required(document, "description")
    change = site.definitions.put(kind, name, document, account)
    site.wake()
    shown = _shown(site.definitions.get(kind, name))
    return json_reply({**shown, **changed_one(change, name=name, verb="changed")})


def _delete(kind: Kind, name: str, site: SiteDep, account: AccountDep) -> Response:
    site.definitions.delete(kind, name, account)
    rest = "; its measurements and specifications stay" if kind == "metric" else ""
    return json_reply({"message": f"`{name}` deleted{rest}."})


def changed_list(change: Change, *, noun: str) -> dict[str, Any]:
    """Make the reply to a posted list."""
    sentences = []
    if change.stored or not change.unchanged:
        sentences.append(f"{counted(len(change.stored), noun)} created.")
    if change.unchanged:
        existing = counted(change.unchanged, noun)
        sentences.append(f"{existing} already existed with the same definition.")
    return {
        "message": " ".join([*sentences, *_consequences(change)]),
        "stored": len(change.stored),
        "unchanged": change.unchanged,
        "requeued_jobs": change.requeued_jobs,
    }


def changed_one(change: Change, *, name: str, verb: str) -> dict[str, Any]:
    """Make the part of the reply to one definition that says what was done."""
    done = f"`{name}` {verb}." if change.stored else f"`{name}` already had this definition."
    return {
        "message": " ".join([done, *_consequences(change)]),
        "requeued_jobs": change.requeued_jobs,
    }


def _consequences(change: Change) -> list[str]:
    if not change.requeued_jobs:
        return []
    jobs = counted(change.requeued_jobs, "job")
    more = len(change.notes) - MOST_PLACES
    others = [f"So for {counted(more, 'other metric')}."] if more > 0 else []
    return [
        f"Derived again, and sent to InfluxDB again: {jobs}.",
        *change.notes[:MOST_PLACES],
        *others,
    ]


def _units(site: Site, name: str, viewer: Account | None) -> dict[str, Any]:
    """Return the units of values that do not convert to that of the metric, if there are any.

    Admins also see whose each unit is.
    """
    found: dict[str, Any] = {}
    if others := other_units(site.metrics, name):
        found["other_units"] = others[:MOST_PLACES]
    known = site.metrics.now.by_name.get(name)
    if known is None or viewer is None or not viewer.is_admin:
        return found
    owners = [(known.unit_by, known.unit), *known.own_units][:MOST_PLACES]
    with site.reader.view() as view:
        users = {
            user_id: view.ask(get_user, user_id) for user_id, _ in owners if user_id is not None
        }
    units = {user.name: unit for item, unit in owners if item and (user := users.get(item))}
    return found | {"units_by": units}


def _name_of(defined: Defined[Any]) -> str:
    return str(defined.content.name)


def _shown(defined: Defined[Any]) -> dict[str, Any]:
    content = defined.content
    metric = {"metric": content.metric} if isinstance(content, Specification) else {}
    return {**content.to_json(), **metric, "origin": defined.origin, "source": defined.source}


for _routes in _TABLE:
    _add_routes(_routes)
