"""What is valid in a metrics package, and probably not what its author means.

These are traps of YAML 1.1, which reads `on` as true and `0123` as 83, and names that are one slip
away from a known one. They are warnings: what is written may be meant.
"""

import re
from collections.abc import Iterator, Sequence
from difflib import get_close_matches
from pathlib import Path
from typing import Any

import yaml

from squash_api.judging.kinds.registry import KEYS, KINDS, THRESHOLD, unknown_kind
from squash_api.judging.metadata_query import IN
from squash_api.judging.specifications import LEVEL_TAGS
from squash_api.metrics_packages.documents import compose_documents
from squash_api.metrics_packages.drafts import DOCUMENT_KEYS
from squash_api.metrics_packages.loading import (
    Problem,
    metrics_files,
    place_of,
    source_file,
    specification_files,
    specification_roots,
)
from squash_api.schema.names import Schema
from squash_api.schema.text import tag_text
from squash_api.verify.metrics import DERIVATION_KEYS, REFERENCE_KEYS, Source
from squash_api.verify.units import UnitError, unit_doubt

_SIMILAR = 0.8
_DECIMAL = re.compile(r"[-+]?(0|[1-9][0-9]*)\Z")
_OTHER_BASE = re.compile(r"[-+]?0(o[0-7_]+|x[0-9a-f_]+|b[01_]+)\Z", re.IGNORECASE)
_LOST_ZERO = re.compile(r"\.[0-9]*[1-9]0+\Z")
_INT, _FLOAT, _BOOL, _NULL, _TEXT, _MERGE = (
    f"tag:yaml.org,2002:{name}" for name in ("int", "float", "bool", "null", "str", "merge")
)

# Longer ones are a problem rather than a doubt.
_LONGEST_NUMBER = 100

_Doubt = tuple[yaml.Node, str]


def find_doubts(directories: Sequence[Path], *, schema: Schema = Schema()) -> list[Problem]:
    """Return what is doubtful in metrics packages, by file and line."""
    found: dict[Problem, None] = {}
    for directory in directories:
        files = [*metrics_files(directory)]
        for root in specification_roots(directory):
            files += specification_files(root)
        for path in files:
            is_metrics = path.parent == directory / "metrics"
            for node in compose_documents(path):
                own = _in_metrics(node) if is_metrics else _in_specification(node, schema)
                for place, message in (*_in_yaml(node), *own):
                    line = place.start_mark.line + 1 if place.start_mark else 1
                    found[Problem(Source(source_file(directory, path), line), message)] = None
    return sorted(found, key=place_of)


def _in_yaml(root: yaml.Node) -> Iterator[_Doubt]:
    """Yield what YAML reads in another way than people do, wherever it is."""
    waiting, seen = [root], {id(root)}
    while waiting:
        node = waiting.pop()
        inner: list[yaml.Node] = []
        if isinstance(node, yaml.MappingNode):
            yield from _in_mapping(node)
            inner = [item for pair in node.value for item in pair]
        elif isinstance(node, yaml.SequenceNode):
            inner = node.value
        elif _is_odd_number(node):
            number = yaml.safe_load(node.value)
            yield node, f"{node.value} is the number {number} in YAML: write that, or quotes"
        new = [item for item in inner if id(item) not in seen]
        seen.update(map(id, new))
        waiting += reversed(new)


def _in_mapping(node: yaml.MappingNode) -> Iterator[_Doubt]:
    first: dict[tuple[str, str], yaml.Node] = {}
    previous = None
    for key, value in node.value:
        if not isinstance(key, yaml.ScalarNode):
            continue
        if key.tag in (_INT, _FLOAT) and node.flow_style and _is_nothing(value):
            before = previous.value if isinstance(previous, yaml.ScalarNode) else ""
            yield (
                key,
                (
                    f"the comma ends the value {before}, and {key.value} is a key of its own: "
                    f"write a point, {before}.{key.value}"
                ),
            )
        previous = value
        other = first.setdefault((key.tag, key.value), key)
        if other is not key and key.tag != _MERGE:
            line = other.start_mark.line + 1 if other.start_mark else 1
            yield key, f"the key '{key.value}' is in line {line} too; only this one counts"


def _is_odd_number(node: yaml.Node) -> bool:
    """Tell whether a number without quotes is octal, hexadecimal, binary, of base 60 or has `_`."""
    if not isinstance(node, yaml.ScalarNode) or node.style or len(node.value) > _LONGEST_NUMBER:
        return False
    is_odd_integer = node.tag == _INT and _DECIMAL.match(node.value) is None
    return is_odd_integer or (node.tag == _FLOAT and not {"_", ":"}.isdisjoint(node.value))


def _is_nothing(node: yaml.Node) -> bool:
    return isinstance(node, yaml.ScalarNode) and node.tag == _NULL and node.value == ""


def _in_metrics(root: yaml.Node) -> Iterator[_Doubt]:
    for definition in _items(root).values():
        keys = _items(definition)
        yield from _in_unit(keys.get("unit"))
        for key, _ in definition.value if isinstance(definition, yaml.MappingNode) else ():
            if key.value in DERIVATION_KEYS:
                yield key, f"lsst.verify refuses the key '{key.value}' here: write it in reference"
        reference = keys.get("reference")
        for key, _ in reference.value if isinstance(reference, yaml.MappingNode) else ():
            near = _near(str(key.value), (*REFERENCE_KEYS, "display_name", *DERIVATION_KEYS))
            if near is not None:
                yield key, f"the key '{key.value}' has no effect: did you mean '{near}'?"


def _in_specification(root: yaml.Node, schema: Schema) -> Iterator[_Doubt]:
    keys = _items(root)
    for key, _ in root.value if isinstance(root, yaml.MappingNode) else ():
        near = _near(str(key.value), DOCUMENT_KEYS)
        if near is not None:
            yield key, f"the key '{key.value}' has no effect: did you mean '{near}'?"
    if "threshold" in keys and "id" not in keys:
        yield from _beside_threshold(root)
    for name, schema_of_key in KEYS.items():
        yield from _in_unit(_items(keys.get(name)).get("unit"))
        yield from _in_criterion(name, keys.get(name), [*schema_of_key.get("properties", ())])
    yield from _in_tags(keys.get("tags"))
    yield from _in_query(keys.get("metadata_query"), schema)


def _beside_threshold(root: yaml.Node) -> Iterator[_Doubt]:
    """Yield what lsst.verify ignores beside a threshold: another type, and its key."""
    for key, value in root.value if isinstance(root, yaml.MappingNode) else ():
        if key.value == "type" and str(value.value) not in KINDS:
            yield key, f"{unknown_kind(value.value)}; beside a threshold it has no effect"
        elif key.value in KEYS and key.value not in THRESHOLD.SCHEMA:
            yield key, f"the key '{key.value}' has no effect beside a threshold: delete one"


def _in_criterion(name: str, node: yaml.Node | None, known: Sequence[str]) -> Iterator[_Doubt]:
    for key, _ in node.value if isinstance(node, yaml.MappingNode) and known else ():
        if key.tag == _TEXT and key.value not in known:
            near = _near(key.value, known)
            meant = f"did you mean '{near}'?" if near else f"it has only {', '.join(known)}"
            yield key, f"the key '{key.value}' has no effect in {name}: {meant}"


def _in_tags(node: yaml.Node | None) -> Iterator[_Doubt]:
    for tag in _entries(node):
        words = [word for word in re.split(r"[\s,]+", tag.value) if word]
        is_alone = tag is node and not tag.style
        if len(words) > 1 and (is_alone or any(_is_level(word) for word in words)):
            yield tag, f"'{tag.value}' is one tag: for several write [{', '.join(words)}]"
            continue
        near = _near(tag.value, LEVEL_TAGS)
        if near is not None:
            yield tag, f"the tag '{tag.value}' is not a level: did you mean '{near}'?"


def _is_level(tag: str) -> bool:
    return tag in LEVEL_TAGS or _near(tag, LEVEL_TAGS) is not None


def _in_unit(node: yaml.Node | None) -> Iterator[_Doubt]:
    if not isinstance(node, yaml.ScalarNode):
        return
    try:
        doubt = unit_doubt(node.value)
    except UnitError:  # an error, which is reported elsewhere
        return
    if doubt is not None:
        yield node, doubt


def _in_query(node: yaml.Node | None, schema: Schema) -> Iterator[_Doubt]:
    for key, value in node.value if isinstance(node, yaml.MappingNode) else ():
        near = _near(str(key.value), schema.sources)
        if near is not None:
            yield key, f"no tag or field is called '{key.value}': did you mean '{near}'?"
        term = schema.term(str(key.value), 1.5)
        is_text = term is not None and isinstance(term.value, str)
        for item in _entries(_items(value).get(IN, value)):
            doubt = _scalar_doubt(item, is_text=is_text)
            if doubt is not None:
                yield item, f"'{key.value}: {item.value}': {doubt}"


def _scalar_doubt(node: yaml.ScalarNode, *, is_text: bool) -> str | None:
    """Tell what YAML makes of a value without quotes that a job may send as text."""
    text = node.value
    if node.style:
        return None
    if node.tag == _BOOL and text.lower() not in ("true", "false"):
        value = str(yaml.safe_load(text)).lower()
        return f"{text} is the boolean {value} in YAML: put it in quotes"
    if node.tag == _FLOAT and (is_text or _LOST_ZERO.search(text)):
        shown = tag_text(yaml.safe_load(text))
        if shown is not None and shown != text:
            return f"{text} is the number {shown}: put it in quotes if jobs send it as text"
    if node.tag == _TEXT and not is_text and _is_number(text):
        return f"{text} is text in YAML, not a number: put it in quotes, or write it in digits"
    return None


def _is_number(text: str) -> bool:
    if _OTHER_BASE.match(text):
        return True
    try:
        return text[-1:].isdigit() and float(text) is not None
    except ValueError:
        return False


def _near(name: str, known: Sequence[str]) -> str | None:
    """Return the known name that a name is one slip away from; None if it is a known one.

    A name with another word at its end, as `detector_id`, is not a slip of the shorter one.
    """
    if name in known:
        return None
    plain = {_plain(item): item for item in known if not name.startswith(f"{item}_")}
    written = _plain(name)
    near = get_close_matches(written, plain, n=1, cutoff=_SIMILAR)
    near = near or [item for item in plain if _is_short_slip(written, item)]
    return plain[near[0]] if near else None


def _is_short_slip(written: str, known: str) -> bool:
    """Tell whether names of four letters differ by a wrong letter, or by two that are swapped.

    They are too short for a measure of similarity. Of a wrong first letter nothing is said, for
    that makes another word, as `hand` of `band`.
    """
    if not len(written) == len(known) == 4:
        return False
    wrong = [at for at in range(4) if written[at] != known[at]]
    if len(wrong) == 2:
        first, second = wrong
        return second == first + 1 and (written[first], written[second]) == (
            known[second],
            known[first],
        )
    return len(wrong) == 1 and wrong[0] > 0


def _plain(name: str) -> str:
    return re.sub(r"[\s_-]", "", name).lower()


def _items(node: yaml.Node | None) -> dict[str, yaml.Node]:
    """Return the values of a mapping by the text of their keys."""
    pairs: list[Any] = node.value if isinstance(node, yaml.MappingNode) else []
    return {str(key.value): value for key, value in pairs}


def _entries(node: yaml.Node | None) -> list[yaml.ScalarNode]:
    """Return a scalar, or those in a list or among the keys of a set."""
    found: list[yaml.Node | None] = [node]
    if isinstance(node, yaml.SequenceNode):
        found = node.value
    elif isinstance(node, yaml.MappingNode):
        found = [key for key, _ in node.value]
    return [item for item in found if isinstance(item, yaml.ScalarNode)]
