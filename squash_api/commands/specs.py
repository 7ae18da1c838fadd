"""`squash specs`: check metrics packages, and look things up in them."""

from dataclasses import replace
from datetime import date
from difflib import get_close_matches
from pathlib import Path
from typing import Annotated, Any

import typer

from squash_api.commands.terminal import AsJson, fail, failing, print_json, print_table
from squash_api.errors import SquashError
from squash_api.generate.files import file_problems, make_files
from squash_api.judging.metadata_query import query_words
from squash_api.judging.specifications import Specification
from squash_api.judging.wording import counted
from squash_api.metrics_packages.doubts import find_doubts
from squash_api.metrics_packages.loading import MetricsPackage, Problem, load_metrics_packages
from squash_api.schema.names import Schema

# Whatever they are: the problems of files are elsewhere.
_PLACE = ("squash", "autogen")
_Directories = Annotated[
    list[Path], typer.Argument(metavar="DIR", help="Directories of metrics packages.")
]


def check(
    directories: _Directories,
    *,
    strict: Annotated[
        bool, typer.Option("--strict", help="Exit with 1 also if there are warnings.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """List problems in metrics packages, with file and line.

    What passes, `squash generate` accepts. A warning is about something that is valid and probably
    not meant, such as a tag that is nearly the name of a level, or a value that YAML does not read
    as people do.

    Exit code: 0 none, 1 some, 2 a directory is not a metrics package.
    """
    package = _load(directories)
    if not package.problems:
        package = replace(package, problems=_unsound_files(package))
    warnings = find_doubts(directories)
    if as_json:
        print_json(
            [
                *(_problem_json(problem, is_warning=False) for problem in package.problems),
                *(_problem_json(problem, is_warning=True) for problem in warnings),
            ]
        )
    else:
        _print_problems(package)
        for warning in warnings:
            typer.echo(f"{warning.source}: warning: {warning.message}")
        counts = [
            counted(len(package.metrics), "metric"),
            counted(len(package.specifications), "specification"),
            counted(len(package.problems), "problem"),
        ]
        if warnings:
            counts.append(counted(len(warnings), "warning"))
        typer.echo(", ".join(counts))
    raise typer.Exit(1 if package.problems or (strict and warnings) else 0)


def list_specifications(directories: _Directories, *, as_json: AsJson = False) -> None:
    """List all specifications, sorted by name.

    Each is shown with what its bases give it.

    Exit code: 0 success, 1 there are problems, so specifications may be missing.
    """
    package = _load(directories)
    found = [item for _, item in sorted(package.specifications.items())]
    if as_json:
        print_json([_summary(item) for item in found])
    else:
        print_table(
            ("specification", "test", "level", "tags", "metadata query"),
            [
                (item.name, limit_text(item), item.level, " ".join(item.tags), _query_text(item))
                for item in found
            ],
        )
    if package.problems:
        fail(f"{counted(len(package.problems), 'problem')}: run squash specs check", code=1)


def show(
    name: Annotated[str, typer.Argument(help="Full name, package.metric.specification.")],
    *,
    specs: Annotated[
        list[Path],
        typer.Option(help="Directory of a metrics package; may be repeated."),
    ],
    as_json: AsJson = False,
) -> None:
    """Show a specification, its source and its bases.

    Exit code: 0 success, 1 there is no specification of that name.
    """
    package = _load(specs)
    item = package.specifications.get(name)
    if item is None:
        fail(_not_found(name, package), code=1)
    metric = package.metrics.get(item.metric)
    document: dict[str, Any] = {
        **item.to_json(),
        "level": item.level,
        "file": item.source and item.source.file,
        "line": item.source and item.source.line,
        "bases": list(item.bases),
    }
    if as_json:
        print_json(document)
        return
    lines = {
        "metric": f"{item.metric}{f' [{metric.unit}]' if metric and metric.unit else ''}",
        "described": metric.description if metric else "(no such metric)",
        "test": limit_text(item),
        "level": item.level,
        "tags": ", ".join(item.tags) or "none",
        "applies to": _query_text(item, joint=" = ", end="\n") or "every job",
        "alert": _keys_text(document.get("alert")),
        "expect": _keys_text(document.get("expect")),
        "written in": str(item.source),
        "built on": "\n".join(item.bases) or "nothing",
    }
    typer.echo(item.name)
    for label, text in lines.items():
        typer.echo(f"  {label:<11} {text.replace(chr(10), chr(10) + ' ' * 14)}")


def load_sound(
    directories: list[Path],
    *,
    schema: Schema = Schema(),
    today: date | None = None,
    refusal: str | None = None,
) -> MetricsPackage:
    """Load metrics packages, or end the command: 1 with their problems, 2 if it cannot be done.

    With a `refusal` the problems are an error that begins with it, and the exit code is always 2.
    """
    with failing():
        package = load_metrics_packages(directories, schema=schema, today=today)
    if package.problems and refusal is not None:
        fail("\n  ".join([refusal, *map(str, package.problems)]))
    if package.problems:
        _print_problems(package)
        problems = counted(len(package.problems), "problem")
        fail(f"the specifications have {problems}: fix these first", code=1)
    return package


def limit_text(specification: Specification) -> str:
    """Word the limit in ASCII, with its unit."""
    criterion = specification.criterion
    return f"{criterion.words(repr, is_ascii=True)} {criterion.unit}".rstrip()


def _load(directories: list[Path]) -> MetricsPackage:
    with failing():
        return load_metrics_packages(directories)


def _unsound_files(package: MetricsPackage) -> tuple[Problem, ...]:
    """Return why `squash generate` would refuse specifications that have no problem themselves."""
    try:
        database, policy = _PLACE
        files = make_files(package, schema=Schema(), database=database, retention_policy=policy)
        problems = file_problems(files)
    except SquashError as error:
        problems = [error.message]
    return tuple(Problem(None, f"squash generate would refuse {problem}") for problem in problems)


def _print_problems(package: MetricsPackage) -> None:
    for problem in package.problems:
        typer.echo(str(problem))


def _summary(specification: Specification) -> dict[str, Any]:
    summary = {
        "metadata_query": dict(sorted(specification.metadata_query.items())),
        "metric": specification.metric,
        "name": specification.name,
        **specification.criterion.shown(),
        "tags": list(specification.tags),
        "unit": specification.criterion.unit,
    }
    return dict(sorted(summary.items()))


def _problem_json(problem: Problem, *, is_warning: bool) -> dict[str, Any]:
    source = problem.source
    return {
        "severity": "warning" if is_warning else "error",
        "file": source and source.file,
        "line": source and source.line,
        "message": problem.message,
    }


def _query_text(specification: Specification, *, joint: str = "=", end: str = ", ") -> str:
    terms = query_words(specification.metadata_query, equals=joint, text=str, is_ascii=True)
    return end.join(terms)


def _keys_text(part: dict[str, Any] | None) -> str:
    return "\n".join(f"{key}: {value}" for key, value in (part or {}).items()) or "default"


def _not_found(name: str, package: MetricsPackage) -> str:
    near = get_close_matches(name, [*package.specifications], n=3)
    meant = f": did you mean {', '.join(near)}?" if near else ""
    return f"there is no specification {name}{meant}"
