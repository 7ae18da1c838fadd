"""The definition of a specification: a limit on a metric, and to which jobs it applies."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import date
from typing import Any

from squash_api.judging import alert_keys
from squash_api.judging.alert_keys import duration_text
from squash_api.judging.kinds import threshold as thresholds
from squash_api.judging.metadata_query import parse_query
from squash_api.schema.names import SERIES_TAGS, Schema
from squash_api.verify.metrics import (
    LEGAL_NAME,
    Fault,
    Source,
    invalid,
    metric_name_problem,
    parse_tags,
    posted_name,
)

OPERATORS = thresholds.OPERATORS
"""The comparisons: measurement on the left, threshold on the right."""

LEVELS = alert_keys.LEVELS
"""How bad a violation is, the mildest first."""

DEFAULT_MAX_AGE_S = 7 * 86400
"""An alert is about data of the last week, unless `alert.max_age` says otherwise."""

_LEVEL_OF_TAG = {"minimum": "CRITICAL", "design": "WARNING", "stretch": "INFO"}


@dataclass(frozen=True, slots=True)
class Mute:
    """No alerts through the day `until`, and the reason."""

    until: date
    why: str


@dataclass(frozen=True, slots=True)
class Alert:
    """What a specification says about its alerts; None leaves it to the default."""

    level: str | None = None
    channel: str | None = None
    per: tuple[str, ...] | None = None
    max_age_s: int | None = None
    mute: Mute | None = None


@dataclass(frozen=True, slots=True)
class Expect:
    """How often a value should arrive, and how late it may be, in seconds."""

    every_s: int
    grace_s: int


@dataclass(frozen=True, slots=True)
class Specification:
    """A limit on a metric: `measurement operator threshold` must hold.

    Two specifications are equal when their definitions are, wherever they were read from.
    """

    name: str
    metric: str
    operator: str
    threshold: float
    unit: str
    tags: tuple[str, ...] = ()
    metadata_query: dict[str, Any] = field(default_factory=dict)
    alert: Alert | None = None
    expect: Expect | None = None
    source: Source | None = field(default=None, compare=False)
    bases: tuple[str, ...] = field(default=(), compare=False)
    type: str = "threshold"

    @property
    def level(self) -> str:
        """How bad a violation is: as `alert` says, else the worst that a tag says."""
        if self.alert is not None and self.alert.level is not None:
            return self.alert.level
        levels = [_LEVEL_OF_TAG[tag] for tag in self.tags if tag in _LEVEL_OF_TAG]
        return max(levels, key=LEVELS.index, default="WARNING")

    @property
    def per(self) -> tuple[str, ...]:
        """The tags whose values are alerted on one by one."""
        named = None if self.alert is None else self.alert.per
        return SERIES_TAGS if named is None else named

    @property
    def channel(self) -> str | None:
        """The Slack channel to tell; None for the default one."""
        return None if self.alert is None else self.alert.channel

    @property
    def max_age_s(self) -> int:
        """The age, in seconds, beyond which data raise no alert."""
        named = None if self.alert is None else self.alert.max_age_s
        return DEFAULT_MAX_AGE_S if named is None else named

    @property
    def muted_through(self) -> date | None:
        """The last day without alerts; None if it is not muted."""
        mute = None if self.alert is None else self.alert.mute
        return None if mute is None else mute.until

    def to_json(self) -> dict[str, Any]:
        """Return the definition as the API sends it and a YAML document may hold it."""
        document: dict[str, Any] = {
            "name": self.name,
            "threshold": {"value": self.threshold, "unit": self.unit, "operator": self.operator},
            "tags": list(self.tags),
            "metadata_query": dict(self.metadata_query),
            "type": self.type,
        }
        if self.alert is not None:
            document["alert"] = _alert_to_json(self.alert)
        if self.expect is not None:
            document["expect"] = _expect_to_json(self.expect)
        return document


def specification_from_json(
    document: Any,
    *,
    name: str | None = None,
    source: Source | None = None,
    schema: Schema = Schema(),
) -> Specification:
    """Read a definition that was posted to the API.

    Parameters
    ----------
    document
        An object with the keys of `Specification.to_json`; others are ignored.
    name
        The name in the address of the request, which the document need not repeat.

    Raises
    ------
    InvalidInputError
        With every problem in its `detail`.
    """
    if not isinstance(document, dict):
        raise invalid("specification", [Fault((), "a specification is an object")])
    full_name, faults = posted_name(document, name)
    if full_name is not None:
        problem = specification_name_problem(full_name, schema)
        faults.extend([Fault(("name",), problem)] if problem else [])
    if document.get("type") not in (None, "threshold"):
        faults.append(Fault(("type",), "the only type of specification is 'threshold'"))
    if document.get("tags") is None:
        document = {**document, "tags": []}
    specification, others = parse_specification(
        document, name=full_name or "", source=source, schema=schema
    )
    if specification is None or faults or others:
        raise invalid("specification", [*faults, *others])
    return specification


def specification_name_problem(name: str, schema: Schema) -> str | None:
    """Return why a definition cannot have this name, and what to do, or None if it can."""
    metric, dot, last = name.rpartition(".")
    if not dot or not last or metric.count(".") != 1:
        return f"'{name}' is not a specification's name: write package.metric.name, with two dots"
    if LEGAL_NAME.match(name) is None:
        return f"'{name}' holds more than letters, digits, '_' and '-': choose another name"
    return metric_name_problem(metric, schema)


def parse_specification(
    document: Mapping[Any, Any],
    *,
    name: str,
    source: Source | None = None,
    bases: tuple[str, ...] = (),
    schema: Schema = Schema(),
    today: date | None = None,
) -> tuple[Specification | None, list[Fault]]:
    """Read one resolved document, whatever its origin.

    Parameters
    ----------
    today
        Where it is given, a mute that ended before this day is a fault.

    Returns
    -------
    tuple
        The specification, and all faults. It is None only where the faults leave no complete
        threshold; faults elsewhere leave that part out.
    """
    faults: list[Fault] = []
    threshold = thresholds.parse_threshold(document, faults)
    tags = document.get("tags", [])
    if tags is None:
        faults.append(Fault(("tags",), "tags are a text or a list of texts: write [] for none"))
    query = parse_query(document.get("metadata_query"), schema, faults)
    alert = parse_alert(document.get("alert"), schema, faults, today=today)
    expect = parse_expect(document.get("expect"), faults)
    parsed_tags = parse_tags(tags, faults)
    if threshold is None:
        return None, faults
    value, unit, comparison = threshold
    return (
        Specification(
            name=name,
            metric=name.rpartition(".")[0],
            operator=comparison,
            threshold=value,
            unit=unit,
            tags=parsed_tags,
            metadata_query=query,
            alert=alert,
            expect=expect,
            source=source,
            bases=bases,
        ),
        faults,
    )


def parse_alert(
    value: Any, schema: Schema, faults: list[Fault], *, today: date | None = None
) -> Alert | None:
    """Read the key `alert`; null in it takes back what a base says, and what is wrong is left out.

    Parameters
    ----------
    today
        Where it is given, a mute that ended before this day is a fault.
    """
    read: dict[str, Callable[[Any], Any]] = {
        "level": alert_keys.parse_level,
        "channel": alert_keys.parse_channel,
        "per": lambda per: alert_keys.parse_per(per, schema),
        "max_age": alert_keys.parse_duration,
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


def _parse_mute(value: Any, faults: list[Fault], *, today: date | None) -> Mute | None:
    read: dict[str, Callable[[Any], Any]] = {
        "until": alert_keys.parse_day,
        "why": alert_keys.parse_reason,
    }
    before = len(faults)
    found = _read_keys(value, "alert.mute", read, faults)
    if found is None or len(faults) > before:
        return None
    for key in read:
        if key not in found:
            faults.append(Fault(("alert", "mute"), f"a mute needs '{key}': write until and why"))
            return None
    if today is not None and found["until"] < today:
        message = f"the mute ended on {found['until']}: take it away, or give it a later day"
        faults.append(Fault(("alert", "mute", "until"), message))
    return Mute(found["until"], found["why"])


def parse_expect(value: Any, faults: list[Fault]) -> Expect | None:
    """Read the key `expect`; without `grace` a value may not be late at all."""
    duration = alert_keys.parse_duration
    found = _read_keys(value, "expect", {"every": duration, "grace": duration}, faults)
    if found is None:
        return None
    if "every" not in found:
        if isinstance(value, dict) and value.get("every") is None:
            faults.append(Fault(("expect",), "'every' is missing: write expect: {every: 24h}"))
        return None
    return Expect(found["every"], found.get("grace", 0))


def _read_keys(
    value: Any, path: str, readers: Mapping[str, Callable[[Any], Any]], faults: list[Fault]
) -> dict[str, Any] | None:
    """Read the keys of a mapping, each with its own function; null is as if it were not there."""
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


def _alert_to_json(alert: Alert) -> dict[str, Any]:
    mute = alert.mute
    written: dict[str, Any] = {
        "level": alert.level.lower() if alert.level else None,
        "channel": alert.channel,
        "per": None if alert.per is None else list(alert.per),
        "max_age": None if alert.max_age_s is None else duration_text(alert.max_age_s),
        "mute": {"until": mute.until.isoformat(), "why": mute.why} if mute else None,
    }
    return {key: value for key, value in written.items() if value is not None}


def _expect_to_json(expect: Expect) -> dict[str, Any]:
    written = {"every": duration_text(expect.every_s)}
    return {**written, "grace": duration_text(expect.grace_s)} if expect.grace_s else written
