"""YAML 1.1 documents, read as lsst.verify reads them, with line numbers."""

import re
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, cast

import yaml

from squash_api.verify.metrics import Source

Report = Callable[[Source, str], None]
"""Takes each problem: where it is, and what to do."""

MAX_DEPTH = 100
"""The deepest nesting of a document."""

MAX_NODES = 200_000
"""The most values in a document, each alias counted as what it stands for."""

MAX_FILE_BYTES = 50_000_000
"""The largest file."""

_MOST_BITS = 1024
"""Of a whole number: no float is larger."""

_DEEP = f"nested deeper than {MAX_DEPTH} levels: write it flatter"

_LONGEST_SHOWN = 100

# PyYAML's constructors raise these for text that does not fit an explicit tag or a date.
_CONSTRUCTION_ERRORS = (ValueError, TypeError, LookupError, AttributeError, ArithmeticError)
_SEQUENCE = "tag:yaml.org,2002:seq"
_DENSE = re.compile(r"(?:[-?:][ \t]+){50}")

_Pairs = dict[Any, tuple[yaml.Node, yaml.Node]]


@dataclass(slots=True, eq=False)
class Document:
    """One YAML document: its value, its file, and its nodes, which know their lines."""

    value: Any
    file: str
    node: yaml.Node
    _pairs: _Pairs | None = None

    def has(self, path: tuple[Any, ...]) -> bool:
        """Return whether this document contains the path of keys."""
        return self._find(path)[1] == len(path)

    def source(self, *path: Any) -> Source:
        """Return the line of the last key of a path that the document has."""
        return Source(self.file, _line(self._find(path)[0]))

    def _find(self, path: tuple[Any, ...]) -> tuple[yaml.Node, int]:
        if self._pairs is None:
            self._pairs = _pairs(self.node)
        found, pairs = self.node, self._pairs
        for depth, key in enumerate(path):
            match = pairs.get(key)
            if match is None:
                return found, depth
            found, pairs = match[0], _pairs(match[1]) if depth + 1 < len(path) else {}
        return found, len(path)


def _pairs(node: yaml.Node) -> _Pairs:
    """Return the nodes of a mapping by the text of their keys; the last of equal keys counts."""
    if not isinstance(node, yaml.MappingNode):
        return {}
    return {key.value: (key, value) for key, value in node.value if isinstance(key.value, str)}


def _line(node: yaml.Node) -> int:
    return node.start_mark.line + 1 if node.start_mark is not None else 1


def compose_documents(path: Path) -> list[yaml.Node]:
    """Return the nodes of a file as they are written, up to what cannot be read."""
    text = _read_text(path, "", lambda _source, _message: None)
    if text is None or _too_deep(text, "") is not None:
        return []
    found: list[yaml.Node] = []
    try:
        found.extend(node for node in yaml.compose_all(text, Loader=_loader_class()) if node)
    except (yaml.YAMLError, RecursionError):
        return found
    return found


def read_documents(path: Path, *, file: str, report: Report) -> list[Document]:
    """Read the documents of a file, which sources call `file`; report what cannot be read."""
    text = _read_text(path, file, report)
    return [] if text is None else read_yaml(text, file=file, report=report)


def read_yaml(
    text: str, *, file: str, report: Report, mappings: tuple[str, ...] = (), in_parts: bool = False
) -> list[Document]:
    """Read the documents of a text, which sources call `file`; report what cannot be read.

    Parameters
    ----------
    mappings
        Tags, beside those of plain YAML, that are read as mappings.
    in_parts
        Each item of a list is a document of its own.
    """
    deep = _too_deep(text, file)
    if deep is not None:
        report(deep, _DEEP)
        return []
    documents: list[Document] = []
    loader = _loader_class(mappings)(text)
    try:
        while loader.check_node():
            node = cast("yaml.Node", loader.get_node())
            # One with a tag of its own is what the tag says.
            is_list = in_parts and node.tag == _SEQUENCE and isinstance(node, yaml.SequenceNode)
            for part in node.value if is_list else [node]:
                document = _construct(loader, part, file, report, aliases="*" in text)
                if document is not None:
                    documents.append(document)
    except yaml.YAMLError as error:
        source, message = _explained(error, Source(file, 1))
        last = len(text.splitlines()) or 1  # a premature end is marked after the last line
        report(Source(file, min(source.line, last)), message)
    except RecursionError:
        report(Source(file, 1), _DEEP)
    finally:
        loader.dispose()
    return documents


@lru_cache(maxsize=4)
def _loader_class(mappings: tuple[str, ...] = ()) -> type[yaml.SafeLoader]:
    fast = cast("type[yaml.SafeLoader]", getattr(yaml, "CSafeLoader", yaml.SafeLoader))
    loader = cast("type[yaml.SafeLoader]", type("_Loader", (fast,), {}))
    loader.add_constructor("tag:yaml.org,2002:int", _construct_int)
    for tag in mappings:
        loader.add_constructor(tag, _construct_mapping)
    return loader


def _construct_mapping(loader: yaml.SafeLoader, node: yaml.Node) -> dict[Any, Any]:
    if not isinstance(node, yaml.MappingNode):
        raise yaml.constructor.ConstructorError(
            None, None, f"{node.tag} is not a mapping", node.start_mark
        )
    return loader.construct_mapping(node, deep=True)


def _construct_int(loader: yaml.SafeLoader, node: yaml.ScalarNode) -> int:
    number: int = loader.construct_yaml_int(node)
    if number.bit_length() > _MOST_BITS:
        # Python would neither print nor convert it.
        raise yaml.constructor.ConstructorError(
            None, None, "a number too large for a float", node.start_mark
        )
    return number


def _cut(text: str) -> str:
    return text if len(text) <= _LONGEST_SHOWN else f"{text[:_LONGEST_SHOWN]}..."


def _read_text(path: Path, file: str, report: Report) -> str | None:
    try:
        # Opening a pipe or a device may wait, or read, for ever.
        if not path.is_dir() and path.exists() and not path.is_file():
            report(Source(file, 1), "not a file but a pipe, a socket or a device: delete it")
            return None
        if path.stat().st_size > MAX_FILE_BYTES:
            report(Source(file, 1), f"larger than {MAX_FILE_BYTES} bytes: split it")
            return None
        data = path.read_bytes()
    except OSError as error:
        report(Source(file, 1), f"cannot be read ({error.strerror}): make it a readable file")
        return None
    try:
        return data.decode()
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        report(Source(file, line), "not UTF-8: save the file as UTF-8")
        return None


def _too_deep(text: str, file: str) -> Source | None:
    """Return where the nesting gets too deep for the composer, which would overflow its stack."""
    if text.count("[") + text.count("{") < MAX_DEPTH and _DENSE.search(text) is None:
        return None
    depth = 0
    try:
        for event in yaml.parse(text, Loader=_loader_class()):
            if isinstance(event, yaml.CollectionStartEvent):
                depth += 1
                if depth > MAX_DEPTH:
                    return Source(file, event.start_mark.line + 1 if event.start_mark else 1)
            elif isinstance(event, yaml.CollectionEndEvent):
                depth -= 1
    except yaml.YAMLError:
        return None  # the composer reports it
    return None


def _construct(
    loader: yaml.SafeLoader, node: yaml.Node, file: str, report: Report, *, aliases: bool
) -> Document | None:
    """Return a document with its values, or report why they cannot be read."""
    start = Source(file, _line(node))
    try:
        if aliases and _size(node, {}, 0) > MAX_NODES:
            report(start, f"aliases expand to more than {MAX_NODES} values: write fewer")
            return None
        return Document(loader.construct_document(node), file, node)
    except yaml.YAMLError as error:
        report(*_explained(error, start))
    except RecursionError:
        report(start, "an alias stands for a value that contains it: delete it")
    except _CONSTRUCTION_ERRORS as error:
        bad = _unreadable(node)
        place = start if bad is None else Source(file, _line(bad))
        what = "a value in this document" if bad is None else f"the value {_cut(bad.value)!r}"
        reason = _cut(str(error))
        report(place, f"{what} cannot be read ({reason}): correct it, or put it in quotes")
    loader.state_generators = []
    loader.constructed_objects = {}
    loader.recursive_objects = {}
    loader.deep_construct = False
    return None


def _unreadable(root: yaml.Node) -> yaml.Node | None:
    """Return the first scalar that cannot be read, in the order of the file."""
    waiting, seen = [root], {id(root)}
    while waiting:
        node = waiting.pop()
        inner: list[yaml.Node] = []
        if isinstance(node, yaml.MappingNode):
            inner = [item for pair in node.value for item in pair]
        elif isinstance(node, yaml.SequenceNode):
            inner = node.value
        else:
            try:
                yaml.constructor.SafeConstructor().construct_document(node)
            except yaml.YAMLError:
                pass
            except _CONSTRUCTION_ERRORS:
                return node
        new = [item for item in inner if id(item) not in seen]
        seen.update(map(id, new))
        waiting += reversed(new)
    return None


def _size(node: yaml.Node, sizes: dict[int, int], depth: int) -> int:
    """Count the values under a node, each alias as what it stands for."""
    known = sizes.get(id(node))
    if known is not None:
        if known == 0:
            raise RecursionError
        return known
    if depth > MAX_DEPTH:
        raise RecursionError
    sizes[id(node)] = 0
    total = 1
    if isinstance(node, yaml.MappingNode):
        for key, value in node.value:
            total += _size(key, sizes, depth + 1) + _size(value, sizes, depth + 1)
    elif isinstance(node, yaml.SequenceNode):
        for value in node.value:
            total += _size(value, sizes, depth + 1)
    sizes[id(node)] = total
    return total


def _explained(error: yaml.YAMLError, start: Source) -> tuple[Source, str]:
    """Return where PyYAML found an error, and which, in one line."""
    mark = getattr(error, "problem_mark", None) or getattr(error, "context_mark", None)
    context, problem = getattr(error, "context", None), getattr(error, "problem", None)
    what = ", ".join(part for part in (context, problem) if part) or str(error).split("\n")[0]
    source = Source(start.file, mark.line + 1) if mark is not None else start
    return source, f"not YAML: {what}"
