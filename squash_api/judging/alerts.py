"""The keys `alert` and `expect` of a specification, and the order of the levels.

Each key has a function that reads its value, or raises `ValueError` that says what to write.
"""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import date, datetime
from typing import Any, Literal, get_args

from squash_api.schema.names import Schema
from squash_api.verify.metrics import Fault

Level = Literal["INFO", "WARNING", "CRITICAL"]
"""How bad it is to break a limit."""

LEVELS: tuple[Level, ...] = get_args(Level)
"""The levels, mildest first."""

WORST_FIRST: tuple[Level, ...] = LEVELS[::-1]
"""The levels in the order in which people read them."""

_SEVERITIES: Mapping[str, int] = {level: rank for rank, level in enumerate(LEVELS, start=1)}
_LONGEST_S = 3650 * 86400
_SECONDS = {"w": 604800, "d": 86400, "h": 3600, "m": 60, "s": 1}
_DURATION = re.compile(r"(\d{1,9})([wdhms])\Z", re.ASCII)
_CHANNEL = re.compile(r"[#@][^\s#@,<>&\"'`\\\x00-\x1f\x7f-\x9f\ud800-\udfff]{1,80}\Z")
_DAY = re.compile(r"\d{4}-\d\d-\d\d\Z", re.ASCII)
_CONTROL = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f]")


@dataclass(frozen=True, slots=True)
class Mute:
    """Sends no alerts through the day `until`, for the reason `why`."""

    until: date
    why: str


@dataclass(frozen=True, slots=True)
class Alert:
    """How a specification sends its alerts; None stands for the default."""

    level: Level | None = None
    channel: str | None = None
    per: tuple[str, ...] | None = None
    max_age_s: int | None = None
    mute: Mute | None = None

    def to_json(self) -> dict[str, Any]:
        """Return the keys of a document, without those left to the default."""
        mute = self.mute
        written: dict[str, Any] = {
            "level": self.level.lower() if self.level else None,
            "channel": self.channel,
            "per": None if self.per is None else list(self.per),
            "max_age": None if self.max_age_s is None else duration_text(self.max_age_s),
            "mute": {"until": mute.until.isoformat(), "why": mute.why} if mute else None,
        }
        return {key: value for key, value in written.items() if value is not None}


@dataclass(frozen=True, slots=True)
class Expect:
    """How often a value should arrive, and how late it may be, in seconds."""

    every_s: int
    grace_s: int

    def to_json(self) -> dict[str, Any]:
        """Return the keys of a document."""
        written = {"every": duration_text(self.every_s)}
        return {**written, "grace": duration_text(self.grace_s)} if self.grace_s else written


def severity_of(level: str) -> int:
    """Return the severity of a level: 1 for INFO to 3 for CRITICAL (0 means nothing is broken)."""
    return _SEVERITIES[level]


def level_of(severity: int) -> Level:
    """Return the level of a severity from 1 to 3."""
    return LEVELS[severity - 1]


def parse_alert(
    value: Any, schema: Schema, faults: list[Fault], *, today: date | None = None
) -> Alert | None:
    """Read the key `alert`, without what is wrong in it; null undoes what a base says.

    A mute that ended before `today` is a fault.
    """
    read: dict[str, Callable[[Any], Any]] = {
        "level": parse_level,
        "channel": _parse_channel,
        "per": lambda per: _parse_per(per, schema),
        "max_age": parse_duration,
    }
    found = _read_keys(value, "alert", {**read, "mute": lambda mute: mute}, faults)
    if found is None:
        return None
    return Alert(
        level=found.get("level"),
        channel=found.get("channel"),
        per=found.get("per"),
        max_age_s=found.get("max_age"),
        mute=_parse_mute(found.get("mute"), faults, today=today),
    )


def parse_expect(value: Any, faults: list[Fault]) -> Expect | None:
    """Read the key `expect`; without `grace`, a value is late as soon as its time is over."""
    read = {"every": parse_duration, "grace": parse_duration}
    found = _read_keys(value, "expect", read, faults)
    if found is None:
        return None
    if "every" not in found:
        if isinstance(value, dict) and value.get("every") is None:
            faults.append(Fault(("expect",), "'every' is missing: write expect: {every: 24h}"))
        return None
    return Expect(found["every"], found.get("grace", 0))


def parse_level(value: Any) -> Level:
    """Read a level, in any case."""
    written = value.upper() if isinstance(value, str) else ""
    level = next((level for level in LEVELS if level == written), None)
    if level is None:
        raise ValueError(f"{value!r} is not a level: write info, warning or critical")
    return level


def parse_duration(value: Any) -> int:
    """Return the seconds of a text like `24h`, `7d`, `90m`, `30s` or `2w`."""
    match = _DURATION.match(value) if isinstance(value, str) else None
    seconds = int(match[1]) * _SECONDS[match[2]] if match else 0
    if not 0 < seconds <= _LONGEST_S:
        raise ValueError(
            f"{value!r} is not a duration: write a whole number and one of w, d, h, m, s, like 24h "
            "(ten years at most)"
        )
    return seconds


def duration_text(seconds: int) -> str:
    """Return the text that `parse_duration` reads back."""
    unit = next(unit for unit in "dhms" if seconds % _SECONDS[unit] == 0)
    return f"{seconds // _SECONDS[unit]}{unit}"


def _parse_mute(value: Any, faults: list[Fault], *, today: date | None) -> Mute | None:
    read: dict[str, Callable[[Any], Any]] = {"until": _parse_day, "why": _parse_reason}
    before = len(faults)
    found = _read_keys(value, "alert.mute", read, faults)
    if found is None or len(faults) > before:
        return None
    for key in read:
        if key not in found:
            faults.append(Fault(("alert", "mute"), f"a mute needs '{key}': write until and why"))
            return None
    if today is not None and found["until"] < today:
        message = f"the mute ended on {found['until']}: delete it, or give it a later day"
        faults.append(Fault(("alert", "mute", "until"), message))
    return Mute(found["until"], found["why"])


def _read_keys(
    value: Any, path: str, readers: Mapping[str, Callable[[Any], Any]], faults: list[Fault]
) -> dict[str, Any] | None:
    """Read the keys of a mapping, each with its own function; null counts as absent."""
    loc = tuple(path.split("."))
    if value is None:
        return None
    if not isinstance(value, dict):
        faults.append(Fault(loc, f"'{path}' is not a mapping of {', '.join(readers)}"))
        return None
    found: dict[str, Any] = {}
    for key, item in value.items():
        if key not in readers:
            message = f"'{path}' has no key {key!r}: its keys are {', '.join(readers)}"
            faults.append(Fault((*loc, str(key)), message))
        elif item is not None or key == "channel":
            try:
                found[key] = readers[key](item)
            except ValueError as error:
                faults.append(Fault((*loc, key), str(error)))
    return found


def _parse_channel(value: Any) -> str:
    """Read the Slack channel or person that gets the alerts."""
    if not isinstance(value, str) or _CHANNEL.match(value) is None:
        raise ValueError(
            f'{value!r} is not a channel: write one like "#dm-alerts", in quotes, since an '
            "unquoted # begins a comment"
        )
    return value


def _parse_per(value: Any, schema: Schema) -> tuple[str, ...]:
    """Read the tags whose values have alerts of their own."""
    names = value if isinstance(value, list) else [value]
    wrong = [name for name in names if name not in schema.tags]
    if wrong:
        known = ", ".join(schema.tags)
        raise ValueError(f"{wrong[0]!r} is not a tag of the points: choose one of {known}")
    return tuple(dict.fromkeys(names))


def _parse_day(value: Any) -> date:
    """Read a calendar day, a YAML date or an ISO text."""
    if isinstance(value, date) and not isinstance(value, datetime):
        return value
    if isinstance(value, str) and _DAY.match(value):
        try:
            return date.fromisoformat(value)
        except ValueError:
            pass
    raise ValueError(f"{value!r} is not a date: write it like 2026-12-15")


def _parse_reason(value: Any) -> str:
    """Read the reason for a mute."""
    # Generated files have lines of text.
    text = _CONTROL.sub(" ", value).strip() if isinstance(value, str) else ""
    if not text or any("\ud800" <= letter <= "\udfff" for letter in text):
        raise ValueError("write why it is muted, for people who miss the alert")
    return text
