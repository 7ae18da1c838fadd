"""What specifications generate, what is committed, what a server has: compared.

The first of the three is right by definition. Each difference says on which side it is.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from squash_api.generate.files import find_drift
from squash_api.generate.live.objects import (
    Dashboard,
    Key,
    Kind,
    LiveObject,
    key_of,
    kind_of_file,
    object_in,
)

State = Literal["same", "changed", "missing", "orphaned", "absent", "stopped"]
"""How a side stands to the specifications.

`orphaned` is there without a specification, `absent` rightly not there, and a `stopped` task is
the right one, but does not run.
"""


@dataclass(frozen=True, slots=True)
class Difference:
    """An object that is not the same on all sides."""

    kind: Kind
    name: str
    file: State
    server: State
    remark: str = ""

    @property
    def key(self) -> Key:
        """The kind and the name."""
        return self.kind, self.name


@dataclass(frozen=True, slots=True)
class Comparison:
    """The objects of all sides by kind and name, and the differences between the sides."""

    generated: Mapping[Key, LiveObject]
    live: Mapping[Key, LiveObject]
    differences: tuple[Difference, ...]


def compare(
    files: Mapping[str, str], output: Path, live: Iterable[LiveObject], kinds: Iterable[Kind]
) -> Comparison:
    """Compare the generated files, those below a directory, and what servers have.

    Parameters
    ----------
    files
        What the specifications generate, text by path.
    output
        Where the committed files are.
    live
        All that the servers have, also what is not ours.
    kinds
        The kinds of objects to compare; others have no server.

    Raises
    ------
    TreeError
        If a committed file cannot be read.
    """
    wanted = set(kinds)
    committed = _Committed(files, output, wanted)
    generated = {
        key_of(thing): thing
        for path, text in sorted(files.items())
        if kind_of_file(path) in wanted and (thing := object_in(path, text)) is not None
    }
    found = _by_key(live, generated)
    differences = []
    for key in sorted(generated.keys() | committed.states.keys() | found.keys()):
        right, there = generated.get(key), found.get(key)
        if right is None and there is not None and not there.is_ours:
            there = None
        file = committed.states.get(key, "same" if right else "absent")
        server = _server_state(right, there)
        if file in ("same", "absent") and server in ("same", "absent"):
            continue
        remark = _remark(key, right, there, committed)
        differences.append(Difference(*key, file, server, remark))
    return Comparison(generated, found, tuple(differences))


class _Committed:
    """The committed files that differ from the generated ones, by the objects in them."""

    def __init__(self, files: Mapping[str, str], output: Path, kinds: set[Kind]) -> None:
        self.states: dict[Key, State] = {}
        self.objects: dict[Key, LiveObject] = {}
        drift = find_drift(files, output)
        states: list[tuple[State, tuple[str, ...]]] = [
            ("changed", drift.changed),
            ("missing", drift.missing),
            ("orphaned", drift.orphaned),
        ]
        for state, paths in states:
            for path in paths:
                kind = kind_of_file(path)
                if kind in kinds:
                    self._add(path, kind, state, files.get(path), output)

    def _add(self, path: str, kind: Kind, state: State, right: str | None, output: Path) -> None:
        text = "" if state == "missing" else (output / path).read_text("utf-8", errors="replace")
        there = object_in(path, text)
        named = there if right is None else object_in(path, right)
        key = (kind, Path(path).stem) if named is None else key_of(named)
        self.states[key] = state
        if there is not None and state != "missing":
            self.objects[key] = there


def _by_key(
    live: Iterable[LiveObject], generated: Mapping[Key, LiveObject]
) -> dict[Key, LiveObject]:
    """Return what servers have by name; of dashboards of one name, the one that is meant.

    It is the one of our file, if the server reads our files, else the oldest.
    """
    found: dict[Key, LiveObject] = {}
    for thing in sorted(live, key=lambda thing: _age(thing, generated)):
        found.setdefault(key_of(thing), thing)
    return found


def _age(thing: LiveObject, generated: Mapping[Key, LiveObject]) -> tuple[bool, int, str]:
    if not isinstance(thing, Dashboard):
        return (False, 0, "")
    return (
        not is_from_file(thing, generated),
        int(thing.id) if thing.id.isdecimal() else 0,
        thing.id,
    )


def is_from_file(dashboard: Dashboard, generated: Mapping[Key, LiveObject]) -> bool:
    """Tell whether a server read a dashboard from a file: it has the id of ours.

    A server that stores a dashboard gives it an id of its own.
    """
    ours = generated.get(key_of(dashboard))
    return isinstance(ours, Dashboard) and ours.id == dashboard.id


def _server_state(right: LiveObject | None, there: LiveObject | None) -> State:
    if right is None:
        return "absent" if there is None else "orphaned"
    if there is None:
        return "missing"
    if not right.equals(there):
        return "changed"
    return "stopped" if there.trouble else "same"


def _remark(
    key: Key, right: LiveObject | None, there: LiveObject | None, committed: _Committed
) -> str:
    remarks = []
    file = committed.objects.get(key)
    if right is not None and there is not None and not right.equals(there):
        if file is not None and file.equals(there):
            remarks.append("the server has what the file says")
        elif key not in committed.states:
            remarks.append("changed on the server alone")
    if there is not None and there.trouble:
        remarks.append(there.trouble)
    return "; ".join(remarks)
