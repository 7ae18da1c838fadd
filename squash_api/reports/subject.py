"""What a report is about, and what is missing in it. Pure."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass

from squash_api.definitions.in_force import Snapshot
from squash_api.judging.alerts import LEVELS, severity_of
from squash_api.judging.metadata_query import query_terms
from squash_api.judging.specifications import Specification
from squash_api.reports.document import Missing, SilentPackage
from squash_api.reports.results import Limits
from squash_api.reports.texts import minute_text, moment_text
from squash_api.schema.names import Schema, split_metric_name
from squash_api.trends.question import Question, refuse_unknown


@dataclass(frozen=True, slots=True)
class Subject:
    """The names of the metrics, and by metric the specifications to judge by."""

    metrics: frozenset[str]
    specifications: Mapping[str, list[Specification]]


def subject_of(snapshot: Snapshot, measured: Collection[str], question: Question) -> Subject:
    """Find the metrics and specifications that a question asks for.

    Parameters
    ----------
    measured
        The names of all metrics that the record knows.

    Raises
    ------
    InvalidInputError
        If a metric or package is unknown.
    """
    known = {*measured, *snapshot.declared, *snapshot.by_metric}
    refuse_unknown(question, known)
    wanted = set(question.labels)
    mildest = severity_of(question.level)
    metrics, specifications = set(), {}
    for name in filter(question.has_metric, known):
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


@dataclass(frozen=True, slots=True)
class Gaps:
    """What is not known: metrics and packages without values, specifications that never applied."""

    missing: list[Missing]
    silent: list[SilentPackage]
    idle: list[str]


def gaps_of(
    subject: Subject, found: Collection[str], limits: Limits, question: Question, schema: Schema
) -> Gaps:
    """Find what specifications ask for and the selection does not have.

    A specification on another dataset, say, than the report is about asks for nothing. Packages
    without any value are listed separately, unless the report was asked for them.

    Parameters
    ----------
    found
        The metrics that have results.
    """
    asked = {
        name: [item.name for item in items if _may_apply(item, question, schema)]
        for name, items in sorted(subject.specifications.items())
    }
    asked = {name: specifications for name, specifications in asked.items() if specifications}
    packages = {split_metric_name(name)[0] for name in (*found, *question.metrics)}
    packages |= set(question.packages)
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
    """Whether a job that is asked for can match the specification's query."""
    terms = query_terms(specification.metadata_query, schema) or ()
    return all(
        any(map(term.is_met_by, question.tags[term.name]))
        for term in terms
        if term.name in question.tags
    )


def title_of(question: Question, *, now_ns: int) -> str:
    """Name what a report is about, apart from `filters_of`; a period without an end ends now."""
    parts = []
    for noun, names in (("release", question.version_tags), ("run", question.runs)):
        if names:
            parts.append(f"{noun}{'s' if len(names) > 1 else ''} {', '.join(names)}")
    pipelines = question.tags.get("pipeline", ())
    if pipelines:
        parts.append(f"pipeline {', '.join(pipelines)}")
    if question.since_ns is not None:
        end_ns = now_ns if question.until_ns is None else question.until_ns
        parts.append(f"{_minute(question.since_ns)} to {_minute(end_ns)} UTC")
    elif question.until_ns is not None:
        parts.append(f"until {_minute(question.until_ns)} UTC")
    text = ", ".join(parts)
    return text[:1].upper() + text[1:] if text else "Everything"


def filters_of(question: Question) -> dict[str, tuple[str, ...]]:
    """Collect the filters other than run, release, pipeline and time, by their parameters."""
    named = {
        **{name: values for name, values in question.tags.items() if name != "pipeline"},
        "package": question.packages,
        "metric": question.metrics,
        "tag": question.labels,
        "level": () if question.level == LEVELS[0] else (question.level,),
    }
    return {name: values for name, values in named.items() if values}


def _minute(time_ns: int) -> str:
    return minute_text(moment_text(time_ns))
