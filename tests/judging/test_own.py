"""The alerts on the service itself are documented with the limits that they have."""

from pathlib import Path

import pytest

from squash_api.judging.own import OWN_ALERT_NAMES, OWN_ALERTS, OwnAlert
from squash_api.schema import watch as names

DOCS = Path(__file__).parents[2] / "docs"


def row_of(alert: str) -> list[str]:
    """Return the cells of an alert in the table of the docs."""
    text = (DOCS / "operations.md").read_text(encoding="utf-8")
    (line,) = [line for line in text.splitlines() if line.startswith(f"| [`{alert}`]")]
    return [cell.strip() for cell in line.strip("|").split("|")]


@pytest.mark.parametrize("alert", OWN_ALERTS, ids=lambda item: item.name)
def test_the_docs_have_each_alert_with_its_limits(alert: OwnAlert) -> None:
    _, per, *levels = row_of(alert.name)
    assert per == ("target" if alert.per == (names.TARGET,) else "process")
    found = dict(zip(("WARNING", "CRITICAL"), levels, strict=True))
    unit = f" {alert.unit}" if alert.unit else ""
    assert {level: text for level, text in found.items() if text} == {
        limit.level: f"`{limit.criterion.broken_in_tick(alert.field).removesuffix('.0')}`{unit}"
        for limit in alert.limits
    }


@pytest.mark.parametrize("alert", OWN_ALERT_NAMES)
def test_each_alert_has_a_row_and_an_entry_in_the_runbook(alert: str) -> None:
    assert row_of(alert)[0] == f"[`{alert}`](runbook.md#{alert})"
    text = (DOCS / "runbook.md").read_text(encoding="utf-8")
    assert text.count(f"\n### `{alert}`\n") == 1


@pytest.mark.parametrize("alert", OWN_ALERTS, ids=lambda item: item.name)
def test_an_alert_is_on_a_field_of_its_own_and_worst_first(alert: OwnAlert) -> None:
    assert [item.field for item in OWN_ALERTS].count(alert.field) == 1
    severities = [limit.severity for limit in alert.limits]
    assert severities == sorted(severities, reverse=True)
    assert alert.advice.count("\n") == 0
