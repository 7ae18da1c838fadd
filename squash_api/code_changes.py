"""What changed in the packages between a run and the one before it."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection

from squash_api.influx.points import PackageChange
from squash_api.record.runs import RunRow, load_package_sets, runs_of

_MOST_REMEMBERED = 1000
_MOST_SETS = 50
_CHUNK = 500


@dataclass(frozen=True, slots=True)
class CodeChanges:
    """The changes between two runs; `packages` is None if one of them has not named its own."""

    previous_run_id: str | None
    packages: tuple[PackageChange, ...] | None


class CodeChangeReader:
    """Compares runs, remembering what it has read. For one thread at a time.

    Parameters
    ----------
    remembers
        So many runs and differences at most.
    """

    def __init__(self, *, remembers: int = _MOST_REMEMBERED) -> None:
        self._most = remembers
        self._runs: dict[int, RunRow | None] = {}
        self._sets: dict[int, list[dict[str, Any]]] = {}
        self._differences: dict[tuple[int, int], tuple[PackageChange, ...]] = {}

    def read(self, connection: Connection, run: RunRow) -> CodeChanges | None:
        """Return what changed between the run before and this one, or None if none is known."""
        if run.previous_job_id is None:
            return None
        previous = self._run(connection, run.previous_job_id)
        if previous is None:
            return None
        if run.package_set_id is None or previous.package_set_id is None:
            return CodeChanges(previous.run_id, None)
        sets = (previous.package_set_id, run.package_set_id)
        return CodeChanges(previous.run_id, self._difference(connection, sets))

    def read_many(
        self, connection: Connection, job_ids: Sequence[int]
    ) -> dict[int, CodeChanges | None]:
        """Return what `read` does for the runs of many jobs, by job."""
        runs = _runs_of(connection, job_ids)
        previous = {run.previous_job_id for run in runs.values()} - {None, *self._runs}
        if len(self._runs) + len(previous) > self._most:
            self._runs.clear()
        self._runs.update(_runs_of(connection, sorted(item for item in previous if item)))
        self._read_sets(connection, runs.values())
        return {job_id: self.read(connection, run) for job_id, run in runs.items()}

    def _read_sets(self, connection: Connection, runs: Iterable[RunRow]) -> None:
        """Read what these runs have to be compared by, unless it is more than is remembered."""
        pairs = {
            (previous.package_set_id, run.package_set_id)
            for run in runs
            if run.previous_job_id is not None and (previous := self._runs.get(run.previous_job_id))
        }
        unknown = {number for pair in pairs - self._differences.keys() for number in pair}
        wanted = [number for number in unknown - self._sets.keys() if number is not None]
        if not wanted or len(unknown) > _MOST_SETS:
            return
        if len(self._sets) + len(wanted) > _MOST_SETS:
            self._sets.clear()
        self._sets.update(load_package_sets(connection, wanted))

    def _run(self, connection: Connection, job_id: int) -> RunRow | None:
        if job_id not in self._runs:
            if len(self._runs) >= self._most:
                self._runs.clear()
            self._runs[job_id] = runs_of(connection, [job_id]).get(job_id)
        return self._runs[job_id]

    def _difference(
        self, connection: Connection, sets: tuple[int, int]
    ) -> tuple[PackageChange, ...]:
        if sets not in self._differences:
            if len(self._differences) >= self._most:
                self._differences.clear()
            before, now = (self._packages(connection, number) for number in sets)
            self._differences[sets] = _difference(before, now)
        return self._differences[sets]

    def _packages(self, connection: Connection, number: int) -> list[dict[str, Any]]:
        # A run's packages are compared twice: with those before it, and with those after it.
        if number not in self._sets:
            if len(self._sets) >= _MOST_SETS:
                self._sets.clear()
            self._sets.update(load_package_sets(connection, [number]))
        return self._sets[number]


def _runs_of(connection: Connection, job_ids: Sequence[int]) -> dict[int, RunRow]:
    return {
        job_id: run
        for start in range(0, len(job_ids), _CHUNK)
        for job_id, run in runs_of(connection, job_ids[start : start + _CHUNK]).items()
    }


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
