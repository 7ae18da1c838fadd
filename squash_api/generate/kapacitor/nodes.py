"""A task of alerts as TICKscript: head, points looked at, and branches with an alert each. Pure."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date

from squash_api.generate.kapacitor.text import comment, reference, string
from squash_api.judging.wording import exact_number
from squash_api.schema.names import Term

LEVEL_NODES: Mapping[str, str] = {"CRITICAL": "crit", "WARNING": "warn", "INFO": "info"}
"""The method of an alert node for each level, the worst first."""

_NS = 10**9
_EPOCH = date(1970, 1, 1)
# The last moment that Kapacitor can name, in 2262; a longer number stops it from starting.
_END = 2**63 - 1


@dataclass(frozen=True, slots=True)
class AlertBranch:
    """A part of a task with an alert of its own.

    `shown_tags` and `shown_fields` are those that the message shows. `made_fields` are made by the
    task, as lambda expressions by name, the same in every branch that has the name; `conditions`
    are lambda expressions by level, any of which raises it; `id_part` tells the branch's states
    from others, for ever; `message` and `ending` together are the template of the message.
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
    """Return a task; `place` is the database and the retention policy whose points it sees.

    Notes
    -----
    Fields are made before points are grouped: Kapacitor holds the functions of each expression
    once per group, 8 kB of memory for each.
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
        + _made_text(branches)
        + "".join(_branch_text(item, endings[item.ending]) for item in branches)
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
    midnight = ((day - _EPOCH).days + 1) * 86400 * _NS
    return f"unixNano(now()) >= {max(0, min(midnight, _END))}"


def unless_muted(condition: str, muted_through: date | None) -> str:
    """Return the condition, with the term that holds it back while it is muted."""
    return condition if muted_through is None else f"({after_term(muted_through)} AND {condition})"


def term_text(term: Term) -> str:
    """Return the lambda expression that tells whether a point has what a term asks for."""
    name = reference(term.name)
    value = string(term.value) if isinstance(term.value, str) else exact_number(term.value)
    return f"isPresent({name}) AND {name} == {value}"


def _made_text(branches: Sequence[AlertBranch]) -> str:
    """Return the nodes that make fields for all branches: of texts from outside, and others."""
    tags = sorted({name for item in branches for name in item.shown_tags})
    fields = sorted({name for item in branches for name in item.shown_fields})
    made = {text_field(name): _replaced(reference(name)) for name in tags}
    made |= {text_field(name): _replaced(f"string({reference(name)})") for name in fields}
    for item in branches:
        made |= item.made_fields
    lines = [
        "    |default()",
        *(f"        .tag({string(name)}, '')" for name in tags),
        *(f"        .field({string(name)}, '')" for name in fields),
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


def _replaced(text: str) -> str:
    """Return the lambda expression for a text with Slack's three characters as entities."""
    for letter, entity in (("&", "&amp;"), ("<", "&lt;"), (">", "&gt;")):
        text = f"strReplace({text}, '{letter}', '{entity}', -1)"
    return text
