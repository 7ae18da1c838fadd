"""Text in the cells of CSV, which no spreadsheet may run."""

import re

# What spreadsheets run, also in the wide letters of East Asia, behind any number of our own marks;
# and what they take for a number.
_FORMULA = re.compile("'*[=+\\-@\t\r\n\uff1d\uff0b\uff0d\uff20]")
_NUMBER = re.compile(r"[+-]?[0-9]+(?:\.[0-9]*)?(?:[eE][+-]?[0-9]+)?")


def cell_text(text: str) -> str:
    """Write text for a cell of CSV so that no spreadsheet runs it: `'` marks what begins a formula.

    A text that is a number stays one. `cell_meaning` takes the mark off again. Source: OWASP, CSV
    injection.
    """
    if _FORMULA.match(text) is None or _NUMBER.fullmatch(text) is not None:
        return text
    return f"'{text}"


def cell_meaning(text: str) -> str:
    """Read what `cell_text` has written."""
    return text[1:] if text[:1] == "'" and _FORMULA.match(text) is not None else text
