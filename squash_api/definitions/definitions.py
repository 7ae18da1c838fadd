"""Definitions of metrics and specifications: who may change them, and which are in force."""

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
    check_metrics,
    check_specifications,
    incompatible_units,
    read_proposal,
    read_proposals,
    select_new,
    store,
)
from squash_api.definitions.from_yaml import YamlChange, sync_yaml
from squash_api.definitions.in_force import Defined, DefinitionsInForce
from squash_api.errors import ForbiddenError, NotFoundError, ReadOnlyError
from squash_api.judging.specifications import Specification
from squash_api.record.definitions import DefinitionRow, Kind, one, owner_of
from squash_api.record.metrics import Metrics
from squash_api.record.record import Connection, Record
from squash_api.schema.names import Schema
from squash_api.verify.metrics import Metric

_Content = TypeVar("_Content", Metric, Specification)


class Definitions:
    """The definitions in the record. Safe to use from many threads.

    Every change is one transaction, and what is wrong with it is raised before anything is stored:
    `InvalidInputError` for what cannot be a definition, `NameTakenError` and `ReadOnlyError` for a
    name that the API or YAML defines differently, `NotFoundError` for an unknown name,
    `ForbiddenError` for what is another user's.

    Parameters
    ----------
    record
        Where they are kept.
    schema
        The names in InfluxDB, which metrics must not collide with.
    metrics
        Takes in every change of a metric.

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
        catch_up: Callable[[], None] | None = None,
    ) -> None:
        self._catch_up = catch_up
        self._record = record
        self._schema = schema
        self._metrics = metrics
        self.in_force = DefinitionsInForce(record, schema)

    def post_metrics(self, documents: Sequence[Any], account: Account) -> Change:
        """Declare metrics, all or none; those that are declared so already are left alone."""
        return self._post(read_proposals("metric", documents, schema=self._schema), account)

    def post_specs(self, documents: Sequence[Any], account: Account) -> Change:
        """Define specifications, all or none; those that exist so already are left alone."""
        return self._post(read_proposals("spec", documents, schema=self._schema), account)

    def post_metric(self, name: str, document: Any, account: Account) -> Change:
        """Declare a metric; one that is declared so already is left alone."""
        return self._post(
            [read_proposal("metric", document, name=name, schema=self._schema)], account
        )

    def post_spec(self, name: str, document: Any, account: Account) -> Change:
        """Define a specification of a declared metric; one that exists so already is left alone."""
        proposal = read_proposal("spec", document, name=name, schema=self._schema)

        def plan(connection: Connection) -> list[Proposal]:
            picked = select_new(connection, [proposal])
            if picked:
                _require_metric(connection, name)
            return picked

        return self._change(plan, [proposal], account)

    def put_metric(self, name: str, document: Any, account: Account) -> Change:
        """Replace the whole definition of a metric; its owner stays the same."""
        return self._put(read_proposal("metric", document, name=name, schema=self._schema), account)

    def put_spec(self, name: str, document: Any, account: Account) -> Change:
        """Replace the whole definition of a specification; its owner stays the same."""
        return self._put(read_proposal("spec", document, name=name, schema=self._schema), account)

    def delete_metric(self, name: str, account: Account) -> None:
        """Withdraw a metric. Specifications and measurements stay, and so does its unit."""
        self._delete("metric", name, account)

    def delete_spec(self, name: str, account: Account) -> None:
        """Take a specification out of force."""
        self._delete("spec", name, account)

    def get_metric(self, name: str) -> Defined[Metric]:
        """Return a declared metric."""
        found = self.in_force.at(None).metrics.get(name)
        if found is None:
            raise _not_found("metric", name)
        return found

    def get_spec(self, name: str) -> Defined[Specification]:
        """Return a specification in force."""
        found = self.in_force.at(None).specifications.get(name)
        if found is None:
            raise _not_found("spec", name)
        return found

    def list_metrics(
        self, *, package: str | None = None, after: str | None = None, limit: int
    ) -> list[Defined[Metric]]:
        """Return at most `limit` declared metrics behind the name `after`, in order."""
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
        """Return at most `limit` specifications behind the name `after`, in order.

        Parameters
        ----------
        metric, tag
            Only those that have them.
        dataset_name, filter_name
            Only those whose query asks for them, under an alias too.
        """
        asked = {"dataset_name": dataset_name, "filter_name": filter_name}
        wanted = [
            self._schema.term(key, value) for key, value in asked.items() if value is not None
        ]

        def is_wanted(spec: Specification) -> bool:
            if metric not in (None, spec.metric) or not (tag is None or tag in spec.tags):
                return False
            terms = [self._schema.term(key, value) for key, value in spec.metadata_query.items()]
            return all(term is not None and term in terms for term in wanted)

        snapshot = self.in_force.at(None)
        return _page(snapshot.specifications, is_wanted, after=after, limit=limit)

    def metrics_in_force(self, revision: int | None) -> Mapping[str, Metric]:
        """Return the metrics that were declared as of a revision, or are now for None."""
        return self.in_force.at(revision).declared

    def specifications_in_force(self, revision: int | None) -> Mapping[str, list[Specification]]:
        """Return the specifications as of a revision, or as of now for None, by metric."""
        return self.in_force.at(revision).by_metric

    def sync_yaml(self, directories: Sequence[Path]) -> YamlChange:
        """Make the definitions of these metrics packages those of the record.

        Raises
        ------
        SettingsError
            With every problem in the packages; nothing is stored.
        """
        change = sync_yaml(directories, record=self._record, schema=self._schema)
        self._metrics.refresh()
        return change

    def _post(self, proposals: Sequence[Proposal], account: Account) -> Change:
        return self._change(
            lambda connection: select_new(connection, proposals), proposals, account
        )

    def _put(self, proposal: Proposal, account: Account) -> Change:
        def plan(connection: Connection) -> list[Proposal]:
            row = _require(connection, proposal.kind, proposal.name)
            if row.origin == "yaml" and proposal.is_in(row):
                return []
            _check_rights(connection, row, account)
            if proposal.is_in(row):
                return []
            if proposal.kind == "spec":
                _require_metric(connection, proposal.name)
            return [proposal]

        return self._change(plan, [proposal], account)

    def _change(
        self,
        plan: Callable[[Connection], list[Proposal]],
        proposals: Sequence[Proposal],
        account: Account,
    ) -> Change:
        """Store those proposals that `plan` picks, or nothing if it raises."""
        if self._catch_up is not None and any(item.kind == "metric" for item in proposals):
            # Only an index that is up to date tells which jobs measure the metrics.
            self._catch_up()

        def check(connection: Connection) -> tuple[list[Proposal], tuple[str, ...]]:
            picked = plan(connection)
            check_specifications(connection, picked)
            check_metrics(connection, picked)
            return picked, tuple(incompatible_units(connection, picked))

        def work(connection: Connection) -> Change:
            picked, notes = check(connection)
            count = store(connection, picked, origin="api", user_id=account.user_id)
            names = tuple(proposal.name for proposal in picked)
            return Change(names, len(proposals) - len(picked), count, notes if count else ())

        # First outside the writer's thread: it shall not wait while astropy is imported for a unit.
        with self._record.read() as connection:
            picked, _ = check(connection)
        if not picked:
            return Change((), len(proposals), 0, ())
        change = self._record.write(work)
        self._metrics.refresh()
        return change

    def _delete(self, kind: Kind, name: str, account: Account) -> None:
        def work(connection: Connection) -> None:
            _check_rights(connection, _require(connection, kind, name), account)
            store(
                connection,
                [],
                origin="api",
                user_id=account.user_id,
                withdrawn=[(kind, name)],
            )

        self._record.write(work)
        self._metrics.refresh()


def _require(connection: Connection, kind: Kind, name: str) -> DefinitionRow:
    row = one(connection, kind, name)
    if row is None:
        raise _not_found(kind, name)
    return row


def _require_metric(connection: Connection, specification: str) -> None:
    _require(connection, "metric", specification.rpartition(".")[0])


def _check_rights(connection: Connection, row: DefinitionRow, account: Account) -> None:
    noun = NOUNS[row.kind]
    if row.origin == "yaml":
        raise ReadOnlyError(
            f"The {noun} `{row.name}` comes from YAML, {row.source}: change it there."
        )
    if not account.is_admin and owner_of(connection, row.kind, row.name) != account.user_id:
        raise ForbiddenError(f"The {noun} `{row.name}` is another user's.")


def _not_found(kind: Kind, name: str) -> NotFoundError:
    return NotFoundError(f"There is no {NOUNS[kind]} `{name}`.")


def _page(
    entries: Mapping[str, Defined[_Content]],
    is_wanted: Callable[[_Content], bool],
    *,
    after: str | None,
    limit: int,
) -> list[Defined[_Content]]:
    """Return a page of entries that are in the order of their names."""
    names = list(entries)
    start = 0 if after is None else bisect_right(names, after)
    found = (entries[name] for name in names[start:])
    return list(islice((entry for entry in found if is_wanted(entry.content)), limit))
