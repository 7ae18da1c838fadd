"""What changed in the packages between a run and the one before it."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection

from squash_api.influx.points import PackageChange
from squash_api.record.derived import RunRow, load_package_set, runs_of


@dataclass(frozen=True, slots=True)
class CodeChanges:
    """The changes between two runs; `previous_run_id` is None if there is no run before."""

    previous_run_id: str | None
    packages: tuple[PackageChange, ...]


class CodeChangeReader:
    """Compares runs, remembering the package sets it has read. For one thread at a time."""

    def __init__(self) -> None:
        self._sets: dict[int, list[dict[str, Any]]] = {}

    def read(self, connection: Connection, run: RunRow) -> CodeChanges | None:
        """Return what changed between the run before and this one, or None if none is known."""
        if run.previous_job_id is None:
            return None
        previous = runs_of(connection, [run.previous_job_id]).get(run.previous_job_id)
        if previous is None:
            return None
        if run.package_set_id is None or previous.package_set_id is None:
            return CodeChanges(previous.run_id, ())
        return CodeChanges(
            previous.run_id,
            _difference(
                self._packages(connection, previous.package_set_id),
                self._packages(connection, run.package_set_id),
            ),
        )

    def _packages(self, connection: Connection, package_set_id: int) -> list[dict[str, Any]]:
        if package_set_id not in self._sets:
            if len(self._sets) > 100:
                self._sets.clear()
            self._sets[package_set_id] = load_package_set(connection, package_set_id)
        return self._sets[package_set_id]


def _difference(
    before: Sequence[dict[str, Any]], now: Sequence[dict[str, Any]]
) -> tuple[PackageChange, ...]:
    """Return changed and new packages, then removed ones, each by name."""
    keys = ("name", "git_sha", "git_url")
    known = {tuple(entry[key] for key in keys) for entry in before}
    names = {entry["name"] for entry in now}
    changed = [
        PackageChange(entry["name"], entry["git_sha"], entry["git_url"])
        for entry in now
        if tuple(entry[key] for key in keys) not in known
    ]
    removed = [
        PackageChange(entry["name"], entry["git_sha"], entry["git_url"], removed=True)
        for entry in before
        if entry["name"] not in names
    ]
    return (*changed, *removed)
