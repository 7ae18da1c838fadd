"""InfluxQL for dashboards: names, values and conditions as text. Pure."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from squash_api.judging.metadata_query import signed_ends
from squash_api.judging.wording import exact_number
from squash_api.schema.names import Interval, Term


@dataclass(frozen=True, slots=True)
class Place:
    """Where points are: database, retention policy, measurement.

    The first two are empty where a request names them beside the query.
    """

    database: str
    retention_policy: str
    measurement: str

    def __str__(self) -> str:
        names = (self.database, self.retention_policy, self.measurement)
        return ".".join(identifier(name) for name in names if name)


@dataclass(frozen=True, slots=True)
class Dialect:
    """How a program has in queries what its viewer chooses, and what it tells the viewer of that.

    Parameters
    ----------
    times
        The condition on the time that the viewer chose.
    last_times
        The condition on the time of which tiles show the last values; `last_words` are its name.
    interval
        The time between two points of a graph.
    shown
        The condition on the tags of values.
    range_url
        The address of the same dashboard over another time, whose length is `{}`; empty if the
        program's own menu is enough.
    about_limits, about_choices
        Markdown on how graphs show limits, and on how to choose values by their tags.
    """

    times: str
    last_times: str
    last_words: str
    interval: str
    shown: str
    range_url: str
    about_limits: str
    about_choices: str


def identifier(name: str) -> str:
    """Return a name in double quotes."""
    return f'"{_escaped(name, quote=chr(34))}"'


def literal(text: str) -> str:
    """Return a text in single quotes."""
    return f"'{_escaped(text, quote=chr(39))}'"


def plus(value: float) -> str:
    """Return the number with `+` or `-` before it: InfluxQL has no `+-`."""
    return f"{'-' if value < 0 else '+'}{exact_number(abs(value))}"


def condition(terms: Iterable[Term]) -> str:
    """Return the condition that points match all terms; empty without terms."""
    return " AND ".join(map(_like, terms))


def unless(terms: Iterable[Term]) -> str:
    """Return the condition that points do not match all terms, which must be on tags."""
    some = [
        " AND ".join(f"{identifier(term.name)} != {_text(item)}" for item in term.values or ())
        for term in terms
    ]
    if len(some) == 1:
        return some[0]
    return f"({' OR '.join(f'({text})' if ' AND ' in text else text for text in some)})"


def _like(term: Term) -> str:
    name = identifier(term.name)
    if isinstance(term.value, Interval):
        ends = (f"{name} {sign} {exact_number(end)}" for sign, end in signed_ends(term.value))
        return " AND ".join(ends)
    some = [f"{name} = {_text(item)}" for item in term.values or ()]
    return some[0] if len(some) == 1 else f"({' OR '.join(some)})"


def _text(value: str | float) -> str:
    return literal(value) if isinstance(value, str) else exact_number(value)


def either(groups: Sequence[Iterable[Term]]) -> str:
    """Return the condition that points match one of several groups; empty if one is empty."""
    return any_of(sorted({condition(terms) for terms in groups}))


def any_of(conditions: Iterable[str]) -> str:
    """Return the condition that one of several is true; empty if one of them is empty."""
    texts = list(conditions)
    if not all(texts):
        return ""
    return texts[0] if len(texts) == 1 else " OR ".join(f"({text})" for text in texts)


def select(columns: Iterable[str], place: Place | str, *conditions: str, end: str = "") -> str:
    """Return a SELECT statement with all conditions that are not empty.

    `place` may be a subquery in parentheses; `end` follows the conditions, such as `GROUP BY *`.
    """
    wanted = " AND ".join(f"({text})" if " OR " in text else text for text in conditions if text)
    where = f" WHERE {wanted}" if wanted else ""
    words = ("SELECT", ", ".join(columns), f"FROM {place}{where}", end)
    return " ".join(word for word in words if word)


def _escaped(text: str, *, quote: str) -> str:
    return text.replace("\\", "\\\\").replace(quote, f"\\{quote}").replace("\n", "\\n")
