"""Makes the parts of a report from results: matrix, lists, headline and comparison. Pure."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import get_args

from squash_api.errors import InvalidInputError
from squash_api.judging.states import (
    BROKEN,
    NO_LIMIT,
    NOT_MEASURED,
    PASSED,
    RANKS,
    State,
    added,
    count_states,
    counts_text,
    worst_state,
)
from squash_api.judging.wording import counted
from squash_api.reports.document import (
    MOST_WORST,
    Cell,
    Change,
    Column,
    Comparison,
    Finding,
    Kind,
    Row,
    Summary,
)
from squash_api.reports.results import Result
from squash_api.reports.texts import moment_text
from squash_api.schema.names import split_metric_name

MOST_CELLS = 20_000
"""A report whose matrix would have more cells is refused."""

MOST_CHANGES = 500
"""At most this many changes are listed, worst first; all are counted."""

# A value with a margin of at most this is near its limit.
_NEAR = 0.1
# A passing value has come nearer to its limit if its margin has shrunk by at least the first of
# these, to at most the second.
_SHRUNK, _CLOSE = 0.1, 0.25
_MOST_NEAR = 10
_BANDS = "ugrizy"
_ORDER: Mapping[Kind, int] = {kind: index for index, kind in enumerate(get_args(Kind))}

Key = tuple[str, Column]


@dataclass(frozen=True, slots=True)
class Matrix:
    """Cells by metric and column; a cell names its column by the index in `columns`."""

    columns: list[Column]
    cells: dict[Key, Cell]


def make_matrix(results: Iterable[Result], *, has_instruments: bool) -> Matrix:
    """Sort results into cells; with `has_instruments` each instrument has columns of its own.

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
    """Collect the instruments that results name."""
    return {text for result in results for name, text in result.tags if name == "instrument"}


def rows_of(matrix: Matrix, changes: Mapping[Key, Kind]) -> list[Row]:
    """Make the rows of all metrics but those that no limit applies to, sorted by name."""
    by_metric: dict[str, list[Cell]] = {}
    for (metric, column), cell in matrix.cells.items():
        change = changes.get((metric, column))
        changed = cell if change is None else replace(cell, change=change)
        by_metric.setdefault(metric, []).append(changed)
    rows = []
    for metric, cells in sorted(by_metric.items()):
        worst = min(cells, key=lambda cell: RANKS[cell.state])
        if worst.state != NO_LIMIT:
            package = split_metric_name(metric)[0]
            cells.sort(key=lambda cell: cell.column)
            rows.append(Row(metric, package, worst.shown.unit, worst.state, cells))
    return rows


def worst_of(results: Iterable[Result]) -> list[Finding]:
    """List the results that break a limit: the worst level, then the smallest margin, first."""
    broken = [item for item in results if item.state in BROKEN]
    return [finding_of(item) for item in sorted(broken, key=_badness)[:MOST_WORST]]


def near_of(results: Iterable[Result]) -> list[Finding]:
    """List the results that meet their limits with little margin, nearest first."""
    near = [
        item
        for item in results
        if item.state == PASSED and item.nearest is not None and _margin(item) <= _NEAR
    ]
    return [finding_of(item) for item in sorted(near, key=_badness)[:_MOST_NEAR]]


def finding_of(result: Result) -> Finding:
    """Describe a result as a report shows it."""
    shown = result.nearest
    limit = None if shown is None else shown.limit.criterion.shown()
    return Finding(
        metric=result.metric,
        tags=dict(result.tags),
        state=result.state,
        value=result.value,
        unit=result.unit,
        also_broken=[item.name for item in result.broken[1:]],
        time=moment_text(result.time_ns),
        job_id=result.job_id,
        run_id=result.run_id,
        run_url=result.run_url,
        values=result.values,
        failed=result.failed,
        absent=result.absent,
        beyond=dict(result.beyond),
        judged=0 if shown is None else result.judged.get(shown.name, 0),
        broken=0 if shown is None else result.beaten.get(shown.name, 0),
        specification=None if shown is None else shown.name,
        level=None if shown is None else shown.level,
        margin=None if shown is None else shown.margin,
        operator=None if limit is None else limit["operator"],
        threshold=None if limit is None else limit["threshold"],
    )


def summary_of(results: Sequence[Result], *, jobs: int, missing: int) -> Summary:
    """Count the results, and sum them up in a sentence."""
    counts = count_states(item.state for item in results)
    of_metrics: dict[str, list[State]] = {}
    for result in results:
        of_metrics.setdefault(result.metric, []).append(result.state)
    gaps = [NOT_MEASURED] if missing or not results else []
    return Summary(
        state=worst_state([*counts, *gaps], NO_LIMIT),
        headline=_headline(counts, missing),
        jobs=jobs,
        metrics=count_states(worst_state(states, NO_LIMIT) for states in of_metrics.values()),
        results=len(results),
        passed=counts.get("passed", 0),
        info=counts.get("INFO", 0),
        warning=counts.get("WARNING", 0),
        critical=counts.get("CRITICAL", 0),
        not_measured=counts.get("not measured", 0),
        no_limit=counts.get("no limit", 0),
        missing=missing,
        values=sum(item.values for item in results),
        failed=sum(item.failed for item in results),
        absent=sum(item.absent for item in results),
        beyond=dict(added(item.beyond for item in results)),
    )


def changes_of(before: Matrix, after: Matrix) -> dict[Key, Kind]:
    """Find the cells that have changed, and how."""
    found: dict[Key, Kind] = {}
    # Not a set, whose order differs between processes: cells of equal rank would change places.
    for key in dict.fromkeys([*before.cells, *after.cells]):
        kind = _kind(before.cells.get(key), after.cells.get(key))
        if kind is not None:
            found[key] = kind
    return found


def compare(
    before: Matrix, after: Matrix, changes: Mapping[Key, Kind], *, title: str, jobs: int
) -> Comparison:
    """Describe the changes between two matrices, as `changes_of` has found them.

    `title` and `jobs` (a number) are those of the earlier matrix.
    """
    listed = [
        _change(key, kind, before.cells.get(key), after.cells.get(key))
        for key, kind in changes.items()
    ]
    listed.sort(key=_change_order)
    number = Counter(changes.values())
    counts: dict[str, int] = {kind: number[kind] for kind in _ORDER if number[kind]}
    unchanged = len(before.cells.keys() | after.cells.keys()) - len(changes)
    return Comparison(
        title=title,
        jobs=jobs,
        headline=_changes_headline(counts, unchanged, has_data=bool(before.cells)),
        counts=counts,
        unchanged=unchanged,
        changes=listed[:MOST_CHANGES],
    )


def _headline(counts: Mapping[State, int], missing: int) -> str:
    broken = {state: counts[state] for state in BROKEN if state in counts}
    passed = counts.get(PASSED, 0)
    number = sum(broken.values())
    gaps = []
    if NOT_MEASURED in counts:
        # Beside a total of those that were judged, to which they do not belong.
        absent = counts[NOT_MEASURED]
        is_beside = number or passed
        gaps.append(f"{absent} more not measured" if is_beside else f"{absent} series not measured")
    if missing:
        gaps.append(f"{counted(missing, 'metric')} without any value")
    gap = " and ".join(gaps)
    rest = f"; {gap}" if gap else ""
    if not counts:
        return "No data: nothing was measured in this selection."
    if broken:
        verb = "breaks" if number == 1 else "break"
        judged = counted(number + passed, "series")
        return f"{number} of {judged} {verb} a limit: {counts_text(broken)}{rest}."
    if not passed:
        if NO_LIMIT in counts:
            return f"Nothing was judged: no limit applies to what was measured{rest}."
        return f"Nothing was judged: {gap}."
    if gap:
        return f"{counted(passed, 'series')} within limits, none broken; but {gap}."
    if passed == 1:
        return "The only series with a limit meets it."
    return f"All {counted(passed, 'series')} with limits meet them."


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
        states=count_states(item.state for item in results),
        broken=sum(item.state in BROKEN for item in results),
        not_measured=sum(item.state == NOT_MEASURED for item in results),
        values=sum(item.values for item in results),
        failed=sum(item.failed for item in results),
        absent=sum(item.absent for item in results),
        shown=finding_of(shown),
    )


def _attention(result: Result) -> tuple[float, ...]:
    return (RANKS[result.state], _margin(result), -result.time_ns)


def _badness(result: Result) -> tuple[float, float, str, tuple[tuple[str, str], ...]]:
    return (RANKS[result.state], _margin(result), result.metric, result.tags)


def _margin(result: Result) -> float:
    shown = result.nearest
    return float("inf") if shown is None or shown.margin is None else shown.margin


def _kind(before: Cell | None, after: Cell | None) -> Kind | None:
    was = None if before is None else before.state
    now = None if after is None else after.state
    if {was, now} <= {NO_LIMIT, None}:
        return None
    if now is None:
        return "gone"
    if now in BROKEN:
        if was is None or was not in BROKEN:
            return "newly broken"
        change = RANKS[now] - RANKS[was]
        return "worse" if change < 0 else "better" if change > 0 else "still broken"
    if now == NOT_MEASURED:
        return None if was == now else "new" if was is None else "no longer measured"
    if was in BROKEN:
        return "mended"
    if was == NOT_MEASURED:
        return "measured again"
    if was is None:
        return "new"
    margin_before = None if before is None else before.shown.margin
    margin = None if after is None else after.shown.margin
    if margin_before is None or margin is None:
        return None
    is_nearer = margin_before - margin >= _SHRUNK and margin <= _CLOSE
    return "nearer to its limit" if is_nearer else None


def _change(key: Key, kind: Kind, before: Cell | None, after: Cell | None) -> Change:
    shown = [None if cell is None else cell.shown for cell in (before, after)]
    # The worst of many detectors may be a different one now: then their values are not comparable.
    is_same = shown[0] is None or shown[1] is None or shown[0].tags == shown[1].tags
    is_single = all(cell is None or cell.results == 1 for cell in (before, after))
    first = shown[0] if is_same or is_single else None
    limits = {item.specification for item in shown if item is not None}
    is_same_limit = len(limits) == 1
    unit = next(item.unit for item in reversed(shown) if item is not None)
    return Change(
        metric=key[0],
        column=key[1].label,
        kind=kind,
        state_before=None if before is None else before.state,
        state=None if after is None else after.state,
        broken_before=0 if before is None else before.broken,
        broken=0 if after is None else after.broken,
        value_before=None if first is None else first.value,
        value=None if shown[1] is None else shown[1].value,
        unit=unit,
        margin_before=first.margin if first is not None and is_same_limit else None,
        margin=None if shown[1] is None else shown[1].margin,
        job_before=None if shown[0] is None else shown[0].job_id,
        job_id=None if shown[1] is None else shown[1].job_id,
    )


def _change_order(change: Change) -> tuple[int, int, float, str, str]:
    rank = len(RANKS) if change.state is None else RANKS[change.state]
    margin = float("inf") if change.margin is None else change.margin
    return (_ORDER[change.kind], rank, margin, change.metric, change.column)


def _changes_headline(counts: Mapping[str, int], unchanged: int, *, has_data: bool) -> str:
    if not has_data:
        return "There is nothing to compare with: nothing was measured there."
    if not counts:
        return f"Nothing has changed: {counted(unchanged, 'cell')} as before."
    changed = ", ".join(f"{number} {kind}" for kind, number in counts.items())
    total = counted(sum(counts.values()) + unchanged, "cell")
    return f"Of {total}: {changed}; {unchanged} as before."
