"""Tasks as TICKscript: a head, the points, and branches with an alert each. Pure."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from types import MappingProxyType

from squash_api.generate.kapacitor.text import LINK_ENTITIES, comment, reference, string
from squash_api.judging.metadata_query import signed_ends
from squash_api.judging.wording import exact_number
from squash_api.schema.names import (
    ARTIFACT_URL,
    GONE,
    NOT_FOR,
    RUN_URL,
    SPEAKS_FOR,
    SQUASH_URL,
    Interval,
    Term,
)
from squash_api.schema.watch import RUNBOOK

LEVEL_NODES: Mapping[str, str] = {"CRITICAL": "crit", "WARNING": "warn", "INFO": "info"}
"""The method of an alert node for each level, worst first."""

LINKS = frozenset({RUN_URL, SQUASH_URL, ARTIFACT_URL, RUNBOOK})
"""The text fields that messages link to."""

ROOT_URL = "squash.root"
"""The field, made in the task, with the public root of the service; empty without a job."""

_ENTITIES = {"&": "&amp;", "<": "&lt;", ">": "&gt;"}
_NS = 10**9
_EPOCH = date(1970, 1, 1)
# Kapacitor's last time, in 2262; it does not start with a larger number.
_END = 2**63 - 1


@dataclass(frozen=True, slots=True)
class AlertBranch:
    """A part of a task with an alert of its own.

    The message, whose template is `message` and `ending`, shows `shown_tags` and `shown_fields`.
    The task makes `made_fields`, lambda expressions by name, the same in every branch with the
    name. Any lambda expression in `conditions` raises its level. `id_part` identifies the branch's
    states for ever.
    """

    note: str
    where: str
    per: tuple[str, ...]
    shown_tags: tuple[str, ...]
    shown_fields: tuple[str, ...]
    made_fields: Mapping[str, str]
    id_part: str
    message: str
    ending: str
    conditions: Mapping[str, Sequence[str]]
    topic: str


def text_field(name: str) -> str:
    """Return the field, made in the task, with the text of a tag or field escaped for Slack.

    Go's `html` also escapes quotes, which Slack shows as `&#34;`. Without value the text is empty.
    """
    return f"text.{name}"


def task_text(
    *,
    title: str,
    files: Iterable[str],
    place: tuple[str, str],
    measurement: str,
    where: str,
    branches: Sequence[AlertBranch],
    defaults: Mapping[str, str] = MappingProxyType({}),
) -> str:
    """Return a task; `place` is the database and the retention policy whose points it reads.

    `defaults` are texts for fields, by name, in points that do not have these fields.
    Fields are made before points are grouped, because Kapacitor keeps 8 kB for the functions of
    each expression per group.
    """
    endings = {
        ending: "ending" if position == 0 else f"ending{position + 1}"
        for position, ending in enumerate(dict.fromkeys(item.ending for item in branches))
    }
    variables = [f"var {name} = {string(ending)}" for ending, name in endings.items()]
    return (
        head(title, files, place)
        + "\n"
        + "\n".join(variables)
        + f"\n\nvar data = stream\n    |from()\n        .measurement({string(measurement)})\n"
        + f"        .where(lambda: {where})\n"
        + _made_text(branches, defaults)
        + "".join(_branch_text(item, endings[item.ending]) for item in branches)
    )


def head(title: str, files: Iterable[str], place: tuple[str, str]) -> str:
    """Return the head of a task: its title, the files it comes from, and whose points it reads."""
    lines = [comment(title), *(comment(f"From {file}") for file in sorted(files))]
    return "\n".join([*lines, "", f"dbrp {'.'.join(map(reference, place))}", ""])


def age_term(max_age_s: int) -> str:
    """Return the lambda expression that is true for points that are young enough."""
    return f'unixNano("time") > unixNano(now()) - {max_age_s * _NS}'


def after_term(day: date) -> str:
    """Return the lambda expression that is true after a day, in UTC."""
    midnight = ((day - _EPOCH).days + 1) * 86400 * _NS
    return f"unixNano(now()) >= {max(0, min(midnight, _END))}"


def unless_muted(condition: str, muted_through: date | None) -> str:
    """Return the condition, with the term that suppresses it during a mute."""
    return condition if muted_through is None else f"({after_term(muted_through)} AND {condition})"


def speaks_for_term(key: str) -> str:
    """Return the lambda expression that is true for points that speak for a grouping.

    Kapacitor evaluates both sides of OR, and fails on a missing field: the task gives every point
    without the field all keys instead.
    """
    return f"strContains({reference(SPEAKS_FOR)}, {string(key)})"


def for_branch_term(key: str) -> str:
    """Return the lambda expression that is true for points that a branch may alert on."""
    return f"!strContains({reference(NOT_FOR)}, {string(key)})"


def unless_gone(conditions: Sequence[str]) -> str:
    """Return the lambda expression that is true if any condition is, and the series has a value."""
    either = "\n            OR ".join(conditions)
    return f"!isPresent({reference(GONE)}) AND ({either})"


def term_text(term: Term) -> str:
    """Return the lambda expression that is true for points that match a term."""
    name = reference(term.name)
    if isinstance(term.value, Interval):
        ends = [f"{name} {sign} {exact_number(end)}" for sign, end in signed_ends(term.value)]
        return " AND ".join([f"isPresent({name})", *ends])
    texts = [
        string(value) if isinstance(value, str) else exact_number(value)
        for value in term.values or ()
    ]
    either = " OR ".join(f"{name} == {text}" for text in texts)
    return f"isPresent({name}) AND {f'({either})' if len(texts) > 1 else either}"


def _made_text(branches: Sequence[AlertBranch], defaults: Mapping[str, str]) -> str:
    """Return the nodes that make the fields of all branches."""
    tags = sorted({name for item in branches for name in item.shown_tags})
    fields = sorted({name for item in branches for name in item.shown_fields})
    made = {text_field(name): _replaced(reference(name), _ENTITIES) for name in tags}
    for name in fields:
        letters = LINK_ENTITIES if name in LINKS else _ENTITIES
        made[text_field(name)] = _replaced(f"string({reference(name)})", letters)
    if SQUASH_URL in fields:
        # The link to the job, without the job.
        link = reference(text_field(SQUASH_URL))
        made[ROOT_URL] = rf"regexReplace(/\/job\/[0-9]+$/, {link}, '')"
    for item in branches:
        made |= item.made_fields
    lines = [
        "    |default()",
        *(f"        .tag({string(name)}, '')" for name in tags),
        *(f"        .field({string(name)}, '')" for name in fields),
        *(f"        .field({string(name)}, {string(text)})" for name, text in defaults.items()),
        "    |eval(",
        ",\n".join(f"        lambda: {expression}" for expression in made.values()),
        "    )",
        f"        .as({', '.join(map(string, made))})",
        "        .keep()",
    ]
    return "\n".join(lines) + "\n"


def _branch_text(branch: AlertBranch, ending: str) -> str:
    lines = [comment(branch.note), "data"]
    if branch.where:
        lines.append(f"    |where(lambda: {branch.where})")
    if branch.per:
        lines.append(f"    |groupBy({', '.join(map(string, branch.per))})")
    lines += [
        "    |alert()",
        f"        .id({string(branch.id_part + '/{{ .Group }}')})",
        f"        .message({string(branch.message)} + {ending})",
        "        .details('')",
    ]
    for level, node in LEVEL_NODES.items():
        if branch.conditions.get(level):
            either = "\n            OR ".join(branch.conditions[level])
            lines.append(f"        .{node}(lambda: {either})")
    lines += ["        .stateChangesOnly()", f"        .topic({string(branch.topic)})"]
    return "\n" + "\n".join(lines) + "\n"


def _replaced(text: str, letters: Mapping[str, str]) -> str:
    """Return the lambda expression that replaces letters of a text."""
    for letter, entity in letters.items():
        text = f"strReplace({text}, '{letter}', '{entity}', -1)"
    return text
