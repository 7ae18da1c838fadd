"""JSON as pipelines write it: strict first, then once more for what old files hold."""

import json
import re
from typing import Any

import orjson

from squash_api.errors import Detail, InvalidInputError, MalformedJsonError

MAX_DEPTH = 250
"""Deepest nesting accepted; orjson cannot write what is deeper than 254."""

_MOST_DIGITS = 400
_SURROGATE = re.compile("[\ud800-\udfff]")


def decode_json(body: bytes) -> tuple[Any, int]:
    """Decode JSON; return it, and how many bare `NaN` and `Infinity` were read as null.

    Lone surrogates become U+FFFD: no database holds them. Integers beyond 64 bits become floats.

    Raises
    ------
    MalformedJsonError
        With line and column.
    InvalidInputError
        If the nesting is beyond what can be decoded.
    """
    try:
        return orjson.loads(body), 0
    except orjson.JSONDecodeError:
        return _decode_tolerantly(body)


def path_text(loc: tuple[str | int, ...]) -> str:
    """Return a place in the body as a JSON path: `$.measurements[3].metric`."""
    parts = [f"[{part}]" if isinstance(part, int) else f".{part}" for part in loc[1:]]
    return "$" + "".join(parts)


def too_deep_path(document: Any, *, shown: int = 4) -> tuple[str | int, ...]:
    """Return the first `shown` steps to a place that is nested deeper than `MAX_DEPTH` levels.

    The walk keeps its own stack: the document is deeper than Python may recurse.
    """
    stack: list[tuple[Any, int, tuple[str | int, ...]]] = [(document, 0, ())]
    while stack:
        node, depth, path = stack.pop()
        if depth > MAX_DEPTH:
            return path
        items = (
            node.items()
            if isinstance(node, dict)
            else enumerate(node)
            if isinstance(node, list)
            else ()
        )
        stack.extend((value, depth + 1, (*path, key)[:shown]) for key, value in items)
    return ()


def _decode_tolerantly(body: bytes) -> tuple[Any, int]:
    """Decode what orjson refuses: bare NaN, numbers beyond a double, lone surrogates."""
    bare: list[str] = []
    try:
        text = body.decode("utf-8-sig")
        document = json.loads(text, parse_constant=bare.append, parse_int=_integer)
        return _storable(document, 0), len(bare)
    except UnicodeDecodeError as error:
        message, at = f"The body is not UTF-8: {error.reason}", error.start
    except json.JSONDecodeError as error:
        message = f"The body is not JSON: {error.msg} at line {error.lineno}, column {error.colno}"
        at = error.pos
    except RecursionError:
        raise InvalidInputError(
            f"The body is nested deeper than {MAX_DEPTH} levels.",
            detail=[Detail(("body",), f"is nested deeper than {MAX_DEPTH} levels", "too_deep")],
        ) from None
    raise MalformedJsonError(f"{message}.", detail=[Detail(("body", at), message, "json_invalid")])


def _integer(digits: str) -> int | float:
    """Read an integer; Python refuses those of thousands of digits, which no float holds either."""
    return int(digits) if len(digits) < _MOST_DIGITS else float(digits)


def _storable(node: Any, depth: int) -> Any:
    """Return the node with text, numbers and nesting that orjson and databases can hold."""
    if isinstance(node, str):
        return _SURROGATE.sub("\ufffd", node)
    if isinstance(node, dict | list):
        if depth > MAX_DEPTH:
            raise RecursionError
        if isinstance(node, list):
            return [_storable(item, depth + 1) for item in node]
        return {
            _SURROGATE.sub("\ufffd", key): _storable(value, depth + 1)
            for key, value in node.items()
        }
    if isinstance(node, int) and not -(2**63) <= node < 2**64:
        try:
            node = float(node)
        except OverflowError:
            return None
    if isinstance(node, float) and node - node != 0:
        return None
    return node
