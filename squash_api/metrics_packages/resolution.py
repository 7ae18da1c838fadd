"""Resolving the bases of specifications: finding, ordering and merging documents.

A resolved document is the merge of its resolved bases, from left to right, and its own keys.
Mappings merge key by key, lists are appended, and anything else is replaced by the newer value.
"""

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date
from difflib import get_close_matches
from typing import Any

from squash_api.judging.kinds.criterion import Criterion
from squash_api.judging.kinds.registry import (
    KINDS,
    THRESHOLD,
    kind_of,
    kinds_with_keys,
    unknown_kind,
)
from squash_api.judging.specifications import Specification, check_partial, parse_specification
from squash_api.metrics_packages.documents import Report
from squash_api.metrics_packages.drafts import Draft, name_with_metric
from squash_api.schema.names import Schema
from squash_api.verify.metrics import LEGAL_NAME, Fault, Source

MAX_ITEMS = 10_000
"""The longest list that merging may make: a list doubles with each base that repeats."""

_MAX_GUESSES = 20


@dataclass(frozen=True, slots=True, eq=False)
class Resolved:
    """A specification and the documents it was made from."""

    specification: Specification
    draft: Draft
    layers: tuple[Draft, ...]

    def locate(self, *loc: str | int) -> Source:
        """Return the line that decides a key, in the document or in a base."""
        return _locate(self.draft, self.layers, loc)

    def says(self, *loc: str | int) -> bool:
        """Return whether the document itself has a key."""
        return self.draft.document.has(loc)


def resolve(
    drafts: Sequence[Draft],
    *,
    schema: Schema,
    today: date | None,
    report: Report,
    unread: Collection[str] = (),
) -> list[Resolved]:
    """Resolve the documents of a metrics package, keeping their order; report what fails.

    `unread` are the packages that have a file that could not be read, and those files
    (`package:path`): they may have the bases that are not found.
    """
    resolver = _Resolver(schema, today, report, unread)
    resolver.run(drafts)
    return resolver.resolved


def merge(base: Mapping[str, Any], newer: Mapping[str, Any]) -> dict[str, Any]:
    """Return a document with a newer one merged onto it; neither is changed.

    Raises
    ------
    ValueError
        If a list grows beyond `MAX_ITEMS`.
    """
    merged = dict(base)
    for key, value in newer.items():
        old = merged.get(key)
        if isinstance(old, dict) and isinstance(value, dict):
            merged[key] = merge(old, value)
        elif isinstance(old, list) and isinstance(value, list):
            if len(old) + len(value) > MAX_ITEMS:
                raise ValueError(
                    f"'{key}' grows beyond {MAX_ITEMS} items: name each base only once"
                )
            merged[key] = old + value
        else:
            merged[key] = value
    return merged


def near_names(name: str, known_names: Iterable[str], *, known: int) -> str:
    """Return the names that may be meant; empty if none is similar, or many were guessed before."""
    near = get_close_matches(name, [*known_names], n=2) if known < _MAX_GUESSES else []
    return " or ".join(f"'{other}'" for other in near)


@dataclass(slots=True)
class _Resolver:
    schema: Schema
    today: date | None
    report: Report
    unread: Collection[str] = ()
    resolved: list[Resolved] = field(default_factory=list)
    partials: dict[str, Draft] = field(default_factory=dict)
    specifications: dict[str, Draft] = field(default_factory=dict)
    bases: dict[Draft, list[Draft]] = field(default_factory=dict)
    contributions: dict[Draft, dict[str, Any]] = field(default_factory=dict)
    guesses: dict[str, str] = field(default_factory=dict)

    def run(self, drafts: Sequence[Draft]) -> None:
        for draft in drafts:
            if draft.is_partial:
                self._enter(draft, self.partials, "id")
        self._inherit_metrics(drafts)
        for draft in drafts:
            if draft.name and not draft.is_partial:
                self._enter(draft, self.specifications, "name")
        self.bases = {draft: self._find_bases(draft) for draft in drafts}
        order, cycles = _in_order(drafts, self.bases.__getitem__)
        for cycle in cycles:
            self._report_cycle(cycle)
        for draft in order:
            if draft.sound and all(base in self.contributions for base in self.bases[draft]):
                self._finish(draft)
        self._check_unused()
        position = {draft: place for place, draft in enumerate(drafts)}
        self.resolved.sort(key=lambda found: position[found.draft])

    def _enter(self, draft: Draft, index: dict[str, Draft], key: str) -> None:
        first = index.setdefault(draft.name, draft)
        if first is not draft:
            where = first.document.source(key)
            message = f"'{draft.name}' is defined at {where} already: rename or delete one"
            self.report(draft.document.source(key), message)

    def _inherit_metrics(self, drafts: Sequence[Draft]) -> None:
        """Name the specifications whose metric comes from a base, the last that has one."""
        said: dict[Draft, str | None] = {}
        for draft in _in_order(drafts, self._partial_bases)[0]:
            if draft.says_metric:
                said[draft] = draft.own_metric
                continue
            for name in draft.bases:
                partial = self.partials.get(name)
                if "#" not in name:
                    said[draft] = name.split(".")[1]
                elif partial in said:
                    said[draft] = said[partial]
        for draft in drafts:
            metric = said.get(draft)
            if not draft.is_partial and not draft.name and draft.sound and metric is not None:
                draft.sound = name_with_metric(draft, metric, self.report)

    def _partial_bases(self, draft: Draft) -> Iterator[Draft]:
        return (self.partials[name] for name in draft.bases if name in self.partials)

    def _find_bases(self, draft: Draft) -> list[Draft]:
        bases = []
        for name in draft.bases:
            index = self.partials if "#" in name else self.specifications
            base = index.get(name)
            if base is not None and (draft.is_rule or not base.is_rule):
                bases.append(base)
                continue
            draft.sound = False
            if base is not None:
                message = f"the base '{name}' is in rules/, which lsst.verify does not read"
                self.report(draft.document.source("base"), f"{message}: move it to specs/")
                continue
            if (name.partition("#")[0] if "#" in name else name.split(".")[0]) in self.unread:
                continue
            message = f"the base '{name}' is not found: {self._guess(name, index)}"
            self.report(draft.document.source("base"), message)
        return bases

    def _guess(self, name: str, index: dict[str, Draft]) -> str:
        if name not in self.guesses:
            near = near_names(name, index, known=len(self.guesses))
            self.guesses[name] = f"write {near}" if near else "define it, or write another"
        return self.guesses[name]

    def _report_cycle(self, cycle: list[Draft]) -> None:
        path = " -> ".join(draft.name for draft in (*cycle, cycle[0]))
        message = f"the bases form a cycle, {path}: remove one of them"
        if len(cycle) == 1:
            message = f"'{cycle[0].name}' is its own base: remove that base"
        self.report(cycle[0].document.source("base"), message)
        for draft in cycle:
            draft.sound = False

    def _finish(self, draft: Draft) -> None:
        """Merge a document with its bases, which are merged already."""
        if not draft.is_partial and not draft.name:
            message = "there is no metric: write metric: here, or use a base that has one"
            self.report(draft.document.source("name"), message)
            return
        merged: dict[str, Any] = {}
        try:
            for base in self.bases[draft]:
                merged = merge(merged, self.contributions[base])
            merged = merge(merged, draft.content)
        except ValueError as error:
            self.report(draft.document.source("base"), str(error))
            return
        self.contributions[draft] = merged
        if not draft.is_partial:
            self._parse(draft, merged)

    def _parse(self, draft: Draft, merged: dict[str, Any]) -> None:
        layers = _layers(draft, self.bases.__getitem__)
        parts = draft.name.removeprefix(f"{draft.package}.").split(".")
        if not all(LEGAL_NAME.match(part) for part in parts):
            message = f"the parts of '{draft.name}' may contain only letters, digits, '_' and '-'"
            self.report(draft.document.source("name"), f"{message}: choose another name")
        kind = _kind_in_rules(draft, merged) if draft.is_rule else _kind_in_specs(draft, merged)
        if isinstance(kind, Fault):
            self._report_faults(draft, layers, [kind])
            return
        specification, faults = parse_specification(
            merged,
            kind=kind,
            name=draft.name,
            source=draft.document.source(),
            bases=tuple(layer.name for layer in layers),
            schema=self.schema,
            today=self.today,
        )
        self._report_faults(draft, layers, faults)
        if specification is None:
            return
        # lsst.verify inherits a specification in its serialized form, a partial as written.
        self.contributions[draft] = {
            **merged,
            **specification.criterion.to_json(),
            "tags": list(specification.tags),
            "metadata_query": specification.metadata_query,
        }
        if self.specifications[draft.name] is draft:
            self.resolved.append(Resolved(specification, draft, layers))

    def _report_faults(self, draft: Draft, layers: tuple[Draft, ...], faults: list[Fault]) -> None:
        for fault in faults:
            self.report(_locate(draft, layers, fault.loc), fault.message)

    def _check_unused(self) -> None:
        """Check the keys of partials that no specification uses."""
        used = {layer for found in self.resolved for layer in found.layers}
        for partial in self.partials.values():
            if partial in used:
                continue
            faults = check_partial(partial.content, schema=self.schema, today=self.today)
            self._report_faults(partial, (), faults)


def _kind_in_rules(draft: Draft, merged: Mapping[str, Any]) -> type[Criterion] | Fault:
    """Return the kind of a document below `rules/`: any but `threshold`."""
    named = merged.get("type")
    kind = kind_of(merged) if named is not None else None
    if named is not None and kind is None:
        return Fault(("type",), unknown_kind(named))
    others = [item for item in kinds_with_keys(merged) if item is not THRESHOLD]
    if kind is None and len(others) > 1:
        keys = " and ".join(f"'{item.TYPE}'" for item in others)
        return Fault((others[1].TYPE,), f"{keys} are of different types: write type:")
    kind = kind or (others[0] if others else THRESHOLD)
    if kind is not THRESHOLD:
        return kind
    if "threshold" not in merged:
        types = ", ".join(item for item in KINDS if item != THRESHOLD.TYPE)
        return Fault(("name",), f"there is no type: write type: and its key, one of {types}")
    message = f"a threshold is for specs/{draft.package}/, where lsst.verify reads it"
    return Fault(("threshold",), f"{message}: move it there")


def _kind_in_specs(draft: Draft, merged: Mapping[str, Any]) -> type[Criterion] | Fault:
    """Return the kind of a document below `specs/`: `threshold`, since that is all they may be."""
    named = merged.get("type")
    kind = kind_of(merged) if named is not None else None
    has_threshold = "threshold" in merged
    if kind not in (None, THRESHOLD):
        loc, what = "type", str(named)
    elif not has_threshold and (others := kinds_with_keys(merged)):
        loc = what = others[0].TYPE
    elif not has_threshold and named is not None and kind is None:
        return Fault(("type",), unknown_kind(named))
    else:
        return THRESHOLD
    message = f"lsst.verify refuses a whole package with a {what} in specs/"
    return Fault((loc,), f"{message}: move the document to rules/{draft.package}/")


def _locate(draft: Draft, layers: tuple[Draft, ...], loc: tuple[str | int, ...]) -> Source:
    for layer in (draft, *reversed(layers)):
        if layer.document.has(loc):
            return layer.document.source(*loc)
    return draft.document.source(*loc)


def _layers(draft: Draft, bases_of: Callable[[Draft], Iterable[Draft]]) -> tuple[Draft, ...]:
    """Return all documents that were merged into one, the nearest last."""
    order, _ = _in_order([draft], bases_of)
    return tuple(order[:-1])


def _in_order(
    drafts: Sequence[Draft], bases_of: Callable[[Draft], Iterable[Draft]]
) -> tuple[list[Draft], list[list[Draft]]]:
    """Return the documents, bases before what is built on them, and the cycles among them."""
    order: list[Draft] = []
    cycles: list[list[Draft]] = []
    place: dict[Draft, int] = {}  # its place on the current path; -1 when done
    for first in drafts:
        if first in place:
            continue
        path = [first]
        place[first] = 0
        ahead = [iter(bases_of(first))]
        while path:
            base = next(ahead[-1], None)
            if base is None:
                done = path.pop()
                ahead.pop()
                place[done] = -1
                order.append(done)
            elif base not in place:
                place[base] = len(path)
                path.append(base)
                ahead.append(iter(bases_of(base)))
            elif place[base] >= 0:
                cycles.append(path[place[base] :])
    return order, cycles
