"""Grafana's alert rules, from the plan that Kapacitor's tasks are made from. Pure.

A rule asks InfluxDB for the newest value of each series, and Grafana's expressions judge it. There
is one for each level, and a value breaks the limits of one alone, so nobody is told of a CRITICAL
as a WARNING too. Source: Grafana's documentation, "Alerting" and "Write expression queries".
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from hashlib import sha256
from typing import Any

from squash_api.generate.grafana import alerting_texts as texts
from squash_api.generate.grafana.connections import SOURCE_UID, influxql, uid_of
from squash_api.generate.influxql import condition, identifier, literal, select
from squash_api.generate.kapacitor.freshness import DEAD_AFTER_S
from squash_api.judging.alert_plan import Branch, Expectation, Telling, WatchedMetric, tellings
from squash_api.judging.alerts import PER_JOB, WORST_FIRST, Group, severity_of
from squash_api.judging.limits import Limit
from squash_api.judging.own import OWN_ALERTS, SILENT, SILENT_S, WATCH, OwnAlert
from squash_api.judging.wording import exact_number
from squash_api.schema import watch as names
from squash_api.schema.names import SQUASH_ID, split_metric_name
from squash_api.verify.metrics import Metric

VERDICT_S = 600
"""So long a verdict on a series counts: the service repeats each of them every minute."""

KEEP = "KeepLast"
OK = "OK"
ALERTING = "Alerting"

_LATE_S = 3600
_OWN_S = 900
_GONE_S = 6 * 3600
_MINUTE_S = 60
_LONGEST_TITLE = 180
_EXPRESSIONS = "__expr__"
_VALUE = "$B"


@dataclass(frozen=True, slots=True)
class Route:
    """Whom alerts are told to, and how: what a notification policy is made of.

    They are told in one message for each thing that they are about, or for all with `is_of_all`,
    and each combination of the tags `by`; where one `waits`, more of them may come for a while.
    They are told after the day `after` and through the day `through`.
    """

    channel: str | None = None
    by: tuple[str, ...] = ()
    waits: bool = False
    after: date | None = None
    through: date | None = None
    is_of_all: bool = False

    @property
    def name(self) -> str:
        """What alerts of it are labelled with."""
        parts = [
            self.channel or "default channel",
            "by job" if self.is_of_all else "",
            f"by {', '.join(self.by)}" if self.by else "",
            "in groups" if self.waits else "",
            f"after {self.after}" if self.after else "",
            f"through {self.through}" if self.through else "",
        ]
        return ", ".join(filter(None, parts))


@dataclass(frozen=True, slots=True)
class Rule:
    """An alert rule: queries by reference, whose last values are asked for, and a condition.

    Parameters
    ----------
    key
        What tells it from the other rules of its metric; part of its uid.
    about
        The metric, or what else it is about.
    queries
        InfluxQL by reference; `A` is the value to judge, which the condition calls `$B`.
    seconds
        How far back they look, for people: the queries say it themselves.
    """

    about: str
    level: str
    key: str
    queries: Mapping[str, str]
    seconds: int
    condition: str
    annotations: Mapping[str, str]
    route: Route
    no_data: str = OK
    error: str = KEEP
    metric: str = ""

    @property
    def title(self) -> str:
        """Its name in Grafana: no two rules have the same, also not one that was there before."""
        days = [
            f"{word} {day}"
            for word, day in (("after", self.route.after), ("through", self.route.through))
            if day is not None
        ]
        whole = " ".join((self.about, self.level, self.key, *days)).rstrip()
        if len(whole) <= _LONGEST_TITLE:
            return whole
        return f"{whole[: _LONGEST_TITLE - 11]} {sha256(whole.encode()).hexdigest()[:10]}"

    @property
    def uid(self) -> str:
        """Its uid, which no other rule ever has."""
        return uid_of(*self.title.split(" "))

    def data(self, *, retention_policy: str) -> list[dict[str, Any]]:
        """Return the queries and expressions as Grafana's provisioning has them."""
        found: list[dict[str, Any]] = []
        for reference, query in self.queries.items():
            model = influxql(query, retention_policy=retention_policy, ref=reference)
            # Else YAML would refer from one to the other.
            model["datasource"] = dict(model["datasource"])
            found.append(
                {
                    "refId": reference,
                    "relativeTimeRange": {"from": self.seconds, "to": 0},
                    "datasourceUid": SOURCE_UID,
                    "model": model,
                }
            )
        for reference in self.queries:
            last = {
                "type": "reduce",
                "expression": reference,
                "reducer": "last",
                # What is no number counts as missing.
                "settings": {"mode": "dropNN"},
            }
            found.append(_expression(chr(ord(reference) + 1), last))
        found.append(_expression("Z", {"type": "math", "expression": self.condition}))
        return found


def metric_rules(watched: WatchedMetric) -> Iterator[Rule]:
    """Yield the rules of a metric, of its branches in their order; none for those on trial."""
    for branch in watched.branches:
        if branch.is_tick:
            yield from _value_rules(watched.metric, branch)
        elif branch.is_served and not branch.is_trial:
            yield from _served_rules(watched.metric, branch)


def late_rule(expected: Expectation, metric: Metric) -> Rule:
    """Return the rule on values that are late."""
    per = () if expected.expect.each else expected.per
    where = f"{identifier(names.SPECIFICATION)} = {literal(expected.specification)}"
    queries = {
        reference: _newest(column, names.FRESHNESS, where, per=per, seconds=_LATE_S)
        for reference, column in (("A", names.LATE_S), ("J", names.AGE_S))
    }
    return Rule(
        about=expected.specification,
        level=expected.level,
        key="late",
        queries=queries,
        seconds=_LATE_S,
        condition=f"{_VALUE} > {exact_number(0)}",
        annotations=texts.late(expected, metric, per),
        route=Route(
            expected.channel,
            _told_by(per, expected.group),
            _waits(expected.group),
            after=expected.muted_through,
        ),
        metric=metric.name,
    )


def own_rules() -> Iterator[Rule]:
    """Yield the rules on the service itself: its limits, its silence and that of the watch."""
    for alert in OWN_ALERTS:
        yield from _limit_rules(alert)
    yield Rule(
        about=SILENT,
        level=WORST_FIRST[0],
        key="",
        queries={"A": _counted(names.SERVICE, names.RECORD_UP, (names.PROCESS, names.INSTANCE))},
        seconds=_GONE_S,
        condition=f"{_VALUE} == {exact_number(0)}",
        annotations=texts.silent(),
        route=Route(by=(names.PROCESS, names.INSTANCE)),
    )
    yield Rule(
        about=WATCH,
        level=WORST_FIRST[0],
        key="",
        queries={"A": _newest(names.UP, names.HEARTBEAT, per=(), seconds=DEAD_AFTER_S)},
        seconds=DEAD_AFTER_S,
        condition=f"{_VALUE} == {exact_number(0)}",
        annotations=texts.watch_is_silent(),
        route=Route(),
        # That there is none is what it is about.
        no_data=ALERTING,
        error=ALERTING,
    )


def _value_rules(metric: Metric, branch: Branch) -> Iterator[Rule]:
    measurement, key = split_metric_name(metric.name)
    newest = _newest(
        key, measurement, condition(branch.terms), per=branch.per, seconds=branch.max_age_s
    )
    for telling in tellings(branch.limits):
        yield _rule(
            metric,
            branch,
            telling,
            queries={"A": newest, "J": _beside(newest, key, SQUASH_ID, branch.per)},
            seconds=branch.max_age_s,
            condition=_broken(telling),
            annotations=texts.of_value(metric, telling.limits, branch.per),
        )


def _served_rules(metric: Metric, branch: Branch) -> Iterator[Rule]:
    """Yield the rules on what only the service can raise, which the record knows alone.

    The service mutes by itself.
    """
    own = (
        f"{identifier(names.METRIC)} = {literal(metric.name)}",
        f"{identifier(names.BRANCH)} = {literal(branch.key)}",
    )
    columns = {
        reference: _newest(column, names.VERDICT, *own, per=branch.per, seconds=VERDICT_S)
        for reference, column in (
            ("A", names.SEVERITY),
            ("J", names.ALERT),
            ("L", names.VALUE),
        )
    }
    for level in WORST_FIRST:
        limits = tuple(limit for limit in branch.limits if limit.level == level)
        if limits:
            yield _rule(
                metric,
                branch,
                Telling(level, limits, ()),
                queries=columns,
                seconds=VERDICT_S,
                condition=f"{_VALUE} == {exact_number(severity_of(level))}",
                annotations=texts.of_verdict(metric, limits, branch.per),
            )


def _limit_rules(alert: OwnAlert) -> Iterator[Rule]:
    for telling in tellings(alert.limits):
        yield Rule(
            about=alert.name,
            level=telling.level,
            key="",
            queries={"A": _newest(alert.field, alert.measurement, per=alert.per, seconds=_OWN_S)},
            seconds=_OWN_S,
            condition=_broken(telling),
            annotations=texts.of_service(alert, telling.limits),
            route=Route(by=alert.per),
        )


def _rule(
    metric: Metric,
    branch: Branch,
    telling: Telling,
    *,
    queries: Mapping[str, str],
    seconds: int,
    condition: str,
    annotations: Mapping[str, str],
) -> Rule:
    return Rule(
        about=metric.name,
        level=telling.level,
        key=branch.key,
        queries=queries,
        seconds=seconds,
        condition=condition,
        annotations=annotations,
        route=Route(
            branch.channel,
            _told_by(branch.per, branch.group),
            _waits(branch.group),
            telling.after,
            telling.through,
            is_of_all=branch.group == PER_JOB,
        ),
        metric=metric.name,
    )


def _broken(telling: Telling) -> str:
    """Return the expression that is true where a level is told: one of its limits is broken."""
    either = _any_of(telling.limits)
    return f"({either}) && !({_any_of(telling.worse)})" if telling.worse else either


def _any_of(limits: Sequence[Limit]) -> str:
    return " || ".join(limit.criterion.broken_in_math(_VALUE) for limit in limits)


def _told_by(per: Sequence[str], group: Group) -> tuple[str, ...]:
    """Return the tags whose values have messages of their own."""
    return tuple(name for name in per if group == PER_JOB or name not in group)


def _waits(group: Group) -> bool:
    return group != ()


def _newest(column: str, measurement: str, *where: str, per: Sequence[str], seconds: int) -> str:
    """Return the query for the newest value of a field in each series."""
    return select(
        [f"last({identifier(column)}) AS {identifier(column)}"],
        identifier(measurement),
        f"time > now() - {seconds}s",
        *where,
        end=_by(per),
    )


def _beside(newest: str, column: str, other: str, per: Sequence[str]) -> str:
    """Return the query for another field of the points that a query for newest values finds."""
    named = f"AS {identifier(column)}"
    inner = newest.replace(named, f"{named}, {identifier(other)}", 1)
    return select([identifier(other)], f"({inner})", end=_by(per))


def _counted(measurement: str, column: str, per: Sequence[str]) -> str:
    """Return the query for how many points a minute had in the last `SILENT_S`, by series.

    It is 0 for a series that had points before, but none since.
    """
    minutes = SILENT_S // _MINUTE_S + 1
    return select(
        [f"moving_average(count({identifier(column)}), {minutes}) AS {identifier(column)}"],
        identifier(measurement),
        f"time > now() - {_GONE_S}s AND time < now()",
        end=f"GROUP BY time({_MINUTE_S}s), {', '.join(map(identifier, per))} fill(0)",
    )


def _by(per: Iterable[str]) -> str:
    tags = ", ".join(map(identifier, per))
    return f"GROUP BY {tags}" if tags else ""


def _expression(reference: str, model: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "refId": reference,
        "relativeTimeRange": {"from": 0, "to": 0},
        "datasourceUid": _EXPRESSIONS,
        "model": {
            "refId": reference,
            "datasource": {"type": _EXPRESSIONS, "uid": _EXPRESSIONS},
            **model,
        },
    }
