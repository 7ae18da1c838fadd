"""The tasks that alert on late values and on a silent service. Pure.

The service itself writes how late each expected series is, once a minute, with a heartbeat.
"""

from collections.abc import Iterable, Mapping

from squash_api.generate.kapacitor import messages as message
from squash_api.generate.kapacitor.channels import DEFAULT_TOPIC, topic_of
from squash_api.generate.kapacitor.nodes import (
    AlertBranch,
    age_term,
    head,
    task_text,
    unless_muted,
)
from squash_api.generate.kapacitor.text import go_string, reference, static, string
from squash_api.judging.alert_plan import Expectation
from squash_api.judging.alerts import duration_text
from squash_api.judging.own import WATCH
from squash_api.judging.wording import exact_number
from squash_api.schema.names import SQUASH_URL
from squash_api.schema.watch import (
    AGE_S,
    FRESHNESS,
    HEARTBEAT,
    LATE_S,
    MISSING,
    SINCE,
    SPECIFICATION,
)
from squash_api.verify.metrics import Metric

DEAD_AFTER_S = 300
"""So long without the heartbeat, which comes every minute, the service is dead."""

# Points that are an hour old have been repeated since.
_MAX_AGE_S = 3600
_AGE = "squash.age_"
_LATE = "squash.late_"
_UNITS = ((2 * 86400, 86400.0, "d"), (7200, 3600.0, "h"), (0, 60.0, "min"))


def freshness_task(
    expectations: Iterable[Expectation],
    metrics: Mapping[str, Metric],
    files: Iterable[str],
    place: tuple[str, str],
) -> str:
    """Return the task that alerts on late values, and says when they arrive again.

    `place` is the database and the retention policy that the service writes to.
    """
    where = f"isPresent({reference(LATE_S)}) AND isPresent({reference(AGE_S)})"
    return task_text(
        title="Values that are late.",
        files=files,
        place=place,
        measurement=FRESHNESS,
        where=f"{where} AND {age_term(_MAX_AGE_S)}",
        branches=[_branch(item, metrics[item.metric]) for item in expectations],
    )


def heartbeat_task(place: tuple[str, str]) -> str:
    """Return the task that alerts when there is no heartbeat, or never was one."""
    minutes = DEAD_AFTER_S // 60
    said = (
        f"{message.level_symbol()} *{{{{ .Level }}}}* SQuaSH is "
        f'{{{{ if eq .Level "OK" }}}}heard again: that it was silent was noticed at '
        f"{message.since()}, {minutes} to {2 * minutes} minutes after its last heartbeat"
        f"{{{{ else }}}}silent: no heartbeat for {minutes} minutes\n"
        "Nobody notices late values now. Does the service run, and do its points reach Kapacitor?"
        f"\n{message.runbook_words(runbook=WATCH)}{{{{ end }}}}"
    )
    return f"""{head("Alerts when the service itself is silent.", (), place)}
stream
    |from()
        .measurement({string(HEARTBEAT)})
    |deadman(0.0, {minutes}m)
        .id({string(HEARTBEAT)})
        .message({string(said)})
        .details('')
        .stateChangesOnly()
        .topic({string(DEFAULT_TOPIC)})
"""


def _branch(expected: Expectation, metric: Metric) -> AlertBranch:
    _, seconds, unit = _unit(expected)
    late = unless_muted(f"{reference(LATE_S)} > 0.0", expected.muted_through)
    # What is named is one series, whose text says which of it are missing.
    per = () if expected.expect.each else expected.per
    missing = (MISSING,) if expected.expect.each else ()
    return AlertBranch(
        note=expected.specification,
        where=f"{reference(SPECIFICATION)} == {string(expected.specification)}",
        per=per,
        shown_tags=message.shown_tags(per),
        shown_fields=(*message.SHOWN_FIELDS, SINCE, *missing),
        made_fields={
            _AGE + unit: f"{reference(AGE_S)} / {exact_number(seconds)}",
            _LATE + unit: f"{reference(LATE_S)} / {exact_number(seconds)}",
        },
        id_part=f"{FRESHNESS}/{expected.specification}",
        message=_message(expected, metric),
        ending=message.whereabouts(per, runbook="late-value"),
        conditions={expected.level: [late]},
        topic=topic_of(expected.channel),
    )


def _unit(expected: Expectation) -> tuple[int, float, str]:
    """Return the unit in which messages give ages, and its seconds."""
    allowed = expected.expect.every_s + expected.expect.grace_s
    return next(unit for unit in _UNITS if allowed >= unit[0])


def _message(expected: Expectation, metric: Metric) -> str:
    unit = _unit(expected)[2]
    every = f"every {duration_text(expected.expect.every_s)}"
    grace = expected.expect.grace_s
    allowed = f"{every}, and {duration_text(grace)} grace" if grace else every
    age, late = (
        f'{{{{ printf "%.1f" (index .Fields {go_string(n)}) }}}}'
        for n in (_AGE + unit, _LATE + unit)
    )
    url = message.shown_text(SQUASH_URL)
    last = f"{{{{ if index .Fields {url} }}}}last value{{{{ else }}}}none since"
    muted = (
        static(f"\nmuted through {expected.muted_through}")
        if expected.muted_through is not None
        else ""
    )
    named = message.shown_text(MISSING)
    missing = (
        f"{{{{ with index .Fields {named} }}}}\nmissing: {{{{ . }}}}{{{{ end }}}}"
        if expected.expect.each
        else ""
    )
    return (
        f"{{{{ $since := index .Fields {message.shown_text(SINCE)} }}}}"
        f"{{{{ $late := gt (index .Fields {go_string(LATE_S)}) 0.0 }}}}"
        '{{ $still := and $late (eq .Level "OK") }}'
        + message.heading(metric, "{{ if $late }} is late{{ else }} is no longer late{{ end }}")
        + "{{ if $late }}\n"
        + static(f"no value for {expected.specification} ")
        + f"for {age} {unit}, expected {static(allowed)}: {late} {unit} late"
        + missing
        + f"{{{{ if $since }}}}\n{last}{{{{ end }}}} {{{{ $since }}}}{{{{ end }}}}"
        + f"{{{{ if $still }}}}{muted}{{{{ end }}}}"
        + f"{{{{ else }}}}\n{static(expected.specification)} is in time again"
        + f"{message.was('late')}{{{{ end }}}}"
    )
