"""Reading JSON as it is sent: strictly first, then with tolerance for what old pipelines write."""

import json
import re
from typing import Any

import orjson

from squash_api.errors import Detail, InvalidInputError, MalformedJsonError
from squash_api.schema.text import as_sent, repaired, sent_integer, sent_number

MAX_DEPTH = 250
"""Deepest nesting accepted; orjson cannot write what is deeper than 254."""

# What may be a number that a float rounds. A shorter one is held exactly, as an int64 if need be.
_LONG_NUMBER = re.compile(rb"\d[\d.]{15}|\d[eE][+-]?\d{3}")
# Without an exponent, and short enough to be finite.
_MOST_DIGITS = 300
_POINT_NUMBER = re.compile(rb"-?(?:0|[1-9]\d*)\.\d+")


def decode_json(body: bytes) -> tuple[Any, int]:
    """Decode JSON, strictly first, then with tolerance for what old pipelines write.

    Return the value, and how many bare `NaN` and `Infinity` were read as null. Lone surrogates
    become U+FFFD, since no database accepts them. Integers beyond 64 bits become floats; of these,
    and of other numbers that a float rounds, `decode_exactly` keeps the digits.

    Raises
    ------
    MalformedJsonError
        With line and column.
    InvalidInputError
        If it is nested too deep.
    """
    try:
        return orjson.loads(body), 0
    except orjson.JSONDecodeError:
        return _decode_tolerantly(body)


def decode_exactly(body: bytes) -> Any:
    """Decode JSON as `decode_json` does, but with a `SentNumber` for what a float rounds."""
    # Most values are text, in which there is no number.
    if body.startswith(b'"') or not has_long_number(body):
        return orjson.loads(body)
    if _POINT_NUMBER.fullmatch(body) and len(body) < _MOST_DIGITS:
        # All digits of a double, such as an airmass: the tolerant way costs accepting a job 15 us.
        return sent_number(body.decode())
    return _decode_tolerantly(body)[0]


def decode_body(body: bytes) -> tuple[Any, int]:
    """Decode a body that is kept: as `decode_json` does, with all digits of its numbers.

    Raises
    ------
    MalformedJsonError
        With line and column.
    InvalidInputError
        If it is nested too deep.
    """
    found, bare = _decode_tolerantly(body) if has_long_number(body) else decode_json(body)
    check_depth(found, body)
    return found, bare


def check_depth(document: Any, body: bytes) -> None:
    """Raise `InvalidInputError` if what was decoded is nested too deep to be written again."""
    # Text with few brackets cannot be.
    if body.count(b"{") + body.count(b"[") >= MAX_DEPTH:
        try:
            orjson.dumps(document, default=as_sent)
        except orjson.JSONEncodeError:
            raise _too_deep() from None


def has_long_number(text: bytes) -> bool:
    """Tell whether a JSON text may have a number that a float rounds."""
    return _LONG_NUMBER.search(text) is not None


def path_text(loc: tuple[str | int, ...]) -> str:
    """Render a place in the body as a JSON path: `$.measurements[3].metric`."""
    parts = [f"[{part}]" if isinstance(part, int) else f".{part}" for part in loc[1:]]
    return "$" + "".join(parts)


def _decode_tolerantly(body: bytes) -> tuple[Any, int]:
    """Decode what orjson refuses: bare NaN, numbers beyond a double, lone surrogates."""
    bare: list[str] = []
    try:
        text = body.decode("utf-8-sig")
        document = json.loads(
            text,
            parse_constant=bare.append,
            parse_float=sent_number,
            parse_int=sent_integer,
        )
        return _storable(document, 0), len(bare)
    except UnicodeDecodeError as error:
        message, at = f"The body is not UTF-8: {error.reason}", error.start
    except json.JSONDecodeError as error:
        message = f"The body is not JSON: {error.msg} at line {error.lineno}, column {error.colno}"
        at = error.pos
    except RecursionError:
        raise _too_deep() from None
    raise MalformedJsonError(f"{message}.", detail=[Detail(("body", at), message, "json_invalid")])


def _too_deep() -> InvalidInputError:
    problem = f"is nested deeper than {MAX_DEPTH} levels"
    return InvalidInputError(
        f"The body {problem}.", detail=[Detail(("body",), problem, "too_deep")]
    )


def _storable(node: Any, depth: int) -> Any:
    """Return the node with text and numbers that orjson and databases accept."""
    if isinstance(node, str):
        return repaired(node)
    if isinstance(node, dict | list):
        if depth > MAX_DEPTH:
            raise RecursionError
        if isinstance(node, list):
            return [_storable(item, depth + 1) for item in node]
        # orjson writes no other kind of text as a key.
        return {str(repaired(key)): _storable(value, depth + 1) for key, value in node.items()}
    if isinstance(node, float) and node - node != 0:
        return None
    return node
