"""What is different between two matrices: of runs, say, or of releases. Pure."""

from collections import Counter
from collections.abc import Mapping
from typing import get_args

from squash_api.reports.document import RANKS, VIOLATED, Cell, Change, Comparison, Kind
from squash_api.reports.matrix import Key, Matrix, counted

MOST_CHANGES = 500
"""So many changes are listed, the worst first; all are counted."""

NEARER, CLOSE = 0.1, 0.25
"""That a limit holds by less is told of if the margin has shrunk by so much, to so little."""

_ORDER: Mapping[Kind, int] = {kind: index for index, kind in enumerate(get_args(Kind))}


def changes_of(before: Matrix, after: Matrix) -> dict[Key, Kind]:
    """Return what has become of each cell that is not as it was."""
    found: dict[Key, Kind] = {}
    for key in before.cells.keys() | after.cells.keys():
        kind = _kind(before.cells.get(key), after.cells.get(key))
        if kind is not None:
            found[key] = kind
    return found


def compare(
    before: Matrix, after: Matrix, changes: Mapping[Key, Kind], *, title: str, jobs: int
) -> Comparison:
    """Return what a report tells of a comparison.

    Parameters
    ----------
    changes
        What `changes_of` has found.
    title
        What the other matrix is of.
    jobs
        How many jobs it comes from.
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
        headline=_headline(counts, unchanged, has_data=bool(before.cells)),
        counts=counts,
        unchanged=unchanged,
        changes=listed[:MOST_CHANGES],
    )


def _kind(before: Cell | None, after: Cell | None) -> Kind | None:
    was = -1 if before is None else RANKS[before.state]
    now = -1 if after is None else RANKS[after.state]
    unjudged = (RANKS["no limit"], -1)
    if was in unjudged and now in unjudged:
        return None
    if now == -1:
        return "gone"
    if now >= VIOLATED:
        if was < VIOLATED:
            return "newly broken"
        return "worse" if now > was else "better" if now < was else "still broken"
    if now == RANKS["not measured"]:
        return None if was == now else "no longer measured"
    if was >= VIOLATED:
        return "mended"
    if was == RANKS["not measured"]:
        return "measured again"
    if was == -1:
        return "new"
    return "nearer to its limit" if _has_come_nearer(before, after) else None


def _has_come_nearer(before: Cell | None, after: Cell | None) -> bool:
    was = None if before is None else before.shown.margin
    now = None if after is None else after.shown.margin
    return was is not None and now is not None and was - now >= NEARER and now <= CLOSE


def _change(key: Key, kind: Kind, before: Cell | None, after: Cell | None) -> Change:
    shown = [None if cell is None else cell.shown for cell in (before, after)]
    # The worst of many detectors may be another one than before: their values say nothing together.
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
    rank = 0 if change.state is None else -RANKS[change.state]
    margin = float("inf") if change.margin is None else change.margin
    return (_ORDER[change.kind], rank, margin, change.metric, change.column)


def _headline(counts: Mapping[str, int], unchanged: int, *, has_data: bool) -> str:
    if not has_data:
        return "There is nothing to compare with: nothing was measured there."
    told = [f"{number} {kind}" for kind, number in counts.items()]
    if not told:
        return f"Nothing has changed: {counted(unchanged, 'cell')} as before."
    return f"{', '.join(told)}; {unchanged} as before."
