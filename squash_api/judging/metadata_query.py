"""Which jobs a specification applies to: the terms of its metadata query."""

from collections.abc import Iterable, Mapping
from datetime import date
from typing import Any

from squash_api.schema.names import Context, Schema, Term
from squash_api.schema.text import SentNumber
from squash_api.verify.metrics import Fault, is_unicode

_MAX_DEPTH = 10
_LARGEST = 1 << 63


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
        reason = schema.term_problem(loc[1], plain)
        is_of_key = schema.term_problem(loc[1], "https://any.text") is not None
        if reason is not None and (problem is None or is_of_key):
            problem = f"no job can match it: {reason}; delete the term"
        if problem is not None:
            faults.append(Fault(loc, f"'{loc[1]}: {_written(wanted)}': {problem}"[:300]))
    return terms


def query_terms(query: Mapping[str, Any], schema: Schema) -> tuple[Term, ...] | None:
    """Return the terms of a query under InfluxDB's names, without repeats, sorted by name.

    Returns None if no job can have one of them: earlier versions stored such queries.
    """
    found = {schema.term(key, value) for key, value in query.items()}
    terms = [term for term in found if term is not None]
    if len(terms) < len(found):
        return None
    return tuple(sorted(terms, key=lambda term: (term.name, repr(term.value))))


def applies(terms: Iterable[Term], context: Context) -> bool:
    """Return whether a job's metadata has every term."""
    return all(map(context.satisfies, terms))


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
