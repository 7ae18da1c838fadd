"""Text and numbers for TICKscript, Go's templates and Slack. Pure."""

import json
from collections.abc import Sequence
from math import ceil, log10, ulp

from squash_api.errors import SettingsError
from squash_api.judging.wording import plain_number

_FEW = 6
_SLACK = str.maketrans({"&": "&amp;", "<": "&lt;", ">": "&gt;"})


def string(text: str) -> str:
    r"""Return a string of TICKscript, where `\'` is the only escape.

    Raises
    ------
    SettingsError
        If TICKscript cannot write it: it ends in a backslash and has three quotes in a row.
    """
    if not text.endswith("\\"):
        return "'" + text.replace("'", r"\'") + "'"
    if "'''" in text:
        raise SettingsError(f"cannot be written as a string in TICKscript: {text}")
    return f"'''{text}'''"


def reference(name: str) -> str:
    r"""Return the name of a tag, field, database or retention policy; only `\"` is an escape.

    Raises
    ------
    SettingsError
        If TICKscript cannot write it: it ends in a backslash.
    """
    if name.endswith("\\"):
        raise SettingsError(f"'{name}' ends in a backslash, which TICKscript cannot write")
    return '"' + name.replace('"', r"\"") + '"'


def comment(text: str) -> str:
    """Return text as one line of comment."""
    return "// " + " ".join("".join(c if c.isprintable() else " " for c in text).split())


def precisions(limits: Sequence[float]) -> list[int]:
    """Return numbers of decimals to show a value next to its limits, fewest first.

    The first is two more than any limit has. The next is for a value that still looks the same as a
    limit; with the last one, any two different values look different.
    """
    enough = max(max(0, ceil(-log10(max(ulp(limit) / 2, ulp(0.0))))) for limit in limits)
    most = max(len(plain_number(limit).partition(".")[2]) for limit in limits)
    found = [min(most + 2, enough)]
    more = _FEW
    while found[-1] < enough:
        found.append(min(found[-1] + more, enough))
        more *= 2
    return found


def for_slack(text: str) -> str:
    """Return text that Slack shows unchanged, with `&`, `<` and `>` escaped."""
    return text.translate(_SLACK)


def static(text: str) -> str:
    """Return text that a Go template and then Slack show unchanged."""
    return for_slack(text).replace("{", '{{"{"}}')


def go_string(text: str) -> str:
    """Return a string constant of a Go template."""
    return json.dumps(text, ensure_ascii=False)
