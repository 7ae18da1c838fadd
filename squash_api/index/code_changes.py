"""What changed in the packages between two runs: as a point has it, as JSON, and as a link."""

import re
import threading
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple
from urllib.parse import quote

from squash_api.index.runs import RunRow, Runs
from squash_api.schema import answers
from squash_api.schema.text import MAX_FIELD_TEXT_BYTES, clean_text, link_text

_MOST_REMEMBERED = 1000
_MOST_SETS = 50
# Leaves room for the words that count the changes that do not fit.
_MAX_TEXT_BYTES = MAX_FIELD_TEXT_BYTES - 100
# As in `link_text`, without the brackets of Markdown.
_URL_SAFE = ":/?#@!$&'*+,;=%~"
_SHORT_SHA = re.compile(r"[0-9a-f]{7,40}")
_MARKUP = str.maketrans("", "", "[]<>")
# Both forms of a GitHub repository's URL.
_GITHUB = re.compile(
    r"(?:https?://(?:www\.)?github\.com/|git@github\.com:|ssh://git@github\.com/)"
    r"(?P<org>[\w.-]+)/(?P<name>[\w.-]+?)(?:\.git)?/?\Z",
    re.ASCII | re.IGNORECASE,
)

Packages = Sequence[Mapping[str, Any]]


@dataclass(frozen=True, slots=True)
class PackageChange:
    """A package that is new, gone, or has another commit or repository.

    `before` and `after` are its commits, None where the package is missing or has none. `git_url`
    is its repository now, or the previous one of a package that is gone; `old_git_url` is the
    previous one, if it names none now.
    """

    name: str
    before: str | None
    after: str | None
    git_url: str | None
    old_git_url: str | None = None
    is_new: bool = False
    is_gone: bool = False

    @property
    def git_sha(self) -> str | None:
        """Its commit now, or the last one of a package that is gone."""
        return self.before if self.is_gone else self.after

    @property
    def repository(self) -> str | None:
        """Its repository, or the previous one if none is named now."""
        return self.git_url or self.old_git_url

    @property
    def link(self) -> str | None:
        """Where to read the changes, or only the commit; None if there is no such page."""
        return changes_link(self.repository, self.before, self.after)

    def to_json(self) -> answers.PackageChange:
        """Return the change as the API shows it."""
        return {
            "name": self.name,
            "before": self.before,
            "after": self.after,
            "git_url": self.repository,
            "new": self.is_new,
            "gone": self.is_gone,
            "compare": self.link,
        }


class PackageChanges(NamedTuple):
    """Changed and new packages, then those that are gone, each by name.

    `unknown` names packages of which one of the two runs does not give the commit.
    """

    packages: tuple[PackageChange, ...]
    unknown: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class CodeChanges:
    """What changed since a run: changed and new packages, then those that are gone, each by name.

    `packages` is None if one of the two runs has not named its packages. `unknown` names packages
    that may have changed: one of the runs does not give their commit.
    """

    previous_run_id: str | None
    packages: tuple[PackageChange, ...] | None
    unknown: tuple[str, ...] = ()

    @property
    def in_point(self) -> tuple[str, int] | None:
        """What a point has of them: a text, and how many there are; None if they are not known."""
        if self.packages is None or (self.unknown and not self.packages):
            return None
        return changes_text(self.packages), len(self.packages)


class CodeChangeReader:
    """Compares runs. It remembers at most `remembers` runs. Safe to use from many threads."""

    def __init__(self, *, remembers: int = _MOST_REMEMBERED) -> None:
        self._most = remembers
        self._lock = threading.RLock()
        self._runs: dict[int, RunRow] = {}
        self._sets: dict[int, Packages] = {}
        self._differences: dict[tuple[int, int], PackageChanges] = {}

    def since_previous_run(
        self, runs: Runs, job_ids: Iterable[int]
    ) -> dict[int, CodeChanges | None]:
        """Return what changed between each job's run and the previous one, by job.

        It is None where no previous run is known.
        """
        with self._lock:
            found = runs.of_jobs(job_ids)
            before = self._previous_runs(runs, found.values())
            pairs = [
                (before[run.previous_job_id], run)
                for run in found.values()
                if run.previous_job_id is not None and run.previous_job_id in before
            ]
            self._read_sets(runs, pairs)
            changes = {run.job_id: self.between(runs, previous, run) for previous, run in pairs}
            return {job_id: changes.get(job_id) for job_id in found}

    def between(self, runs: Runs, before: RunRow, after: RunRow) -> CodeChanges:
        """Return what changed from the run of one job to that of another."""
        if before.package_set_id is None or after.package_set_id is None:
            return CodeChanges(before.run_id, None)
        sets = (before.package_set_id, after.package_set_id)
        with self._lock:
            return CodeChanges(before.run_id, *self._difference(runs, sets))

    def _previous_runs(self, runs: Runs, found: Iterable[RunRow]) -> dict[int, RunRow]:
        wanted = {run.previous_job_id for run in found if run.previous_job_id is not None}
        known = {number: self._runs[number] for number in wanted & self._runs.keys()}
        read = runs.of_jobs(wanted - known.keys())
        if len(self._runs) + len(read) > self._most:
            self._runs.clear()
        self._runs.update(read)
        return {**known, **read}

    def _read_sets(self, runs: Runs, pairs: Iterable[tuple[RunRow, RunRow]]) -> None:
        """Read the packages of these runs, unless they are more than is remembered."""
        sets = {(before.package_set_id, after.package_set_id) for before, after in pairs}
        unknown = {number for pair in sets - self._differences.keys() for number in pair}
        wanted = [number for number in unknown - self._sets.keys() if number is not None]
        if not wanted or len(unknown) > _MOST_SETS:
            return
        if len(self._sets) + len(wanted) > _MOST_SETS:
            self._sets.clear()
        self._sets.update(runs.package_sets(wanted))

    def _difference(self, runs: Runs, sets: tuple[int, int]) -> PackageChanges:
        if sets not in self._differences:
            if len(self._differences) >= self._most:
                self._differences.clear()
            before, after = (self._packages(runs, number) for number in sets)
            self._differences[sets] = package_changes(before, after)
        return self._differences[sets]

    def _packages(self, runs: Runs, number: int) -> Packages:
        # A run's packages are compared twice: with the previous run's, and with the next one's.
        if number not in self._sets:
            if len(self._sets) >= _MOST_SETS:
                self._sets.clear()
            self._sets.update(runs.package_sets([number]))
        return self._sets[number]


def package_changes(before: Packages, after: Packages) -> PackageChanges:
    """List changed and new packages, then those that are gone, and those that may have changed."""
    old = {item["name"]: item for item in before}
    new = {item["name"]: item for item in after}
    found, unknown = [], []
    for name in [*sorted(new), *sorted(old.keys() - new.keys())]:
        was, now = old.get(name, {}), new.get(name, {})
        has_changed = _has_changed(was, now) if was and now else True
        if has_changed is None:
            unknown.append(name)
        if not has_changed:
            continue
        found.append(
            PackageChange(
                name,
                before=was.get("git_sha"),
                after=now.get("git_sha"),
                git_url=(now or was).get("git_url"),
                old_git_url=None if not now or now.get("git_url") else was.get("git_url"),
                is_new=not was,
                is_gone=not now,
            )
        )
    return PackageChanges(tuple(found), tuple(unknown))


def _has_changed(was: Mapping[str, Any], now: Mapping[str, Any]) -> bool | None:
    """Tell whether a package has another commit or repository; None if that is not known.

    What is left out is neither the same nor different. Without commits the versions tell.
    """
    if was == now and (now.get("git_sha") or now.get("eups_version")):
        # Nearly every package: to compare it in full takes half of the time of two runs.
        return False
    urls = [_repository(item.get("git_url")) for item in (was, now)]
    has_moved = None not in urls and urls[0] != urls[1]
    if was.get("git_sha") and now.get("git_sha"):
        return has_moved or not _is_same_commit(was["git_sha"], now["git_sha"])
    if was.get("eups_version") and now.get("eups_version"):
        return has_moved or was["eups_version"] != now["eups_version"]
    return True if has_moved else None


def _is_same_commit(one: str, other: str) -> bool:
    """Tell whether two names are of one commit; one of them may be shortened."""
    short, long = sorted((one.casefold(), other.casefold()), key=len)
    return short == long or (_SHORT_SHA.fullmatch(short) is not None and long.startswith(short))


def _repository(url: str | None) -> str | None:
    """Return the URL of a repository as it can be compared: the same for all forms of it."""
    if not url:
        return None
    github = _GITHUB.match(url)
    if github is not None:
        return f"github.com/{github['org']}/{github['name']}".casefold()
    return url.rstrip("/").removesuffix(".git")


def changes_text(changes: Sequence[PackageChange]) -> str:
    """Render changes as Markdown: links to commits, with a comma and a space between them.

    A package whose URL is not http or https, or that has no commit, is only named; one that is gone
    has a minus sign in front. Those beyond InfluxDB's longest text are counted.
    """
    texts: list[str] = []
    room = _MAX_TEXT_BYTES
    for change in changes:
        text = _change_text(change)
        room -= len(text.encode()) + 2
        if room < 0:
            texts.append(f"and {len(changes) - len(texts)} more")
            break
        texts.append(text)
    return ", ".join(texts)


def changes_link(git_url: str | None, before: str | None, after: str | None) -> str | None:
    """Return the URL of a page that compares two commits, or that shows one.

    GitHub compares; for other repositories it is the commit's page as most servers name it. Only
    http and https URLs are returned.
    """
    if not git_url or not (before or after):
        return None
    github = _GITHUB.match(git_url)
    if github is not None:
        root = f"https://github.com/{github['org']}/{github['name']}"
        if before and after and before != after:
            return f"{root}/compare/{quote(before, safe='')}...{quote(after, safe='')}"
        return f"{root}/commit/{quote(after or before or '', safe='')}"
    url = link_text(git_url)
    if url is None:
        return None
    root = url.rstrip("/").removesuffix(".git")
    return f"{root}/commit/{quote(after or before or '', safe='')}"


def _change_text(change: PackageChange) -> str:
    """Render one change; nothing in a name or URL can change the link."""
    name = clean_text(change.name).translate(_MARKUP)
    if change.is_gone:
        return f"-{name}"
    url = link_text(change.git_url or "")
    if not change.git_sha or url is None:
        return name
    link = f"{url.removesuffix('.git')}/commit/{clean_text(change.git_sha)}"
    return f"[{name}]({quote(link, safe=_URL_SAFE)})"
