"""What Kapacitor is told of groups of alerts: a point whenever the state of one changes.

The state of a group is the worst severity of its living alerts; those on trial count for nothing.
A silence is never told: while it lasts, nothing that it hides makes a group look better than it was
told, or new.
"""

import json
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from secrets import token_hex
from typing import Self

from squash_api.accounts.links import Links
from squash_api.definitions.in_force import Snapshot
from squash_api.delivery.present import Plan
from squash_api.generate.kapacitor.channels import topic_of
from squash_api.generate.kapacitor.text import slack_text
from squash_api.generate.kapacitor.verdicts import is_verdict_id
from squash_api.index.reader import View
from squash_api.index.since_good import since_last_good
from squash_api.influx.points import own_line
from squash_api.ingest.stored_job import artifacts_in
from squash_api.judging.alert_plan import Grouping
from squash_api.judging.alert_texts import (
    LATE,
    About,
    Link,
    Message,
    links_of,
    message_of,
    worst_first,
)
from squash_api.judging.alerts import PER_JOB, Group
from squash_api.judging.kinds.registry import shown_criterion
from squash_api.judging.limits import limits_of
from squash_api.record.alerts import (
    RESOLVED,
    AlertRow,
    GroupRow,
    alerts_of_groups,
    get_group,
    groups_after,
    is_put_aside,
    living_alerts,
    newest_alert_version,
)
from squash_api.record.silences import SilenceRow, active_silences, silencing
from squash_api.schema import watch as names
from squash_api.schema.artifacts import may_have_artifacts
from squash_api.schema.names import RUN_ID, RUN_URL, SQUASH_URL, Context

_MOST_GROUPS = 100
_MOST_JOBS = 2000


@dataclass(frozen=True, slots=True)
class ToldGroup:
    """A group as Kapacitor knows it: by a number, with a severity; 0 if it may not know it yet.

    Kapacitor keeps every id for ever. So groups have numbers in turn, and what is free of these is
    used again: there are never more ids than groups that lived at one time.
    """

    metric: str
    branch: str
    number: int
    topic: str
    severity: int = 0

    @property
    def place(self) -> tuple[str, str, int]:
        """What its id in Kapacitor is made of."""
        return self.metric, self.branch, self.number


@dataclass(frozen=True, slots=True)
class Told:
    """What a Kapacitor has been told of groups, by id, and up to which version of alerts.

    `sender` tells our groups from those of other services that tell the same Kapacitor.
    """

    sender: str
    version: int = 0
    groups: Mapping[int, ToldGroup] = field(default_factory=dict)

    @classmethod
    def read(cls, text: str | None) -> Self:
        """Read what `text` has made; None is a Kapacitor that was told nothing."""
        if text is None:
            return cls(token_hex(3))
        sender, version, groups = json.loads(text)
        return cls(sender, version, {int(key): ToldGroup(*found) for key, found in groups.items()})

    @property
    def text(self) -> str:
        """How the record keeps it."""
        groups = {
            key: (*item.place, item.topic, item.severity) for key, item in self.groups.items()
        }
        return json.dumps([self.sender, self.version, groups])


@dataclass(frozen=True, slots=True)
class Verdicts:
    """Lines to be sent, what is to be kept before, so that they can be sent again, and after.

    `put_aside` are alerts that it is told of by values, and that somebody has resolved by hand.
    """

    lines: Sequence[str]
    before: Told
    after: Told
    has_more: bool = False
    put_aside: Sequence[AlertRow] = ()

    @property
    def is_numbering(self) -> bool:
        """Whether groups have got numbers that are not kept yet."""
        return any(not item.severity for item in self.before.groups.values())

    @property
    def is_news(self) -> bool:
        """Whether something else is to be kept than before."""
        return self.before != self.after


@dataclass(slots=True)
class ByValue:
    """Which alerts a Kapacitor is told of by values: not those in groups, nor silenced ones.

    `tells_groups` is whether it has the task that alerts on groups; None if that is not known yet.
    `alone` are the ids of alerts that it has raised for single series, as it did before it knew of
    groups: these are told to their end in the same way, or all of them would end at once.
    """

    tells_groups: bool | None = None
    alone: frozenset[str] = frozenset()
    silences: Sequence[SilenceRow] = ()

    def find_alone(self, view: View, plan: Plan, raised: Iterable[str]) -> set[str] | None:
        """Note which alerts are alone, of those that it has raised; None if that is as before.

        Returns the metrics that have further ones.
        """
        found = {name for name in raised if self.tells_groups and plan.is_gathering(name)}
        living = view.ask(living_alerts) if self.alone else []
        ids = {plan.alert_id(item.metric, item.branch, item.tags) for item in living}
        before = self.alone
        # Those that have just ended may live a little longer in the record.
        self.alone = frozenset(found | (before & ids))
        if self.alone == before:
            return None
        return {name.partition("/")[0] for name in found - before}

    def follow_silences(self, view: View, *, now_ns: int) -> list[SilenceRow] | None:
        """Note which silences last; return those that have ended, None if all is as before."""
        before, now = self.silences, view.ask(active_silences, now_ns=now_ns)
        if list(before) == now:
            return None
        self.silences = now
        return [item for item in before if item not in now]

    def branches_without(
        self,
        plan: Plan,
        metric: str,
        tags: Mapping[str, str],
        groupings: Collection[Grouping],
    ) -> list[str]:
        """Return the branches of groupings that must not alert on the value of a job, by key."""
        return sorted(
            branch.key
            for branch in plan.branches(metric)
            if branch.grouping in groupings and not self._has(plan, metric, branch.key, tags)
        )

    def takes_lateness(self, plan: Plan, specification: str, tags: Mapping[str, str]) -> bool:
        """Return whether it is told how late a series is."""
        metric = plan.metric_of(specification)
        return metric is None or self._has(plan, metric, LATE + specification, tags)

    def _has(self, plan: Plan, metric: str, key: str, tags: Mapping[str, str]) -> bool:
        """Return whether it is told of an alert by values."""
        branch = plan.branch(metric, key)
        per = () if branch is None else branch.per
        series = {name: tags[name] for name in per if tags.get(name)}
        if silencing(self.silences, metric, series) is not None:
            return False
        if self.tells_groups is False or branch is None or not branch.gathers(series):
            return True
        return plan.alert_id(metric, key, tags) in self.alone


@dataclass(frozen=True, slots=True)
class Around:
    """What verdicts are made from beside alerts; `root` is the public root of the service.

    `links` sign those to alerts, if they are to be signed.
    """

    plan: Plan
    snapshot: Snapshot
    by_value: ByValue
    root: str
    now_ns: int
    links: Links | None = None


def verdicts_on_groups(
    view: View,
    told: Told,
    around: Around,
    *,
    is_everything: bool = False,
    raised: Mapping[str, str] | None = None,
) -> Verdicts:
    """Return what is to be told of groups.

    Parameters
    ----------
    told
        What has been told.
    is_everything
        Whether the state of every group is to be told, not only what has changed.
    raised
        What Kapacitor has raised, with the topics, by id: of what is no group that lives it is told
        the end.
    """
    rows, version, has_more = _wanted(view, told, is_everything=is_everything)
    by_group: dict[int, list[AlertRow]] = {row.group_id: [] for row in rows}
    put_aside = []
    for item in view.ask(alerts_of_groups, by_group):
        if item.group_id in told.groups or _is_for_verdicts(item, around):
            by_group[item.group_id].append(item)
        elif item.state == RESOLVED and view.ask(
            is_put_aside, item.metric, item.branch, item.tags, item.job_id
        ):
            put_aside.append(item)
    before, after = dict(told.groups), dict(told.groups)
    lines = []
    for row in rows:
        known = before.get(row.group_id)
        heard, severity = _heard(by_group[row.group_id], known, around.by_value.silences)
        if known is None and not severity:
            continue
        if known is not None and severity == known.severity and not is_everything:
            continue
        if known is None:
            known = before[row.group_id] = _numbered(row, heard, before, around)
        lines.append(
            _line(view, row, heard, known, severity=severity, around=around, sender=told.sender)
        )
        if severity:
            after[row.group_id] = replace(known, severity=severity)
        else:
            after.pop(row.group_id, None)
    lines += _ends(raised or {}, after, told.sender, around.now_ns)
    return Verdicts(
        lines, replace(told, groups=before), Told(told.sender, version, after), has_more, put_aside
    )


def has_news(view: View, told: Told) -> bool:
    """Return whether any group has changed since what was told."""
    return view.ask(newest_alert_version) > told.version


def message_about(
    view: View,
    row: GroupRow,
    alerts: Sequence[AlertRow],
    snapshot: Snapshot,
    *,
    root: str,
    told: int = 0,
    notes: Sequence[str] = (),
) -> Message:
    """Return what is to be said of some alerts of a group.

    Parameters
    ----------
    root
        The public root of the service, for links.
    told
        The severity that was told before.
    notes
        Further lines, such as who has it.
    """
    first = worst_first(alerts)[0]
    is_well = not any(item.severity for item in alerts)
    newest = max(alerts, key=lambda item: item.time_ns or 0) if is_well else first
    jobs = {item for item in (newest.job_id, first.opened_job_id) if item is not None}
    contexts = view.contexts.of(jobs)
    context = contexts[newest.job_id].context if newest.job_id in contexts else None
    fields = {} if context is None else context.fields
    run, run_url = fields.get(RUN_ID), fields.get(RUN_URL)
    grouped = _grouped(first, snapshot)
    about = About(
        metric=snapshot.declared.get(first.metric),
        tags=row.key.get("tags") or {},
        grouped=() if grouped == PER_JOB else grouped,
        total=_total(view, row, first, grouped),
        changes="" if is_well else _changes(view, first, snapshot),
        notes=notes,
        told=told,
        links=links_of(
            root,
            alerts,
            group_id=row.group_id,
            run=None if run is None else str(run),
            run_url=None if run_url is None else str(run_url),
            job_id=newest.job_id if context is not None else None,
            artifact_url=_artifact(view, newest.job_id, context),
        ),
    )
    return message_of(alerts, about)


def _artifact(view: View, job_id: int | None, context: Context | None) -> str | None:
    """Return the address of the first artifact of a job; None if it has none."""
    if job_id is None or context is None or not may_have_artifacts(context):
        return None
    found = view.ask(artifacts_in, [job_id]).get(job_id)
    return found[0].url if found else None


def _wanted(view: View, told: Told, *, is_everything: bool) -> tuple[list[GroupRow], int, bool]:
    """Return the complete groups to look at, up to which version that is all, and if more wait."""
    newest = view.ask(newest_alert_version)
    if is_everything:
        ids = {item.group_id for item in view.ask(living_alerts)} | told.groups.keys()
        found = [row for number in sorted(ids) if (row := view.ask(get_group, number)) is not None]
        through, has_more = newest, False
    else:
        found = view.ask(groups_after, told.version, limit=_MOST_GROUPS)
        through = found[-1].version if len(found) >= _MOST_GROUPS else newest
        has_more = through < newest
    return [row for row in found if row.joined_ns is None], through, has_more


def _heard(
    alerts: Sequence[AlertRow], known: ToldGroup | None, silences: Sequence[SilenceRow]
) -> tuple[list[AlertRow], int]:
    """Return the alerts of a group that are told of, and the severity of the group."""
    heard = [item for item in alerts if silencing(silences, item.metric, item.tags) is None]
    severity = max((item.severity for item in heard), default=0)
    is_hidden = len(heard) < len(alerts)
    if known is not None and is_hidden and severity < known.severity:
        return heard or list(alerts), known.severity
    return heard, severity


def _is_for_verdicts(item: AlertRow, around: Around) -> bool:
    """Return whether Kapacitor is told of an alert by a verdict, and not by the value itself.

    Limits that are defined through the API alert nobody there.
    """
    branch = around.plan.branch(item.metric, item.branch)
    if branch is None or item.is_trial:
        return False
    if branch.is_served and not item.branch.startswith(LATE):
        return True
    alert_id = around.plan.alert_id(item.metric, item.branch, item.tags)
    return branch.gathers(item.tags) and alert_id not in around.by_value.alone


def _numbered(
    row: GroupRow, alerts: Sequence[AlertRow], groups: Mapping[int, ToldGroup], around: Around
) -> ToldGroup:
    """Give a group the first number that no other group of its branch has."""
    taken = {item.number for item in groups.values() if item.place[:2] == (row.metric, row.branch)}
    number = next(each for each in range(1, len(taken) + 2) if each not in taken)
    first = worst_first(alerts)[0]
    branch = around.plan.branch(first.metric, first.branch)
    channel = None if branch is None else branch.channel
    return ToldGroup(row.metric, row.branch, number, topic_of(channel))


def _line(
    view: View,
    row: GroupRow,
    heard: Sequence[AlertRow],
    known: ToldGroup,
    *,
    severity: int,
    around: Around,
    sender: str,
) -> str:
    if not heard:
        return _end_line(known, sender, around.now_ns)
    living = [item for item in heard if item.severity] or heard
    message = message_about(
        view, row, heard, around.snapshot, root=around.root, told=known.severity
    )
    if around.links is not None:
        message = around.links.in_message(message, around.root)
    tags = dict(living[0].tags) if len(living) == 1 else row.key.get("tags") or {}
    link = next((item.url for item in message.links if _is_own(item, around.root)), None)
    return _verdict_line(
        known,
        severity,
        slack_text(message),
        sender=sender,
        now_ns=around.now_ns,
        tags=tags,
        fields={SQUASH_URL: link},
    )


def _is_own(link: Link, root: str) -> bool:
    return link.url is not None and link.url.startswith(f"{root}/alert")


def _ends(
    raised: Mapping[str, str], told: Mapping[int, ToldGroup], sender: str, now_ns: int
) -> Iterable[str]:
    """Make lines that end what Kapacitor has raised, and is no group that lives."""
    living = {item.place for item in told.values()}
    for alert, topic in sorted(raised.items()):
        metric, _, rest = alert.partition("/")
        branch, _, last = rest.rpartition("/")
        found = last.partition("=")[2].removeprefix(f"{sender}-")
        is_ours = is_verdict_id(alert) and found.isdecimal()
        if is_ours and (metric, branch, int(found)) not in living:
            yield _end_line(ToldGroup(metric, branch, int(found), topic), sender, now_ns)


def _end_line(group: ToldGroup, sender: str, now_ns: int) -> str:
    """Make the line of a group of whose alerts nothing is known any more."""
    message = Message("OK", f"{group.metric}: this alert is not open any more")
    return _verdict_line(group, 0, slack_text(message), sender=sender, now_ns=now_ns)


def _verdict_line(
    group: ToldGroup,
    severity: int,
    text: str,
    *,
    sender: str,
    now_ns: int,
    tags: Mapping[str, str] | None = None,
    fields: Mapping[str, str | float | None] | None = None,
) -> str:
    own_tags = {
        names.METRIC: group.metric,
        names.BRANCH: group.branch,
        names.GROUP: f"{sender}-{group.number}",
    }
    own_fields: dict[str, str | float | None] = {
        **(fields or {}),
        names.SEVERITY: float(severity),
        names.TEXT: text,
        names.TOPIC: group.topic,
    }
    # A tag that SQUASH_TAGS adds may have the name of a field.
    common = {name: value for name, value in (tags or {}).items() if name not in own_fields}
    return own_line(names.VERDICT, {**common, **own_tags}, own_fields, now_ns)


def _grouped(alert: AlertRow, snapshot: Snapshot) -> Group:
    """Return the tags over which an alert is told with others; none if that is not known."""
    names_of = {
        alert.branch.removeprefix(LATE),
        *(str(each.get("specification")) for each in alert.broken),
    }
    found = (
        item.group for item in snapshot.by_metric.get(alert.metric, ()) if item.name in names_of
    )
    return next(found, ())


def counted_over(
    view: View, row: GroupRow, first: AlertRow, snapshot: Snapshot
) -> tuple[Sequence[str], int | None]:
    """Return the tags over which a group is told as one, and how many series its run measured."""
    grouped = _grouped(first, snapshot)
    total = _total(view, row, first, grouped)
    return () if grouped == PER_JOB else grouped, total


def _total(view: View, row: GroupRow, first: AlertRow, grouped: Group) -> int | None:
    """Count the series of a metric that have a value in the run of a group; None if unknown."""
    run = row.key.get("run")
    ids = [item for item, each in view.metrics.by_id.items() if each.name == first.metric]
    if not run or not ids or not grouped or grouped == PER_JOB:
        return None
    jobs = [item.job_id for item in view.runs.newest_jobs(*run, limit=_MOST_JOBS)]
    has_value = view.values.of_metric(ids[0], jobs)
    same = row.key.get("tags") or {}
    found = {
        tuple(job.context.tags.get(name) for name in grouped)
        for job in view.contexts.of(has_value).values()
        if all(job.context.tags.get(name) == text for name, text in same.items())
    }
    return len(found) or None


def _changes(view: View, alert: AlertRow, snapshot: Snapshot) -> str:
    """Say what has changed in the code from the last good run to the one that raised an alert."""
    job = view.contexts.of([alert.opened_job_id or 0]).get(alert.opened_job_id or 0)
    metric = view.metrics.by_name.get(alert.metric)
    if job is None or metric is None:
        return ""
    broken = {str(shown.get("specification")): shown for shown in alert.broken}
    found = [item for item in snapshot.by_metric.get(alert.metric, ()) if item.name in broken]
    limits = limits_of(found, unit=metric.unit, schema=view.schema)
    # What a trend demands of each value depends on those before: as good counts what would have
    # met what it demanded last.
    settled = (
        replace(limit, criterion=criterion)
        for limit in limits
        if (criterion := shown_criterion(broken[limit.name], limit.unit)) is not None
    )
    return since_last_good(view, settled, job)
