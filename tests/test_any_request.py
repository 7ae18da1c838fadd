"""Whatever is asked, by whomever: the answer is one that `docs/openapi.json` tells of."""

import json
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from datetime import timedelta
from pathlib import Path
from typing import Any

import httpx
import pytest
import requests
import schemathesis
from schemathesis.checks import not_a_server_error
from schemathesis.config import SchemathesisConfig
from schemathesis.generation.hypothesis.builder import (
    HypothesisTestConfig,
    HypothesisTestMode,
    create_test,
)
from schemathesis.generation.meta import TestPhase
from schemathesis.specs.openapi import checks

from squash_api.app import create_app
from tests.support.answers import SETTINGS, record_of_1_2_1
from tests.support.builders import make_settings
from tests.support.fake_influxdb import FakeInfluxDB
from tests.support.fuzzing import FACTOR, Role, counted, examples, roles
from tests.support.in_process import HOST, serving

DOCUMENT = json.loads(
    (Path(__file__).parent.parent / "docs" / "openapi.json").read_text(encoding="utf-8")
)
# What the record has. Of users, those whom nobody needs afterwards.
KNOWN = {
    "path.job_id": [f"{number}" for number in range(1, 61)],
    "path.name": ["camera.AvgCameraBodySurfaceTemp", "survey.Depth", "survey.Seeing.z", "grace"],
    "path.package": ["camera", "survey", "checks"],
    "query.metric": ["camera.AvgCameraBodySurfaceTemp", "survey.Depth"],
    "query.since": ["2026-11-01", "30d"],
}
CONFIG = {
    "dictionaries": {key.replace(".", "-"): {"values": known} for key, known in KNOWN.items()},
    "parameters": {key: {"dictionary": key.replace(".", "-"), "probability": 0.5} for key in KNOWN},
    "generation": {"mode": "all"},
}
SCHEMA = schemathesis.openapi.from_dict(DOCUMENT, config=SchemathesisConfig.from_dict(CONFIG))
CHECKS = [
    not_a_server_error,
    checks.status_code_conformance,
    checks.content_type_conformance,
    checks.response_headers_conformance,
    checks.response_schema_conformance,
    checks.negative_data_rejection,
    checks.unsupported_method,
    checks.allow_header_conformance,
]


class World:
    """A service with much in its record, and all who ask it."""

    def __init__(self, client: httpx.Client, counts: Counter[int]) -> None:
        self._client = client
        self._counts = counts
        self._turn = 0
        self._roles = roles(client)

    def askers(self, case: schemathesis.Case[Any]) -> list[tuple[str, Role]]:
        """Return them all, another one first each time: the first to delete leaves little.

        What every run tries anyhow is asked by one of them, but in the soak by all.
        """
        self._turn += 1
        found = list(self._roles.items())
        start = self._turn % len(found)
        is_fixed = case.meta is not None and case.meta.phase.name is TestPhase.COVERAGE
        most = 1 if is_fixed and FACTOR == 1 else len(found)
        return (found[start:] + found[:start])[:most]

    def ask(self, case: schemathesis.Case[Any], headers: Mapping[str, str]) -> httpx.Response:
        """Send a request that schemathesis made up."""
        made = case.as_transport_kwargs(base_url=HOST)
        of_request = ("method", "url", "headers", "params", "json", "data", "files", "cookies")
        given = {key: made[key] for key in of_request if key in made}
        sent: Any = requests.Request(**given).prepare()
        reply = self._client.request(
            sent.method, sent.url, content=sent.body, headers={**sent.headers, **headers}
        )
        # schemathesis wants to know, httpx knows it of streams only.
        reply.elapsed = timedelta(0)
        self._counts[reply.status_code] += 1
        return reply


def operations() -> dict[str, Any]:
    """Return all operations of the document, by method and path."""
    found: Iterable[Any] = SCHEMA.get_all_operations()
    return {operation.label: operation for operation in (result.ok() for result in found)}


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    folder = tmp_path_factory.mktemp("record")
    (folder / "squash.db").write_bytes(record_of_1_2_1())
    changes: dict[str, Any] = {**SETTINGS, "deliver": "inline"}
    app = create_app(
        make_settings(folder, **changes),
        influx_transport=httpx.MockTransport(FakeInfluxDB()),
    )
    with serving(app) as client, counted("requests") as counts:
        # Streams of events end at once.
        app.state.site.events.let_go()
        yield World(client, counts)


def is_open(case: schemathesis.Case[Any]) -> bool:
    """Return whether the document says that an operation needs no token."""
    operation = DOCUMENT["paths"][case.path][case.method.lower()]
    return {} in operation.get("security", [{}])


@pytest.mark.parametrize("label", list(operations()))
def test_every_answer_is_documented(label: str, world: World) -> None:
    @examples(4)
    def check(case: schemathesis.Case[Any]) -> None:
        for role, headers in world.askers(case):
            reply = world.ask(case, headers)
            case.validate_response(reply, checks=CHECKS)
            assert role != "nobody" or not reply.is_success or is_open(case)

    # Not by the decorator of schemathesis: its tests of one function have one name, and of those
    # that have one name pytest-xdist runs one.
    how = HypothesisTestConfig(project=SCHEMA.config, modes=list(HypothesisTestMode))
    create_test(operation=operations()[label], test_func=check, config=how)()
