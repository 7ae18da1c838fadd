"""What changed in the packages between a run and the one before it.

Which software packages differ between two jobs, and where to read what was changed. Pure.
"""

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote

from sqlalchemy import Connection

from squash_api.index.runs import RunRow, load_package_sets, runs_of
from squash_api.influx.points import PackageChange
from squash_api.schema.text import is_link

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


Packages = Sequence[Mapping[str, Any]]

# Both ways in which GitHub names a repository.
_GITHUB = re.compile(
    r"(?:https?://(?:www\.)?github\.com/|git@github\.com:|ssh://git@github\.com/)"
    r"(?P<org>[\w.-]+)/(?P<name>[\w.-]+?)(?:\.git)?/?\Z",
    re.ASCII | re.IGNORECASE,
)


@dataclass(frozen=True, slots=True)
class PackageDifference:
    """A package that came, went, or has another commit or repository.

    `before` and `after` are what names its commit, None where it was or is not there, or has none.
    """

    name: str
    before: str | None
    after: str | None
    git_url: str | None
    is_new: bool = False
    is_gone: bool = False

    @property
    def link(self) -> str | None:
        """Where to read the changes, or the commit alone; None if there is no such page."""
        return changes_link(self.git_url, self.before, self.after)

    def to_json(self) -> dict[str, Any]:
        """Return the difference as the API shows it."""
        return {
            "name": self.name,
            "before": self.before,
            "after": self.after,
            "git_url": self.git_url,
            "new": self.is_new,
            "gone": self.is_gone,
            "compare": self.link,
        }


def differences(before: Packages, after: Packages) -> list[PackageDifference]:
    """Return what differs between two lists of packages, by name."""
    old = {item["name"]: item for item in before}
    new = {item["name"]: item for item in after}
    found = []
    for name in sorted(old.keys() | new.keys()):
        was, now = old.get(name, {}), new.get(name, {})
        if any(was.get(key) != now.get(key) for key in ("git_sha", "git_url")) or not (was and now):
            found.append(
                PackageDifference(
                    name,
                    was.get("git_sha"),
                    now.get("git_sha"),
                    now.get("git_url") or was.get("git_url"),
                    is_new=not was,
                    is_gone=not now,
                )
            )
    return found


def changes_link(git_url: str | None, before: str | None, after: str | None) -> str | None:
    """Return a page about the changes between two commits, or about the one that there is.

    GitHub compares; of other repositories the commit's page is named as most servers name it. Only
    http and https addresses are ever returned.
    """
    if not git_url or not (before or after):
        return None
    github = _GITHUB.match(git_url)
    if github is not None:
        root = f"https://github.com/{github['org']}/{github['name']}"
        if before and after and before != after:
            return f"{root}/compare/{quote(before, safe='')}...{quote(after, safe='')}"
        return f"{root}/commit/{quote(after or before or '', safe='')}"
    if not is_link(git_url):
        return None
    root = git_url.rstrip("/").removesuffix(".git")
    return f"{root}/commit/{quote(after or before or '', safe='')}"
