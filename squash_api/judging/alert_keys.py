"""The keys `alert` and `expect` of a specification, value by value.

Each function returns what a value means, or raises `ValueError` with what to write instead.
"""

import re
from datetime import date, datetime
from typing import Any

from squash_api.schema.names import Schema

LEVELS = ("INFO", "WARNING", "CRITICAL")
"""How bad a violation is, the mildest first."""

LONGEST_S = 3650 * 86400
_SECONDS = {"w": 604800, "d": 86400, "h": 3600, "m": 60, "s": 1}
_DURATION = re.compile(r"(\d{1,9})([wdhms])\Z", re.ASCII)
_CHANNEL = re.compile(r"[#@][^\s#@,<>&\"'`\\\x00-\x1f\x7f-\x9f\ud800-\udfff]{1,80}\Z")
_DAY = re.compile(r"\d{4}-\d\d-\d\d\Z", re.ASCII)


def parse_level(value: Any) -> str:
    """Return the level of a violation, in capitals."""
    level = value.upper() if isinstance(value, str) else ""
    if level not in LEVELS:
        raise ValueError(f"{value!r} is no level: write info, warning or critical")
    return level


def parse_channel(value: Any) -> str:
    """Return the Slack channel or person to tell."""
    if not isinstance(value, str) or _CHANNEL.match(value) is None:
        raise ValueError(
            f'{value!r} is no channel: write one like "#dm-alerts", in quotes, since an '
            "unquoted # begins a comment"
        )
    return value


def parse_per(value: Any, schema: Schema) -> tuple[str, ...]:
    """Return the tags whose values are alerted on one by one."""
    names = value if isinstance(value, list) else [value]
    wrong = [name for name in names if name not in schema.tags]
    if wrong:
        known = ", ".join(schema.tags)
        raise ValueError(f"{wrong[0]!r} is no tag of the points: choose among {known}")
    return tuple(dict.fromkeys(names))


def parse_duration(value: Any) -> int:
    """Return the seconds of a text like `24h`, `7d`, `90m`, `30s` or `2w`."""
    match = _DURATION.match(value) if isinstance(value, str) else None
    seconds = int(match[1]) * _SECONDS[match[2]] if match else 0
    if not 0 < seconds <= LONGEST_S:
        raise ValueError(
            f"{value!r} is no duration: write a whole number and one of w, d, h, m, s, like 24h "
            "(ten years at most)"
        )
    return seconds


def duration_text(seconds: int) -> str:
    """Return the text that `parse_duration` reads back."""
    unit = next(unit for unit in "dhms" if seconds % _SECONDS[unit] == 0)
    return f"{seconds // _SECONDS[unit]}{unit}"


def parse_day(value: Any) -> date:
    """Return a calendar day from a YAML date or an ISO text."""
    if isinstance(value, date) and not isinstance(value, datetime):
        return value
    if isinstance(value, str) and _DAY.match(value):
        try:
            return date.fromisoformat(value)
        except ValueError:
            pass
    raise ValueError(f"{value!r} is no day: write it like 2026-12-15")


def parse_reason(value: Any) -> str:
    """Return why something is muted."""
    text = value.strip() if isinstance(value, str) else ""
    if not text or any("\ud800" <= letter <= "\udfff" for letter in text):
        raise ValueError("say why it is muted, for those who look for the alert")
    return text
