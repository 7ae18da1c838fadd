"""`squash judge`: the verdicts on a job file, without any service."""

from datetime import date
from pathlib import Path
from typing import Annotated

import typer

from squash_api.commands.terminal import add_row, fail, failing, make_table, print_json, print_table
from squash_api.errors import SquashError
from squash_api.ingest.assessment import Skip, assess
from squash_api.ingest.document import Job, decode_job, path_text
from squash_api.judging.alerts import Level, severity_of
from squash_api.judging.limits import Verdict, judge_job
from squash_api.metrics_packages.loading import MetricsPackage, load_metrics_packages
from squash_api.reports.texts import Case, junit_xml
from squash_api.schema.names import Schema
from squash_api.verify.metrics import KnownMetric

_STYLES = {"passed": "green", "failed": "bold red", "not measured": "yellow"}


def judge(
    file: Annotated[Path, typer.Argument(help="A job file as lsst.verify writes it.")],
    *,
    specs: Annotated[
        list[Path],
        typer.Option(help="Directory of a metrics package; may be given several times."),
    ],
    level: Annotated[
        Level,
        typer.Option(case_sensitive=False, help="Mildest violation that makes the exit code 1."),
    ] = "WARNING",
    tag: Annotated[
        list[str] | None,
        typer.Option(help="Only specifications with this tag; of several, with all of them."),
    ] = None,
    junit: Annotated[
        Path | None, typer.Option(help="Write JUnit XML to this file, for CI.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print a JSON list of verdicts.")] = False,
) -> None:
    """Judge a job file by the specifications that apply to it.

    Exit code: 0 no violation of the level or worse, 1 at least one, 2 unusable input.
    """
    job = _read_job(file)
    verdicts, skipped = judge_file(job, _load_specs(specs), tags=tag or [])
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
    """Return the verdicts on a job, and its values that could not be used.

    A specification counts if it has all the tags.
    """
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
    """Return the verdicts as JUnit XML, one test case each.

    A failure is a violation of the level or worse, as for the exit code; a milder one is a case
    with a remark in its output.
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
            cases.append(Case(*names, text=f"violated, but milder than {level}: {text}"))
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


def _load_specs(directories: list[Path]) -> MetricsPackage:
    """Load the packages; one with problems is unusable, since a limit in it may be missing."""
    with failing():
        # That a mute has ended is no reason to judge nothing.
        package = load_metrics_packages(directories, today=date.min)
    if package.problems:
        fail("\n  ".join(["the specifications have problems:", *map(str, package.problems)]))
    return package


def _is_violation(verdict: Verdict, level: str) -> bool:
    return verdict.status == "failed" and verdict.limit.severity >= severity_of(level)


def _print_verdicts(verdicts: list[Verdict]) -> None:
    right = ("value", "test", "margin")
    table = make_table("status", "specification", *right, "level", right=right)
    for verdict in verdicts:
        margin = "" if verdict.margin is None else f"{verdict.margin:+.1%}"
        cells = (verdict.name, _value(verdict), _test(verdict), margin, verdict.level)
        add_row(table, verdict.status, *cells, style=_STYLES[verdict.status])
    if verdicts:
        print_table(table)


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
    return f"{', '.join(counts)}; {violations} violations of level {level} or worse"
