"""From a job over HTTP to a message, through the real service, InfluxDB and Kapacitor."""

import re
import uuid
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from tests.support.alerting import Alerting, alerting
from tests.support.metrics_packages import write_metrics_package
from tests.support.site import job_document
from tests.support.slack import Told

# What Kapacitor does with points does not depend on where the record is.
pytestmark = pytest.mark.sqlite

METRICS = """
PA1: {description: 'Photometric repeatability: how far magnitudes scatter.', unit: mmag}
"""
SPECS = """
name: PA1.minimum
threshold: {operator: "<=", unit: mmag, value: 8}
tags: [minimum]
metadata_query: {filter_name: r}
"""
DAYS = 60


@pytest.fixture(scope="module")
def servers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Alerting]:
    folder = tmp_path_factory.mktemp("alerts")
    directory = write_metrics_package(folder / "specs", metrics=METRICS, specs=SPECS)
    with alerting(folder, [directory]) as servers:
        yield servers


def job(pa1: float, *, dataset: str, run: str, date: datetime | None = None) -> dict[str, Any]:
    when = {} if date is None else {"date": date.isoformat()}
    env = {"env_name": "jenkins", "ci_id": run, "ci_url": f"https://ci.example/{run}", **when}
    return job_document(
        {"validate.PA1": pa1 / 1000}, unit="mag", filter_name="r", ci_dataset=dataset, env=env
    )


def told_of(servers: Alerting, dataset: str) -> list[Told]:
    """Return what Slack was told of a dataset, once all that was delivered has had its effect."""
    last = uuid.uuid4().hex
    servers.site.deliver(job(99, dataset=last, run="last"))
    servers.slack.wait_for(lambda told: f"dataset {last}" in told.text)
    return [told for told in servers.slack.told if f"dataset {dataset}" in told.text]


def test_a_bad_job_gives_one_message_and_a_good_one_one_recovery(servers: Alerting) -> None:
    dataset = uuid.uuid4().hex
    ids = servers.site.deliver(
        *(
            job(value, dataset=dataset, run=f"run-{number}")
            for number, value in enumerate((7.0, 8.3149, 9.0, 8.5, 4.0, 4.1))
        )
    )
    bad, good = told_of(servers, dataset)
    service = servers.site.service.url
    assert bad.text == (
        "🔴 *CRITICAL* PA1 (validate): Photometric repeatability\n"
        "PA1 = 8.31 mmag, must be &lt;= 8 (minimum)\n"
        f"dataset {dataset}, filter r\n"
        f"<https://ci.example/run-1|run run-1>, <{service}/job/{ids[1]}|job {ids[1]}>, "
        f"<{service}/docs/runbook#metric-alert|what to do>"
    )
    assert good.text.startswith(
        "✅ *OK* PA1 (validate): Photometric repeatability\n"
        "PA1 = 4.00 mmag, must be &lt;= 8 (minimum)\nwas broken for less than 1 min, from 20"
    )
    assert (bad.color, good.color) == ("danger", "good")


def test_the_links_lead_to_the_job_and_to_what_to_do(servers: Alerting) -> None:
    dataset = uuid.uuid4().hex
    (job_id,) = servers.site.deliver(job(9.0, dataset=dataset, run="1"))
    (told,) = told_of(servers, dataset)
    *_, link, advice = re.findall(r"<([^|>]+)\|", told.text)
    assert servers.site.client.get(link).json()["id"] == job_id
    entry = advice.rpartition("#")[2]
    assert f'id="{entry}"' in servers.site.client.get(advice).text


def test_of_sixty_days_only_the_changes_of_the_last_week_are_told(servers: Alerting) -> None:
    dataset = uuid.uuid4().hex
    values = [9.0 if (age // 2) % 2 else 4.0 for age in range(DAYS, -1, -1)]
    start = datetime.now(UTC) - timedelta(days=DAYS, minutes=1)
    jobs = [
        job(value, dataset=dataset, run=f"day-{day}", date=start + timedelta(days=day))
        for day, value in enumerate(values)
    ]
    servers.site.deliver(*jobs)
    expected = changes(values[-7:])
    assert len(expected) == 4
    assert [run_of(told) for told in told_of(servers, dataset)] == expected
    done = servers.site.service.run("replay")
    assert done.returncode == 0, done.stderr
    # The last job was good, so the replay begins where the first delivery did.
    assert [run_of(told) for told in told_of(servers, dataset)] == expected * 2


def changes(values: Sequence[float]) -> list[str]:
    """Return the runs of the last days whose value changes the state, which is well at first."""
    found = []
    is_bad = False
    for day, value in enumerate(values, start=DAYS + 1 - len(values)):
        if (value > 8) != is_bad:
            is_bad = not is_bad
            found.append(f"day-{day}")
    return found


def run_of(told: Told) -> str:
    return told.text.partition("|run ")[2].partition(">")[0]


def test_nothing_of_this_was_an_error_to_kapacitor(servers: Alerting) -> None:
    assert servers.kapacitord.problems() == []
