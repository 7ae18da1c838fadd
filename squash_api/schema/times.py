"""Times as people and programs write them, in ns since 1970 as InfluxDB has them."""

import re
from datetime import date, datetime, timedelta
from functools import lru_cache

_DAY_NS = 86_400 * 10**9
_EPOCH_DAY = date(1970, 1, 1).toordinal()
_DATE = re.compile(
    r"(?P<day>\d{4}-\d{2}-\d{2}|\d{8}|\d{4}-?W\d{2}(?:-?\d)?|(?P<year>\d{4})-?(?P<number>\d{3}))"
    r"(?:[T ](?P<time>\d{2}(?::\d{2}(?::\d{2})?|\d{2}(?:\d{2})?)?)"
    r"(?:(?<=\d{6}|:\d\d:\d\d)[.,](?P<fraction>\d{1,18}))?)?"
    r"\s*(?P<zone>Z|[+-]\d{2}(?::?\d{2})?)?",
    re.ASCII | re.IGNORECASE,
)


# Many jobs of a run may have the same.
@lru_cache(maxsize=256)
def parse_time_ns(text: str, *, is_end: bool = False) -> int | None:
    """Return an ISO 8601 date in ns since 1970, or None; UTC if it has no zone.

    A day without a time means its first moment, or with `is_end` its last. Dates of weeks and days
    of the year are read, so is 24:00, and a leap second as the second after it. Months and years
    alone are not.
    """
    match = _DATE.fullmatch(text.strip())
    if match is None:
        return None
    clock = (match["time"] or "").replace(":", "").ljust(6, "0")
    hours, minutes, seconds = (int(clock[place : place + 2]) for place in (0, 2, 4))
    fraction = int((match["fraction"] or "0")[:9].ljust(9, "0"))
    is_midnight = hours == 24 and not (minutes or seconds or fraction)
    is_leap = minutes == 59 and seconds == 60
    if (hours > 23 and not is_midnight) or minutes > 59 or (seconds > 59 and not is_leap):
        return None
    try:
        day = _day_of(match)
        zone = (match["zone"] or "Z").upper()
        offset = datetime.fromisoformat(f"2000-01-01T00:00:00{zone}").utcoffset()
    except (ValueError, OverflowError):
        return None
    since = timedelta(days=day.toordinal() - _EPOCH_DAY) - (offset or timedelta())
    time_ns = (
        since // timedelta(seconds=1) + hours * 3600 + minutes * 60 + seconds
    ) * 10**9 + fraction
    is_whole_day = is_end and match["time"] is None
    return time_ns + _DAY_NS - 1 if is_whole_day else time_ns


def _day_of(match: re.Match[str]) -> date:
    """Return the day of a date in any form."""
    if match["number"] is None:
        return date.fromisoformat(match["day"].upper())
    day = date(int(match["year"]), 1, 1) + timedelta(days=int(match["number"]) - 1)
    if day.year != int(match["year"]):
        raise ValueError("the year is not so long")
    return day
