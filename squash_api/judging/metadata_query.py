"""Which jobs a specification applies to: the terms of its metadata query, and their conditions."""

from collections.abc import Callable, Iterable, Iterator, Mapping
from datetime import date
from difflib import get_close_matches
from math import isfinite
from typing import Any

from squash_api.judging.wording import plain_number
from squash_api.schema.names import Among, Context, Interval, Schema, Term
from squash_api.schema.text import SentNumber, tag_text
from squash_api.verify.metrics import Fault, is_unicode

IN = "in"
"""The key of a condition that lists the values which a job may have."""

_BELOW = {"<": False, "<=": True}
_ABOVE = {">": False, ">=": True}
"""The keys of a condition on numbers, and whether the number itself is included."""

CONDITIONS = (*_ABOVE, *_BELOW, IN)
"""The keys of a condition."""

_SIGNS = {"<=": "\u2264", ">=": "\u2265"}
_CONDITION_HINT = "write {'>=': 1.2, '<': 2} or {in: [g, r]}"
_MAX_DEPTH = 10
_LARGEST = 1 << 63
_MOST_VALUES = 1000


def parse_query(value: Any, schema: Schema, faults: list[Fault]) -> dict[str, Any]:
    """Read the terms of a query, with values that JSON can hold.

    A term that no job can match is a fault, but stays in the query. Null and other empty values
    mean an empty query, as in lsst.verify.
    """
    if not value and not isinstance(value, bytes):
        return {}
    if not isinstance(value, dict):
        faults.append(
            Fault(("metadata_query",), "metadata_query must be a mapping of keys to values")
        )
        return {}
    terms: dict[str, Any] = {}
    for key, wanted in value.items():
        loc = ("metadata_query", _shown(key))
        if not isinstance(key, str) or not is_unicode(key):
            faults.append(Fault(loc, f"the key {key!a} is not text: put it in quotes"))
        plain, problem = _plain(wanted, _MAX_DEPTH)
        terms[_shown(key)] = plain
        if isinstance(wanted, dict):
            problems = list(_condition_problems(loc[1], wanted, schema))
        else:
            reason = schema.term_problem(loc[1], plain)
            is_of_key = schema.term_problem(loc[1], "https://any.text") is not None
            if reason is not None and (problem is None or is_of_key):
                problem = f"no job can match it: {reason}; delete the term"
            problems = [] if problem is None else [problem]
        said = f"'{loc[1]}: {_written(wanted)}': "
        faults.extend(Fault(loc, f"{said}{each}"[:300]) for each in problems)
    return terms


def query_terms(query: Mapping[str, Any], schema: Schema) -> tuple[Term, ...] | None:
    """Return the terms of a query under InfluxDB's names, without repeats, sorted by name.

    Returns None if no job can have one of them: earlier versions stored such queries.
    """
    found = {term_of(key, value, schema) for key, value in query.items()}
    terms = [term for term in found if term is not None]
    if len(terms) < len(found):
        return None
    return tuple(sorted(terms, key=lambda term: (term.name, repr(term.value))))


def term_of(key: str, wanted: Any, schema: Schema) -> Term | None:
    """Return a term of a query as it is compared; None if no job can match it."""
    if not isinstance(wanted, dict):
        return schema.term(key, wanted)
    if not wanted or any(_condition_problems(key, wanted, schema)):
        return None
    if IN in wanted:
        terms = [term for item in wanted[IN] if (term := schema.term(key, item)) is not None]
        values = sorted({str(term.value) for term in terms})
        if isinstance(terms[0].value, float):
            numbers = {term.value for term in terms if isinstance(term.value, float)}
            condition = Among(tuple(sorted(numbers)))
        else:
            condition = Among(tuple(values))
        # One value is the same as the value itself, also in the ids of alerts.
        only = condition.values[0] if len(condition.values) == 1 else condition
        return Term(terms[0].name, only, terms[0].is_tag)
    field = schema.term(key, 1.5)
    return None if field is None else Term(field.name, _interval(wanted), field.is_tag)


def applies(terms: Iterable[Term], context: Context) -> bool:
    """Return whether a job's metadata has every term."""
    return all(map(context.satisfies, terms))


def query_words(
    query: Mapping[str, Any], *, equals: str, text: Callable[[Any], str], is_ascii: bool = False
) -> list[str]:
    """Return the terms of a query, as it is written: `filter_name = r`, `airmass < 2`.

    Parameters
    ----------
    equals
        What is between the key and a value that must be equal.
    text
        Writes such a value.
    """
    return [
        f"{key}{equals}{text(wanted)}"
        if (words := condition_words(wanted, is_ascii=is_ascii)) is None
        else f"{key} {words}"
        for key, wanted in query.items()
    ]


def condition_words(wanted: Any, *, is_ascii: bool = False) -> str | None:
    """Return a condition in words: `≥ 1.2 and < 2`, `in g, r`; None if it is a value, or none."""
    if not isinstance(wanted, dict) or not wanted:
        return None
    if isinstance(wanted.get(IN), list):
        return f"in {', '.join(tag_text(item) or repr(item) for item in wanted[IN])}"
    if any(sign not in CONDITIONS for sign in wanted) or any(_number_problems(wanted)):
        return None
    return _interval_words(_interval(wanted), is_ascii=is_ascii)


def value_words(term: Term) -> str:
    """Return what metadata must be to meet a term: `r`, `g, r` or `≥ 1.2 and < 2`."""
    if isinstance(term.value, Interval):
        return _interval_words(term.value, is_ascii=False)
    return ", ".join(
        item if isinstance(item, str) else plain_number(item) for item in term.values or ()
    )


def signed_ends(interval: Interval) -> list[tuple[str, float]]:
    """Return the ends that an interval has, each with the sign of what numbers must be to it."""
    ends = (
        (">=" if interval.has_low else ">", interval.low),
        ("<=" if interval.has_high else "<", interval.high),
    )
    return [(sign, end) for sign, end in ends if end is not None]


def _interval_words(interval: Interval, *, is_ascii: bool) -> str:
    return " and ".join(
        f"{sign if is_ascii else _SIGNS.get(sign, sign)} {plain_number(end)}"
        for sign, end in signed_ends(interval)
    )


def _interval(wanted: Mapping[str, Any]) -> Interval:
    low = next((key for key in _ABOVE if key in wanted), None)
    high = next((key for key in _BELOW if key in wanted), None)
    return Interval(
        None if low is None else float(wanted[low]),
        None if high is None else float(wanted[high]),
        low is not None and _ABOVE[low],
        high is not None and _BELOW[high],
    )


def _condition_problems(key: str, wanted: Mapping[Any, Any], schema: Schema) -> Iterator[str]:
    """Yield what is wrong with a condition, and what to do."""
    unknown = [item for item in wanted if item not in CONDITIONS]
    if not wanted or unknown:
        yield _not_a_condition(unknown)
    elif IN in wanted:
        yield from _list_problems(key, wanted, schema)
    else:
        yield from _number_problems(wanted)
        found = schema.term(key, 1.5)
        if found is None:
            yield f"no job can match it: {schema.term_problem(key, 1.5)}; delete the term"
        elif isinstance(found.value, str):
            kind = "tag" if found.is_tag else "field"
            yield (
                f"the {kind} '{found.name}' is text, which has no order: list the values, "
                "{in: [...]}"
            )


def _not_a_condition(unknown: list[Any]) -> str:
    if not unknown:
        return f"the condition is empty: {_CONDITION_HINT}"
    (first, *_) = unknown
    if first in ("==", "="):
        return "to be equal is no condition: write the value itself"
    swapped = str(first)[::-1]
    near = [swapped] if swapped in CONDITIONS else []
    near = near or get_close_matches(str(first).lower(), CONDITIONS, n=1, cutoff=0.5)
    if near:
        return f"{first!r} is not a condition: did you mean '{near[0]}'?"
    return f"{first!r} is not a condition: {_CONDITION_HINT}"


def _list_problems(key: str, wanted: Mapping[Any, Any], schema: Schema) -> Iterator[str]:
    values = wanted[IN]
    if len(wanted) > 1:
        yield "a condition with 'in' has no other key: delete the others"
    if not isinstance(values, list):
        yield f"'in' is not a list: write {{in: [{_written(values)}]}}"
        return
    if not values:
        yield "no job can match it: the list is empty; name values, or delete the term"
        return
    if len(values) > _MOST_VALUES:
        yield f"the list has {len(values)} values: name at most {_MOST_VALUES}"
        return
    names = set()
    for item in values:
        plain, problem = _plain(item, 0)
        problem = problem or schema.term_problem(key, plain)
        if problem is not None:
            yield f"{_written(item)}: {problem}"
            return
        term = schema.term(key, plain)
        names.add(None if term is None else term.name)
    if len(names) > 1:
        yield "numbers and texts in one list are fields of their own: write all in the same way"


def _number_problems(wanted: Mapping[Any, Any]) -> Iterator[str]:
    """Yield what is wrong with a condition on numbers."""
    for sign, number in wanted.items():
        if isinstance(number, bool) or not isinstance(number, int | float):
            yield f"'{sign}' needs a number, and {_written(number)} is none: write it in digits"
            return
        if abs(number) >= _LARGEST or not isfinite(number):
            yield f"'{sign}' needs a finite number of at most 64 bits"
            return
    for pair in (_ABOVE, _BELOW):
        if all(sign in wanted for sign in pair):
            yield f"{' and '.join(map(repr, pair))} exclude each other: write one"
            return
    interval = _interval(wanted)
    if interval.example is None:
        yield f"no number is {_interval_words(interval, is_ascii=True)}: exchange or correct them"


def _plain(value: Any, depth: int) -> tuple[Any, str | None]:
    """Return a value as JSON can hold it, and the problem with it."""
    if isinstance(value, str) and not is_unicode(value):
        return "", "cannot be encoded as UTF-8"
    if isinstance(value, int) and abs(value) >= _LARGEST:
        return None, "larger than a 64-bit number: put it in quotes"
    if isinstance(value, SentNumber):
        return float(value), "a 64-bit float does not hold all its digits: put it in quotes"
    if value is None or isinstance(value, str | int | float):
        return value, None
    if isinstance(value, date):
        return value.isoformat(), "a date without quotes is not text: put it in quotes"
    if depth and isinstance(value, list):
        pairs = [_plain(item, depth - 1) for item in value]
        problems = (problem for _, problem in pairs if problem is not None)
        return [plain for plain, _ in pairs], next(problems, None)
    if depth and isinstance(value, dict):
        held = {_shown(key): _plain(item, depth - 1)[0] for key, item in value.items()}
        return held, None
    return None, "must be text, a number, or a list of these"


def _written(value: Any) -> str:
    """Return a value about as its author wrote it."""
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    try:
        return value.isoformat() if isinstance(value, date) else repr(value)
    except ValueError:  # Python writes no integer of more than 4,300 digits
        return "a number of thousands of digits"


def _shown(key: Any) -> str:
    """Return the text of a key of any type."""
    return key if isinstance(key, str) and is_unicode(key) else ascii(key)
