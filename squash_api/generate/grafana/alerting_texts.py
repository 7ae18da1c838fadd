"""What Grafana's alerts say: annotations of rules, and the template of messages. Pure.

An annotation is a template of Go, which Grafana fills in with the labels of a series and the last
values of a rule's queries: `B` of the query `A`, `K` of `J`, `M` of `L`. They are plain text. The
template of messages makes text from jobs safe for Slack, and adds links.
"""

import re
from collections.abc import Sequence

from squash_api.errors import runbook_path
from squash_api.generate.kapacitor.messages import shown_value
from squash_api.judging.alert_plan import Expectation
from squash_api.judging.alert_texts import MOST_LISTED, SYMBOLS, first_clause
from squash_api.judging.alerts import LEVELS, WORST_FIRST, duration_text
from squash_api.judging.limits import Limit
from squash_api.judging.own import SILENT, SILENT_S, WATCH, OwnAlert
from squash_api.judging.wording import exact_number, plain_number
from squash_api.schema.watch import INSTANCE, PROCESS
from squash_api.verify.metrics import Metric

ROOT = "squash_root"
"""The label with the public root of the service, for links."""

LEVEL = "squash_level"
ABOUT = "squash_about"
METRIC = "squash_metric"
BRANCH = "squash_branch"
ROUTE = "squash_route"

TEMPLATE = "squash"
"""The name of the template of messages, and what its parts begin with."""


def of_value(metric: Metric, limits: Sequence[Limit], per: Sequence[str]) -> dict[str, str]:
    """Return the annotations of a rule that judges the newest values of a metric."""
    name = metric.name.partition(".")[2]
    broken = "".join(
        f"{{{{ if {limit.criterion.broken_in_go('$v')} }}}}"
        f"{{{{ if lt (len $listed) {MOST_LISTED} }}}}"
        f"{shown_value(limit.criterion.numbers)}{_lf('$listed')}"
        f"{_line(name, metric.unit, _asked(limit))}"
        '{{ $listed = print $listed "." }}{{ else }}{{ $more = print $more "." }}{{ end }}{{ end }}'
        for limit in limits
    )
    numbers = [number for limit in limits for number in limit.criterion.numbers]
    unless = "".join(f" (eq $v {exact_number(number)})" for number in numbers)
    listed = ", ".join(map(_asked, limits[:MOST_LISTED]))
    more = f" and {len(limits) - MOST_LISTED} more" if len(limits) > MOST_LISTED else ""
    well = shown_value(numbers, unless=unless) + _line(name, metric.unit, listed + more)
    described = _if_there(
        "B",
        '{{ $v := .Value }}{{ $listed := "" }}{{ $more := "" }}'
        f"{broken}{{{{ if $more }}}}\nand {{{{ len $more }}}} more{{{{ end }}}}"
        f"{{{{ if not $listed }}}}{well}{{{{ end }}}}",
    )
    return {
        "summary": _heading(metric),
        "description": described,
        "where": _where(per),
        "job": _number("K"),
        "runbook": runbook_path("metric-alert"),
    }


def of_verdict(metric: Metric, limits: Sequence[Limit], per: Sequence[str]) -> dict[str, str]:
    """Return the annotations of a rule on what the service raises."""
    name = metric.name.partition(".")[2]
    listed = ", ".join(f"{limit.label} ({_demand(limit)})" for limit in limits[:MOST_LISTED])
    more = f" and {len(limits) - MOST_LISTED} more" if len(limits) > MOST_LISTED else ""
    unit = plain(f" {metric.unit}" if metric.unit else "")
    value = _if_there("M", f'{name} = {{{{ printf "%.6g" .Value }}}}{unit}\n')
    return {
        "summary": _heading(metric),
        "description": f"{value}{plain(f'{listed}{more}')}: the alert says which, and why",
        "where": _where(per),
        "alert": _number("K"),
        "runbook": runbook_path("metric-alert"),
    }


def late(expected: Expectation, metric: Metric, per: Sequence[str]) -> dict[str, str]:
    """Return the annotations of the rule on late values."""
    every = f"every {duration_text(expected.expect.every_s)}"
    grace = expected.expect.grace_s
    words = f"{every}, and {duration_text(grace)} grace" if grace else every
    age, by = (_if_there(value, "{{ humanizeDuration .Value }}") for value in "KB")
    is_late = _if_there("B", "{{ if gt .Value 0.0 }}{{ $late = true }}{{ end }}")
    name = expected.specification
    described = (
        f"{{{{ $late := false }}}}{is_late}{{{{ if $late }}}}no value for {name} for {age}, "
        f"expected {words}: {by} late{{{{ else }}}}{name} is in time again{{{{ end }}}}"
    )
    return {
        "summary": f"{_heading(metric, ' is late')}",
        "description": described,
        "where": _where(per),
        "runbook": runbook_path("late-value"),
    }


def of_service(alert: OwnAlert, limits: Sequence[Limit]) -> dict[str, str]:
    """Return the annotations of a rule on the service itself."""
    demand = " and ".join(_demand(limit) for limit in limits)
    unit = f" {alert.unit}" if alert.unit else ""
    number = _if_there("B", f'{{{{ printf "%.{alert.digits}f" .Value }}}}')
    value = f"{alert.measure} = {number}{unit}, must be {demand}\n" if alert.measure else ""
    return {
        "summary": f"SQuaSH: {alert.about}",
        "description": f"{value}{alert.advice}",
        "where": _where(alert.per),
        "runbook": runbook_path(alert.name),
    }


def silent() -> dict[str, str]:
    """Return the annotations of the rule on a process that says nothing any more."""
    minutes = SILENT_S // 60
    return {
        "summary": "SQuaSH: a process is silent",
        "description": f"nothing heard for {minutes} minutes\n"
        "Does it run, and do its points reach InfluxDB? If it was taken away for good, that is "
        "all.",
        "where": _where((PROCESS, INSTANCE)),
        "runbook": runbook_path(SILENT),
    }


def watch_is_silent() -> dict[str, str]:
    """Return the annotations of the rule on the heartbeat."""
    return {
        "summary": "SQuaSH is silent",
        "description": "no heartbeat for 5 minutes, or Grafana cannot ask InfluxDB\n"
        "Nobody notices bad or late values now. Does the service run, do its points reach "
        "InfluxDB, and does Grafana?",
        "where": "",
        "runbook": runbook_path(WATCH),
    }


def message_template() -> str:
    """Return the template of messages: `squash.title` and `squash.text`.

    The alerts of a message are of one group. What is over while something is not is left out: a
    value that becomes worse is over in the rule of its old level.
    """
    parts = {
        "safe": (
            '{{ reReplaceAll ">" "&gt;" (reReplaceAll "<" "&lt;" (reReplaceAll "&" "&amp;" .)) }}'
        ),
        "title": _title_template(),
        "alert": _alert_template(),
        "text": _text_template(),
    }
    return "".join(
        f'{{{{ define "{TEMPLATE}.{name}" }}}}{text}{{{{ end }}}}\n' for name, text in parts.items()
    )


def _title_template() -> str:
    # Mildest first, so that the worst remains.
    found = "".join(
        f'{{{{ range .Alerts.Firing }}}}{{{{ if eq .Labels.{LEVEL} "{level}" }}}}'
        f'{{{{ $level = "{level}" }}}}{{{{ $symbol = "{SYMBOLS[level]}" }}}}'
        "{{ end }}{{ end }}"
        for level in LEVELS
    )
    well = f'{{{{ $level := "OK" }}}}{{{{ $symbol := "{SYMBOLS["OK"]}" }}}}'
    first = f"{{{{ with index .Alerts 0 }}}}{_safe('.Annotations.summary')}{{{{ end }}}}"
    return f"{well}{found}{{{{ $symbol }}}} {{{{ $level }}}} {first}"


def _alert_template() -> str:
    """Return the template of an alert: what it says, where, and links."""
    line, comma = "{{ $line }}", '{{ $line = ", " }}{{ end }}'
    links = (
        '{{ $line := "\\n" }}'
        f"{{{{ with .Annotations.job }}}}{line}<{{{{ $root }}}}/job/{{{{ . }}}}|job {{{{ . }}}}>"
        f"{comma}{{{{ with .Annotations.alert }}}}{line}<{{{{ $root }}}}/alert/{{{{ . }}}}|alert>"
        f"{comma}{{{{ if not .Annotations.alert }}}}{{{{ with .Labels.{METRIC} }}}}"
        f"{line}<{{{{ $root }}}}/alerts?metric={{{{ . }}}}|alerts>{comma}{{{{ end }}}}"
        f'{{{{ if eq .Status "firing" }}}}{line}'
        "<{{ $root }}{{ .Annotations.runbook }}|what to do>{{ end }}"
    )
    return (
        '{{ if and (eq .Status "resolved") .Annotations.grafana_state_reason }}'
        "no value is left that is young enough ({{ .Annotations.grafana_state_reason }})"
        f"{{{{ else }}}}{_safe('.Annotations.description')}{{{{ end }}}}"
        '{{ if eq .Status "resolved" }}'
        '\nwas raised from {{ .StartsAt.UTC.Format "2006-01-02 15:04 UTC" }} on{{ end }}'
        f"{{{{ with .Annotations.where }}}}\n{_safe('.')}{{{{ end }}}}"
        f'{{{{ $root := reReplaceAll "/+$" "" .Labels.{ROOT} }}}}{{{{ if $root }}}}{links}'
        "{{ else }}{{ with .Annotations.job }}\njob {{ . }}{{ end }}{{ end }}"
    )


def _text_template() -> str:
    """Return the template of a message's text: the worst alerts, and how many there are."""
    by_level = "".join(
        f'{{{{ range $some }}}}{{{{ if eq .Labels.{LEVEL} "{level}" }}}}'
        f"{{{{ if lt (len $told) {MOST_LISTED} }}}}"
        f'{{{{ if $told }}}}\n{{{{ end }}}}{{{{ template "{TEMPLATE}.alert" . }}}}'
        '{{ $told = print $told "." }}{{ end }}{{ end }}{{ end }}'
        for level in WORST_FIRST
    )
    return (
        '{{ $told := "" }}{{ $some := .Alerts.Firing }}'
        "{{ if not $some }}{{ $some = .Alerts.Resolved }}{{ end }}"
        f"{by_level}{{{{ if gt (len $some) {MOST_LISTED} }}}}\n{{{{ len $some }}}} in all"
        "{{ end }}"
    )


def _safe(text: str) -> str:
    """Return the call of the template that makes text safe for Slack."""
    return f'{{{{ template "{TEMPLATE}.safe" {text} }}}}'


def _heading(metric: Metric, more: str = "") -> str:
    package, _, name = metric.name.partition(".")
    clause = first_clause(metric.description)
    return plain(
        f"{metric.display_name or name} ({package}){more}{f': {clause}' if clause else ''}"
    )


def _line(name: str, unit: str, asked: str) -> str:
    return f"{name} = {{{{ $s }}}}{plain(f' {unit}' if unit else '')}, must be {plain(asked)}"


def _asked(limit: Limit) -> str:
    return f"{_demand(limit)} ({limit.label})"


def _demand(limit: Limit) -> str:
    return limit.criterion.words(plain_number, is_ascii=True)


def _lf(listed: str) -> str:
    return f'{{{{ if {listed} }}}}{{{{ "\\n" }}}}{{{{ end }}}}'


def _where(per: Sequence[str]) -> str:
    """Return the template of the tags that tell a series apart."""
    tags = "".join(
        f'{{{{ with index $labels "{name}" }}}}{{{{ $line }}}}{plain(name)} {{{{ . }}}}'
        '{{ $line = ", " }}{{ end }}'
        for name in per
    )
    return f'{{{{ $line := "" }}}}{tags}' if tags else ""


def _number(value: str) -> str:
    return _if_there(value, '{{ printf "%.0f" .Value }}')


def _if_there(reference: str, text: str) -> str:
    """Return a template of a value, `.Value`, that is empty if there is none.

    Asked for by its name, one that is not there would be 0.
    """
    return (
        "{{ range $name, $found := $values }}"
        f'{{{{ if eq $name "{reference}" }}}}{text}{{{{ end }}}}{{{{ end }}}}'
    )


def plain(text: str) -> str:
    """Return text that a template of Go shows unchanged.

    There is no `${` in it, which a Grafana to come replaces in annotations, too.
    """
    return re.sub(r"\$(?=\{)|\{", lambda found: f'{{{{"{found[0]}"}}}}', text)
