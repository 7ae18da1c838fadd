"""What a report is about: metrics and specifications, its title, and what is missing. Pure.

A question says it; here it meets the definitions in force.
"""

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from difflib import get_close_matches

from squash_api.definitions.in_force import Snapshot
from squash_api.errors import Detail, InvalidInputError
from squash_api.judging.alerts import LEVELS, severity_of
from squash_api.judging.metadata_query import query_terms
from squash_api.judging.specifications import Specification
from squash_api.reports.document import Missing, SilentPackage
from squash_api.reports.results import Limits
from squash_api.schema.names import Schema, split_metric_name
from squash_api.trends.question import Question


@dataclass(frozen=True, slots=True)
class Subject:
    """The names of the metrics, and the specifications to judge by."""

    metrics: frozenset[str]
    specifications: Mapping[str, list[Specification]]


def subject_of(snapshot: Snapshot, measured: Collection[str], question: Question) -> Subject:
    """Return what a question names.

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
    _refuse_unknown("metric", question.metrics, known)
    _refuse_unknown("package", question.packages, {split_metric_name(name)[0] for name in known})
    wanted = set(question.labels)
    mildest = severity_of(question.level)
    metrics, specifications = set(), {}
    for name in known:
        if not _is_named(name, question):
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
    return Subject(frozenset(metrics), specifications)


def _is_named(metric: str, question: Question) -> bool:
    if not (question.metrics or question.packages):
        return True
    return metric in question.metrics or split_metric_name(metric)[0] in question.packages


@dataclass(frozen=True, slots=True)
class Gaps:
    """What is not known: metrics without values, packages without any, limits that did nothing."""

    missing: list[Missing]
    silent: list[SilentPackage]
    idle: list[str]


def gaps_of(
    subject: Subject, found: Collection[str], limits: Limits, question: Question, schema: Schema
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
        name: [item.name for item in items if _may_apply(item, question, schema)]
        for name, items in sorted(subject.specifications.items())
    }
    asked = {name: specifications for name, specifications in asked.items() if specifications}
    packages = {split_metric_name(name)[0] for name in found} | set(question.packages)
    packages |= {split_metric_name(name)[0] for name in question.metrics}
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


def _may_apply(specification: Specification, question: Question, schema: Schema) -> bool:
    """Tell whether jobs that are asked for can have what the specification's query asks for."""
    terms = query_terms(specification.metadata_query, schema) or ()
    return not any(term.value not in question.tags.get(term.name, (term.value,)) for term in terms)


def title_of(question: Question, *, now_ns: int) -> str:
    """Return what a report is about, in words; the filters are left to `filters_of`.

    A period without an end is said to end at `now_ns`.
    """
    parts = []
    for noun, names in (("release", question.version_tags), ("run", question.runs)):
        if names:
            parts.append(f"{noun}{'s' if len(names) > 1 else ''} {', '.join(names)}")
    pipelines = question.tags.get("pipeline", ())
    if pipelines:
        parts.append(f"pipeline {', '.join(pipelines)}")
    if question.since_ns is not None:
        end_ns = now_ns if question.until_ns is None else question.until_ns
        parts.append(f"{_moment(question.since_ns)} to {_moment(end_ns)} UTC")
    elif question.until_ns is not None:
        parts.append(f"until {_moment(question.until_ns)} UTC")
    text = ", ".join(parts)
    return text[:1].upper() + text[1:] if text else "Everything"


def filters_of(question: Question) -> dict[str, tuple[str, ...]]:
    """Return what narrows a report beside run, release and time, by the name of its parameter."""
    named = {
        **{name: values for name, values in question.tags.items() if name != "pipeline"},
        "package": question.packages,
        "metric": question.metrics,
        "tag": question.labels,
        "level": () if question.level == LEVELS[0] else (question.level,),
    }
    return {name: values for name, values in named.items() if values}


def _moment(time_ns: int) -> str:
    """Return a time as day and minute."""
    return datetime.fromtimestamp(time_ns // 10**9, UTC).strftime("%Y-%m-%d %H:%M")


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
