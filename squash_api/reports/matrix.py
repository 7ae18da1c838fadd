"""From results to the parts of a report: the matrix, the worst, and the sentence above. Pure."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime

from squash_api.errors import InvalidInputError
from squash_api.judging.alerts import WORST_FIRST
from squash_api.reports.document import (
    MOST_WORST,
    RANKS,
    VIOLATED,
    Cell,
    Column,
    Finding,
    Kind,
    Overall,
    Row,
    State,
    Summary,
)
from squash_api.reports.results import Result
from squash_api.schema.names import split_metric_name

MOST_CELLS = 20_000
"""A report whose matrix would have more cells is refused."""

NEAR = 0.1
"""What holds its limit by no more than this part of it is near."""

_MOST_NEAR = 10
_BANDS = "ugrizy"

Key = tuple[str, Column]


@dataclass(frozen=True, slots=True)
class Matrix:
    """Cells by metric and column; the place of a column in a cell is that among `columns`."""

    columns: list[Column]
    cells: dict[Key, Cell]


def make_matrix(results: Iterable[Result], *, has_instruments: bool) -> Matrix:
    """Sort results into cells.

    Parameters
    ----------
    has_instruments
        Whether columns are told apart by instrument too.

    Raises
    ------
    InvalidInputError
        If there are too many cells.
    """
    found: dict[Key, list[Result]] = {}
    for result in results:
        found.setdefault(
            (result.metric, _column(result, has_instruments=has_instruments)), []
        ).append(result)
    if len(found) > MOST_CELLS:
        raise InvalidInputError(
            f"The matrix of the report would have more than {MOST_CELLS} cells: ask for less, for "
            "instance for one package or dataset."
        )
    columns = sorted({column for _, column in found}, key=_column_order)
    place = {column: index for index, column in enumerate(columns)}
    return Matrix(columns, {key: _cell(place[key[1]], items) for key, items in found.items()})


def instruments_of(results: Iterable[Result]) -> set[str]:
    """Return the instruments that results name."""
    return {text for result in results for name, text in result.tags if name == "instrument"}


def rows_of(matrix: Matrix, changes: Mapping[Key, Kind]) -> list[Row]:
    """Return the rows of those metrics that have a limit or a value missing, by name."""
    by_metric: dict[str, list[Cell]] = {}
    for (metric, column), cell in matrix.cells.items():
        changed = replace(cell, change=changes.get((metric, column)))
        by_metric.setdefault(metric, []).append(changed)
    rows = []
    for metric, cells in sorted(by_metric.items()):
        worst = max(cells, key=lambda cell: RANKS[cell.state])
        if worst.state != "no limit":
            package = split_metric_name(metric)[0]
            cells.sort(key=lambda cell: cell.column)
            rows.append(Row(metric, package, worst.shown.unit, worst.state, cells))
    return rows


def worst_of(results: Iterable[Result]) -> list[Finding]:
    """Return what is broken, the worst level and the largest excess first."""
    broken = [item for item in results if RANKS[item.state] >= VIOLATED]
    return [finding_of(item) for item in sorted(broken, key=_badness)[:MOST_WORST]]


def near_of(results: Iterable[Result]) -> list[Finding]:
    """Return what holds its limit by little, the nearest first."""
    near = [
        item
        for item in results
        if item.state == "passed" and item.nearest is not None and _margin(item) <= NEAR
    ]
    return [finding_of(item) for item in sorted(near, key=_badness)[:_MOST_NEAR]]


def finding_of(result: Result) -> Finding:
    """Return a result as a report tells of it."""
    shown = result.nearest
    time = datetime.fromtimestamp(result.time_ns // 10**9, UTC)
    return Finding(
        metric=result.metric,
        tags=dict(result.tags),
        state=result.state,
        value=result.value,
        unit=result.unit,
        also_broken=[item.name for item in result.broken[1:]],
        time=time.strftime("%Y-%m-%dT%H:%M:%SZ"),
        job_id=result.job_id,
        run_id=result.run_id,
        run_url=result.run_url,
        values=result.values,
        failed=result.failed,
        absent=result.absent,
        specification=None if shown is None else shown.name,
        level=None if shown is None else shown.level,
        margin=None if shown is None else shown.margin,
        **({} if shown is None else shown.limit.criterion.shown()),
    )


def summary_of(results: Sequence[Result], *, jobs: int, missing: int) -> Summary:
    """Count the results, and say in a sentence what they come to."""
    counts = dict.fromkeys(RANKS, 0)
    for result in results:
        counts[result.state] += 1
    state = _overall(counts, is_complete=not missing)
    return Summary(
        state=state,
        headline=_headline(state, counts, missing),
        jobs=jobs,
        results=len(results),
        passed=counts["passed"],
        info=counts["INFO"],
        warning=counts["WARNING"],
        critical=counts["CRITICAL"],
        not_measured=counts["not measured"],
        no_limit=counts["no limit"],
        missing=missing,
        values=sum(item.values for item in results),
        failed=sum(item.failed for item in results),
        absent=sum(item.absent for item in results),
    )


def counted(number: int, noun: str) -> str:
    """Return a number with its noun."""
    return f"{number} {noun}{'' if number == 1 else 's'}"


def _overall(counts: Mapping[State, int], *, is_complete: bool) -> Overall:
    if not any(counts.values()):
        return "no data"
    for level in WORST_FIRST:
        if counts[level]:
            return level
    if not counts["passed"]:
        return "nothing judged"
    return "passed" if is_complete and not counts["not measured"] else "incomplete"


def _headline(state: Overall, counts: Mapping[State, int], missing: int) -> str:
    judged = counts["passed"] + sum(counts[level] for level in WORST_FIRST)
    gaps = []
    if counts["not measured"]:
        gaps.append(f"{counted(counts['not measured'], 'result')} not measured")
    if missing:
        gaps.append(f"{counted(missing, 'metric')} without any value")
    gap = " and ".join(gaps)
    if state == "no data":
        return "No data: nothing was measured in this selection."
    if state == "nothing judged":
        rest = f"; {gap}" if gap else ""
        return f"Nothing was judged: no limit applies to a value that was measured{rest}."
    if state == "passed":
        return f"All {counted(judged, 'result')} hold their limits."
    if state == "incomplete":
        return f"{counted(counts['passed'], 'result')} within limits, none beyond; but {gap}."
    broken = ", ".join(f"{counts[level]} {level}" for level in WORST_FIRST if counts[level])
    rest = f"; {gap}" if gap else ""
    number = judged - counts["passed"]
    verb = "breaks" if number == 1 else "break"
    return f"{number} of {counted(judged, 'result')} {verb} a limit: {broken}{rest}."


def _column(result: Result, *, has_instruments: bool) -> Column:
    tags = dict(result.tags)
    instrument = tags.get("instrument") if has_instruments else None
    return Column(tags.get("dataset"), tags.get("filter"), instrument)


def _column_order(column: Column) -> tuple[str, str, int, str]:
    name = column.filter or ""
    band = _BANDS.find(name) if len(name) == 1 else len(_BANDS)
    return (column.instrument or "", column.dataset or "", band, name)


def _cell(column: int, results: Sequence[Result]) -> Cell:
    shown = min(results, key=_attention)
    return Cell(
        column=column,
        state=shown.state,
        results=len(results),
        broken=sum(RANKS[item.state] >= VIOLATED for item in results),
        not_measured=sum(item.state == "not measured" for item in results),
        values=sum(item.values for item in results),
        failed=sum(item.failed for item in results),
        absent=sum(item.absent for item in results),
        shown=finding_of(shown),
    )


def _attention(result: Result) -> tuple[float, ...]:
    return (-RANKS[result.state], _margin(result), -result.time_ns)


def _badness(result: Result) -> tuple[float, float, str, tuple[tuple[str, str], ...]]:
    return (-RANKS[result.state], _margin(result), result.metric, result.tags)


def _margin(result: Result) -> float:
    shown = result.nearest
    return float("inf") if shown is None or shown.margin is None else shown.margin
