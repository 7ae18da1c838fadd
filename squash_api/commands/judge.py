"""`squash judge`: the verdicts on what pipelines left on disk, without a service."""

import json
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from difflib import SequenceMatcher
from itertools import chain
from pathlib import Path
from typing import Annotated

import typer

from squash_api.commands.data_id import AllowOthers, FilesArgument, with_data_id
from squash_api.commands.specs import load_sound
from squash_api.commands.terminal import (
    AllowMissing,
    AsJson,
    fail,
    print_error,
    print_json,
    print_table,
)
from squash_api.errors import SquashError
from squash_api.ingest.assessment import Skip, assess
from squash_api.ingest.document import Job, decode_job
from squash_api.ingest.reducing import with_reduced
from squash_api.judging.alerts import Level, severity_of
from squash_api.judging.limits import Verdict, judge_job
from squash_api.judging.metadata_query import applies, query_terms
from squash_api.judging.specifications import Specification
from squash_api.judging.states import NOT_MEASURED, PASSED, count_states, counts_text
from squash_api.judging.wording import counted
from squash_api.metrics_packages.loading import MetricsPackage
from squash_api.reports.texts import Case, junit_xml
from squash_api.schema.names import Schema
from squash_api.verify.measurement import DocumentError
from squash_api.verify.metrics import KnownMetric, reductions_of
from squash_api.wires.data_id import DataId
from squash_api.wires.decoding import path_text
from squash_api.wires.files import Found, read_jobs

_Specs = Annotated[
    list[Path], typer.Option(help="Directory of a metrics package; may be repeated.")
]
_Level = Annotated[
    Level,
    typer.Option(
        case_sensitive=False, help="Exit with 1 if a limit of this level or worse is broken."
    ),
]
_Tag = Annotated[
    list[str] | None,
    typer.Option(help="Only specifications with this tag; if repeated, with all of them."),
]
_Junit = Annotated[Path | None, typer.Option(help="Write JUnit XML to this file, for CI.")]
# How much two names have in common, of 1, if one may be the other misspelt.
_ALIKE = 0.75


@dataclass(frozen=True, slots=True)
class Judged:
    """A job of a file: its verdicts, its values left out, and metrics that are not defined.

    `unjudged` are specifications that apply and need a record.
    """

    place: str
    verdicts: list[Verdict]
    skipped: list[Skip]
    unknown: dict[str, str | None]
    unjudged: list[Specification]


@with_data_id
def judge(
    *,
    data_id: DataId,
    files: FilesArgument,
    specs: _Specs,
    level: _Level = "WARNING",
    tag: _Tag = None,
    junit: _Junit = None,
    allow_missing: AllowMissing = False,
    allow_others: AllowOthers = False,
    as_json: AsJson = False,
) -> None:
    """Judge jobs on disk by the specifications that apply to them.

    Takes what squash dispatch takes: job files of lsst.verify, metric bundles of analysis_tools and
    single measurements, in JSON, YAML or .gz, or lists of them.

    Exit code: 0 no limit of the level or worse is broken; 1 at least one is, or nothing was judged,
    a value is missing or a metric is misspelt; 2 unusable input, or a file that is not a job.
    """
    # An expired mute does not matter here.
    package = load_sound(specs, today=date.min, refusal="the specifications have problems:")
    jobs = []
    are_usable = True
    for found in chain.from_iterable(read_jobs(path, data_id) for path in files):
        try:
            jobs.append(_judged(found, package, tags=tag or []))
        except DocumentError as error:
            print_error(str(error))
            are_usable &= allow_others and found.is_bystander
    if not jobs:
        if are_usable:
            print_error(f"{', '.join(files)}: no job, bundle or measurement is there")
        raise typer.Exit(2)
    verdicts = [verdict for job in jobs for verdict in job.verdicts]
    violations = [verdict for verdict in verdicts if _is_violation(verdict, level)]
    if junit is not None:
        _write_junit(junit, verdicts, level)
    if as_json:
        print_json([{**item.to_json(), "file": job.place} for job in jobs for item in job.verdicts])
    else:
        _print_jobs(jobs, level)
    for job in jobs:
        _print_notes(job.skipped, job.unknown, job.unjudged)
    gaps = "" if allow_missing else _gaps(verdicts, [job.unknown for job in jobs])
    if gaps:
        print_error(f"{gaps}; if that may be, give --allow-missing")
    raise typer.Exit(2 if not are_usable else 1 if violations or gaps else 0)


def _judged(found: Found, package: MetricsPackage, *, tags: list[str]) -> Judged:
    """Judge a job of a file.

    Raises
    ------
    DocumentError
        If it is none, with its place.
    """
    if found.document is None:
        raise DocumentError(f"{found.place}: {found.problem}")
    try:
        job = decode_job(json.dumps(found.document).encode())
    except SquashError as error:
        places = [f"  {path_text(item.loc)} {item.msg}" for item in error.detail[1:]]
        raise DocumentError("\n".join([f"{found.place}: {error.message}", *places])) from None
    verdicts, skipped = judge_file(job, package, tags=tags)
    unknown = dict(unknown_metrics(job, package))
    return Judged(found.place, verdicts, skipped, unknown, _unjudged(job, package, tags))


def _print_jobs(jobs: Sequence[Judged], level: str) -> None:
    """Print a table for each job, and what all of them come to."""
    for job in jobs:
        if len(jobs) > 1:
            typer.echo(job.place)
        _print_verdicts(job.verdicts, summary=_summary(job.verdicts, level))
        if len(jobs) > 1:
            typer.echo()
    if len(jobs) > 1:
        verdicts = [verdict for job in jobs for verdict in job.verdicts]
        typer.echo(f"{counted(len(jobs), 'job')}: {_summary(verdicts, level)}")


def _write_junit(path: Path, verdicts: list[Verdict], level: Level) -> None:
    try:
        path.write_bytes(junit_document(verdicts, level=level))
    except OSError as error:
        fail(f"{path}: cannot be written: {error.strerror}")


def _print_notes(
    skipped: list[Skip], unknown: Mapping[str, str | None], unjudged: list[Specification]
) -> None:
    for skip in skipped:
        typer.echo(f"note: {skip.metric}: {skip.reason}", err=True)
    for name, near in unknown.items():
        hint = f": did you mean {near}?" if near else ""
        typer.echo(f"note: no metrics package defines {name}{hint}", err=True)
    for item in unjudged:
        need = "the values before" if item.criterion.history else "the other jobs of the run"
        said = f"note: {item.name} is a {item.criterion.TYPE}, which needs {need}"
        typer.echo(f"{said}: a service with a record judges it", err=True)


def judge_file(
    job: Job, package: MetricsPackage, *, tags: list[str]
) -> tuple[list[Verdict], list[Skip]]:
    """Judge a job by the specifications with all the tags. Also gives the values left out."""
    schema = Schema()
    known = {name: KnownMetric.of(metric) for name, metric in package.metrics.items()}
    job = with_reduced(job, reductions_of(known.items()))
    outcome = assess(job, metrics=known, schema=schema)
    measured = {item.metric for item in job.measurements} & known.keys()
    verdicts = judge_job(
        {name: outcome.values.get(name) for name in measured},
        {name: package.metrics[name].unit for name in measured},
        [item for item in package.specifications.values() if set(tags) <= set(item.tags)],
        schema.context(job.meta),
        schema,
    )
    return verdicts, [skip for skip in outcome.skipped if skip.metric in measured]


def _unjudged(job: Job, package: MetricsPackage, tags: list[str]) -> list[Specification]:
    """Return the specifications that apply to a job and that one job does not suffice for."""
    schema = Schema()
    context = schema.context(job.meta)
    measured = {item.metric for item in job.measurements}
    return [
        item
        for _, item in sorted(package.specifications.items())
        if item.metric in measured
        and set(tags) <= set(item.tags)
        and item.criterion.needs_record
        and (terms := query_terms(item.metadata_query, schema)) is not None
        and applies(terms, context)
    ]


def unknown_metrics(job: Job, package: MetricsPackage) -> Iterator[tuple[str, str | None]]:
    """Yield the metrics of a job that are not defined, each with the one it may stand for.

    That is a defined metric of nearly the same name that the job does not measure. Metrics of
    packages that are not defined are left out, unless they may stand for one.
    """
    measured = {item.metric for item in job.measurements}
    missing = sorted(package.metrics.keys() - measured)
    packages = {name.partition(".")[0] for name in package.metrics}
    for name in sorted(measured - package.metrics.keys()):
        near = next((other for other in missing if _are_alike(name, other)), None)
        if near or name.partition(".")[0] in packages:
            yield name, near


def _are_alike(name: str, other: str) -> bool:
    """Tell whether one name may be the other, misspelt: `AM11` for `AM1`, but not `AM2`."""
    parts = [text.casefold().partition(".") for text in (name, other)]
    (package, _, last), (other_package, _, other_last) = parts
    alike = SequenceMatcher(None, last, other_last).ratio() >= _ALIKE
    if package == other_package:
        return alike
    return last == other_last and SequenceMatcher(None, package, other_package).ratio() >= _ALIKE


def junit_document(verdicts: list[Verdict], *, level: str) -> bytes:
    """Write the verdicts as JUnit XML, one test case each.

    As for the exit code, a broken limit of the level or worse is a failure; a milder one is noted
    in the output of its case.
    """
    cases = []
    for verdict in verdicts:
        names = (verdict.metric, verdict.name)
        text = f"{verdict.level}: {_value(verdict)}, must be {_test(verdict)}"
        if _is_violation(verdict, level):
            cases.append(Case(*names, "failed", text, verdict.level))
        elif verdict.status == NOT_MEASURED:
            cases.append(Case(*names, "skipped", NOT_MEASURED))
        elif verdict.status == "failed" and verdict.is_trial:
            cases.append(Case(*names, text=f"{verdict.shown_word}: {text}"))
        elif verdict.status == "failed":
            cases.append(Case(*names, text=f"broken, but milder than {level}: {text}"))
        else:
            cases.append(Case(*names))
    return junit_xml("squash judge", cases)


def _is_violation(verdict: Verdict, level: str) -> bool:
    is_bad = verdict.limit.severity >= severity_of(level)
    return verdict.status == "failed" and is_bad and not verdict.is_trial


def _print_verdicts(verdicts: list[Verdict], *, summary: str) -> None:
    right = ("value", "test", "margin")
    rows = [
        (
            verdict.shown_word,
            verdict.name,
            _value(verdict),
            _test(verdict),
            "" if verdict.margin is None else f"{verdict.margin:+.1%}",
            verdict.level,
        )
        for verdict in verdicts
    ]
    if rows:
        columns = ("state", "specification", *right, "level")
        print_table(columns, rows, right=right, style=_style)
    typer.echo(summary)


def _style(row: Sequence[str]) -> str:
    state = row[0]
    if state.startswith("on trial"):
        return "yellow"
    return "green" if state == PASSED else "yellow" if state == NOT_MEASURED else "bold red"


def _value(verdict: Verdict) -> str:
    if verdict.value is None:
        return ""
    return _with_unit(verdict.limit.criterion.value_text(verdict.value), verdict)


def _test(verdict: Verdict) -> str:
    return _with_unit(verdict.limit.criterion.words_against(verdict.value, is_ascii=True), verdict)


def _with_unit(text: str, verdict: Verdict) -> str:
    return f"{text} {verdict.unit}".rstrip()


def _summary(verdicts: list[Verdict], level: str) -> str:
    if not verdicts:
        return "No specification applies to this job."
    violations = sum(_is_violation(verdict, level) for verdict in verdicts)
    heard = (verdict.word for verdict in verdicts if not verdict.is_trial)
    counts = counts_text(count_states(heard), "limit")
    return f"{counts}; {counted(violations, 'limit')} of level {level} or worse broken"


def _gaps(verdicts: list[Verdict], unknown: Collection[Mapping[str, str | None]]) -> str:
    """Say what may be missing; empty if nothing is."""
    if not verdicts:
        return "nothing was judged"
    absent = sum(item.status == NOT_MEASURED for item in verdicts if not item.is_trial)
    misspelt = sum(near is not None for names in unknown for near in names.values())
    parts = []
    if absent:
        parts.append(f"{absent} of {counted(len(verdicts), 'limit')} not measured")
    if misspelt:
        parts.append(f"{counted(misspelt, 'metric')} may be misspelt")
    return " and ".join(parts)
