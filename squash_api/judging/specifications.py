"""Specifications: what values must meet, for which jobs, and with what alerts."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import date
from typing import Any

from squash_api.judging.alerts import (
    PER_JOB,
    After,
    Alert,
    Expect,
    Group,
    Level,
    default_group,
    group_problem,
    parse_alert,
    parse_expect,
    severity_of,
)
from squash_api.judging.kinds.criterion import Criterion
from squash_api.judging.kinds.registry import (
    KINDS,
    kind_by_keys,
    kind_of,
    kinds_with_keys,
    unknown_kind,
)
from squash_api.judging.metadata_query import parse_query, query_terms
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

DEFAULT_MAX_AGE_S = 7 * 86400
"""Only data of the last week raise alerts, unless `alert.max_age` says otherwise."""

_LEVEL_OF_TAG: Mapping[str, Level] = {"minimum": "CRITICAL", "design": "WARNING", "stretch": "INFO"}
LEVEL_TAGS = tuple(_LEVEL_OF_TAG)
"""The tags that say how bad it is to break a limit."""


@dataclass(frozen=True, slots=True)
class Specification:
    """A limit on a metric: values must meet the criterion.

    Specifications compare equal by definition, wherever they were read from.
    """

    name: str
    metric: str
    criterion: Criterion
    tags: tuple[str, ...] = ()
    metadata_query: dict[str, Any] = field(default_factory=dict)
    alert: Alert | None = None
    expect: Expect | None = None
    source: Source | None = field(default=None, compare=False)
    bases: tuple[str, ...] = field(default=(), compare=False)
    series: tuple[str, ...] = field(default=SERIES_TAGS, compare=False)

    @property
    def level(self) -> Level:
        """How bad it is to break it: the level in `alert`, otherwise the worst level of a tag."""
        if self.alert is not None and self.alert.level is not None:
            return self.alert.level
        levels = [_LEVEL_OF_TAG[tag] for tag in self.tags if tag in _LEVEL_OF_TAG]
        return max(levels, key=severity_of, default="WARNING")

    @property
    def per(self) -> tuple[str, ...]:
        """The tags whose values have alerts of their own."""
        named = None if self.alert is None else self.alert.per
        return self.series if named is None else named

    @property
    def group(self) -> Group:
        """The tags of `per` over which its alerts are told as one."""
        named = None if self.alert is None else self.alert.group
        if named is None:
            return default_group(self.per)
        return named if named == PER_JOB else tuple(name for name in self.per if name in named)

    @property
    def after(self) -> After | None:
        """How many of how many runs must break it; None if the newest value alone decides."""
        return None if self.alert is None else self.alert.after

    @property
    def min_runs(self) -> int:
        """How many runs with a value a series must have before it is raised; 0 for any number."""
        return (None if self.alert is None else self.alert.min_runs) or 0

    @property
    def is_trial(self) -> bool:
        """Whether nobody is told."""
        return self.alert is not None and bool(self.alert.trial)

    @property
    def is_served(self) -> bool:
        """Whether only the service can raise it: Kapacitor sees one value at a time."""
        return not self.criterion.IS_TICK or self.after is not None or self.min_runs > 0

    @property
    def channel(self) -> str | None:
        """The Slack channel that gets the alerts; None for the default one."""
        return None if self.alert is None else self.alert.channel

    @property
    def max_age_s(self) -> int:
        """The age in seconds beyond which data raise no alert."""
        named = None if self.alert is None else self.alert.max_age_s
        return DEFAULT_MAX_AGE_S if named is None else named

    @property
    def muted_through(self) -> date | None:
        """The last day without alerts; None if it is not muted."""
        mute = None if self.alert is None else self.alert.mute
        return None if mute is None else mute.until

    def to_json(self) -> dict[str, Any]:
        """Return the definition as the API sends it and as a YAML document can contain it."""
        document: dict[str, Any] = {
            "name": self.name,
            **self.criterion.to_json(),
            "tags": list(self.tags),
            "metadata_query": dict(self.metadata_query),
            "type": self.criterion.TYPE,
        }
        if self.alert is not None:
            document["alert"] = self.alert.to_json()
        if self.expect is not None:
            document["expect"] = self.expect.to_json()
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
        The name in the URL of the request, which the document need not repeat.

    Raises
    ------
    InvalidInputError
        With every problem in its `detail`.
    """
    if not isinstance(document, dict):
        raise invalid("specification", [Fault((), "a specification must be an object")])
    full_name, faults = posted_name(document, name)
    if full_name is not None:
        problem = _name_problem(full_name, schema)
        faults.extend([Fault(("name",), problem)] if problem else [])
    kind = kind_of(document)
    if kind is None:
        faults.append(Fault(("type",), unknown_kind(document["type"])))
    elif document.get("type") is None and len(several := kinds_with_keys(document)) > 1:
        keys = " and ".join(f"'{item.TYPE}'" for item in several)
        message = f"{keys} are of different types: write type"
        faults.append(Fault((several[1].TYPE,), message))
    if document.get("tags") is None:
        document = {**document, "tags": []}
    specification, others = parse_specification(
        document, name=full_name or "", source=source, schema=schema, kind=kind
    )
    if specification is None or faults or others:
        raise invalid("specification", [*faults, *others])
    return specification


def parse_specification(
    document: Mapping[Any, Any],
    *,
    name: str,
    source: Source | None = None,
    bases: tuple[str, ...] = (),
    schema: Schema = Schema(),
    today: date | None = None,
    kind: type[Criterion] | None = None,
) -> tuple[Specification | None, list[Fault]]:
    """Read one resolved document, whatever its origin.

    Parameters
    ----------
    kind
        None for the one whose keys the document has: lsst.verify ignores the key `type` in YAML.
    today
        Where it is given, a mute that ended before this day is a fault.

    Returns
    -------
    tuple
        The specification, and all faults. It is None only where the faults leave no complete
        criterion; faults elsewhere leave that part out.
    """
    faults: list[Fault] = []
    criterion = (kind or kind_by_keys(document)).parse(document, faults)
    if criterion is not None:
        criterion = _placed(criterion, name, faults)
    tags = document.get("tags", [])
    if tags is None:
        faults.append(Fault(("tags",), "tags must be text or a list of texts: write [] for none"))
    query = parse_query(document.get("metadata_query"), schema, faults)
    alert = parse_alert(document.get("alert"), schema, faults, today=today)
    expect = parse_expect(document.get("expect"), schema, faults)
    parsed_tags = parse_tags(tags, faults)
    if criterion is None:
        return None, faults
    found = Specification(
        name=name,
        metric=name.rpartition(".")[0],
        criterion=criterion,
        tags=parsed_tags,
        metadata_query=query,
        alert=alert,
        expect=expect,
        source=source,
        bases=bases,
        series=schema.series_tags,
    )
    return found, [*faults, *_contradictions(found, schema)]


def _contradictions(item: Specification, schema: Schema) -> Iterator[Fault]:
    """Yield a fault for each part of a specification that another part makes useless."""
    problem = None if item.alert is None else group_problem(item.alert.group, item.per)
    if problem is not None:
        yield Fault(("alert", "group"), problem)
    values = {} if item.expect is None else item.expect.values
    for term in (query_terms(item.metadata_query, schema) or ()) if values else ():
        expected = values.get(term.name, ()) if term.is_tag else ()
        wrong = next((value for value in expected if not term.is_met_by(value)), None)
        if wrong is not None:
            message = (
                f"{term.name} {wrong} is expected, but the metadata_query leaves it out, so that "
                "no job can bring it: change one of them"
            )
            yield Fault(("expect", "each", term.name), message)


def _placed(criterion: Criterion, name: str, faults: list[Fault]) -> Criterion:
    """Return the criterion of a specification with the full names of what it counts."""
    criterion = criterion.placed(name)
    members = criterion.members
    twice = next((item for item in members if members.count(item) > 1), None)
    if twice is not None:
        message = f"'{twice}' is in the list twice, by its short and its full name: delete one"
        faults.append(Fault(criterion.UNIT_PATH, message))
    return criterion


def check_partial(
    document: Mapping[Any, Any], *, schema: Schema, today: date | None
) -> list[Fault]:
    """Check a document that may be incomplete, such as one that is only a base of others."""
    faults: list[Fault] = []
    for kind in KINDS.values():
        kind.check(document, faults)
    parse_tags(document.get("tags"), faults)
    parse_query(document.get("metadata_query"), schema, faults)
    parse_alert(document.get("alert"), schema, faults, today=today)
    parse_expect(document.get("expect"), schema, faults)
    return faults


def member_problem(name: str, compound: str, find: Callable[[str], Criterion | None]) -> str | None:
    """Return why a compound cannot count a specification; None if it can.

    Parameters
    ----------
    find
        Looks up the criterion of a specification by its name.
    """
    if name == compound:
        return f"'{name}' counts itself: delete that name"
    found = find(name)
    if found is None:
        return f"there is no specification '{name}'"
    if found.history:
        return f"'{name}' is a {found.TYPE}, which needs earlier values: name thresholds and ranges"
    if not found.members:
        return None
    if compound in found.members:
        return f"'{name}' and '{compound}' count each other: delete one of the names"
    return f"'{name}' is a compound itself: name the specifications that it counts"


def _name_problem(name: str, schema: Schema) -> str | None:
    """Return why a specification cannot have this name, and what to do; None if it can."""
    metric, dot, last = name.rpartition(".")
    if not dot or not last or metric.count(".") != 1:
        return f"'{name}' is not a specification's name: write package.metric.name, with two dots"
    if LEGAL_NAME.match(name) is None:
        return f"'{name}' may contain only letters, digits, '_' and '-': choose another name"
    return metric_name_problem(metric, schema)
