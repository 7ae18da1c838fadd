"""Definitions of metrics and specifications: who may change them, and which are in force."""

import time
from bisect import bisect_right
from collections.abc import Callable, Mapping, Sequence
from itertools import islice
from pathlib import Path
from typing import Any, TypeVar

from squash_api.accounts.accounts import Account
from squash_api.definitions.changes import (
    NOUNS,
    Change,
    Proposal,
    below,
    check_aggregates,
    check_metrics,
    check_names,
    check_specifications,
    incompatible_units,
    read_proposal,
    read_proposals,
    select_new,
    store,
)
from squash_api.definitions.from_yaml import YamlChange, find_orphans, sync_yaml
from squash_api.definitions.in_force import Defined, DefinitionsInForce
from squash_api.errors import ForbiddenError, InvalidInputError, NotFoundError, ReadOnlyError
from squash_api.judging.metadata_query import query_terms
from squash_api.judging.simple_metric import SimpleMetric, read_simple_metric
from squash_api.judging.specifications import Specification
from squash_api.record.audit import SERVICE, Actor
from squash_api.record.definitions import DefinitionRow, Kind, current, one, owner_of
from squash_api.record.metrics import Metrics, known_metrics
from squash_api.record.record import Connection, Record
from squash_api.record.usage import NO_LIMITS, Limits, charge_metrics
from squash_api.schema.names import Schema
from squash_api.verify.metrics import Metric

_Content = TypeVar("_Content", Metric, Specification)


class Definitions:
    """The definitions in the record. Safe to use from many threads.

    Every change is one transaction, and what is wrong with it is raised before anything is stored:
    `InvalidInputError` for what cannot be a definition, `NameTakenError` and `ReadOnlyError` for a
    name that the API or YAML defines differently, `NotFoundError` for an unknown name,
    `ForbiddenError` for another user's definition, or a key that may not write to its package.
    Whatever is already defined like this is left alone.

    Parameters
    ----------
    schema
        The names in InfluxDB, which metrics must not collide with.
    metrics
        Refreshed after every change.
    catch_up
        Brings the index up to date: only then does it tell which jobs measure a metric.

    limits
        What a user may declare in a day; `OverLimitError` beyond.

    Attributes
    ----------
    in_force
        The definitions of any revision, parsed.
    """

    def __init__(
        self,
        record: Record,
        schema: Schema,
        metrics: Metrics,
        *,
        catch_up: Callable[[], None],
        limits: Limits = NO_LIMITS,
    ) -> None:
        self._catch_up = catch_up
        self._limits = limits
        self._record = record
        self._schema = schema
        self._metrics = metrics
        self.in_force = DefinitionsInForce(record, schema)

    def post(self, kind: Kind, documents: Sequence[Any], account: Account) -> Change:
        """Define all of these, or none."""
        proposals = read_proposals(kind, documents, schema=self._schema)
        account.require_namespaces(((*item.loc, "name"), item.name) for item in proposals)
        return self._change(
            lambda connection: select_new(connection, proposals), proposals, account
        )

    def post_one(self, kind: Kind, name: str, document: Any, account: Account) -> Change:
        """Define a metric, or a specification of a declared metric."""
        account.require_namespaces([(("path", "name"), name)])
        proposal = read_proposal(kind, document, name=name, schema=self._schema)

        def plan(connection: Connection) -> list[Proposal]:
            picked = select_new(connection, [proposal])
            for item in picked:
                _require_metric(connection, item)
            return picked

        return self._change(plan, [proposal], account)

    def put(self, kind: Kind, name: str, document: Any, account: Account) -> Change:
        """Replace a whole definition; its owner stays the same."""
        account.require_namespaces([(("path", "name"), name)])
        proposal = read_proposal(kind, document, name=name, schema=self._schema)

        def plan(connection: Connection) -> list[Proposal]:
            row = _require(connection, kind, proposal.name)
            if row.origin != "yaml" or not proposal.is_in(row):
                _check_rights(connection, row, account)
            if not _is_change(connection, proposal, row, account):
                return []
            _require_metric(connection, proposal)
            return [proposal]

        return self._change(plan, [proposal], account)

    def put_with_limits(
        self, document: Mapping[str, Any], account: Account, *, package: str
    ) -> tuple[SimpleMetric, Change]:
        """Define a metric and its limits as simple clients post them, or change what is there.

        All in one transaction. `package` is that of a metric which names none.
        """
        now = self.in_force.at(None)
        try:
            found = read_simple_metric(
                document,
                package=package,
                schema=self._schema,
                metrics=now.declared,
                specifications=now.by_metric,
            )
        except InvalidInputError as error:
            raise below(("body",), error) from None
        account.require_namespaces([(("body", "metric"), found.name)])
        limits = found.limits.items()
        proposals = [
            read_proposal("metric", found.metric, schema=self._schema),
            *(
                read_proposal("spec", limit, loc=("body", key), schema=self._schema)
                for key, limit in limits
            ),
        ]

        def plan(connection: Connection) -> list[Proposal]:
            rows = [(item, one(connection, item.kind, item.name)) for item in proposals]
            check_names(item for item, row in rows if row is None)
            return [
                item
                for item, row in rows
                if row is None or _is_change(connection, item, row, account)
            ]

        return found, self._change(plan, proposals, account, withdrawn=found.withdrawn)

    def delete(self, kind: Kind, name: str, account: Account) -> None:
        """Withdraw a definition. The specifications, measurements and unit of a metric stay."""
        account.require_namespaces([(("path", "name"), name)])

        def work(connection: Connection) -> None:
            _check_rights(connection, _require(connection, kind, name), account)
            store(connection, [], origin="api", by=account.actor, withdrawn=[(kind, name)])

        self._record.write(work)
        self._metrics.refresh()

    def get(self, kind: Kind, name: str) -> Defined[Any]:
        """Return the definition in force."""
        now = self.in_force.at(None)
        found: Mapping[str, Defined[Any]] = now.metrics if kind == "metric" else now.specifications
        if name not in found:
            raise NotFoundError.of(NOUNS[kind], name, found)
        return found[name]

    def list_metrics(
        self, *, package: str | None = None, after: str | None = None, limit: int
    ) -> list[Defined[Metric]]:
        """List at most `limit` declared metrics after the name `after`, sorted by name."""
        return _page(
            self.in_force.at(None).metrics,
            lambda metric: package is None or metric.package == package,
            after=after,
            limit=limit,
        )

    def list_specs(
        self,
        *,
        metric: str | None = None,
        dataset_name: str | None = None,
        filter_name: str | None = None,
        tag: str | None = None,
        after: str | None = None,
        limit: int,
    ) -> list[Defined[Specification]]:
        """List at most `limit` specifications after the name `after`, sorted by name.

        `dataset_name` and `filter_name` are looked for in the metadata query, under an alias too.
        """
        asked = {"dataset_name": dataset_name, "filter_name": filter_name}
        wanted = [
            self._schema.term(key, value) for key, value in asked.items() if value is not None
        ]

        def is_wanted(spec: Specification) -> bool:
            if metric not in (None, spec.metric) or not (tag is None or tag in spec.tags):
                return False
            terms = query_terms(spec.metadata_query, self._schema) or ()
            return all(term and any(term.implies(other) for other in terms) for term in wanted)

        snapshot = self.in_force.at(None)
        return _page(snapshot.specifications, is_wanted, after=after, limit=limit)

    def sync_yaml(
        self, directories: Sequence[Path], *, may_withdraw: bool = False, by: Actor = SERVICE
    ) -> YamlChange:
        """Bring the record in line with these metrics packages."""
        change = sync_yaml(
            directories,
            record=self._record,
            schema=self._schema,
            may_withdraw=may_withdraw,
            by=by,
        )
        self._metrics.refresh()
        return change

    def orphans(self, directories: Sequence[Path]) -> list[tuple[Kind, str]]:
        """Return what came from YAML and is not in these metrics packages."""
        return find_orphans(directories, record=self._record, schema=self._schema)

    def withdraw(self, definitions: Sequence[tuple[Kind, str]], *, by: Actor = SERVICE) -> None:
        """Withdraw definitions that came from YAML."""
        self._record.write(
            lambda connection: store(connection, [], origin="yaml", by=by, withdrawn=definitions)
        )
        self._metrics.refresh()

    def _change(
        self,
        plan: Callable[[Connection], list[Proposal]],
        proposals: Sequence[Proposal],
        account: Account,
        *,
        withdrawn: Sequence[str] = (),
    ) -> Change:
        """Store the proposals that `plan` picks, or nothing if it raises.

        Of the specifications `withdrawn`, those that there are go in the same transaction.
        """
        if any(item.kind == "metric" for item in proposals):
            self._catch_up()

        def work(connection: Connection) -> Change:
            picked, gone, notes = _checked(connection, plan, account, withdrawn)
            names = {item.name for item in picked if item.kind == "metric"}
            new = names - known_metrics(connection, names).keys()
            charge_metrics(
                connection, account, len(new), limits=self._limits, now_ns=time.time_ns()
            )
            count = store(
                connection,
                picked,
                origin="api",
                by=account.actor,
                is_binding=account.is_admin,
                withdrawn=gone,
            )
            left_out = len(proposals) - len(picked)
            gone_names = tuple(name for _, name in gone)
            stored = tuple(proposal.name for proposal in picked)
            return Change(stored, left_out, count, notes if count else (), withdrawn=gone_names)

        # First outside the writer's thread, which must not wait for astropy's import for a unit.
        with self._record.read() as connection:
            picked, gone, _ = _checked(connection, plan, account, withdrawn)
        if not picked and not gone:
            return Change((), len(proposals), 0, ())
        change = self._record.write(work)
        self._metrics.refresh()
        return change


def _checked(
    connection: Connection,
    plan: Callable[[Connection], list[Proposal]],
    account: Account,
    withdrawn: Sequence[str],
) -> tuple[list[Proposal], list[tuple[Kind, str]], tuple[str, ...]]:
    """Return what `plan` picks, which specifications go, and sentences on earlier values."""
    picked = plan(connection)
    gone: list[tuple[Kind, str]] = []
    for name in withdrawn:
        row = one(connection, "spec", name)
        if row is not None:
            _check_rights(connection, row, account)
            gone.append(("spec", name))
    check_specifications(connection, picked)
    check_metrics(connection, picked, withdrawn=withdrawn)
    check_aggregates(connection, picked)
    return picked, gone, tuple(incompatible_units(connection, picked))


def _require(connection: Connection, kind: Kind, name: str) -> DefinitionRow:
    row = one(connection, kind, name)
    if row is None:
        raise NotFoundError.of(NOUNS[kind], name, current(connection, kind))
    return row


def _require_metric(connection: Connection, proposal: Proposal) -> None:
    if isinstance(proposal.content, Specification):
        _require(connection, "metric", proposal.content.metric)


def _is_change(
    connection: Connection, proposal: Proposal, row: DefinitionRow, account: Account
) -> bool:
    """Tell whether a proposal changes a definition, which only its owner and admins may do."""
    if not proposal.is_in(row):
        _check_rights(connection, row, account)
        return True
    # An admin makes the unit of a user's definition binding.
    return row.origin != "yaml" and account.is_admin and _is_disputable(connection, proposal)


def _is_disputable(connection: Connection, proposal: Proposal) -> bool:
    return proposal.kind == "metric" and any(
        row.unit_by is not None for row in known_metrics(connection, [proposal.name]).values()
    )


def _check_rights(connection: Connection, row: DefinitionRow, account: Account) -> None:
    noun = NOUNS[row.kind]
    if row.origin == "yaml":
        raise ReadOnlyError(
            f"The {noun} `{row.name}` comes from YAML, {row.source}: change it there."
        )
    if not account.is_admin and owner_of(connection, row.kind, row.name) != account.user_id:
        raise ForbiddenError(f"The {noun} `{row.name}` is another user's.")


def _page(
    entries: Mapping[str, Defined[_Content]],
    is_wanted: Callable[[_Content], bool],
    *,
    after: str | None,
    limit: int,
) -> list[Defined[_Content]]:
    """Cut a page out of entries that are sorted by name."""
    names = list(entries)
    start = 0 if after is None else bisect_right(names, after)
    found = (entries[name] for name in names[start:])
    return list(islice((entry for entry in found if is_wanted(entry.content)), limit))
