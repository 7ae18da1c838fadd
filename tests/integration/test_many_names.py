"""Thousands of names cost little, and go with the jobs that brought them."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
from fastapi import FastAPI
from sqlalchemy import event
from sqlalchemy.engine import Engine

from squash_api.app import create_app
from squash_api.site import Site
from tests.support.builders import make_body, make_settings, measured
from tests.support.calls import Calls, log_in
from tests.support.in_process import service, serving

JSON = {"Content-Type": "application/json"}
HTML = {"Accept": "text/html"}
ANY: dict[str, Any] = {
    "new_metrics_per_job": 0,
    "new_metrics_per_day": 0,
    "new_series_per_day": 0,
    "new_tag_values_per_day": 0,
}
NAMES = [f"p.m{number}" for number in range(3000)]
OLD = {"env": {"date": "2000-01-01T00:00:00Z"}}


def post(calls: Calls, *names: str, value: Any = 1.0, **meta: Any) -> int:
    body = make_body(*(measured(name, value) for name in names), **meta)
    reply = calls("POST", "/job", content=body, headers=JSON)
    assert reply.status_code == 202, reply.text
    job_id: int = reply.json()["id"]
    return job_id


@contextmanager
def statements_counted() -> Iterator[list[str]]:
    noted: list[str] = []

    def note(_: Any, __: Any, statement: str, *___: Any) -> None:
        noted.append(statement)

    event.listen(Engine, "before_cursor_execute", note)
    try:
        yield noted
    finally:
        event.remove(Engine, "before_cursor_execute", note)


@pytest.mark.parametrize("meta", [{}, OLD], ids=["recent", "old"])
@pytest.mark.parametrize("value", [1.0, None], ids=["value", "absent"])
def test_the_first_look_at_thousands_of_metrics_takes_few_statements(
    tmp_path: Path, meta: dict[str, Any], value: float | None
) -> None:
    with service(tmp_path, **ANY) as client:
        post(log_in(client, "ada"), *NAMES, value=value, **meta)
        client.get("/", headers=HTML)
    app = create_app(make_settings(tmp_path, **ANY))
    site: Site = app.state.site
    with statements_counted() as noted:
        assert len(site.board.entries()) == len(NAMES)
    assert len(noted) < 2600
    with statements_counted() as noted:
        site.board.entries()
    assert len(noted) < 100
    site.close()


def test_a_service_that_stops_does_not_wait_for_the_first_look(tmp_path: Path) -> None:
    app = create_app(make_settings(tmp_path, **ANY))
    site: Site = app.state.site
    looked = threading.Event()
    inner = site.board.entries

    def entries() -> Any:
        looked.set()
        while True:
            with site.reader.view():
                inner()

    site.board.entries = entries  # type: ignore[method-assign, assignment]
    with serving(app):
        assert looked.wait(30)


def known(app_or_client: httpx.Client, name: str) -> bool:
    page = app_or_client.get("/", headers=HTML).text
    listed = app_or_client.get("/standings").text
    assert (f"/metric/{name}" in page) == (f'"{name}"' in listed)
    return f"/metric/{name}" in page


@pytest.fixture
def two(tmp_path: Path) -> Iterator[tuple[httpx.Client, FastAPI, FastAPI]]:
    """Two processes of one record, and a client of the first."""
    apps = [create_app(make_settings(tmp_path, **ANY)) for _ in range(2)]
    with serving(apps[0]) as client:
        yield client, apps[0], apps[1]
    apps[1].state.site.close()


def test_names_of_a_deleted_job_go_everywhere(
    two: tuple[httpx.Client, FastAPI, FastAPI],
) -> None:
    client, *apps = two
    ada = log_in(client, "ada")
    kept = post(ada, "p.both", "p.kept")
    gone = post(ada, "p.both", "p.gone", "p.limited", "p.declared")
    declared = {"metrics": [{"name": "p.declared", "unit": "mmag", "description": "d"}]}
    assert ada("POST", "/metrics", declared).status_code == 201
    assert all(known(client, name) for name in ("p.gone", "p.kept", "p.both"))
    for app in apps:
        app.state.site.board.entries()
    assert ada("DELETE", f"/job/{gone}").status_code == 200
    assert not known(client, "p.gone")
    assert known(client, "p.kept")
    for app in apps:
        site: Site = app.state.site
        site.metrics.refresh()
        found = site.metrics.now.by_name
        assert {"p.both", "p.kept", "p.declared"} == set(found)
        site.board.entries()
        assert len(site.board._seen) == len(site.metrics.now.by_id) == 3
    # It comes back as a new metric, with another unit if need be.
    again = ada("POST", "/job", content=make_body(measured("p.gone", 2.0, "kg")), headers=JSON)
    assert again.json()["skipped"] == []
    assert known(client, "p.gone")
    assert ada("GET", f"/job/{kept}").status_code == 200
    row = ada("GET", "/measurements?metric=p.gone").json()["measurements"]
    assert [item["value"] for item in row] == [2.0]


def test_a_job_that_is_posted_while_its_names_go_keeps_its_values(
    two: tuple[httpx.Client, FastAPI, FastAPI],
) -> None:
    client, first, second = two
    ada = log_in(client, "ada")
    gone = post(ada, "p.a", "p.b")
    # The second process still knows the names when the first forgets them.
    second.state.site.metrics.refresh()
    stale = second.state.site.metrics.now
    assert ada("DELETE", f"/job/{gone}").status_code == 200
    first.state.site.metrics.now = stale
    job = post(ada, "p.a", detector=1)
    rows = ada("GET", "/measurements?metric=p.a").json()["measurements"]
    assert [(item["job"], item["value"]) for item in rows] == [(job, 1.0)]


def test_a_withdrawn_definition_of_a_metric_without_values_goes_with_the_next_job(
    tmp_path: Path,
) -> None:
    with service(tmp_path) as client:
        ada = log_in(client, "ada")
        ada("POST", "/metric/p.never", {"description": "d", "unit": "kg"})
        assert known(client, "p.never")
        ada("DELETE", "/metric/p.never")
        assert not known(client, "p.never")
        ada("DELETE", f"/job/{post(ada, 'p.other')}")
        reply = ada("POST", "/job", content=make_body(measured("p.never", 1, "s")), headers=JSON)
        assert reply.json()["skipped"] == []
