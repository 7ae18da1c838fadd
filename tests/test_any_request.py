"""Whatever is asked, by whomever: the answer is one that `docs/openapi.json` tells of."""

import json
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
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
from tests.support.fuzzing import FACTOR, MANY, Role, counted, examples, roles
from tests.support.in_process import HOST, serving
from tests.support.replies import closed

pytestmark = pytest.mark.sqlite

COMMITTED = json.loads(
    (Path(__file__).parent.parent / "docs" / "openapi.json").read_text(encoding="utf-8")
)
LABELS = [
    f"{method.upper()} {path}" for path, methods in COMMITTED["paths"].items() for method in methods
]
# Where a page posts a form, which is nothing for programs.
FORMS = {"/users", "/alerts", "/alert/{alert_id}"}
STRANGERS = {"nobody", "stranger"}
# What the record has. Of users, those whom nobody needs afterwards.
KNOWN = {
    "path.job_id": [f"{number}" for number in range(1, 61)],
    "path.name": ["camera.AvgCameraBodySurfaceTemp", "survey.Depth", "survey.Seeing.z", "grace"],
    "path.package": ["camera", "survey", "checks"],
    "query.metric": ["camera.AvgCameraBodySurfaceTemp", "survey.Depth"],
    "query.since": ["2026-11-01", "30d"],
}
CONFIG = SchemathesisConfig.from_dict(
    {
        "dictionaries": {key.replace(".", "-"): {"values": known} for key, known in KNOWN.items()},
        "parameters": {
            key: {"dictionary": key.replace(".", "-"), "probability": 0.5} for key in KNOWN
        },
        "generation": {"mode": "all"},
    }
)
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
    """A service with much in its record, what its document tells, and all who ask it."""

    def __init__(
        self, client: httpx.Client, document: dict[str, Any], counts: Counter[int]
    ) -> None:
        self.document = document
        # What nobody described is no answer.
        schema = schemathesis.openapi.from_dict(closed(document), config=CONFIG)
        found: Iterable[Any] = schema.get_all_operations()
        self._operations = {item.label: item for item in (result.ok() for result in found)}
        self._how = HypothesisTestConfig(project=schema.config, modes=[])
        self._client = client
        self._counts = counts
        self._turn = 0
        self._roles = roles(client)

    def ask_for(self, label: str, *, number: int, modes: Iterable[HypothesisTestMode]) -> None:
        """Make up requests for an operation, send each as several users, check the answers."""

        @examples(number)
        def check(case: schemathesis.Case[Any]) -> None:
            for role, headers in self._askers(case):
                reply = self._ask(case, headers)
                # A parameter that is left empty, as in forms, counts as left out.
                is_unclear = any(value in ("", [], {}) for value in (case.query or {}).values())
                excluded: list[Any] = [checks.negative_data_rejection] if is_unclear else []
                if case.path in FORMS:
                    excluded += [checks.unsupported_method, checks.allow_header_conformance]
                case.validate_response(reply, checks=CHECKS, excluded_checks=excluded)
                assert role not in STRANGERS or not reply.is_success or self._is_open(case)

        # Not by the decorator of schemathesis: all its tests of one function have one name, and
        # of those pytest-xdist runs one.
        how = replace(self._how, modes=list(modes))
        create_test(operation=self._operations[label], test_func=check, config=how)()

    def _is_open(self, case: schemathesis.Case[Any]) -> bool:
        """Return whether the document says that an operation needs no token."""
        operation = self.document["paths"][case.path][case.method.lower()]
        return {} in operation.get("security", [{}])

    def _askers(self, case: schemathesis.Case[Any]) -> list[tuple[str, Role]]:
        """Return them all, another one first each time: the first to delete leaves little.

        What every run tries anyhow is asked by one of them, but in the soak by all.
        """
        self._turn += 1
        found = list(self._roles.items())
        start = self._turn % len(found)
        is_fixed = case.meta is not None and case.meta.phase.name is TestPhase.COVERAGE
        most = 1 if is_fixed and FACTOR == 1 else len(found)
        return (found[start:] + found[:start])[:most]

    def _ask(self, case: schemathesis.Case[Any], headers: Mapping[str, str]) -> httpx.Response:
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


@contextmanager
def world(folder: Path, **changes: Any) -> Iterator[World]:
    """Run a service on the record of 1.2.1, which delivers to an InfluxDB."""
    (folder / "squash.db").write_bytes(record_of_1_2_1())
    fields: dict[str, Any] = {**SETTINGS, **MANY, "deliver": "inline", **changes}
    app = create_app(
        make_settings(folder, **fields), influx_transport=httpx.MockTransport(FakeInfluxDB())
    )
    with serving(app) as client, counted("requests") as counts:
        # Streams of events end at once.
        app.state.site.events.let_go()
        yield World(client, app.openapi() if changes else COMMITTED, counts)


@pytest.fixture(scope="module")
def open_world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    with world(tmp_path_factory.mktemp("open")) as found:
        yield found


@pytest.fixture(scope="module")
def closed_world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    with world(tmp_path_factory.mktemp("closed"), read="users") as found:
        yield found


@pytest.mark.parametrize("label", LABELS)
def test_every_answer_is_documented(label: str, open_world: World) -> None:
    open_world.ask_for(label, number=4, modes=HypothesisTestMode)


@pytest.mark.parametrize("label", LABELS)
def test_every_answer_is_documented_where_only_users_read(label: str, closed_world: World) -> None:
    closed_world.ask_for(label, number=2, modes=[HypothesisTestMode.FUZZING])
