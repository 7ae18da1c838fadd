"""A service in trouble is told of by real Kapacitor, and so is one that says nothing any more."""

import re
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import httpx
import pytest
from prometheus_client.parser import text_string_to_metric_families

from squash_api.generate.kapacitor.tasks import kapacitor_files
from squash_api.metrics_packages.loading import load_metrics_packages
from squash_api.schema.names import Schema
from tests.support.builders import (
    add_test_user,
    make_body,
    make_settings,
    measured,
    open_record,
    store_job,
)
from tests.support.http_server import HttpServer
from tests.support.kapacitord import Kapacitord, write_load_directory
from tests.support.service import READING, Service
from tests.support.site import wait_for
from tests.support.slack import Slack, Told

# A database server has all of it but the disk.
pytestmark = pytest.mark.sqlite

DOCS = Path(__file__).parents[2] / "docs"
WAITED_S = 700


@dataclass
class Story:
    """What was told of a backlog that came and went, and of a service that was killed."""

    service: Service
    slack: Slack
    told: dict[str, Told] = field(default_factory=dict)
    exposed: str = ""

    def wait_for(self, step: str, *words: str) -> None:
        """Wait for a message with all words."""
        self.told[step] = self.slack.wait_for(lambda told: all(word in told.text for word in words))


class Influx:
    """An InfluxDB that refuses all writes, until it `is_well`."""

    is_well = False

    def __call__(self, request: httpx.Request) -> httpx.Response:
        """Answer a request."""
        if request.url.path == "/ping":
            return httpx.Response(204, headers={"x-influxdb-version": "1.8.10"})
        if request.url.path != "/write":
            return httpx.Response(200, json={"results": [{}]})
        return (
            httpx.Response(204) if self.is_well else httpx.Response(500, json={"error": "<full>"})
        )


def tasks() -> dict[str, str]:
    """Return the tasks on the service alone, which take it for silent after two seconds."""
    files = kapacitor_files(
        load_metrics_packages([]), schema=Schema(), database="squash", retention_policy="autogen"
    )
    silence = "kapacitor/tasks/squash.silence.tick"
    assert files[silence].count("|deadman(0.0, 5m)") == 1
    quick = files[silence].replace("|deadman(0.0, 5m)", "|deadman(0.0, 2s)")
    return {**files, silence: quick}


@pytest.fixture(scope="module")
def story(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Story]:
    folder: Path = tmp_path_factory.mktemp("own")
    load = write_load_directory(folder / "generated", tasks())
    influx = Influx()
    record = open_record(folder / "service")
    add_test_user(record)
    store_job(record, body=make_body(measured()), received_ns=time.time_ns() - WAITED_S * 10**9)
    record.close()
    with (
        Slack() as slack,
        HttpServer(influx) as server,
        Kapacitord(folder / "kapacitord", load, slack=slack.url) as kapacitord,
        Service(
            folder / "service",
            SQUASH_INFLUX_URL=server.url,
            SQUASH_KAPACITOR_URL=kapacitord.url.removesuffix("/kapacitor/v1"),
            SQUASH_DATABASE_URL=make_settings(folder / "service").database_url,
            SQUASH_INSTANCE="<one>",
            **READING,
        ) as service,
    ):
        story = Story(service, slack)
        _play(story, influx)
        assert kapacitord.problems() == []
        yield story


def _play(story: Story, influx: Influx) -> None:
    """Let the service say how it is, which it does a second after each start."""
    service = story.service
    story.wait_for("backlog", "service-backlog")
    influx.is_well = True
    wait_for(lambda: service_is_well(service))
    wait_for(lambda: "squash_readers 1.0" in exposed(service))
    story.exposed = exposed(service)
    service.kill()
    story.wait_for("silent", "service-silent", "squash serve")
    service.start()
    story.wait_for("no backlog", "service-backlog", "*OK*")
    story.wait_for("heard", "heard again", "squash serve")


def service_is_well(service: Service) -> bool:
    reply: dict[str, str] = httpx.get(f"{service.url}/readyz", trust_env=False, timeout=60).json()
    return reply["status"] == "ok"


def exposed(service: Service) -> str:
    return httpx.get(f"{service.url}/prometheus", trust_env=False, timeout=60).text


def test_a_backlog_is_told_with_what_to_do_and_where_to_read_more(story: Story) -> None:
    told = story.told["backlog"]
    first, second, third, *others = told.text.split("\n")
    assert first == "🟡 *WARNING* SQuaSH: jobs wait too long to be delivered"
    assert re.fullmatch(r"age of the oldest = 7\d\d s, must be &lt;= 600", second)
    assert third.startswith("Nothing is lost. ")
    target, link = others
    # The first attempt to deliver may not be over when the service first says how it is.
    assert target in {"target default", "target default: &lt;full&gt;"}
    url = f"{story.service.url}/docs/runbook#service-backlog"
    assert link == f"<{url}|docs/runbook.md#service-backlog>"


def test_it_is_told_when_the_backlog_is_gone(story: Story) -> None:
    first, second, *_ = story.told["no backlog"].text.split("\n")
    assert first == "✅ *OK* SQuaSH: over: jobs wait too long to be delivered"
    assert second == "age of the oldest = 0 s, must be &lt;= 600"


def test_a_service_that_was_killed_is_told_by_its_name_and_then_heard_again(story: Story) -> None:
    name = "SQuaSH: squash serve (&lt;one&gt;) is"
    assert story.told["silent"].text.startswith(f"🔴 *CRITICAL* {name} silent: ")
    assert "docs/runbook.md#service-silent" in story.told["silent"].text
    assert story.told["heard"].text.startswith(f"✅ *OK* {name} heard again: ")


def test_the_docs_have_the_figures_that_prometheus_reads(story: Story) -> None:
    suffixes = {"counter": "_total"}
    found = {
        family.name + suffixes.get(family.type, "")
        for family in text_string_to_metric_families(story.exposed)
        # Prometheus' own invention: when a counter began.
        if not family.name.endswith("_created")
    }
    text = (DOCS / "operations.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| (`(?:squash|process)_[a-z_]+`(?:, `[a-z_]+`)*) \|", text, re.MULTILINE)
    named = {name for row in rows for name in re.findall(r"`(\w+)`", row)}
    # Only a service on a replica has it.
    assert named == found | {"squash_replica_lag_seconds"}
