"""The templates as text; what Kapacitor makes of them is in tests/integration/test_alerts*.py."""

import re
from datetime import date

import pytest

from squash_api.generate.kapacitor.messages import (
    after_field,
    alert_message,
    heading,
    level_symbol,
    shown_tags,
    since,
    was,
    whereabouts,
)
from squash_api.judging.alerts import Alert, Level, Mute
from squash_api.judging.limits import Limit
from squash_api.verify.metrics import Metric
from tests.support.limits import limit as made_limit


def metric(description: str = "Repeatability.", unit: str = "mmag", display: str = "") -> Metric:
    return Metric("drp.PA1", "drp", description, unit, (), {}, display)


def limit(
    label: str = "design",
    level: Level = "WARNING",
    *,
    operator: str = "<=",
    threshold: float = 5.0,
    muted_through: date | None = None,
) -> Limit:
    mute = None if muted_through is None else Mute(muted_through, "test")
    alert = Alert(level=level, mute=mute)
    return made_limit(operator, threshold, name=f"drp.PA1.{label}", alert=alert)


def test_a_heading_names_the_metric_in_words() -> None:
    text = heading(metric(display="Photometric scatter"))
    assert text.endswith(" Photometric scatter (drp): Repeatability")


def test_a_heading_without_description_is_the_name() -> None:
    assert heading(metric("")).endswith("{{ end }} PA1 (drp)")


@pytest.mark.parametrize(("unit", "shown"), [("mmag", " mmag"), ("", ""), ("%", " %")])
def test_a_unit_follows_its_value(unit: str, shown: str) -> None:
    message = alert_message(metric(unit=unit), [limit()])
    assert f"PA1 = {{{{ $s }}}}{shown}, must be &lt;= 5 (design)" in message


def test_each_level_lists_its_own_limits() -> None:
    message = alert_message(
        metric(), [limit("minimum", "CRITICAL", threshold=8.0), limit("design", "WARNING")]
    )
    _, _, listed = message.partition("float64")
    critical, _, warning = listed.partition('eq .Level "WARNING"')
    assert "(minimum)" in critical
    assert "(design)" not in critical
    assert "(design)" in warning


def test_three_limits_need_no_count_and_four_do() -> None:
    limits = [limit(f"l{number}") for number in range(4)]
    assert "$more" not in alert_message(metric(), limits[:3])
    assert "and {{ len $more }} more" in alert_message(metric(), limits)


def test_a_muted_limit_is_listed_when_its_mute_is_over() -> None:
    message = alert_message(metric(), [limit(muted_through=date(2026, 12, 15))])
    assert after_field(date(2026, 12, 15)) == "squash.after_2026-12-15"
    assert '(or $still (index .Fields "squash.after_2026-12-15"))' in message


def test_without_mutes_nothing_is_said_of_them() -> None:
    assert "squash.after" not in alert_message(metric(), [limit()])


def test_a_message_names_dataset_filter_and_pipeline_whatever_it_is_about() -> None:
    assert shown_tags(["camera_name", "filter"]) == (
        "camera_name",
        "filter",
        "dataset",
        "pipeline",
    )
    assert "}}camera_name {{" in whereabouts(["camera_name"], runbook="metric-alert")


@pytest.mark.parametrize("level", ["CRITICAL", "WARNING", "INFO"])
def test_every_level_has_a_symbol_of_its_own(level: str) -> None:
    """Slack's bar is green for INFO, as for a recovery."""
    symbols = re.findall(r'eq .Level "(\w+)" }}(\S)\{\{|else }}(\S)\{\{ end', level_symbol())
    assert len({a or b for _, a, b in symbols}) == 4
    assert level in {name for name, _, _ in symbols}


def test_a_recovery_names_its_limits_worst_first_and_three_at_most() -> None:
    limits = [limit(f"l{number}") for number in range(5)]
    message = alert_message(metric(), limits)
    assert (
        "\nPA1 = {{ $s }} mmag, must be &lt;= 5 (l0), &lt;= 5 (l1), &lt;= 5 (l2) and 2 more\n"
        "was broken{{ if "
    ) in message


def test_a_duration_is_said_only_if_it_is_positive() -> None:
    line = was("broken")
    assert line.startswith("\nwas broken{{ if gt .Duration.Seconds 0.0 }} for {{ if ")
    assert line.endswith(f",{{{{ end }}}} from {since()} on")


def test_a_series_with_old_values_only_is_not_said_to_have_none() -> None:
    message = alert_message(metric(), [limit()], max_age_s=86400)
    _, _, gone = message.partition("{{ if gt $gone 1.0 }}")
    old, _, none = gone.partition("{{ else }}")
    assert old == ": the newest value that is left is older than 1d, too old to alert on"
    assert none.startswith(" has no value any more: its last one was deleted or withdrawn{{ end }}")


@pytest.mark.parametrize(("threshold", "is_short"), [(8.0, True), (9e14, True), (-1e15, False)])
def test_a_huge_value_has_an_exponent_unless_a_limit_is_huge(
    threshold: float, *, is_short: bool
) -> None:
    message = alert_message(metric(), [limit(threshold=threshold)])
    assert ('$s = printf "%.3e" $v' in message) == is_short


def test_a_time_is_in_utc() -> None:
    assert '.UTC.Format "2006-01-02 15:04 UTC"' in since()


def test_templates_are_balanced() -> None:
    limits = [
        limit(f"l{number}", "CRITICAL", muted_through=date(2026, 1, 1)) for number in range(5)
    ]
    message = alert_message(metric("{{ Odd }}"), limits) + whereabouts(
        ["dataset"], runbook="metric-alert"
    )
    opened = sum(message.count(f"{{{{ {word} ") for word in ("if", "with"))
    assert opened == message.count("{{ end }}")
