"""A task of alerts as TICKscript: head, points looked at, and branches with an alert each. Pure."""

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta

from squash_api.artifacts.tick_text import comment, number, reference, string
from squash_api.schema import Term

LEVEL_NODES: Mapping[str, str] = {"CRITICAL": "crit", "WARNING": "warn", "INFO": "info"}
"""The method of an alert node for each level, the worst first."""

_NS = 10**9
_IDENTIFIER = re.compile(r"[A-Za-z][A-Za-z0-9_]*\Z")


@dataclass(frozen=True, slots=True)
class Outside:
    """The tags and fields that a message shows, by their names."""

    tags: tuple[str, ...]
    fields: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class AlertBranch:
    """A part of a task with an alert of its own.

    `made_fields` are made by the task, as lambda expressions by name; `conditions` are lambda
    expressions by level, any of which raises it; `id_part` tells the branch's states from others,
    for ever; `message` and `ending` together are the template of the message, and endings are
    shared by branches.
    """

    note: str
    where: str
    per: tuple[str, ...]
    outside: Outside
    made_fields: Mapping[str, str]
    id_part: str
    message: str
    ending: str
    conditions: Mapping[str, Sequence[str]]
    topic: str


def text_field(name: str) -> str:
    """Return the field, made in the task, with a tag's or field's text as Slack shows it.

    Go's own `html` would not do: it escapes quotes too, which Slack shows as `&#34;`. The text is
    empty where there is no value.
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
) -> str:
    """Return a task; `place` is the database and the retention policy whose points it sees."""
    outside = sorted({name for item in branches for name in item.outside.tags})
    fields = sorted({name for item in branches for name in item.outside.fields})
    variables = _variables([*outside, *fields])
    declared = [
        *(f"var {variables[name]} = lambda: {_replaced(reference(name))}" for name in outside),
        *(
            f"var {variables[name]} = lambda: {_replaced(f'string({reference(name)})')}"
            for name in fields
        ),
    ]
    endings = {
        ending: "ending" if position == 0 else f"ending{position + 1}"
        for position, ending in enumerate(dict.fromkeys(item.ending for item in branches))
    }
    declared += [f"var {name} = {string(ending)}" for ending, name in endings.items()]
    return (
        head(title, files, place)
        + "\n"
        + "\n".join(declared)
        + f"\n\nvar data = stream\n    |from()\n        .measurement({string(measurement)})\n"
        + f"        .where(lambda: {where})\n"
        + "".join(_branch_text(item, variables, endings[item.ending]) for item in branches)
    )


def head(title: str, files: Iterable[str], place: tuple[str, str]) -> str:
    """Return how a task begins: what it is, the files it comes from, and whose points it sees."""
    lines = [comment(title), *(comment(f"From {file}") for file in sorted(files))]
    return "\n".join([*lines, "", f"dbrp {'.'.join(map(reference, place))}", ""])


def age_term(max_age_s: int) -> str:
    """Return the lambda expression that holds for points that are young enough."""
    return f'unixNano("time") > unixNano(now()) - {max_age_s * _NS}'


def after_term(day: date) -> str:
    """Return the lambda expression that holds once a day is over, in UTC."""
    midnight = datetime.combine(day, time(), UTC) + timedelta(days=1)
    return f"unixNano(now()) >= {int(midnight.timestamp()) * _NS}"


def unless_muted(condition: str, muted_through: date | None) -> str:
    """Return the condition, with the term that holds it back while it is muted."""
    return condition if muted_through is None else f"({after_term(muted_through)} AND {condition})"


def term_text(term: Term) -> str:
    """Return the lambda expression that tells whether a point has what a term asks for."""
    name = reference(term.name)
    value = string(term.value) if isinstance(term.value, str) else number(term.value)
    return f"isPresent({name}) AND {name} == {value}"


def _branch_text(branch: AlertBranch, variables: Mapping[str, str], ending: str) -> str:
    lines = [comment(branch.note), "data", "    |from()"]
    if branch.where:
        lines.append(f"        .where(lambda: {branch.where})")
    if branch.per:
        lines.append(f"        .groupBy({', '.join(map(string, branch.per))})")
    shown = [*branch.outside.tags, *branch.outside.fields]
    lines += [
        "    |default()",
        *(f"        .tag({string(name)}, '')" for name in branch.outside.tags),
        *(f"        .field({string(name)}, '')" for name in branch.outside.fields),
    ]
    values = [variables[name] for name in shown]
    values += [f"lambda: {made}" for made in branch.made_fields.values()]
    names = [*map(text_field, shown), *branch.made_fields]
    lines += [
        f"    |eval({', '.join(values)})",
        f"        .as({', '.join(map(string, names))})",
        "        .keep()",
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


def _replaced(text: str) -> str:
    """Return the lambda expression for a text with Slack's three characters as entities."""
    for letter, entity in (("&", "&amp;"), ("<", "&lt;"), (">", "&gt;")):
        text = f"strReplace({text}, '{letter}', '{entity}', -1)"
    return text


def _variables(names: Sequence[str]) -> dict[str, str]:
    """Return TICKscript's variable for each name; a tag may be called whatever people like."""
    return {
        name: f"text_{name}" if _IDENTIFIER.match(name) else f"text{position}"
        for position, name in enumerate(names)
    }
