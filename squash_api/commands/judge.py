"""`squash judge`: the verdicts on a job file, without a service."""

from datetime import date
from pathlib import Path
from typing import Annotated

import typer

from squash_api.commands.specs import load_sound
from squash_api.commands.terminal import AsJson, fail, print_json, print_table
from squash_api.errors import SquashError
from squash_api.ingest.assessment import Skip, assess
from squash_api.ingest.document import Job, decode_job, path_text
from squash_api.judging.alerts import Level, severity_of
from squash_api.judging.limits import Verdict, judge_job
from squash_api.metrics_packages.loading import MetricsPackage
from squash_api.reports.texts import Case, junit_xml
from squash_api.schema.names import Schema
from squash_api.verify.metrics import KnownMetric

_STYLES = {"passed": "green", "failed": "bold red", "not measured": "yellow"}


def judge(
    file: Annotated[Path, typer.Argument(help="A job file as lsst.verify writes it.")],
    *,
    specs: Annotated[
        list[Path],
        typer.Option(help="Directory of a metrics package; may be repeated."),
    ],
    level: Annotated[
        Level,
        typer.Option(
            case_sensitive=False, help="Exit with 1 if a limit of this level or worse is broken."
        ),
    ] = "WARNING",
    tag: Annotated[
        list[str] | None,
        typer.Option(help="Only specifications with this tag; if repeated, with all of them."),
    ] = None,
    junit: Annotated[
        Path | None, typer.Option(help="Write JUnit XML to this file, for CI.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Judge a job file by the specifications that apply to it.

    Exit code: 0 no limit of the level or worse is broken, 1 at least one is, 2 unusable input.
    """
    job = _read_job(file)
    # An expired mute does not matter here.
    package = load_sound(specs, today=date.min, refusal="the specifications have problems:")
    verdicts, skipped = judge_file(job, package, tags=tag or [])
    violations = [verdict for verdict in verdicts if _is_violation(verdict, level)]
    if junit is not None:
        try:
            junit.write_bytes(junit_document(verdicts, level=level))
        except OSError as error:
            fail(f"{junit}: cannot be written: {error.strerror}")
    if as_json:
        print_json([verdict.to_json() for verdict in verdicts])
    else:
        _print_verdicts(verdicts)
        typer.echo(_summary(verdicts, len(violations), level))
    for skip in skipped:
        typer.echo(f"note: {skip.metric}: {skip.reason}", err=True)
    raise typer.Exit(1 if violations else 0)


def judge_file(
    job: Job, package: MetricsPackage, *, tags: list[str]
) -> tuple[list[Verdict], list[Skip]]:
    """Judge a job by the specifications with all the tags. Also gives the values left out."""
    schema = Schema()
    known = {
        name: KnownMetric(metric.unit, is_declared=True) for name, metric in package.metrics.items()
    }
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
        elif verdict.status == "not measured":
            cases.append(Case(*names, "skipped", "not measured"))
        elif verdict.status == "failed":
            cases.append(Case(*names, text=f"broken, but milder than {level}: {text}"))
        else:
            cases.append(Case(*names))
    return junit_xml("squash judge", cases)


def _read_job(path: Path) -> Job:
    try:
        return decode_job(path.read_bytes())
    except OSError as error:
        fail(f"{path}: cannot be read: {error.strerror}")
    except SquashError as error:
        places = [f"  {path_text(item.loc)} {item.msg}" for item in error.detail[1:]]
        fail("\n".join([f"{path}: {error.message}", *places]))


def _is_violation(verdict: Verdict, level: str) -> bool:
    return verdict.status == "failed" and verdict.limit.severity >= severity_of(level)


def _print_verdicts(verdicts: list[Verdict]) -> None:
    right = ("value", "test", "margin")
    rows = [
        (
            verdict.status,
            verdict.name,
            _value(verdict),
            _test(verdict),
            "" if verdict.margin is None else f"{verdict.margin:+.1%}",
            verdict.level,
        )
        for verdict in verdicts
    ]
    if rows:
        columns = ("status", "specification", *right, "level")
        print_table(columns, rows, right=right, style=lambda row: _STYLES[row[0]])


def _value(verdict: Verdict) -> str:
    if verdict.value is None:
        return ""
    return _with_unit(verdict.limit.criterion.value_text(verdict.value), verdict)


def _test(verdict: Verdict) -> str:
    return _with_unit(verdict.limit.criterion.words_against(verdict.value, is_ascii=True), verdict)


def _with_unit(text: str, verdict: Verdict) -> str:
    return f"{text} {verdict.unit}".rstrip()


def _summary(verdicts: list[Verdict], violations: int, level: str) -> str:
    if not verdicts:
        return "No specification applies to this job."
    counts = [
        f"{sum(verdict.status == status for verdict in verdicts)} {status}" for status in _STYLES
    ]
    return f"{', '.join(counts)}; {violations} broken limits of level {level} or worse"
