"""Comparison of what specifications generate with the committed files and the running servers.

What specifications generate is right by definition; files and servers may differ from it.
"""

from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path, PurePosixPath
from typing import Literal

import yaml

from squash_api.generate.files import find_drift
from squash_api.generate.output import Output
from squash_api.generate.outputs import OUTPUTS, SERVED, file_kind_of
from squash_api.generate.servers import Server, ServerError, Thing, UnreachableError

State = Literal["same", "changed", "missing", "orphaned", "absent", "stopped"]
"""How a side compares with the specifications.

`orphaned` exists without a specification, `absent` is rightly missing, and a `stopped` task is the
right one but does not run.
"""

Outcome = Literal["created", "updated", "started", "removed", "left", "failed"]

Key = tuple[str, str]
"""The kind and the title, which identify a thing on every side."""

_OUTCOMES: Mapping[State, Outcome] = {
    "missing": "created",
    "changed": "updated",
    "stopped": "started",
    "orphaned": "removed",
}


@dataclass(frozen=True, slots=True)
class Difference:
    """A thing that differs between the sides."""

    kind: str
    name: str
    file: State
    server: State
    remark: str = ""

    @property
    def key(self) -> Key:
        """The key of the thing."""
        return self.kind, self.name


@dataclass(frozen=True, slots=True)
class Comparison:
    """The generated and the live things, and the differences between the sides."""

    generated: Mapping[Key, Thing]
    live: Mapping[Key, Thing]
    differences: tuple[Difference, ...]


@dataclass(frozen=True, slots=True)
class Step:
    """What was done about a difference; `words` are the server's if it failed."""

    kind: str
    name: str
    outcome: Outcome
    words: str = ""


def server_of(output: Output) -> type[Server]:
    """Return the class of an output's servers."""
    module, _, name = output.server.partition(":")
    found: type[Server] = getattr(import_module(module), name)
    return found


def things_in(path: str, text: str) -> list[Thing]:
    """Return the things in a generated file; none if it cannot be read, or is of no server."""
    kind = file_kind_of(path)
    if kind is None or not kind.holds:
        return []
    output = next(output for output in OUTPUTS if kind in output.files)
    try:
        return [*server_of(output).read(kind.holds, PurePosixPath(path).stem, text)]
    except (yaml.YAMLError, ValueError, TypeError, LookupError, AttributeError):
        return []


def compare(
    files: Mapping[str, str], output: Path, live: Iterable[Thing], kinds: Collection[str]
) -> Comparison:
    """Compare generated files with those below a directory and with running servers.

    Parameters
    ----------
    files
        What the specifications generate, text by path.
    output
        The directory of the committed files.
    live
        All things on the servers, including those that are not ours.
    kinds
        The kinds to compare; no server was given for others.

    Raises
    ------
    FilesError
        If a committed file cannot be read.
    """
    committed = _Committed(files, output, kinds)
    generated: dict[Key, Thing] = {}
    for path, text in sorted(files.items()):
        if _is_of(kinds, path):
            generated |= _by_key(things_in(path, text))
    found: dict[Key, Thing] = {}
    for thing in sorted(live, key=lambda thing: thing.rank(generated.get(_key(thing)))):
        found.setdefault(_key(thing), thing)
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


def push(comparison: Comparison, servers: Mapping[str, Server], *, prune: bool) -> Iterator[Step]:
    """Remove the differences on the servers, which are by the name of their output, one by one.

    A failure does not stop the others. Without `prune` orphans are left.

    Raises
    ------
    UnreachableError
        If a server becomes unavailable.
    """
    by_kind = {
        kind: servers[output.name]
        for output in SERVED
        if output.name in servers
        for kind in output.kinds
    }
    order = list(by_kind)

    def turn(difference: Difference) -> tuple[bool, int]:
        """Return when it is made: what is named by others is made first, and removed last."""
        place = order.index(difference.kind)
        is_removed = difference.server == "orphaned"
        return is_removed, -place if is_removed else place

    for difference in sorted(comparison.differences, key=turn):
        if difference.server in ("same", "absent"):
            continue
        if difference.server == "orphaned" and not prune:
            yield Step(*difference.key, "left", "no specification makes it: --prune removes it")
            continue
        right = comparison.generated.get(difference.key)
        there = comparison.live.get(difference.key)
        try:
            if right is not None:
                by_kind[difference.kind].put(right, there)
            elif there is not None:
                by_kind[difference.kind].remove(there)
        except UnreachableError:
            raise
        except ServerError as error:
            yield Step(*difference.key, "failed", str(error))
        else:
            yield Step(*difference.key, _OUTCOMES[difference.server])


def _key(thing: Thing) -> Key:
    return thing.kind, thing.title


def _by_key(things: Iterable[Thing]) -> dict[Key, Thing]:
    return {_key(thing): thing for thing in things}


def _is_of(kinds: Collection[str], path: str) -> bool:
    """Return whether a generated file may have things of these kinds."""
    kind = file_kind_of(path)
    return kind is not None and not set(kind.holds).isdisjoint(kinds)


class _Committed:
    """The committed files that differ from the generated ones, by the things in them."""

    def __init__(self, files: Mapping[str, str], output: Path, kinds: Collection[str]) -> None:
        self.states: dict[Key, State] = {}
        self.things: dict[Key, Thing] = {}
        drift = find_drift(files, output)
        states: tuple[State, ...] = ("changed", "missing", "orphaned")
        for state in states:
            for path in getattr(drift, state):
                if _is_of(kinds, path):
                    self._add(path, state, files.get(path), output)

    def _add(self, path: str, state: State, right: str | None, output: Path) -> None:
        is_missing = state == "missing"
        text = "" if is_missing else (output / path).read_text("utf-8", errors="replace")
        there = {} if is_missing else _by_key(things_in(path, text))
        asked = {} if right is None else _by_key(things_in(path, right))
        self.things |= there
        found: dict[Key, State] = {}
        for key in asked.keys() | there.keys():
            if key not in asked:
                found[key] = "orphaned"
            elif key not in there:
                # One that cannot be read has something else, whatever that is.
                found[key] = "missing" if there else state
            elif not asked[key].equals(there[key]):
                found[key] = "changed"
        kind = file_kind_of(path)
        if not asked and not there and kind is not None and len(kind.holds) == 1:
            found[kind.holds[0], Path(path).stem] = state
        # Something differs, if only in how it is written.
        self.states |= found or dict.fromkeys(asked, state)


def _server_state(right: Thing | None, there: Thing | None) -> State:
    if right is None:
        return "absent" if there is None else "orphaned"
    if there is None:
        return "missing"
    if not right.equals(there):
        return "changed"
    return "stopped" if there.trouble else "same"


def _remark(key: Key, right: Thing | None, there: Thing | None, committed: _Committed) -> str:
    remarks = []
    file = committed.things.get(key)
    if right is not None and there is not None and not right.equals(there):
        if file is not None and file.equals(there):
            remarks.append("the server has what the file says")
        elif key not in committed.states:
            remarks.append("changed on the server alone")
    if there is not None and there.trouble:
        remarks.append(there.trouble)
    return "; ".join(remarks)
