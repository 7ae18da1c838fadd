"""The graph of a metric: its values by dataset and filter, and its limits. Pure."""

from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

from squash_api.generate.influxql import Dialect, Place, either, identifier, plus, select
from squash_api.generate.limits import terms_order
from squash_api.judging.alert_plan import Branch, WatchedMetric
from squash_api.judging.alerts import LEVELS, Level, severity_of
from squash_api.judging.kinds.criterion import Bound
from squash_api.judging.limits import Limit
from squash_api.judging.wording import plain_number
from squash_api.schema import names as schema
from squash_api.schema.names import Term
from squash_api.verify.metrics import Metric

MAX_LINES = 6
"""The most limits that a graph draws; more cannot be distinguished."""

_MAX_NAMED_LINES = 3
_MAX_LABELS = 3
RANKS = {level: "•" * rank for rank, level in enumerate(LEVELS, start=1)}
"""What the names of limits begin with: they sort behind those of values, the worst last."""


@dataclass(frozen=True, slots=True)
class LimitLine:
    """Limits with one bound, drawn as one line.

    `groups` are the terms of their branches: the line is drawn where points match one of them.
    """

    level: Level
    bound: Bound
    labels: tuple[str, ...]
    groups: tuple[tuple[Term, ...], ...]

    @property
    def name(self) -> str:
        """The name of the line in a graph, such as `••• minimum ≤ 20`."""
        shown = ", ".join(self.labels[:_MAX_LABELS])
        more = len(self.labels) - _MAX_LABELS
        rest = f" and {more} more" if more > 0 else ""
        return f"{RANKS[self.level]} {shown}{rest} {self.text}"

    @property
    def text(self) -> str:
        """The bound as people write it, such as `≤ 20`."""
        return self.bound.words(plain_number)


@dataclass(frozen=True, slots=True)
class MetricGraph:
    """The graph; `note` stands in its title."""

    watched: WatchedMetric
    place: Place
    note: str = ""

    @property
    def key(self) -> str:
        """The field of the values."""
        return schema.split_metric_name(self.watched.metric.name)[1]

    @property
    def label(self) -> str:
        """The name of the axis."""
        return axis_label(self.watched.metric)

    @property
    def title(self) -> str:
        """The metric with its unit, its limits, and the note."""
        named = _limits_named(limit_lines(self.watched))
        return "   ".join(part for part in (self.label, *named, self.note) if part)

    @property
    def about(self) -> str:
        """Markdown on the metric and all its limits."""
        metric = self.watched.metric
        unit = f" {metric.unit}" if metric.unit else ""
        limits = [
            f"- {line.level}: {line.text}{unit} ({', '.join(line.labels)})"
            for line in limit_lines(self.watched)
        ]
        every = [limit for branch in self.watched.branches for limit in branch.limits]
        limits += [_not_drawn(limit) for limit in every]
        return "\n".join([escape(metric.description, quote=False), "", *filter(None, limits)])

    def values_query(self, dialect: Dialect, *more: str) -> str:
        """Return the query for the values, and for more columns."""
        name = identifier(self.key)
        tags = ", ".join(map(identifier, schema.LINE_TAGS))
        return select(
            [f"mean({name}) AS {name}", *more],
            self.place,
            dialect.times,
            dialect.shown,
            end=f"GROUP BY time({dialect.interval}), {tags} FILL(none)",
        )

    def line_queries(self, lines: Sequence[LimitLine], dialect: Dialect) -> list[str]:
        """Return a query for all lines that are drawn at the same points."""
        columns: dict[str, list[str]] = {}
        for line in lines:
            # InfluxQL has constants only where there are values.
            value = f"mean({identifier(self.key)}) * 0 {plus(line.bound.number)}"
            text = f"{value} AS {identifier(line.name)}"
            columns.setdefault(either(line.groups), []).append(text)
        end = f"GROUP BY time({dialect.interval}) FILL(none)"
        return [
            select(texts, self.place, dialect.times, dialect.shown, where, end=end)
            for where, texts in columns.items()
        ]


def axis_label(metric: Metric) -> str:
    """Return the name of a metric with its unit, as titles and axes have it."""
    key = schema.split_metric_name(metric.name)[1]
    return f"{key} [{metric.unit}]" if metric.unit else key


def limit_lines(metric: WatchedMetric) -> list[LimitLine]:
    """Return the lines of all limits, worst first, then the widest and lowest first."""
    found: dict[Bound, list[tuple[Limit, Branch]]] = {}
    for branch in metric.branches:
        for limit in branch.limits:
            for bound in limit.criterion.bounds:
                found.setdefault(bound, []).append((limit, branch))
    lines = []
    for bound, pairs in found.items():
        level = max((limit.level for limit, _ in pairs), key=severity_of)
        labels = sorted({limit.label for limit, _ in pairs if limit.level == level})
        others = sorted({limit.label for limit, _ in pairs} - set(labels))
        groups = sorted({branch.terms for _, branch in pairs}, key=terms_order)
        lines.append(LimitLine(level, bound, (*labels, *others), tuple(groups)))
    return sorted(
        lines, key=lambda line: (-severity_of(line.level), () not in line.groups, line.bound)
    )


def _limits_named(lines: Sequence[LimitLine]) -> list[str]:
    """Return the limits for the name of a graph, or how many of them it draws."""
    if len(lines) <= _MAX_NAMED_LINES:
        return [line.name for line in lines]
    if len(lines) > MAX_LINES:
        return [f"{MAX_LINES} of {len(lines)} limits"]
    return [f"{len(lines)} limits"]


def _not_drawn(limit: Limit) -> str:
    """Return the words on a limit that no constant line can show; empty for others.

    InfluxQL has neither the median of the values before each one nor their deviation from it.
    """
    criterion = limit.criterion
    if criterion.bounds:
        return ""
    words = f"{criterion.words(plain_number)} {criterion.unit}".rstrip()
    where = "; drawn on the metric's page" if limit.history else ""
    return f"- {limit.level}: {words} ({limit.label}{where})"
