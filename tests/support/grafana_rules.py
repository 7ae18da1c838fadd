"""Grafana's alert rules read back from their files, and evaluated as Grafana's documents say.

A query gives series with labels; `reduce` takes the last number of each, `math` joins numbers with
the same labels. A series whose condition is not 0 alerts; without series there is no data.
"""

import math
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import cache
from typing import Any

from squash_api.generate.grafana.alerting import ALERTING
from squash_api.generate.output import read_yaml

Labels = frozenset[tuple[str, str]]
Series = Mapping[Labels, Sequence[float | None]]
Numbers = dict[Labels, float | None]

_TOKEN = re.compile(
    r"\s*(?:(?P<number>\d+\.\d+)|(?P<name>\$[A-Z])|(?P<sign>\|\||&&|==|!=|<=|>=|[<>!()-]))"
)
_COMPARISONS: Mapping[str, Callable[[float, float], bool]] = {
    "<": lambda one, other: one < other,
    "<=": lambda one, other: one <= other,
    ">": lambda one, other: one > other,
    ">=": lambda one, other: one >= other,
    "==": lambda one, other: one == other,
    "!=": lambda one, other: one != other,
}


@dataclass(frozen=True)
class ReadRule:
    """A rule of a file."""

    document: Mapping[str, Any]

    @property
    def uid(self) -> str:
        return str(self.document["uid"])

    @property
    def level(self) -> str:
        return str(self.document["labels"]["squash_level"])

    @property
    def queries(self) -> dict[str, str]:
        """The queries for InfluxDB, by reference."""
        return {
            item["refId"]: item["model"]["query"]
            for item in self.document["data"]
            if item["datasourceUid"] != "__expr__"
        }

    def firing(self, found: Mapping[str, Series]) -> dict[Labels, bool] | None:
        """Return which series alert, given what the queries found; None if there is no data."""
        numbers: dict[str, Numbers] = {}
        for item in self.document["data"]:
            model = item["model"]
            if item["datasourceUid"] != "__expr__":
                continue
            if model["type"] == "reduce":
                assert model["settings"] == {"mode": "dropNN"}
                assert model["reducer"] == "last"
                numbers[item["refId"]] = {
                    labels: _last(values)
                    for labels, values in found.get(model["expression"], {}).items()
                }
            else:
                assert model["type"] == "math"
                numbers[item["refId"]] = math_of(model["expression"], numbers)
        condition = numbers[self.document["condition"]]
        states = {
            labels: bool(number) for labels, number in condition.items() if number is not None
        }
        return states or None

    def state(self, value: float | None) -> str:
        """Return the state of the only series by its value; None if it has no point."""
        labels: Labels = frozenset()
        found = {} if value is None else {key: {labels: [value]} for key in self.queries}
        states = self.firing(found)
        if states is None:
            return str(self.document["noDataState"])
        return "Alerting" if states[labels] else "OK"


def read_rules(files: Mapping[str, str]) -> list[ReadRule]:
    """Return the rules of all files, in their order."""
    return [
        ReadRule(rule)
        for path, text in files.items()
        if path.startswith(f"{ALERTING}/rules-")
        for group in read_yaml(text)["groups"]
        for rule in group["rules"]
    ]


def labels_of(tags: Mapping[str, str] | None) -> Labels:
    """Return the labels of a series."""
    return frozenset((tags or {}).items())


def math_of(expression: str, numbers: Mapping[str, Numbers]) -> Numbers:
    """Evaluate an expression of Grafana's math for each set of labels."""
    names = re.findall(r"\$([A-Z])", expression)
    common = set.intersection(*(set(numbers[name]) for name in names))
    made: Numbers = {}
    for labels in common:
        values = {name: numbers[name][labels] for name in names}
        if None in values.values():
            made[labels] = None
        else:
            made[labels] = _Expression(expression, values).value()
    return made


def is_muted(intervals: Sequence[Mapping[str, Any]], moment: datetime) -> bool:
    """Tell whether one of the time intervals of a mute timing has a moment."""
    assert all(item["location"] == "UTC" for item in intervals)
    moment = moment.astimezone(UTC)
    parts = {"years": moment.year, "months": moment.month, "days_of_month": moment.day}
    return any(
        all(_includes(item.get(name), number) for name, number in parts.items())
        for item in intervals
    )


def moments_around(day: datetime) -> Iterator[datetime]:
    """Yield moments of days around a day, at their ends."""
    for days in (-400, -40, -1, 0, 1, 2, 40, 400):
        midnight = day + timedelta(days=days)
        yield midnight
        yield midnight + timedelta(days=1, microseconds=-1)


def _includes(written: Sequence[str] | None, number: int) -> bool:
    if written is None:
        return True
    (text,) = written
    first, _, last = text.partition(":")
    return int(first) <= number <= int(last or first)


def _last(values: Sequence[float | None]) -> float | None:
    usable = [value for value in values if value is not None and math.isfinite(value)]
    return usable[-1] if usable else None


class _Expression:
    """A recursive descent over the grammar of Grafana's math, as far as rules use it."""

    def __init__(self, text: str, values: Mapping[str, float | None]) -> None:
        self._tokens = _tokens(text)
        self._values = values
        self._place = 0

    def value(self) -> float:
        found = self._either()
        assert self._place == len(self._tokens), self._tokens
        return found

    def _either(self) -> float:
        found = self._both()
        while self._take("||"):
            other = self._both()
            found = float(bool(found) or bool(other))
        return found

    def _both(self) -> float:
        found = self._compared()
        while self._take("&&"):
            other = self._compared()
            found = float(bool(found) and bool(other))
        return found

    def _compared(self) -> float:
        found = self._one()
        sign = next((sign for sign in _COMPARISONS if self._take(sign)), None)
        if sign is not None:
            found = float(_COMPARISONS[sign](found, self._one()))
        return found

    def _one(self) -> float:
        if self._take("!"):
            return float(not self._one())
        if self._take("-"):
            return -self._one()
        if self._take("("):
            found = self._either()
            assert self._take(")")
            return found
        token = self._tokens[self._place]
        self._place += 1
        found_value = self._values[token[1:]] if token.startswith("$") else float(token)
        assert found_value is not None
        return found_value

    def _take(self, token: str) -> bool:
        is_next = self._place < len(self._tokens) and self._tokens[self._place] == token
        self._place += is_next
        return is_next


@cache
def _tokens(text: str) -> tuple[str, ...]:
    found, place = [], 0
    while place < len(text):
        match = _TOKEN.match(text, place)
        assert match is not None, text[place:]
        found.append(match[0].strip())
        place = match.end()
    return tuple(found)
