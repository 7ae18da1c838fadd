"""Sasquatch's wire: what Rubin's pipelines ask of a Kafka REST proxy, and take for an answer.

What an answer does to the client decides here. An error at the first call (`/v3/clusters`) raises
KeyError in the pipeline, and one at the second (a topic) loses its record in silence; only an error
at the third (the records) is reported. So the first two are never refused, whoever asks, and touch
no record. Source: lsst/analysis_tools, `_dispatcher.py`.
"""

import asyncio
import re
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import replace
from functools import partial
from typing import Any

import orjson
from fastapi import APIRouter, Request, Response
from fastapi.responses import PlainTextResponse
from starlette.concurrency import run_in_threadpool
from starlette.types import Scope

from squash_api.accounts.anonymous import has_none
from squash_api.errors import SquashError
from squash_api.ingest.ingest import SMALL_BYTES, WIRES, Ingested
from squash_api.record.jobs import Received
from squash_api.routes.dependencies import object_schema, read_body
from squash_api.routes.jobs import receipt_of, take_in
from squash_api.routes.middleware import Way
from squash_api.routes.parameters import KnownParametersRoute
from squash_api.routes.replies import ERROR_CODES, USER, errors_of, failure_reply
from squash_api.routes.scopes import require_scope
from squash_api.settings import Settings
from squash_api.site import Site
from squash_api.wires.sasquatch import WIRE, check_topic, split_records

router = APIRouter(tags=["sasquatch"], route_class=KnownParametersRoute)

CLUSTER = "squash"
"""What the only cluster is called; clients put it into URLs as it is."""

_V2, _V3 = "application/vnd.kafka.v2+json", "application/json"
_AS_V2: dict[int | str, dict[str, Any]] = {200: {"content": {_V2: {"schema": {}}}}}
_MOST_TOPIC_BYTES = 16_000
_RETRY_S = 1
# As kafka-rest numbers them; of others it gives the status.
_CODES = {401: 40101, 403: 40301, 404: 40401, 422: 42203, 429: 42901}
_FIRST = "$.records"
_SLASHES = re.compile(r"/{2,}")


@router.get("/v3/clusters")
async def get_clusters(request: Request) -> Response:
    """List the one cluster that there is, to anyone: clients put its id into the next URL."""
    url = f"{_root(request)}/v3/clusters"
    related = {name: {"related": f"{url}/{CLUSTER}/{name}"} for name in ("acls", "brokers")}
    cluster = {
        "kind": "KafkaCluster",
        "metadata": {"self": f"{url}/{CLUSTER}", "resource_name": f"crn:///kafka={CLUSTER}"},
        "cluster_id": CLUSTER,
        "controller": None,
        **related,
        "topics": {"related": f"{url}/{CLUSTER}/topics"},
    }
    metadata = {"self": url, "next": None}
    return _reply({"kind": "KafkaClusterList", "metadata": metadata, "data": [cluster]}, _V3)


# Any body is good, and none, too.
_TOPIC_DOCUMENTATION = {
    "requestBody": {
        "content": {
            "application/json": {
                "schema": {},
                "example": {"topic_name": "lsst.dm.stellarAstrometricRepeatability1"},
            }
        }
    }
}


@router.post(
    "/v3/clusters/{cluster_id}/topics",  # noqa: FAST003  as below
    status_code=201,
    openapi_extra=_TOPIC_DOCUMENTATION,
)
async def post_topic(request: Request) -> Response:
    """Create a topic: nothing is stored, since every topic is there. It is never refused."""
    name: Any = None
    content = b""
    async for chunk in request.stream():
        content += chunk[: _MOST_TOPIC_BYTES - len(content)]
    with suppress(orjson.JSONDecodeError, AttributeError):
        name = orjson.loads(content).get("topic_name")
    url = f"{_root(request)}/v3/clusters/{CLUSTER}/topics/{name}"
    topic = {
        "kind": "KafkaTopic",
        "metadata": {"self": url, "resource_name": f"crn:///kafka={CLUSTER}/topic={name}"},
        "cluster_id": CLUSTER,
        "topic_name": name,
        "is_internal": False,
        "replication_factor": 1,
        "partitions_count": 1,
        "partitions": {"related": f"{url}/partitions"},
    }
    return _reply(topic, _V3, status_code=201)


@router.get("/v3/clusters/{cluster_id}/topics")  # noqa: FAST003  the short way gives only the request
async def get_cluster_topics(request: Request) -> Response:
    """List the topics of the cluster: none, since none need be created."""
    metadata = {"self": f"{_root(request)}/v3/clusters/{CLUSTER}/topics", "next": None}
    return _reply({"kind": "KafkaTopicList", "metadata": metadata, "data": []}, _V3)


@router.get("/topics", response_class=Response, responses=_AS_V2)
async def get_topics() -> Response:
    """List the topics: none, since none need be created."""
    return _reply([], _V2)


@router.get("/brokers", response_class=Response, responses=_AS_V2)
async def get_brokers() -> Response:
    """List the brokers: the service. Clients ask for this to see that it lives."""
    return _reply({"brokers": [0]}, _V2)


_RECORDS_DOCUMENTATION = {
    "requestBody": {
        "required": True,
        "content": {
            "application/vnd.kafka.avro.v2+json": {
                "schema": object_schema(
                    {
                        "value_schema": {
                            "description": "An Avro schema, as JSON in a text; others are not read."
                        },
                        "records": {
                            "type": "array",
                            "minItems": 1,
                            "items": object_schema({"value": {"type": "object"}}, "value"),
                        },
                    },
                    "records",
                ),
                "example": {
                    "records": [
                        {
                            "value": {
                                "id": "df519659-0f5c-4f6e-9d1a-2b3c4d5e6f70",
                                "run": "HSC/runs/RC2/w_2026_20/20260515T031245Z",
                                "timestamp": 1778814765.0,
                                "dataset_tag": "HSC/RC2",
                                "instrument": "HSC",
                                "band": "r",
                                "tract": "9813",
                                "tags": [],
                                "g_AM1": 7.25,
                            }
                        }
                    ]
                },
            }
        },
    }
}


@router.post(
    "/topics/{topic}",  # noqa: FAST003  the short way gives only the request
    response_class=Response,
    responses={**_AS_V2, **errors_of(400, 401, 403, 413, 415, 422, 429)},
    openapi_extra={
        **_RECORDS_DOCUMENTATION,
        "parameters": [
            {"name": "topic", "in": "path", "required": True, "schema": {"type": "string"}}
        ],
    },
)
async def post_records(request: Request) -> Response:
    """Accept records, as `SasquatchDispatcher` sends them: each becomes a job.

    A 200 means that they are on disk. `offsets` has the id of each job, and `jobs` what `POST /job`
    would say of it. A record that was sent before is not stored again.
    """
    request.scope[ERROR_CODES] = _CODES
    try:
        ingested = await _take_all(request)
    except Exception as error:  # noqa: BLE001  whatever it is, it is answered and logged
        reply = await failure_reply(request, error)
        if reply.status_code == 503:
            # A client of analysis_tools then tries five times more.
            reply.headers["Retry-After"] = str(_RETRY_S)
        return reply
    offsets = [
        {"partition": 0, "offset": item.stored.job_id, "error_code": None, "error": None}
        for item in ingested
    ]
    site: Site = request.app.state.site
    jobs = [receipt_of(site, item) for item in ingested]
    content = {"offsets": offsets, "key_schema_id": None, "value_schema_id": None, "jobs": jobs}
    return _reply(content, _V2)


async def _take_all(request: Request) -> Sequence[Ingested]:
    """Store the records of a request; if one of them is wrong, none."""
    site: Site = request.app.state.site
    topic: str = request.path_params["topic"]
    header = request.headers.get("authorization")
    if has_none(header):
        account = await site.anonymous.account_for(topic)
    else:
        address = (request.scope.get("client") or (None,))[0]
        account = await site.accounts.claim(header, address=address)
    request.scope[USER] = account.name
    if account.key is not None:
        require_scope(request, account)
    check_topic(topic)
    most = site.settings.max_body_bytes
    body = await read_body(request, max_bytes=most)
    split = partial(split_records, body, max_bytes=most)
    bodies = split() if len(body) <= SMALL_BYTES else await run_in_threadpool(split)
    received = [Received(each, WIRE, topic) for each in bodies]
    if len(received) > 1:
        await run_in_threadpool(_check_all, received)
    take = partial(take_in, request, site, account)
    results = await asyncio.gather(*(take(each) for each in received), return_exceptions=True)
    # Those that are stored are found when the request is sent again.
    for error in results:
        if isinstance(error, BaseException):
            raise error
    return [item for item in results if isinstance(item, Ingested)]


def _check_all(received: Sequence[Received]) -> None:
    """Read all records; raise the error of the first that is wrong, with its place."""
    for index, each in enumerate(received):
        try:
            WIRES[WIRE].decode(each)
        except SquashError as error:
            error.message = error.message.replace(f"{_FIRST}[0]", f"{_FIRST}[{index}]")
            error.detail = tuple(
                replace(item, loc=("body", "records", index, *item.loc[3:]))
                if item.loc[:3] == ("body", "records", 0)
                else item
                for item in error.detail
            )
            raise


def _root(request: Request) -> str:
    site: Site = request.app.state.site
    return f"{site.settings.url}{site.settings.sasquatch_prefix}"


def _reply(content: Any, media_type: str, *, status_code: int = 200) -> Response:
    return Response(orjson.dumps(content), status_code=status_code, media_type=media_type)


# Past the framework


_FIXED = {
    ("GET", "/v3/clusters"): Way("/v3/clusters", get_clusters),
    ("GET", "/topics"): Way("/topics", lambda _: get_topics()),
    ("GET", "/brokers"): Way("/brokers", lambda _: get_brokers()),
}
_TOPICS = {
    "GET": Way("/v3/clusters/{cluster_id}/topics", get_cluster_topics),
    "POST": Way("/v3/clusters/{cluster_id}/topics", post_topic),
}
_RECORDS = Way("/topics/{topic}", post_records)
_CLUSTER_TOPICS = re.compile(r"/v3/clusters/[^/]+/topics")


def find_way(settings: Settings) -> Callable[[Scope], Way | None]:
    """Return what finds the way of a request of this wire, and notes what its path says.

    Paths count with the root, with the prefix, with both or neither, and with any number of slashes
    where there is one: the class of analysis_tools puts a second one behind a URL that ends in one.
    """
    heads = [text for text in (settings.url_path, settings.sasquatch_prefix) if text]

    def find(scope: Scope) -> Way | None:
        path: str = scope["path"]
        if "/topics" not in path and "/v3/clusters" not in path and "/brokers" not in path:
            return None
        path = _SLASHES.sub("/", path).rstrip("/")
        for head in heads:
            if path.startswith(f"{head}/"):
                path = path[len(head) :]
        method = scope["method"]
        if path.startswith("/topics/") and method == "POST":
            topic = path.removeprefix("/topics/")
            if "/" in topic:
                return None
            scope["path_params"] = {"topic": topic}
            return _RECORDS
        if _CLUSTER_TOPICS.fullmatch(path):
            return _TOPICS.get(method)
        if path.endswith("/v3/clusters") and method == "GET" and path != "/v3/clusters":
            return _LOST
        return _FIXED.get((method, path))

    return find


async def _get_lost(request: Request) -> Response:
    """Say in plain text that nothing is here: JSON without `data` would kill a pipeline."""
    site: Site = request.app.state.site
    return PlainTextResponse(
        f"There is no Kafka REST proxy at {request.scope['path'][:200]}. Use "
        f"{site.settings.url}{site.settings.sasquatch_prefix}, or set SQUASH_SASQUATCH_PREFIX.\n",
        status_code=404,
    )


_LOST = Way("unknown", _get_lost)
