"""The tasks that alert on the service itself: its limits, and its silence. Pure."""

from collections.abc import Iterable

from squash_api.generate.kapacitor import messages as message
from squash_api.generate.kapacitor.channels import DEFAULT_TOPIC
from squash_api.generate.kapacitor.nodes import AlertBranch, age_term, head, task_text
from squash_api.generate.kapacitor.text import go_string, reference, static, string
from squash_api.judging.limits import Limit
from squash_api.judging.own import OWN_ALERTS, SILENT, SILENT_S, OwnAlert
from squash_api.judging.wording import plain_number
from squash_api.schema import watch as names

# Points that are older have been repeated since.
_MAX_AGE_S = 900
_RUNBOOK = "docs/runbook.md"


def own_tasks(place: tuple[str, str]) -> dict[str, str]:
    """Return the tasks by id; `place` is the database and the retention policy they read."""
    return {
        "squash.delivery": _limits_task("delivery", names.DELIVERY, place),
        "squash.service": _limits_task("the service itself", names.SERVICE, place),
        "squash.silence": _silence_task(place),
    }


def _limits_task(what: str, measurement: str, place: tuple[str, str]) -> str:
    return task_text(
        title=f"Alerts on {what}.",
        files=(),
        place=place,
        measurement=measurement,
        where=age_term(_MAX_AGE_S),
        branches=[_branch(item) for item in OWN_ALERTS if item.measurement == measurement],
    )


def _branch(alert: OwnAlert) -> AlertBranch:
    field = reference(alert.field)
    return AlertBranch(
        note=alert.name,
        where=f"isPresent({field})",
        per=alert.per,
        shown_tags=alert.per,
        shown_fields=(names.REASON, names.RUNBOOK),
        made_fields={},
        id_part=alert.name,
        message=_message(alert),
        ending=_ending(alert.per),
        conditions={limit.level: [limit.criterion.broken_in_tick(field)] for limit in alert.limits},
        topic=DEFAULT_TOPIC,
    )


def _message(alert: OwnAlert) -> str:
    *worse, mildest = alert.limits
    asked = "".join(
        f"{{{{ if eq .Level {go_string(limit.level)} }}}}{_asked(limit)}{{{{ else }}}}"
        for limit in worse
    )
    demand = f"{asked}{_asked(mildest)}{'{{ end }}' * len(worse)}"
    unit = f" {alert.unit}" if alert.unit else ""
    value = (
        f"\n{static(alert.measure)} = "
        f'{{{{ printf "%.{alert.digits}f" (index .Fields {go_string(alert.field)}) }}}}'
        f"{static(unit)}, must be {demand}"
        if alert.measure
        else ""
    )
    return (
        f"{{{{ $name := {go_string(alert.name)} }}}}"
        f"{message.level_symbol()} *{{{{ .Level }}}}* SQuaSH: "
        f'{{{{ if eq .Level "OK" }}}}over: {{{{ end }}}}{static(alert.about)}{value}'
        f'{{{{ if eq .Level "OK" }}}}{message.was("so")}'
        f"{{{{ else }}}}\n{static(alert.advice)}{{{{ end }}}}"
    )


def _asked(limit: Limit) -> str:
    return static(limit.criterion.words(plain_number, is_ascii=True))


def _ending(per: Iterable[str]) -> str:
    """Return the last lines: what it is about, what holds it up, and the entry in the runbook."""
    tags = ", ".join(f"{tag} {{{{ index .Fields {message.shown_text(tag)} }}}}" for tag in per)
    why = f"index .Fields {message.shown_text(names.REASON)}"
    reason = f"{{{{ with {why} }}}}: {{{{ . }}}}{{{{ end }}}}"
    entry = f"{_RUNBOOK}#{{{{ $name }}}}"
    url = f"index .Fields {message.shown_text(names.RUNBOOK)}"
    shown = f"<{{{{ . }}}}#{{{{ $name }}}}|{entry}>"
    link = f"{{{{ with {url} }}}}{shown}{{{{ else }}}}{entry}{{{{ end }}}}"
    return f"\n{tags}{reason}\n{link}"


def _silence_task(place: tuple[str, str]) -> str:
    minutes = SILENT_S // 60
    process, instance = (
        f"{{{{ index .Tags {go_string(tag)} | html }}}}" for tag in (names.PROCESS, names.INSTANCE)
    )
    who = (
        f"{{{{ if index .Tags {go_string(names.PROCESS)} }}}}squash {process} ({instance})"
        "{{ else }}every process{{ end }}"
    )
    said = (
        f"{message.level_symbol()} *{{{{ .Level }}}}* SQuaSH: {who} is "
        f'{{{{ if eq .Level "OK" }}}}heard again: that it was silent was noticed at '
        f"{message.since()}, {minutes} to {2 * minutes} minutes after its last point"
        f"{{{{ else }}}}silent: nothing heard for {minutes} minutes\n"
        "Does it run, and do its points reach Kapacitor? If it was taken away for good, this is "
        f"all.\n{_RUNBOOK}#{SILENT}{{{{ end }}}}"
    )
    return f"""{head("Alerts when a process of the service is silent.", (), place)}
stream
    |from()
        .measurement({string(names.SERVICE)})
        .groupBy({string(names.PROCESS)}, {string(names.INSTANCE)})
    |deadman(0.0, {minutes}m)
        .id({string(SILENT + "/{{ .Group }}")})
        .message({string(said)})
        .details('')
        .stateChangesOnly()
        .topic({string(DEFAULT_TOPIC)})
"""
