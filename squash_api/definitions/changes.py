"""Changes of definitions: reading proposals, checking them against the record, storing them."""

import json
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from squash_api.errors import Detail, InvalidInputError, NameTakenError, ReadOnlyError
from squash_api.index.derived import look_through_jobs, requeue_metrics
from squash_api.judging.kinds.criterion import Criterion, is_logarithmic, logarithmic_remedy
from squash_api.judging.kinds.registry import kind_of
from squash_api.judging.specifications import (
    Specification,
    member_problem,
    specification_from_json,
)
from squash_api.record.audit import Actor, note
from squash_api.record.definitions import (
    DefinitionRow,
    Kind,
    Origin,
    append_definitions,
    current,
    definitions_at,
    newest_revisions,
)
from squash_api.record.metrics import (
    declare_metrics,
    known_metrics,
    known_units,
    note_derivations,
    withdraw_metrics,
)
from squash_api.record.record import Connection
from squash_api.schema.names import Schema
from squash_api.verify.derivation import NOT_DERIVED, Derivation
from squash_api.verify.metrics import Metric, aggregate_misfit, metric_from_json, parse_metric
from squash_api.verify.units import converter, few_parses

MAX_NAME = 200
"""Longest name of a new metric or specification, in characters."""

# Most units of one request that astropy has not read before; it takes milliseconds for each.
_MOST_UNITS = 200

# The record has every definition that ever was: the audit trail names the first ones.
_MOST_NOTED = 100
_MOST_LETTERS = 200


@dataclass(frozen=True, slots=True)
class Proposal:
    """A definition that is to be stored; `loc` is its place in the request."""

    content: Metric | Specification
    loc: tuple[str | int, ...] = ("body",)

    @property
    def kind(self) -> Kind:
        """Whether it defines a metric or a specification."""
        return "metric" if isinstance(self.content, Metric) else "spec"

    @property
    def name(self) -> str:
        """The name of the metric or specification."""
        return self.content.name

    def is_in(self, row: DefinitionRow) -> bool:
        """Return whether the record has the same definition."""
        return self.text == _text(row.document)

    @property
    def text(self) -> str:
        """The whole definition as text; equal definitions have equal texts."""
        return _text(self.content.to_json())


def read_proposals(kind: Kind, documents: Sequence[Any], *, schema: Schema) -> list[Proposal]:
    """Read a list of definitions; equal ones count once.

    Raises
    ------
    InvalidInputError
        With every problem of every item in its `detail`.
    """
    found: dict[str, Proposal] = {}
    details: list[Detail] = []
    with few_parses(_MOST_UNITS):
        for index, document in enumerate(documents):
            loc = ("body", f"{kind}s", index)
            try:
                proposal = read_proposal(kind, document, loc=loc, schema=schema)
            except InvalidInputError as error:
                details.extend(error.detail)
                continue
            first = found.setdefault(proposal.name, proposal)
            if first.text != proposal.text:
                message = f"item {first.loc[-1]} defines '{proposal.name}' differently"
                details.append(Detail((*loc, "name"), message))
    if details:
        raise invalid_proposals(details)
    return list(found.values())


def read_proposal(
    kind: Kind,
    document: Any,
    *,
    schema: Schema,
    loc: tuple[str | int, ...] = ("body",),
    name: str | None = None,
) -> Proposal:
    """Read one definition; `name` is that of the URL.

    Raises
    ------
    InvalidInputError
        With every problem in its `detail`, below `loc`.
    """
    read = metric_from_json if kind == "metric" else specification_from_json
    try:
        return Proposal(read(document, name=name, schema=schema), loc)
    except InvalidInputError as error:
        raise below(loc, error) from None


def below(loc: tuple[str | int, ...], error: InvalidInputError) -> InvalidInputError:
    """Return an error whose places are all below one of the request."""
    details = [Detail((*loc, *item.loc), item.msg, item.type) for item in error.detail]
    return InvalidInputError(error.message, detail=details)


def invalid_proposals(details: Sequence[Detail]) -> InvalidInputError:
    """Make the error that names the first of these problems and has all in its `detail`."""
    first = details[0]
    place = ".".join(map(str, first.loc[1:]))
    more = f" (and {len(details) - 1} more)" if len(details) > 1 else ""
    return InvalidInputError(f"Nothing was stored: {place}: {first.msg}{more}.", detail=details)


def _text(document: Any) -> str:
    # As text, since to Python 1 and true are equal.
    return json.dumps(document, sort_keys=True)


NOUNS: dict[Kind, str] = {"metric": "metric", "spec": "specification"}


@dataclass(frozen=True, slots=True)
class Change:
    """The outcome of proposals.

    `stored` has the names that were stored, `unchanged` counts those that existed already.
    `requeued_jobs` counts the jobs that are derived and sent again; `notes` are sentences.
    `withdrawn` has the names of specifications that went with it.
    """

    stored: tuple[str, ...]
    unchanged: int
    requeued_jobs: int
    notes: tuple[str, ...]
    withdrawn: tuple[str, ...] = ()


def select_new(connection: Connection, proposals: Sequence[Proposal]) -> list[Proposal]:
    """Return the proposals, all of one kind, whose names are free.

    Raises
    ------
    ReadOnlyError, NameTakenError
        If a name is defined differently, by YAML or in the API; `detail` has all of them.
    InvalidInputError
        If a new name is too long.
    """
    if not proposals:
        return []
    noun = NOUNS[proposals[0].kind]
    known = current(connection, proposals[0].kind, names=[proposal.name for proposal in proposals])
    other = [
        proposal
        for proposal in proposals
        if proposal.name in known and not proposal.is_in(known[proposal.name])
    ]
    from_yaml = [proposal for proposal in other if known[proposal.name].origin == "yaml"]
    if from_yaml:
        raise ReadOnlyError(
            f"The {noun} {_names(from_yaml)} comes from YAML: change it there.",
            detail=[
                Detail(item.loc, f"'{item.name}' is defined at {known[item.name].source}")
                for item in from_yaml
            ],
        )
    if other:
        raise NameTakenError(
            f"The {noun} {_names(other)} exists already, with another definition: use PUT to "
            "change it.",
            detail=[Detail(item.loc, f"'{item.name}' exists already") for item in other],
        )
    new = [proposal for proposal in proposals if proposal.name not in known]
    check_names(new)
    return new


def check_names(new: Iterable[Proposal]) -> None:
    """Check that the names of new definitions are not too long; older ones may be longer.

    Raises
    ------
    InvalidInputError
        With every name that is in its `detail`.
    """
    # Generated and exported files have these names.
    message = f"the name is longer than {MAX_NAME} characters"
    details = [Detail((*item.loc, "name"), message) for item in new if len(item.name) > MAX_NAME]
    if details:
        raise invalid_proposals(details)


def check_specifications(connection: Connection, proposals: Sequence[Proposal]) -> None:
    """Check that the metrics of specifications are declared, or proposed, and that their units fit.

    Raises
    ------
    InvalidInputError
        With every wrong specification in its `detail`.
    """
    wanted = [
        (proposal, proposal.content)
        for proposal in proposals
        if isinstance(proposal.content, Specification)
    ]
    metrics = current(connection, "metric", names={content.metric for _, content in wanted})
    units = {
        **{name: row.document["unit"] for name, row in metrics.items() if row.document is not None},
        **_units_of(proposals),
    }
    details: list[Detail] = []
    for proposal, content in wanted:
        unit = units.get(content.metric)
        if unit is None:
            message = f"the metric '{content.metric}' is not declared: declare it first"
            details.append(Detail((*proposal.loc, "name"), message))
        elif (misfit := content.criterion.misfit(unit)) is not None:
            message = (
                f"'{content.criterion.unit}' {misfit}, the unit of the metric "
                f"'{content.metric}': {content.criterion.remedy(unit)}"
            )
            details.append(Detail((*proposal.loc, *content.criterion.UNIT_PATH), message))
    details += _wrong_members(connection, proposals)
    if details:
        raise invalid_proposals(details)


def _wrong_members(connection: Connection, proposals: Sequence[Proposal]) -> Iterator[Detail]:
    """Yield what compounds cannot count, among what is in force and what is proposed."""
    proposed = {
        item.name: item.content.criterion
        for item in proposals
        if isinstance(item.content, Specification)
    }
    names = {name for criterion in proposed.values() for name in criterion.members}
    rows = current(connection, "spec", names=sorted(names)) if names else {}
    known = {name: _criterion_of(row.document) for name, row in rows.items()} | proposed
    for item in proposals:
        criterion = proposed.get(item.name)
        for name in () if criterion is None else criterion.members:
            problem = member_problem(name, item.name, known.get)
            if problem is not None and criterion is not None:
                yield Detail((*item.loc, *criterion.UNIT_PATH), problem)


def _criterion_of(document: Mapping[str, Any] | None) -> Criterion | None:
    kind = kind_of(document or {})
    return kind.parse(document, []) if document and kind else None


def misfits(connection: Connection, proposals: Iterable[Proposal]) -> dict[str, dict[str, str]]:
    """Find specifications whose units do not fit the proposed units of their metrics.

    Returns
    -------
    dict
        The reason for each, by name in order, by metric.
    """
    units = _changed_units(connection, proposals)
    revisions = newest_revisions(connection, "spec") if units else {}
    wanted = [revision for name, revision in revisions.items() if name.rpartition(".")[0] in units]
    found: dict[str, dict[str, str]] = {}
    for row in sorted(definitions_at(connection, wanted), key=lambda row: row.name):
        metric = row.name.rpartition(".")[0]
        criterion = _criterion_of(row.document)
        misfit = None if criterion is None else criterion.misfit(units[metric])
        if criterion is not None and misfit is not None:
            found.setdefault(metric, {})[row.name] = f"'{criterion.unit}' {misfit}"
    return found


def check_metrics(
    connection: Connection, proposals: Sequence[Proposal], *, withdrawn: Sequence[str] = ()
) -> None:
    """Check that the units of existing specifications fit those proposed for metrics.

    Specifications that are proposed or `withdrawn` at the same time are no longer those there are.

    Raises
    ------
    InvalidInputError
        With every specification that does not fit in its `detail`.
    """
    replaced = {*withdrawn, *(item.name for item in proposals if item.kind == "spec")}
    bad = {
        metric: {name: why for name, why in found.items() if name not in replaced}
        for metric, found in misfits(connection, proposals).items()
    }
    details = [
        Detail((*item.loc, "unit"), _misfit_words(bad[item.name], item.content.unit))
        for item in proposals
        if isinstance(item.content, Metric) and bad.get(item.name)
    ]
    if details:
        raise invalid_proposals(details)


def check_aggregates(connection: Connection, proposals: Sequence[Proposal]) -> None:
    """Check that the metrics that proposed aggregates are made of are declared, and fit.

    Raises
    ------
    InvalidInputError
        With every aggregate that cannot be made in its `detail`.
    """
    new = {item.name: item.content for item in proposals if isinstance(item.content, Metric)}
    made = {
        name: metric.derivation.aggregation.of
        for name, metric in new.items()
        if metric.derivation.aggregation is not None
    }
    rows = current(connection, "metric", names=made.values()) if made else {}
    details: list[Detail] = []
    for item in proposals:
        if item.name not in made:
            continue
        of, row = new.get(made[item.name]), rows.get(made[item.name])
        if of is None and row is not None:
            of, _ = parse_metric(row.document or {}, name=row.name)
        misfit = (
            f"the metric '{made[item.name]}' is not declared: declare it first"
            if of is None
            else aggregate_misfit(new[item.name], of)
        )
        if misfit is not None:
            details.append(Detail((*item.loc, "aggregate", "of"), misfit))
    if details:
        raise invalid_proposals(details)


def _misfit_words(bad: Mapping[str, str], unit: str) -> str:
    """Say which limits do not fit a unit; the reason only where it is a rare one."""
    rare = [f"{name}: {why}" for name, why in bad.items() if not why.endswith(f"to '{unit}'")]
    said = "; ".join(rare) or f"the limits of {', '.join(bad)} do not convert to '{unit}'"
    if is_logarithmic(unit):
        return f"{said}; no limit can be in '{unit}': {logarithmic_remedy(unit)}"
    return said


def incompatible_units(connection: Connection, proposals: Iterable[Proposal]) -> list[str]:
    """Make a sentence for each metric whose earlier values do not convert to its new unit."""
    units = _changed_units(connection, proposals)
    before = known_units(connection, units)
    return [
        f"`{name}` was in '{before[name]}', which does not convert to '{unit}': values that were "
        "sent in it are skipped from now on, and leave InfluxDB."
        for name, unit in units.items()
        if before.get(name) is not None and converter(before[name] or "", unit) is None
    ]


def store(
    connection: Connection,
    proposals: Sequence[Proposal],
    *,
    origin: Origin,
    by: Actor,
    is_binding: bool = True,
    withdrawn: Sequence[tuple[Kind, str]] = (),
) -> int:
    """Store proposals that have been checked, and withdraw definitions; note who did it.

    With `is_binding` the units of metrics bind everybody, else only the user. If a metric gets
    another unit, or its values are derived in another way, its jobs are derived and sent again.

    Returns
    -------
    int
        How many jobs those are.
    """
    derived = _changed_derivations(connection, proposals, withdrawn)
    changed = _changed_units(connection, proposals)
    if is_binding:
        changed |= _disputable_units(connection, proposals)
    wanted = [(item.kind, item.name, item.content) for item in proposals]
    rows = [
        DefinitionRow(
            kind=kind,
            name=name,
            document=None if content is None else content.to_json(),
            origin=origin,
            source=None if content is None or content.source is None else str(content.source),
            user_id=by.user_id if origin == "api" else None,
            created_ns=time.time_ns(),
        )
        for kind, name, content in [*wanted, *((kind, name, None) for kind, name in withdrawn)]
    ]
    revision = append_definitions(connection, rows)
    if rows:
        _note_change(connection, [row.name for row in rows], withdrawn, origin=origin, by=by)
    before = known_metrics(connection, changed)
    declare_metrics(connection, changed, by=None if is_binding else by.user_id)
    withdraw_metrics(connection, [name for kind, name in withdrawn if kind == "metric"])
    note_derivations(connection, derived)
    # Values without a unit stay the numbers they are.
    converted = [
        name
        for name, row in before.items()
        if row.unit not in (None, changed[name]) or row.own_units
    ]
    return _derive_again(connection, converted, derived, request=revision)


def _derive_again(
    connection: Connection,
    converted: Iterable[str],
    derived: Mapping[str, Derivation],
    *,
    request: int,
) -> int:
    """Request that the jobs of metrics are derived and sent again; return how many these are."""
    count = requeue_metrics(connection, {*converted, *derived}, request=request)
    if any(item.reduction is not None for item in derived.values()):
        look_through_jobs(connection)
    return count


def _note_change(
    connection: Connection,
    names: Sequence[str],
    withdrawn: Sequence[tuple[Kind, str]],
    *,
    origin: Origin,
    by: Actor,
) -> None:
    """Note a change in the audit trail: one entry, which names the first definitions."""
    change = "definition.withdraw" if len(withdrawn) == len(names) else "definition.change"
    others = f" and {len(names) - 1} more" if len(names) > 1 else ""
    note(
        connection,
        by,
        "specs.sync" if origin == "yaml" else change,
        f"{names[0][:_MOST_LETTERS]}{others}",
        names=[name[:_MOST_LETTERS] for name in names[:_MOST_NOTED]],
        withdrawn=[name[:_MOST_LETTERS] for _, name in withdrawn[:_MOST_NOTED]],
        count=len(names),
    )


def _units_of(proposals: Iterable[Proposal]) -> dict[str, str]:
    return {item.name: item.content.unit for item in proposals if isinstance(item.content, Metric)}


def _changed_units(connection: Connection, proposals: Iterable[Proposal]) -> dict[str, str]:
    """Return the units of metrics that are not declared yet, or are declared in another unit."""
    units = _units_of(proposals)
    known = current(connection, "metric", names=units)
    return {
        name: unit
        for name, unit in units.items()
        if name not in known or (known[name].document or {}).get("unit") != unit
    }


def _changed_derivations(
    connection: Connection, proposals: Iterable[Proposal], withdrawn: Iterable[tuple[Kind, str]]
) -> dict[str, Derivation]:
    """Return how values are derived from now on, of metrics for which that changes."""
    new = {name: NOT_DERIVED for kind, name in withdrawn if kind == "metric"}
    new |= {
        item.name: item.content.derivation for item in proposals if isinstance(item.content, Metric)
    }
    known = current(connection, "metric", names=new)
    before = {name: Derivation.of(row.document or {}) for name, row in known.items()}
    return {name: item for name, item in new.items() if item != before.get(name, NOT_DERIVED)}


def _disputable_units(connection: Connection, proposals: Iterable[Proposal]) -> dict[str, str]:
    """Return the units of metrics whose unit a user has brought, which binds nobody else yet."""
    units = _units_of(proposals)
    known = known_metrics(connection, units)
    return {name: units[name] for name, row in known.items() if row.unit_by is not None}


def _names(proposals: Sequence[Proposal]) -> str:
    shown = ", ".join(f"`{proposal.name}`" for proposal in proposals[:3])
    return shown if len(proposals) <= 3 else f"{shown} (and {len(proposals) - 3} more)"
