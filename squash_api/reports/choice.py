"""Which metrics and specifications a report is about, and what of them was not measured. Pure."""

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from difflib import get_close_matches

from squash_api.definitions.in_force import Snapshot
from squash_api.errors import Detail, InvalidInputError
from squash_api.judging.alerts import severity_of
from squash_api.judging.metadata_query import query_terms
from squash_api.judging.specifications import Specification
from squash_api.reports.document import Missing, SilentPackage
from squash_api.reports.results import Limits
from squash_api.reports.scope import Scope
from squash_api.schema.names import Schema, split_metric_name


@dataclass(frozen=True, slots=True)
class Choice:
    """The names of the metrics, and the specifications to judge by."""

    metrics: frozenset[str]
    specifications: Mapping[str, list[Specification]]


def choose(snapshot: Snapshot, measured: Collection[str], scope: Scope) -> Choice:
    """Return what a scope names.

    Parameters
    ----------
    snapshot
        The definitions to judge by.
    measured
        The names of all metrics that the record knows.

    Raises
    ------
    InvalidInputError
        If there is no such metric or package.
    """
    known = {*measured, *snapshot.declared, *snapshot.by_metric}
    _refuse_unknown("metric", scope.metrics, known)
    _refuse_unknown("package", scope.packages, {split_metric_name(name)[0] for name in known})
    wanted = set(scope.tags)
    mildest = severity_of(scope.level)
    metrics, specifications = set(), {}
    for name in known:
        if not _is_named(name, scope):
            continue
        declared = snapshot.declared.get(name)
        tags = set() if declared is None else set(declared.tags)
        found = [
            item
            for item in snapshot.by_metric.get(name, ())
            if severity_of(item.level) >= mildest and wanted <= tags | set(item.tags)
        ]
        if found or wanted <= tags:
            metrics.add(name)
            if found:
                specifications[name] = found
    return Choice(frozenset(metrics), specifications)


def _is_named(metric: str, scope: Scope) -> bool:
    if not (scope.metrics or scope.packages):
        return True
    return metric in scope.metrics or split_metric_name(metric)[0] in scope.packages


@dataclass(frozen=True, slots=True)
class Gaps:
    """What is not known: metrics without values, packages without any, limits that did nothing."""

    missing: list[Missing]
    silent: list[SilentPackage]
    idle: list[str]


def gaps_of(
    choice: Choice, found: Collection[str], limits: Limits, scope: Scope, schema: Schema
) -> Gaps:
    """Return what the specifications ask for and the selection does not have.

    A specification for another dataset, say, than the report is about asks for nothing. Packages of
    which nothing was measured are told of apart, unless the report was asked for them.

    Parameters
    ----------
    found
        The metrics that have results.
    limits
        What the results were judged by.
    """
    asked = {
        name: [item.name for item in items if _may_apply(item, scope, schema)]
        for name, items in sorted(choice.specifications.items())
    }
    asked = {name: specifications for name, specifications in asked.items() if specifications}
    packages = {split_metric_name(name)[0] for name in found} | set(scope.packages)
    packages |= {split_metric_name(name)[0] for name in scope.metrics}
    missing, silent = [], dict[str, int]()
    for name, specifications in asked.items():
        package = split_metric_name(name)[0]
        if name in found:
            continue
        if package in packages:
            missing.append(Missing(name, specifications))
        else:
            silent[package] = silent.get(package, 0) + 1
    idle = [
        item
        for name, specifications in asked.items()
        for item in specifications
        if name in found and item not in limits.used and item not in limits.unusable
    ]
    return Gaps(missing, [SilentPackage(*item) for item in sorted(silent.items())], sorted(idle))


def _may_apply(specification: Specification, scope: Scope, schema: Schema) -> bool:
    """Tell whether jobs of a scope can have what the specification's query asks for."""
    where = dict(scope.where)
    terms = query_terms(specification.metadata_query, schema) or ()
    return not any(term.name in where and term.value not in where[term.name] for term in terms)


def _refuse_unknown(noun: str, asked: Iterable[str], known: Collection[str]) -> None:
    problems = []
    for name in asked:
        if name not in known:
            near = get_close_matches(name, known, n=1)
            hint = f"; did you mean {near[0]}?" if near else ""
            problems.append(Detail(("query", noun), f"There is no {noun} {name[:100]}{hint}"))
    if problems:
        dot = "" if problems[0].msg.endswith("?") else "."
        raise InvalidInputError(f"{problems[0].msg}{dot}", detail=problems)
