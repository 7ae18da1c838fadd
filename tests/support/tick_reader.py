"""Tasks read back from their text, and judged in Python as Kapacitor judges them."""

import operator
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

_TOKEN = re.compile(
    r"""
    (?P<space>\s+|//[^\n]*)
  | (?P<string>'''.*?'''|'(?:\\'|[^'])*')
  | (?P<regex>(?<=\()/(?:\\.|[^/\\])+/)
  | (?P<reference>"(?:\\"|[^"])*")
  | (?P<number>\d+\.\d+|\d+(?![\w.]))
  | (?P<duration>\d+[a-z]+)
  | (?P<word>[A-Za-z_]\w*)
  | (?P<sign>==|!=|<=|>=|[-+/=<>!|.,():])
    """,
    re.VERBOSE | re.DOTALL,
)
_COMPARISONS: Mapping[str, Callable[[Any, Any], bool]] = {
    "==": operator.eq,
    "!=": operator.ne,
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
}
_LEVELS = {"CRITICAL": "crit", "WARNING": "warn", "INFO": "info"}
Token = tuple[str, str]


@dataclass(frozen=True)
class Seen:
    """A point: its tags, its fields and its time, and when it is looked at, in ns."""

    tags: Mapping[str, str]
    fields: Mapping[str, float | str]
    time_ns: int = 0
    now_ns: int = 0

    def with_defaults(self, tags: Mapping[str, str], fields: Mapping[str, str]) -> "Seen":
        """Return the point with these where it has no such tags or fields."""
        return replace(self, tags={**tags, **self.tags}, fields={**fields, **self.fields})

    def value(self, name: str) -> Any:
        """Return what a reference stands for; None if there is no such thing."""
        if name == "time":
            return self.time_ns
        return self.tags.get(name, self.fields.get(name))


@dataclass
class Node:
    """A node or a property: its name, and the tokens of its arguments."""

    kind: str
    name: str
    arguments: list[list[Token]]


@dataclass
class ReadBranch:
    """What stands between two alerts: the nodes, in order."""

    labels: tuple[str, ...]
    nodes: list[Node] = field(default_factory=list)

    def texts(self, name: str) -> list[str]:
        """Return the strings that a property has as its arguments; of the last such node."""
        found = [node for node in self.nodes if node.name == name]
        return [text_of(argument[0]) for argument in found[-1].arguments] if found else []

    def defaults(self, name: str) -> dict[str, str]:
        """Return the texts that `default` gives to missing tags or fields, by name."""
        given = [node.arguments for node in self.nodes if (node.kind, node.name) == (".", name)]
        return {text_of(one[0]): text_of(other[0]) for one, other in given}

    def admits(self, seen: Seen) -> bool:
        """Return whether a point comes through every `where`."""
        wheres = [node.arguments[0] for node in self.nodes if node.name == "where"]
        return all(holds(where, seen) for where in wheres)

    def level(self, seen: Seen) -> str | None:
        """Return the level that a point has, None if it raises no alert."""
        for level, name in _LEVELS.items():
            for node in self.nodes:
                if node.name == name and holds(node.arguments[0], seen):
                    return level
        return None


@dataclass
class ReadTask:
    """A task: the points that it looks at at all, and its branches."""

    measurement: str
    root: ReadBranch
    branches: list[ReadBranch]

    def levels(self, seen: Seen) -> dict[tuple[str, ...], str]:
        """Return the level of each branch that a point raises, by the branch's labels."""
        found = {item.labels: level for item, level, _ in self.judged(seen)}
        return {labels: level for labels, level in found.items() if level is not None}

    def judged(self, seen: Seen) -> Iterator[tuple[ReadBranch, str | None, Seen]]:
        """Yield the branches that look at a point, the level it has there, and what they see."""
        if not self.root.admits(seen):
            return
        made = seen.with_defaults(self.root.defaults("tag"), self.root.defaults("field"))
        for item in self.branches:
            if item.admits(made):
                yield item, item.level(made), made


def read_task(text: str) -> ReadTask:
    """Read a generated task of a metric."""
    declared, *parts = re.split(r"\n\n(?=// [^\n]*\ndata\n)", text)
    root = ReadBranch((), _nodes(declared[declared.index("\nvar data = stream\n") :]))
    branches = []
    for part in parts:
        note, _, rest = part.partition("\ndata\n")
        branches.append(ReadBranch(tuple(note.removeprefix("// ").split()), _nodes(rest)))
    return ReadTask(root.texts("measurement")[0], root, branches)


def text_of(token: Token) -> str:
    """Return what a string or a reference stands for."""
    kind, text = token
    if kind == "string" and text.startswith("'''"):
        return text[3:-3]
    quote = text[0]
    return text[1:-1].replace("\\" + quote, quote)


def holds(tokens: Sequence[Token], seen: Seen) -> bool:
    """Evaluate a lambda expression."""
    words = [token for token in tokens if token[1] not in ("lambda", ":")]
    value, rest = _either(words, seen)
    assert not rest, rest
    assert isinstance(value, bool)
    return value


def _tokens(text: str) -> Iterator[Token]:
    position = 0
    while position < len(text):
        match = _TOKEN.match(text, position)
        assert match is not None, f"no TICKscript: {text[position : position + 60]!r}"
        assert match.lastgroup is not None
        if match.lastgroup != "space":
            yield match.lastgroup, match[0]
        position = match.end()


def _nodes(text: str) -> list[Node]:
    found: list[Node] = []
    depth = 0
    kind = ""
    for token in _tokens(text):
        sign = token[1] if token[0] == "sign" else ""
        if depth == 0:
            if sign in ("|", "."):
                kind = sign
            elif token[0] == "word" and kind:
                found.append(Node(kind, token[1], []))
                kind = ""
            depth += sign == "("
            continue
        depth += (sign == "(") - (sign == ")")
        if depth == 0:
            continue
        arguments = found[-1].arguments
        if not arguments or (sign == "," and depth == 1):
            arguments.append([])
        if not (sign == "," and depth == 1):
            arguments[-1].append(token)
    return found


def _either(tokens: Sequence[Token], seen: Seen) -> tuple[Any, Sequence[Token]]:
    value, rest = _all(tokens, seen)
    while rest and rest[0] == ("word", "OR"):
        other, rest = _all(rest[1:], seen)
        value = value or other
    return value, rest


def _all(tokens: Sequence[Token], seen: Seen) -> tuple[Any, Sequence[Token]]:
    value, rest = _compared(tokens, seen)
    while rest and rest[0] == ("word", "AND"):
        other, rest = _compared(rest[1:], seen)
        value = value and other
    return value, rest


def _compared(tokens: Sequence[Token], seen: Seen) -> tuple[Any, Sequence[Token]]:
    value, rest = _difference(tokens, seen)
    if rest and rest[0][1] in _COMPARISONS:
        sign = rest[0][1]
        other, rest = _difference(rest[1:], seen)
        # What is missing compares with nothing; a guard stands before it.
        value = value is not None and _COMPARISONS[sign](value, other)
    return value, rest


def _difference(tokens: Sequence[Token], seen: Seen) -> tuple[Any, Sequence[Token]]:
    value, rest = _single(tokens, seen)
    while rest and rest[0] == ("sign", "-"):
        other, rest = _single(rest[1:], seen)
        value -= other
    return value, rest


def _single(tokens: Sequence[Token], seen: Seen) -> tuple[Any, Sequence[Token]]:
    (kind, text), rest = tokens[0], tokens[1:]
    if (kind, text) == ("sign", "-"):
        value, rest = _single(rest, seen)
        return -value, rest
    if (kind, text) == ("sign", "!"):
        value, rest = _single(rest, seen)
        return not value, rest
    if (kind, text) == ("sign", "("):
        value, rest = _either(rest, seen)
        assert rest[0] == ("sign", ")")
        return value, rest[1:]
    if kind == "word":
        assert rest[0] == ("sign", "(")
        if text == "isPresent":
            assert rest[2] == ("sign", ")")
            return seen.value(text_of(rest[1])) is not None, rest[3:]
        if text == "strContains":
            whole, rest = _single(rest[1:], seen)
            part, rest = _single(rest[1:], seen)
            assert isinstance(whole, str), "Kapacitor fails on a missing argument"
            return part in whole, rest[1:]
        if text == "now":
            return seen.now_ns, rest[2:]
        assert text == "unixNano"
        value, rest = _either(rest[1:], seen)
        return value, rest[1:]
    if kind == "reference":
        return seen.value(text_of(tokens[0])), rest
    if kind == "string":
        return text_of(tokens[0]), rest
    assert kind == "number"
    return float(text) if "." in text else int(text), rest
