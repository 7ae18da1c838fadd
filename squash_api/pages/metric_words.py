"""What the page of a metric says, in words: of values, their jobs, and what is shown."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from squash_api.index.code_changes import CodeChanges
from squash_api.judging.limits import Limit, state_word
from squash_api.judging.wording import NOTHING, number_text
from squash_api.pages.front import combination_label
from squash_api.pages.plots import LimitLine, Line, Picture, Point, limit_text, limits_in_reach
from squash_api.schema.names import META_PREFIX, RUN_ID, RUN_URL
from squash_api.standings.standing import Combination, combination_of
from squash_api.trends.points import TIME, TrendLine
from squash_api.trends.trends import Judged, Trend

_MOST_NAMES = 6
_MOST_LETTERS = 120


@dataclass(frozen=True, slots=True)
class Shown:
    """A value as a row of a table."""

    value: float
    time_ns: int
    job_id: int
    state: str
    broken: str
    run: str
    run_url: str
    tags: str
    changes: str


def picture_of(trend: Trend, *, name: str, unit: str | None, x: str, x_unit: str | None) -> Picture:
    """Return a trend as it is drawn."""
    constant = _constant_tags(trend)
    lines = [
        Line(
            line_text(line),
            [_point(item, unit=unit, x=x, dull=constant | set(line.tags)) for item in line.values],
            is_joined=line.series == 1,
            is_rest=line.is_rest,
        )
        for line in trend.lines
    ]
    limits = [
        LimitLine(limit.label, limit.level, bound, "" if is_general else terms_text(limit))
        for limit, is_general in trend.limits
        for bound in limit.criterion.bounds
    ]
    is_time = x == TIME
    x_label = "Date (UTC)" if is_time else with_unit(x.removeprefix(META_PREFIX), x_unit)
    return Picture(clip(x_label), clip(with_unit(name, unit)), lines, limits, is_time=is_time)


def shown_of(item: Judged) -> Shown:
    """Return a value as a row of a table."""
    fields = item.job.context.fields
    return Shown(
        value=item.value,
        time_ns=item.job.time_ns,
        job_id=item.job.job_id,
        state=state_of(item),
        broken=", ".join(limit.label for limit in item.broken),
        run=clip(str(fields.get(RUN_ID, ""))),
        run_url=str(fields.get(RUN_URL, "")),
        tags=clip(combination_text(in_order(item.job.context.tags))),
        changes=changes_text(item.changes),
    )


def state_of(item: Judged) -> str:
    """Return how bad a value is, in a word."""
    return state_word(item.severity, is_limited=item.is_limited)


def changes_text(changes: CodeChanges | None) -> str:
    """Return which packages have changed; empty where nobody knows."""
    if changes is None or changes.packages is None:
        return ""
    names = [f"{'-' if item.is_gone else ''}{item.name}" for item in changes.packages]
    if len(names) <= _MOST_NAMES:
        return clip(", ".join(names)) or "none"
    return clip(f"{', '.join(names[:_MOST_NAMES])} and {len(names) - _MOST_NAMES} more")


def line_text(line: TrendLine[Judged]) -> str:
    """Return what a line is called."""
    if line.is_rest:
        return f"{line.series} other series"
    name = clip(combination_text(line.tags)) or "all"
    return name if line.series == 1 else f"{name} ({line.series} series)"


def combination_text(tags: Iterable[tuple[str, str]]) -> str:
    """Return tags in a few words; empty if there are none."""
    pairs = tuple(tags)
    return combination_label(pairs) if pairs else ""


def in_order(tags: Mapping[str, str]) -> Combination:
    """Return tags in the order in which people look for them."""
    first = combination_of(tags)
    return (*first, *(pair for pair in sorted(tags.items()) if pair not in first))


def terms_text(limit: Limit) -> str:
    """Return which jobs a limit applies to."""
    return clip(", ".join(f"{term.name} {term.value}" for term in limit.terms))


def note_of(trend: Trend, picture: Picture, *, x: str) -> str:
    """Return what has to be said of a plot."""
    drawn = sum(len(line.points) for line in picture.lines)
    if not trend.count:
        words = ["There are no values here."]
    elif drawn < trend.count:
        words = [f"{trend.count:,} values, of which {drawn:,} are drawn, the extremes among them."]
    else:
        words = [f"{trend.count:,} value{'s' if trend.count > 1 else ''}."]
    if trend.outside:
        words.append(f"{trend.outside:,} more do not say {clip(x)}.")
    reached = limits_in_reach(picture)
    far = [limit_text(item) for item in picture.limits if item not in reached]
    if far:
        words.append(f"Outside of the plot: {'; '.join(far)}.")
    return " ".join(words)


def with_unit(name: str, unit: str | None) -> str:
    """Return a name with the unit of its values."""
    return f"{name} ({unit})" if unit else name


def clip(text: str) -> str:
    """Return a text that fits into a line."""
    return text if len(text) <= _MOST_LETTERS else f"{text[: _MOST_LETTERS - 1]}…"


def _point(item: Judged, *, unit: str | None, x: str, dull: set[tuple[str, str]]) -> Point:
    context = item.job.context
    said = combination_text(pair for pair in in_order(context.tags) if pair not in dull)
    if item.x is not None:
        said = " · ".join(filter(None, [f"{x} {number_text(item.x)}", said]))
    state = state_of(item)
    names = ", ".join(limit.label for limit in item.broken)
    time = item.job.time_ns / 1e6
    return Point(
        x=time if item.x is None else item.x,
        y=item.value,
        time=time,
        job=item.job.job_id,
        value=f"{number_text(item.value)} {unit or ''}".rstrip(),
        run=clip(str(context.fields.get(RUN_ID, NOTHING))),
        tags=clip(said) or NOTHING,
        changes=changes_text(item.changes) or NOTHING,
        state=clip(f"{state}: {names}" if names else state),
        severity=item.severity,
    )


def _constant_tags(trend: Trend) -> set[tuple[str, str]]:
    """Return the tags that all values have."""
    values = [item for line in trend.lines for item in line.values]
    counts = Counter(pair for item in values for pair in item.job.context.tags.items())
    return {pair for pair, count in counts.items() if count == len(values)}


def choices_of(
    found: Mapping[str, Sequence[str]], names: Sequence[str], chosen: Mapping[str, str]
) -> dict[str, list[str]]:
    """Return what can be chosen of each of these tags; what is chosen is always among it."""
    return {
        name: sorted({*found.get(name, ()), *([chosen[name]] if name in chosen else [])})
        for name in names
    }
