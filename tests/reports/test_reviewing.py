import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from squash_api.record.alerts import NewEvent, add_events, add_group, write_alerts
from squash_api.reports.reviewing import FINDINGS, Reviewed, by_finding, review
from tests.support.definitions import spec
from tests.support.observatory import DAY_NS, HOUR_NS, Observatory, loaded_ago

NAME = "p.a.design"


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Observatory]:
    with Observatory(tmp_path) as made:
        yield made


def reviewed(site: Observatory, name: str = NAME) -> Reviewed:
    found = review(
        site.reader,
        site.definitions.in_force,
        since_ns=site.now_ns - 90 * DAY_NS,
        now_ns=site.now_ns,
    )
    return {item.specification: item for item in found}[name]


def raise_alert(site: Observatory, *kinds: str, state: str = "resolved") -> None:
    """Store an alert on the specification, and what has happened to it."""

    def write(connection: Any) -> None:
        group = add_group(
            connection, metric="p.a", branch="b", key={}, now_ns=site.now_ns, is_gathering=False
        )
        row = {
            "group_id": group,
            "metric": "p.a",
            "branch": "b",
            "tags": {"run": str(group)},
            "state": state,
            "severity": 0,
            "worst": 2,
            "opened_ns": site.now_ns - HOUR_NS,
            "broken": [{"specification": NAME}],
        }
        (number,) = write_alerts(connection, opened=[row])
        add_events(connection, [NewEvent(number, site.now_ns, kind, 2) for kind in kinds])

    site.record.write(write)


def test_what_nearly_all_values_break_fires_always(site: Observatory) -> None:
    site.define(spec(NAME))
    for number in range(20):
        site.job(1.0 if number < 2 else 100.0, ago_ns=number * HOUR_NS)
    found = reviewed(site)
    assert (found.finding, found.judged, found.broken) == ("fires always", 20, 18)


def test_of_few_values_nothing_is_said(site: Observatory) -> None:
    site.define(spec(NAME))
    site.job(100.0)
    assert (reviewed(site).finding, reviewed(site).text) == (None, "1 of 1 value broke it")


def test_what_no_value_breaks_never_fires(site: Observatory) -> None:
    site.define(spec(NAME))
    for number in range(100):
        site.job(1.0, ago_ns=number * HOUR_NS)
    found = reviewed(site)
    assert found.finding == "never fires"
    assert "none of 100 values broke it; the smallest margin of a last value is +" in found.text


@pytest.mark.parametrize(
    ("query", "has_job", "why"),
    [
        ({}, False, "p.a has no value: delete it"),
        ({"dataset": "nowhere"}, True, "no value is one of its jobs': delete it"),
    ],
)
def test_what_applies_to_nothing_is_told_with_why(
    site: Observatory, query: dict[str, str], *, has_job: bool, why: str
) -> None:
    site.define(spec(NAME, metadata_query=query))
    if has_job:
        site.job(1.0)
    found = reviewed(site)
    assert found.finding == "applies to nothing"
    assert found.text.startswith(why)


def test_alerts_that_were_acknowledged_and_ended_without_worsening_are_noise(
    site: Observatory,
) -> None:
    site.define(spec(NAME))
    site.job(1.0)
    raise_alert(site, "opened", "resolved")
    for _ in range(2):
        raise_alert(site, "opened", "acknowledged", "resolved")
    assert reviewed(site).finding is None
    raise_alert(site, "opened", "worsened", "acknowledged", "resolved")
    found = reviewed(site)
    assert (found.finding, found.alerts, found.acknowledged, found.noise) == ("noise", 4, 3, 3)


@pytest.mark.parametrize(
    ("kinds", "state"),
    [(("opened", "acknowledged", "worsened"), "resolved"), (("acknowledged",), "acknowledged")],
)
def test_what_worsened_or_goes_on_is_no_noise(
    site: Observatory, kinds: tuple[str, ...], state: str
) -> None:
    site.define(spec(NAME))
    for _ in range(3):
        raise_alert(site, *kinds, state=state)
    found = reviewed(site)
    assert (found.acknowledged, found.noise) == (3, 0)


def test_a_trial_says_since_when_and_what_it_would_have_told(site: Observatory) -> None:
    site.define(spec(NAME, alert={"trial": True}))
    loaded_ago(site.record, 31 * DAY_NS)
    site.job(100.0)
    found = reviewed(site)
    assert (found.finding, found.trial_days) == ("on trial", 31)
    assert found.text.startswith("on trial for 31 days: 1 of 1 value broke it")


def test_findings_come_by_what_matters_most(site: Observatory) -> None:
    site.define(spec(NAME), spec("p.b.design", metric="p.b"))
    for number in range(100):
        site.job(1.0, ago_ns=number * HOUR_NS)
    found = review(site.reader, site.definitions.in_force, since_ns=0, now_ns=site.now_ns)
    assert list(by_finding(found)) == ["applies to nothing", "never fires"]
    assert FINDINGS[0] == "fires always"
    assert json.dumps([item.to_json() for item in found])


def test_a_kind_that_looks_at_other_values_applies_to_what_it_judges(site: Observatory) -> None:
    trend = {"n": 20, "k": 5.0, "floor": 0.1, "min_history": 3, "unit": "mmag"}
    site.define({"name": NAME, "type": "trend", "trend": trend})
    for number in range(8):
        site.job(1.0 + number / 100, ago_ns=number * HOUR_NS)
    found = reviewed(site)
    assert (found.finding, found.judged) == (None, 0)
