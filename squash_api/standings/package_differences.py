"""Which software packages differ between two jobs, and where to read what was changed. Pure."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote

from squash_api.storable import is_link

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
