"""The task that alerts on what the service itself raises: groups of alerts, served limits. Pure.

What is raised, and in which words, the service decides. Kapacitor only knows the state of each
group, and passes the message on when that changes.
"""

from collections.abc import Iterable

from squash_api.generate.kapacitor.channels import topic_of
from squash_api.generate.kapacitor.nodes import LEVEL_NODES, head
from squash_api.generate.kapacitor.text import comment, go_string, reference, string
from squash_api.judging.alerts import severity_of
from squash_api.judging.wording import exact_number
from squash_api.schema.watch import BRANCH, GROUP, METRIC, SEVERITY, TEXT, TOPIC, VERDICT

VERDICT_TASK = "squash.verdict"
"""The id of the task."""

_ID = "/".join(f"{{{{ index .Tags {go_string(name)} }}}}" for name in (METRIC, BRANCH))
_GROUPED = "{{ index .Tags " + go_string(GROUP) + " }}"


def is_verdict_id(alert: str) -> bool:
    """Tell whether an alert of Kapacitor is that of a group."""
    return alert.rpartition("/")[2].startswith(f"{GROUP}=")


def verdict_task(channels: Iterable[str | None], place: tuple[str, str]) -> str:
    """Return the task; `place` is the database and the retention policy that it reads.

    What is for none of the channels goes to the default one.
    """
    topics = sorted({topic_of(channel) for channel in channels} - {topic_of(None)})
    others = [f"{reference(TOPIC)} != {string(topic)}" for topic in topics]
    present = " AND ".join(f"isPresent({reference(name)})" for name in (SEVERITY, TEXT, TOPIC))
    groups = ", ".join(map(string, (METRIC, BRANCH, GROUP)))
    title = "Alerts that the service raises: of groups, and on limits that Kapacitor cannot judge."
    return (
        f"{head(title, (), place)}\n"
        "var data = stream\n"
        f"    |from()\n        .measurement({string(VERDICT)})\n"
        f"        .where(lambda: {present})\n"
        f"    |groupBy({groups})\n"
        + _alert(topic_of(None), " AND ".join(others))
        + "".join(_alert(topic, f"{reference(TOPIC)} == {string(topic)}") for topic in topics)
    )


def _alert(topic: str, where: str) -> str:
    lines = ["", comment(topic), "data"]
    if where:
        lines.append(f"    |where(lambda: {where})")
    lines += [
        "    |alert()",
        f"        .id({string(f'{_ID}/{GROUP}={_GROUPED}')})",
        f"        .message({string(f'{{{{ index .Fields {go_string(TEXT)} }}}}')})",
        "        .details('')",
    ]
    for level, node in LEVEL_NODES.items():
        number = exact_number(severity_of(level))
        lines.append(f"        .{node}(lambda: {reference(SEVERITY)} >= {number})")
    lines += ["        .stateChangesOnly()", f"        .topic({string(topic)})"]
    return "\n".join(lines) + "\n"
