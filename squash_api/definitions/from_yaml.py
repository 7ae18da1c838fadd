"""Metrics packages in YAML: bringing the record in line with them, and their specifications' bases.

The API cannot change what is defined in YAML.
"""

import threading
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from pathlib import Path

import structlog

from squash_api.definitions.changes import Proposal, incompatible_units, misfits, store
from squash_api.definitions.in_force import Defined
from squash_api.errors import SettingsError
from squash_api.judging.specifications import Specification
from squash_api.judging.wording import counted
from squash_api.metrics_packages.loading import MetricsPackage, load_metrics_packages
from squash_api.record.audit import Actor
from squash_api.record.definitions import DefinitionRow, Kind, current
from squash_api.record.record import Connection, Record
from squash_api.record.users import get_user
from squash_api.schema.names import Schema

_KINDS: tuple[Kind, ...] = ("metric", "spec")
_log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class YamlChange:
    """What YAML has changed in the record.

    `taken_over` has those of the `stored` names that the API had defined; `requeued_jobs` counts
    the jobs that are derived and sent again.
    """

    stored: tuple[str, ...] = ()
    withdrawn: tuple[str, ...] = ()
    taken_over: tuple[str, ...] = ()
    requeued_jobs: int = 0


def problem_with_withdrawal(
    connection: Connection, directories: Sequence[Path], schema: Schema
) -> str | None:
    """Say why `sync_yaml` would refuse to withdraw what YAML no longer has, or None."""
    proposals = _proposals(directories, schema)
    withdrawn = _orphans(connection, proposals)
    lost = _whole_packages(connection, withdrawn, proposals)
    return _refusal(directories, lost, len(withdrawn)) if lost else None


def sync_yaml(
    directories: Sequence[Path],
    *,
    record: Record,
    schema: Schema,
    may_withdraw: bool = False,
    by: Actor,
) -> YamlChange:
    """Store what differs between these metrics packages and the record, in one transaction.

    What only earlier YAML defined is withdrawn. What the API defines is left alone, except for
    names that YAML defines too.

    Raises
    ------
    SettingsError
        With every problem in the packages; or, unless `may_withdraw`, if a whole package or all of
        its specifications would be withdrawn, as by a setting that was forgotten. Nothing is
        stored.
    """
    proposals = _proposals(directories, schema)

    def work(connection: Connection) -> YamlChange:
        withdrawn = _orphans(connection, proposals)
        lost = [] if may_withdraw else _whole_packages(connection, withdrawn, proposals)
        if lost:
            raise SettingsError(_refusal(directories, lost, len(withdrawn)), runbook="specs")
        return _store_changes(connection, proposals, withdrawn, by=by)

    change = record.write(work)
    if change != YamlChange():
        _log.info(
            "definitions from YAML have changed",
            directories=[str(directory) for directory in directories],
            stored=len(change.stored),
            withdrawn=change.withdrawn,
            requeued_jobs=change.requeued_jobs,
        )
    return change


def find_orphans(
    directories: Sequence[Path], *, record: Record, schema: Schema
) -> list[tuple[Kind, str]]:
    """Return the definitions that came from YAML and that these metrics packages do not have.

    Raises
    ------
    SettingsError
        With every problem in the packages.
    """
    proposals = _proposals(directories, schema)
    with record.read() as connection:
        return _orphans(connection, proposals)


def _proposals(directories: Sequence[Path], schema: Schema) -> list[Proposal]:
    package = _load(directories, schema)
    metrics = [Proposal(metric) for metric in package.metrics.values()]
    return metrics + [Proposal(item) for item in package.specifications.values()]


def _load(directories: Sequence[Path], schema: Schema) -> MetricsPackage:
    # `squash specs check` reports mutes that have ended; the service must be able to restart.
    package = load_metrics_packages(directories, schema=schema, today=date.min)
    if package.problems:
        lines = "\n".join(str(problem) for problem in package.problems)
        text = f"SQUASH_SPECS: fix these, then start again:\n{lines}"
        raise SettingsError(text, runbook="specs")
    return package


def _orphans(connection: Connection, proposals: Sequence[Proposal]) -> list[tuple[Kind, str]]:
    named = {(item.kind, item.name) for item in proposals}
    return [
        (kind, name)
        for kind in _KINDS
        for name, row in current(connection, kind).items()
        if row.origin == "yaml" and (kind, name) not in named
    ]


def _whole_packages(
    connection: Connection, withdrawn: Sequence[tuple[Kind, str]], proposals: Sequence[Proposal]
) -> list[str]:
    """Return the packages of which YAML defines nothing any more, or no specification, sorted.

    These are verification packages or, if there is none, metrics packages, by their directories. A
    directory whose definitions are in another one now is renamed, not lost.
    """
    sources = {
        name: str(row.source) for kind in _KINDS for name, row in current(connection, kind).items()
    }

    def lost(gone: Sequence[str], new: Mapping[str, str]) -> set[str]:
        kept = [*new.values(), *(sources[name] for name in new if name in sources)]
        packages = {_head(name, ".") for name in gone} - {_head(name, ".") for name in new}
        return packages or (
            {_head(sources[name], "/") for name in gone} - {_head(source, "/") for source in kept}
        )

    whole = lost(
        [name for _, name in withdrawn],
        {item.name: str(item.content.source) for item in proposals},
    )
    specifications = lost(
        [name for kind, name in withdrawn if kind == "spec"],
        {item.name: str(item.content.source) for item in proposals if item.kind == "spec"},
    )
    return sorted(whole) or [f"the specifications of {name}" for name in sorted(specifications)]


def _head(text: str, separator: str) -> str:
    return text.partition(separator)[0]


def _refusal(directories: Sequence[Path], lost: Sequence[str], count: int) -> str:
    has = f"names only {', '.join(map(str, directories))}" if directories else "is empty"
    return (
        f"SQUASH_SPECS {has}, so this start would withdraw "
        f"{counted(count, 'definition')}, among them all of "
        f"{', '.join(lost)}. Name their directories there, for instance in .env, or restore their "
        "files. If they are to go, run squash specs withdraw, or squash serve --yes."
    )


def _store_changes(
    connection: Connection,
    proposals: Sequence[Proposal],
    withdrawn: Sequence[tuple[Kind, str]],
    *,
    by: Actor,
) -> YamlChange:
    known = {kind: current(connection, kind) for kind in _KINDS}
    new = [item for item in proposals if not _is_stored(item, known[item.kind].get(item.name))]
    taken_over = [
        item.name
        for item in new
        if item.name in known[item.kind] and known[item.kind][item.name].origin == "api"
    ]
    if not new and not withdrawn:
        return YamlChange()
    _warn(connection, new, taken_over)
    count = store(connection, new, origin="yaml", by=by, withdrawn=withdrawn)
    return YamlChange(
        tuple(item.name for item in new),
        tuple(name for _, name in withdrawn),
        tuple(taken_over),
        count,
    )


def _is_stored(proposal: Proposal, row: DefinitionRow | None) -> bool:
    return (
        row is not None
        and row.origin == "yaml"
        and row.source == str(proposal.content.source)
        and proposal.is_in(row)
    )


def _warn(connection: Connection, new: Sequence[Proposal], taken_over: Iterable[str]) -> None:
    """Log what YAML overrules, so that nobody has to search for the reason."""
    for name in taken_over:
        _log.warning("a definition from the API is overruled by YAML", name=name)
    stored = {item.name for item in new}
    for metric, specifications in misfits(connection, new).items():
        left = {name: why for name, why in specifications.items() if name not in stored}
        if left:
            _log.warning(
                "specifications cannot be judged in the metric's unit and judge nothing",
                metric=metric,
                specifications=left,
            )
    for sentence in incompatible_units(connection, new):
        _log.warning(sentence)


class SpecificationSources:
    """Knows where specifications come from: bases in YAML or users. Safe to use from many threads.

    The metrics packages in `directories` are read at the first question. The record does not keep
    bases, so a specification whose file has changed since startup has none.
    """

    def __init__(self, record: Record, directories: Sequence[Path], schema: Schema) -> None:
        self._record = record
        self._directories = directories
        self._schema = schema
        self._lock = threading.Lock()
        self._loaded: Mapping[str, Specification] | None = None

    def bases(self, defined: Defined[Specification]) -> tuple[str, ...]:
        """Return what a specification was merged from, the nearest last."""
        if defined.origin != "yaml":
            return ()
        found = self._from_files().get(defined.content.name)
        if found is None or found != defined.content or str(found.source) != defined.source:
            return ()
        return found.bases

    def authors(self, names: Iterable[str]) -> dict[str, str]:
        """Return the users who last wrote these specifications through the API, by name."""
        wanted = list(names)
        if not wanted:
            return {}
        with self._record.read() as connection:
            rows = current(connection, "spec", names=wanted)
            ids = {name: row.user_id for name, row in rows.items() if row.user_id is not None}
            users = {user_id: get_user(connection, user_id) for user_id in set(ids.values())}
        found = {name: users[user_id] for name, user_id in ids.items()}
        return {name: user.name for name, user in found.items() if user is not None}

    def _from_files(self) -> Mapping[str, Specification]:
        with self._lock:
            if self._loaded is None:
                self._loaded = self._load()
            return self._loaded

    def _load(self) -> Mapping[str, Specification]:
        if not self._directories:
            return {}
        try:
            return load_metrics_packages(self._directories, schema=self._schema).specifications
        except (SettingsError, OSError) as error:
            # They were readable at startup.
            _log.warning("the metrics packages cannot be read any more", reason=str(error))
            return {}
