"""The keys `alert` and `expect` of a specification, and the order of the levels.

Each key has a function that reads its value, or raises `ValueError` that says what to write.
"""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import date, datetime
from math import prod
from typing import Any, Literal, get_args

from squash_api.schema import answers
from squash_api.schema.names import Schema
from squash_api.schema.text import tag_text
from squash_api.verify.metrics import Fault

Level = answers.Level
"""How bad it is to break a limit."""

LEVELS: tuple[Level, ...] = get_args(Level)
"""The levels, mildest first."""

WORST_FIRST: tuple[Level, ...] = LEVELS[::-1]
"""The levels in the order in which people read them."""

PER_JOB: Literal["job"] = "job"
"""The group of all alerts that a job opens, of whatever metric."""

Group = tuple[str, ...] | Literal["job"]
"""The tags over which alerts are told as one, none of them if each is told by itself."""

GROUPED_TAGS = ("detector", "ccdnum", "tract", "patch", "spectrograph", "ccd", "fiber")
"""The tags that single out parts of a focal plane or of the sky."""

MOST_RUNS = 200
"""The most runs that `after` and `min_runs` may ask for."""

_MOST_EACH = 10_000
_SEVERITIES: Mapping[str, int] = {level: rank for rank, level in enumerate(LEVELS, start=1)}
_LONGEST_S = 3650 * 86400
_SECONDS = {"w": 604800, "d": 86400, "h": 3600, "m": 60, "s": 1}
_DURATION = re.compile(r"(\d{1,9})([wdhms])\Z", re.ASCII)
_CHANNEL = re.compile(r"[#@][^\s#@,<>&\"'`\\\x00-\x1f\x7f-\x9f\ud800-\udfff]{1,80}\Z")
_DAY = re.compile(r"\d{4}-\d\d-\d\d\Z", re.ASCII)
_RANGE = re.compile(r"(\d{1,9})-(\d{1,9})\Z", re.ASCII)
_CONTROL = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f]")


@dataclass(frozen=True, slots=True)
class Mute:
    """Sends no alerts through the day `until`, for the reason `why`."""

    until: date
    why: str


@dataclass(frozen=True, slots=True)
class After:
    """Raises a limit when at least `runs` of the newest `of` runs with a value break it."""

    runs: int
    of: int

    def to_json(self) -> dict[str, int]:
        """Return the keys of a document."""
        return {"runs": self.runs, "of": self.of}


@dataclass(frozen=True, slots=True)
class Alert:
    """How a specification sends its alerts; None stands for the default.

    `min_runs` is how many runs with a value a series must have before a limit is raised at all.
    With `trial` alerts are judged and kept, and nobody is told. `group` are the tags over which
    alerts are told as one; `PER_JOB` is for all that a job brings.
    """

    level: Level | None = None
    channel: str | None = None
    per: tuple[str, ...] | None = None
    max_age_s: int | None = None
    mute: Mute | None = None
    after: After | None = None
    min_runs: int | None = None
    trial: bool | None = None
    group: Group | None = None

    def to_json(self) -> dict[str, Any]:
        """Return the keys of a document, without those left to the default."""
        mute = self.mute
        written: dict[str, Any] = {
            "level": self.level.lower() if self.level else None,
            "channel": self.channel,
            "per": None if self.per is None else list(self.per),
            "max_age": None if self.max_age_s is None else duration_text(self.max_age_s),
            "mute": {"until": mute.until.isoformat(), "why": mute.why} if mute else None,
            "after": self.after.to_json() if self.after else None,
            "min_runs": self.min_runs,
            "trial": self.trial,
            "group": None if self.group is None else _group_written(self.group),
        }
        return {key: value for key, value in written.items() if value is not None}


@dataclass(frozen=True, slots=True)
class Expect:
    """How often a value should arrive, and how late it may be, in seconds.

    `each` names the values of tags for each of which one should, as written: with ranges.
    """

    every_s: int
    grace_s: int
    each: tuple[tuple[str, tuple[str, ...]], ...] = ()

    def to_json(self) -> dict[str, Any]:
        """Return the keys of a document."""
        written: dict[str, Any] = {"every": duration_text(self.every_s)}
        if self.grace_s:
            written["grace"] = duration_text(self.grace_s)
        if self.each:
            written["each"] = {name: list(values) for name, values in self.each}
        return written

    @property
    def values(self) -> dict[str, tuple[str, ...]]:
        """The values in `each`, by tag, with those that the ranges stand for, in their order."""
        return {
            name: tuple(dict.fromkeys(one for item in written for one in values_of(item)))
            for name, written in self.each
        }


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
        "per": lambda per: _parse_tags(per, schema),
        "max_age": parse_duration,
        "mute": lambda mute: mute,
        "after": lambda after: after,
        "min_runs": _parse_runs,
        "trial": _parse_trial,
        "group": lambda group: _parse_group(group, schema),
    }
    found = _read_keys(value, "alert", read, faults)
    if found is None:
        return None
    return Alert(
        level=found.get("level"),
        channel=found.get("channel"),
        per=found.get("per"),
        max_age_s=found.get("max_age"),
        mute=_parse_mute(found.get("mute"), faults, today=today),
        after=_parse_after(found.get("after"), faults),
        min_runs=found.get("min_runs"),
        trial=found.get("trial"),
        group=found.get("group"),
    )


def default_group(per: tuple[str, ...]) -> tuple[str, ...]:
    """Return the tags over which alerts of series by these tags are told as one."""
    return tuple(name for name in per if name in GROUPED_TAGS)


def group_problem(group: Group | None, per: tuple[str, ...]) -> str | None:
    """Return why alerts of series by some tags cannot be grouped so; None if they can."""
    named = () if group is None or group == PER_JOB else group
    wrong = next((name for name in named if name not in per), None)
    if wrong is None:
        return None
    return (
        f"{wrong!r} does not tell alerts apart, so they cannot be grouped over it: choose from "
        f"{', '.join(per) or 'nothing'}, the tags of alert.per"
    )


def parse_expect(value: Any, schema: Schema, faults: list[Fault]) -> Expect | None:
    """Read the key `expect`; without `grace`, a value is late as soon as its time is over."""
    read: dict[str, Callable[[Any], Any]] = {
        "every": parse_duration,
        "grace": parse_duration,
        "each": lambda each: _parse_each(each, schema),
    }
    found = _read_keys(value, "expect", read, faults)
    if found is None:
        return None
    if "every" not in found:
        if isinstance(value, dict) and value.get("every") is None:
            faults.append(Fault(("expect",), "'every' is missing: write expect: {every: 24h}"))
        return None
    return Expect(found["every"], found.get("grace", 0), found.get("each", ()))


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


def values_of(written: str) -> tuple[str, ...]:
    """Return the values that an entry of `expect.each` stands for: `0-188` is a range.

    The numbers of a range have at least as many digits as its first: `08-10` is 08, 09, 10.
    """
    match = _RANGE.match(written)
    if match is None:
        return (written,)
    first, last = match.groups()
    return tuple(str(number).zfill(len(first)) for number in range(int(first), int(last) + 1))


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


def _parse_after(value: Any, faults: list[Fault]) -> After | None:
    before = len(faults)
    found = _read_keys(value, "alert.after", {"runs": _parse_runs, "of": _parse_runs}, faults)
    if found is None or len(faults) > before:
        return None
    missing = next((key for key in ("runs", "of") if key not in found), None)
    if missing is not None:
        message = f"'after' needs '{missing}': write how many runs of how many, {{runs: 2, of: 3}}"
        faults.append(Fault(("alert", "after"), message))
        return None
    if found["runs"] > found["of"]:
        message = f"{found['runs']} of {found['of']} runs can never be: make 'runs' at most 'of'"
        faults.append(Fault(("alert", "after", "runs"), message))
        return None
    return After(found["runs"], found["of"])


def _parse_runs(value: Any) -> int:
    """Read a number of runs."""
    if type(value) is not int or not 1 <= value <= MOST_RUNS:
        raise ValueError(f"{value!r} is not a number of runs: write a whole one, 1 to {MOST_RUNS}")
    return value


def _parse_trial(value: Any) -> bool:
    """Read whether nobody is told."""
    if value is True or value is False:
        return value is True
    raise ValueError(f"{value!r} is neither true nor false: write true, without quotes")


def _parse_group(value: Any, schema: Schema) -> Group:
    """Read the tags over which alerts are told as one, or a word."""
    if value == PER_JOB:
        return PER_JOB
    if value == "none":
        return ()
    try:
        return _parse_tags(value, schema)
    except ValueError as error:
        raise ValueError(f"{error}; or write none, or job") from None


def _group_written(group: Group) -> str | list[str]:
    return PER_JOB if group == PER_JOB else list(group) or "none"


def _parse_each(value: Any, schema: Schema) -> tuple[tuple[str, tuple[str, ...]], ...]:
    """Read the values of tags for each of which a value is expected."""
    if not isinstance(value, dict) or not value:
        raise ValueError(
            "'each' is not a mapping of tags to values: write {detector: [0-188, 190]}"
        )
    names = _parse_tags(list(value), schema)
    each = tuple((name, _parse_values(name, value[name])) for name in names)
    if prod(sum(map(_count_of, written)) for _, written in each) > _MOST_EACH:
        raise ValueError(f"it expects more than {_MOST_EACH:,} values at a time: name fewer")
    return each


def _parse_values(name: str, value: Any) -> tuple[str, ...]:
    written = []
    for item in value if isinstance(value, list) else [value]:
        text = tag_text(item) if type(item) in (str, int, float) else None
        if text is None or not _count_of(text):
            raise ValueError(
                f"{item!r} names no values of {name!r}: write texts, numbers, and ranges like "
                "0-188 from the smaller to the larger"
            )
        written.append(text)
    if not written:
        raise ValueError(f"the list of {name!r} is empty: write its values, such as [0-188, 190]")
    return tuple(dict.fromkeys(written))


def _count_of(written: str) -> int:
    match = _RANGE.match(written)
    return 1 if match is None else max(0, int(match[2]) - int(match[1]) + 1)


def _parse_tags(value: Any, schema: Schema) -> tuple[str, ...]:
    """Read the names of tags, such as those whose values have alerts of their own."""
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
