"""The dashboard of a verification package: metrics with their limits, and the last runs. Pure.

Limits are lines, colored by level. The viewer chooses the values that are shown, by their tags.
"""

from collections.abc import Iterator, Sequence
from html import escape

from squash_api.generate.influxql import Dialect, Place, identifier, plus, select
from squash_api.generate.limits import Group, Part, digits_for, groups_of, worst_values
from squash_api.generate.metric_graph import MetricGraph
from squash_api.generate.output import MARK
from squash_api.generate.panels import COLUMNS, Cell, Note, Table, Tile, limit_steps, stacked
from squash_api.judging.alert_plan import WatchedMetric
from squash_api.judging.wording import plain_number
from squash_api.schema import names as schema
from squash_api.verify.metrics import Metric

MAX_TILES = 6
"""The most tiles that a metric has."""

MAX_METRICS = 120
"""The most metrics on a dashboard: those with specifications first, then by name."""

_RUNS = 100
_TOP_HEIGHT = 4
_HEIGHT = 3
_TILE_HEIGHT = 2
_RANGES = {"2 days": "2d", "7 days": "7d", "30 days": "30d"}
# Chronograf shows the first column by name, so this one sorts after every metric.
_DISTANCE = "·distance"


def package_dashboard(
    metrics: Sequence[Metric], watched: Sequence[WatchedMetric], place: Place, dialect: Dialect
) -> list[Cell]:
    """Return the cells of the dashboard of a package, whose name its measurement has.

    `watched` are those of the package's `metrics` that have specifications.
    """
    by_name = {item.metric.name: item for item in watched}
    ordered = sorted(metrics, key=lambda metric: (metric.name not in by_name, metric.name))
    shown = ordered[:MAX_METRICS]
    note = _note(place.measurement, len(shown), len(ordered), dialect)
    top = [
        Cell(Note(note), 0, 0, 3, _TOP_HEIGHT),
        Cell(_runs_table(place, dialect), 3, 0, 9, _TOP_HEIGHT),
    ]
    blocks = [
        _metric_block(by_name.get(metric.name, WatchedMetric(metric, (), ())), place, dialect)
        for metric in shown
    ]
    return [*top, *stacked(blocks, top=_TOP_HEIGHT)]


def _note(name: str, shown: int, total: int, dialect: Dialect) -> str:
    links = [f"[{words}]({dialect.range_url.format(length)})" for words, length in _RANGES.items()]
    ranges = f"**Range:** {' · '.join(links)}\n\n" if dialect.range_url else ""
    left_out = f" {total - shown} metrics without specifications are not shown." * (total > shown)
    return (
        f"# {escape(name)}\n\n"
        f"{ranges}"
        f"**Graphs**: means by {' and '.join(schema.LINE_TAGS)}. {dialect.about_limits}\n\n"
        f"**Tiles**: the worst of the last values of all series, {dialect.last_words}. It breaks a "
        f"limit of level CRITICAL if it is red, WARNING if yellow, INFO if blue.\n\n"
        f"{dialect.about_choices}{left_out}\n\n"
        f"*Made by {MARK}: edit the specifications.*"
    )


def _runs_table(place: Place, dialect: Dialect) -> Table:
    columns = {
        schema.RUN_ID: "run",
        **{tag: tag for tag in schema.LINE_TAGS},
        schema.SQUASH_URL: "job page",
        schema.RUN_URL: "run page",
        schema.CODE_CHANGES_COUNTS: "changes",
        **{tag: tag for tag in (*schema.VALUE_TAGS, "pipeline") if tag not in schema.LINE_TAGS},
        schema.CODE_CHANGES: "code changes since the previous run",
    }
    # Tables sort ascending at first, so negative times put the latest first.
    order = f"0 - {identifier(schema.TIMESTAMP)} AS {identifier('order')}"
    query = select(
        [*map(identifier, columns), order],
        place,
        dialect.last_times,
        dialect.shown,
        end=f"ORDER BY time DESC LIMIT {_RUNS}",
    )
    return Table(
        f"Latest jobs, at most {_RUNS}",
        query,
        place.measurement,
        {"time": "time", **columns},
        sort_by="order",
        digits=0,
    )


def _metric_block(watched: WatchedMetric, place: Place, dialect: Dialect) -> list[Cell]:
    """Return a graph with its tiles, on half the width if there is one tile."""
    groups = groups_of(watched) or [Group((Part(()),), ())]
    every = [tile for group in groups for tile in _tiles(watched.metric, group, place, dialect)]
    tiles = every[:MAX_TILES]
    note = f"{MAX_TILES} of {len(every)} tiles" if len(every) > MAX_TILES else ""
    graph = MetricGraph(watched, place, note)
    if len(tiles) == 1:
        return [Cell(tiles[0], 0, 0, 2, _HEIGHT), Cell(graph, 2, 0, 4, _HEIGHT)]
    half = COLUMNS // 2
    across = [len(tiles)] if len(tiles) <= 3 else [(len(tiles) + 1) // 2, len(tiles) // 2]
    height = _HEIGHT if len(across) == 1 else _TILE_HEIGHT
    places = [
        (half // count * column, height * row, half // count)
        for row, count in enumerate(across)
        for column in range(count)
    ]
    square = [
        Cell(tile, x, y, width, height) for tile, (x, y, width) in zip(tiles, places, strict=True)
    ]
    return [*square, Cell(graph, half, 0, half, height * len(across))]


def _tiles(metric: Metric, group: Group, place: Place, dialect: Dialect) -> Iterator[Tile]:
    """Yield tiles with the worst of the last values of all series of a group.

    Each has a value that could break a limit when no other does: the highest, the lowest, and the
    nearest to any number that values must not be.
    """
    key = schema.split_metric_name(metric.name)[1]
    name = identifier(key)
    parts = (tag for limit in group.limits for tag in limit.specification.series)
    tags = ", ".join(map(identifier, dict.fromkeys((*schema.SERIES_TAGS, *parts))))
    conditions = (dialect.last_times, dialect.shown, group.condition)
    last = f"last({name}) AS {name}"
    series = f"({select([last], place, *conditions, end=f'GROUP BY {tags}')})"
    worst = worst_values(group.limits)
    queries: dict[str, str] = {}
    if worst.highest:
        queries["highest"] = select([f"max({name}) AS {name}"], series)
    if worst.lowest:
        queries["lowest"] = select([f"min({name}) AS {name}"], series)
    for number in worst.nearest:
        distance = identifier(_DISTANCE)
        from_it = select([f"abs({name} {plus(-number)}) AS {distance}", name], series)
        nearest = select([f"min({distance}) AS {distance}", name], f"({from_it})")
        queries[f"nearest to {plain_number(number)}"] = nearest
    for words, query in (queries or {"last": select([last], place, *conditions)}).items():
        yield Tile(
            " ".join(part for part in (key, group.name, words) if part),
            query,
            key,
            digits=digits_for(group.limits),
            steps=limit_steps(group.limits),
            suffix=f" {metric.unit}" if metric.unit else "",
            path=f"/metric/{metric.name}",
        )
