"""`squash specs`: check and look through metrics packages."""

from difflib import get_close_matches
from pathlib import Path
from typing import Annotated, Any

import typer

from squash_api.commands.terminal import add_row, fail, failing, make_table, print_json, print_table
from squash_api.judging.specifications import Specification
from squash_api.metrics_packages.loading import MetricsPackage, load_metrics_packages

_Directories = Annotated[
    list[Path], typer.Argument(metavar="DIR", help="Directories of metrics packages.")
]
_AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]


def check(directories: _Directories, *, as_json: _AsJson = False) -> None:
    """Name all problems in metrics packages, each with file and line.

    Exit code: 0 none, 1 some, 2 a directory is no metrics package.
    """
    package = _load(directories)
    if as_json:
        print_json([_problem_json(problem) for problem in package.problems])
    else:
        for problem in package.problems:
            typer.echo(str(problem))
        metrics, specifications = len(package.metrics), len(package.specifications)
        counts = f"{metrics} metrics, {specifications} specifications"
        typer.echo(f"{counts}, {len(package.problems)} problems")
    raise typer.Exit(1 if package.problems else 0)


def list_specifications(directories: _Directories, *, as_json: _AsJson = False) -> None:
    """List all specifications with what their bases give them, sorted by name.

    Exit code: 0, or 1 if there are problems, so that some may be missing.
    """
    package = _load(directories)
    documents = [_summary(item) for _, item in sorted(package.specifications.items())]
    if as_json:
        print_json(documents)
    else:
        table = make_table("specification", "test", "level", "tags", "metadata query")
        for _, item in sorted(package.specifications.items()):
            query = ", ".join(f"{key}={value}" for key, value in item.metadata_query.items())
            add_row(table, item.name, _test(item), item.level, " ".join(item.tags), query)
        print_table(table)
    if package.problems:
        fail(f"{len(package.problems)} problems: run squash specs check", code=1)


def show(
    name: Annotated[str, typer.Argument(help="Full name, package.metric.specification.")],
    *,
    specs: Annotated[
        list[Path],
        typer.Option(help="Directory of a metrics package; may be given several times."),
    ],
    as_json: _AsJson = False,
) -> None:
    """Show a specification, where it is written and what it is built on.

    Exit code: 0, or 1 if there is none of that name.
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
        "test": _test(item),
        "level": item.level,
        "tags": ", ".join(item.tags) or "none",
        "applies to": _query_text(item),
        "alert": _keys_text(document.get("alert")),
        "expect": _keys_text(document.get("expect")),
        "written in": str(item.source),
        "built on": "\n".join(item.bases) or "nothing",
    }
    typer.echo(item.name)
    for label, text in lines.items():
        typer.echo(f"  {label:<11} {text.replace(chr(10), chr(10) + ' ' * 14)}")


def _load(directories: list[Path]) -> MetricsPackage:
    with failing():
        return load_metrics_packages(directories)


def _summary(specification: Specification) -> dict[str, Any]:
    """Return a resolved specification with the keys in alphabetical order."""
    summary = {
        "metadata_query": dict(sorted(specification.metadata_query.items())),
        "metric": specification.metric,
        "name": specification.name,
        **specification.criterion.shown(),
        "tags": list(specification.tags),
        "unit": specification.criterion.unit,
    }
    return dict(sorted(summary.items()))


def _problem_json(problem: Any) -> dict[str, Any]:
    source = problem.source
    return {
        "file": source and source.file,
        "line": source and source.line,
        "message": problem.message,
    }


def _test(specification: Specification) -> str:
    criterion = specification.criterion
    return f"{criterion.words(repr, is_ascii=True)} {criterion.unit}".rstrip()


def _query_text(specification: Specification) -> str:
    terms = [f"{key} = {value}" for key, value in specification.metadata_query.items()]
    return "\n".join(terms) or "every job"


def _keys_text(part: dict[str, Any] | None) -> str:
    return "\n".join(f"{key}: {value}" for key, value in (part or {}).items()) or "as by default"


def _not_found(name: str, package: MetricsPackage) -> str:
    near = get_close_matches(name, [*package.specifications], n=3)
    meant = f": did you mean {', '.join(near)}?" if near else ""
    return f"there is no specification {name}{meant}"
