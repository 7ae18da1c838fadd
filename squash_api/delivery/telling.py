"""What a receiver is told of alerts: each group once it is complete, when it gets worse, its end.

A receiver remembers which groups it was told of, and how bad they were: what is new is found by
comparing that with the record. So what opens and resolves before anybody could tell of it costs no
message, nothing is told twice, and a receiver that was away hears how things are now. An alert
counts for nobody while it is on trial or silenced; when its silence ends it is told of like any.
"""

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import asdict, dataclass, field, replace
from typing import Self

from squash_api.definitions.in_force import Snapshot
from squash_api.delivery.verdicts import message_about
from squash_api.index.reader import View
from squash_api.judging.alert_texts import LATE, Message
from squash_api.record.alerts import ACKNOWLEDGED as ACKNOWLEDGED_STATE
from squash_api.record.alerts import (
    RESOLVED,
    AlertRow,
    EventRow,
    GroupRow,
    alerts_of_groups,
    events_after,
    gathering_groups,
    get_alert,
    get_group,
    groups_after,
    last_event_id,
    living_alerts,
    newest_alert_version,
)
from squash_api.record.silences import SilenceRow, active_silences, silencing
from squash_api.record.users import get_user

OPENED, WORSENED, ACKNOWLEDGED = "alert.opened", "alert.worsened", "alert.acknowledged"
RESOLVED_EVENT, SERIES_LATE = "alert.resolved", "series.late"

_OPENINGS = {OPENED, SERIES_LATE}

Hears = Callable[[AlertRow], bool]


@dataclass(frozen=True, slots=True)
class Cursor:
    """How far a receiver has been told of everything.

    `told` has the groups that it believes to be open, with the worst severity that it was told.
    """

    job: int = 0
    refused: int = 0
    event: int = 0
    version: int = 0
    told: Mapping[int, int] = field(default_factory=dict)

    @classmethod
    def read(cls, text: str) -> Self:
        """Read what `text` has made; what it does not have is as at the beginning."""
        found = json.loads(text)
        told = {int(group_id): severity for group_id, severity in found.pop("told", {}).items()}
        return cls(**{name: found[name] for name in found if name in _COUNTS}, told=told)

    @property
    def text(self) -> str:
        """The cursor as the record keeps it."""
        return json.dumps(asdict(self))


_COUNTS = ("job", "refused", "event", "version")


@dataclass(frozen=True, slots=True)
class News:
    """Something that a receiver is told of a group: of its alerts, only those that it hears of.

    `told` is the severity that it was told before, 0 if none. Of an acknowledgement `by` is the
    user, with the `note` and the `link` that they gave.
    """

    event: str
    group: GroupRow
    alerts: Sequence[AlertRow]
    time_ns: int
    told: int = 0
    by: str | None = None
    note: str | None = None
    link: str | None = None


@dataclass(frozen=True, slots=True)
class Seen:
    """What the news depend on: as long as it is the same, there are none."""

    version: int
    event: int
    silences: tuple[int, ...]


def look(view: View, *, now_ns: int) -> Seen:
    """Return what the news depend on, as it is now."""
    silences = view.ask(active_silences, now_ns=now_ns)
    return Seen(
        view.ask(newest_alert_version),
        view.ask(last_event_id),
        tuple(item.silence_id for item in silences),
    )


def from_now(view: View, hears: Hears, *, now_ns: int) -> Cursor:
    """Return the cursor of a receiver that is told what happens from now on.

    What is open already counts as told, so that its end is told.
    """
    before = Cursor(version=view.ask(newest_alert_version), event=view.ask(last_event_id))
    return news_of_groups(view, before, hears, now_ns=now_ns)[1]


def news_of_groups(
    view: View,
    cursor: Cursor,
    hears: Hears,
    *,
    now_ns: int,
    least: int = 1,
    is_told_late: bool = False,
) -> tuple[list[News], Cursor]:
    """Return what is new in groups of alerts, and where the receiver is then.

    Parameters
    ----------
    hears
        Which alerts the receiver hears of.
    least
        The severity from which on it is told that something has opened.
    is_told_late
        Whether it is told too of what was over before anybody told it: it opened, and ended.
    """
    rows = view.ask(groups_after, cursor.version, limit=2**31)
    changed = {item.group_id for item in rows}
    # What was broken when the record got alerts is no news, but what becomes of it is.
    found_at_start = {item.group_id for item in rows if "found" in item.key}
    by_group = _heard(view, changed | cursor.told.keys(), hears, now_ns=now_ns)
    told, found = dict(cursor.told), []
    for group_id, alerts in sorted(by_group.items()):
        before = told.pop(group_id, 0)
        if group_id in found_at_start and not before:
            before = max(item.severity for item in alerts)
            if not before:
                continue
        is_late = is_told_late and group_id in changed
        events, severity = _changes(alerts, before, least=least, is_told_late=is_late)
        if severity:
            told[group_id] = severity
        found += [(event, group_id, alerts, before) for event in events]
    groups = {group_id: _group(view, group_id) for _, group_id, _, _ in found}
    news = [
        News(event, groups[group_id], alerts, _time_of(event, alerts, now_ns), before)
        for event, group_id, alerts, before in found
    ]
    version = view.ask(newest_alert_version)
    return news, replace(cursor, version=version, told=told)


def acknowledgements(
    view: View, cursor: Cursor, hears: Hears, *, now_ns: int
) -> tuple[list[News], Cursor]:
    """Return who has acknowledged what since the cursor, and where the receiver is then.

    What somebody has acknowledged in one go is one.
    """
    events = view.ask(events_after, cursor.event, limit=2**31)
    silences = view.ask(active_silences, now_ns=now_ns)
    rows: dict[tuple[int, int, int | None], list[tuple[EventRow, AlertRow]]] = {}
    acknowledged = [item for item in events if item.kind == "acknowledged"]
    for event, alert in _with_alerts(view, acknowledged):
        if is_told(alert, silences) and hears(alert):
            key = (alert.group_id, event.time_ns, event.user_id)
            rows.setdefault(key, []).append((event, alert))
    news = []
    for (group_id, time_ns, user_id), some in rows.items():
        detail = some[0][0].detail
        user = None if user_id is None else view.ask(get_user, user_id)
        news.append(
            News(
                ACKNOWLEDGED,
                _group(view, group_id),
                [alert for _, alert in some],
                time_ns,
                by=None if user is None else user.name,
                note=detail.get("note"),
                link=detail.get("link"),
            )
        )
    last = events[-1].event_id if events else cursor.event
    return news, replace(cursor, event=last)


def words_of(view: View, news: News, snapshot: Snapshot, *, root: str) -> Message:
    """Return news in words, as every outlet says them; `root` is the service's public root."""
    held = [item for item in news.alerts if item.state == ACKNOWLEDGED_STATE]
    ids = dict.fromkeys(item.acknowledged_by for item in held if item.acknowledged_by is not None)
    names = [user.name for number in ids if (user := view.ask(get_user, number)) is not None]
    which = "" if len(held) == len(news.alerts) else f" {len(held)} of {len(news.alerts)}"
    return message_about(
        view,
        news.group,
        news.alerts,
        snapshot,
        root=root,
        told=news.told,
        notes=[f"{', '.join(names)} has{which or ' it'}"] if names else [],
    )


def _heard(
    view: View, group_ids: AbstractSet[int], hears: Hears, *, now_ns: int
) -> dict[int, list[AlertRow]]:
    """Return what is heard of these groups, and of the living ones, if they are complete."""
    living = {item.group_id for item in view.ask(living_alerts)}
    gathering = {item.group_id for item in view.ask(gathering_groups)}
    silences = view.ask(active_silences, now_ns=now_ns)
    found: dict[int, list[AlertRow]] = {}
    for item in view.ask(alerts_of_groups, (group_ids | living) - gathering):
        if is_told(item, silences) and hears(item):
            found.setdefault(item.group_id, []).append(item)
    return found


def _changes(
    alerts: Sequence[AlertRow], before: int, *, least: int, is_told_late: bool
) -> tuple[list[str], int]:
    """Return what has happened to a group that was told with a severity, and that one now."""
    opened = SERIES_LATE if alerts[0].branch.startswith(LATE) else OPENED
    severity = max(item.severity for item in alerts)
    is_over = all(item.state == RESOLVED for item in alerts)
    if not before:
        if is_over:
            return ([opened, RESOLVED_EVENT] if is_told_late else []), 0
        return ([opened], severity) if severity >= least else ([], 0)
    if is_over:
        return [RESOLVED_EVENT], 0
    return ([WORSENED] if severity > before else []), max(severity, before)


def is_told(alert: AlertRow, silences: Sequence[SilenceRow]) -> bool:
    """Return whether anybody is told of an alert: it is neither on trial nor silenced."""
    is_silenced = bool(alert.severity) and alert.silence_id is not None
    is_covered = silencing(silences, alert.metric, alert.tags) is not None
    return not (alert.is_trial or is_silenced or is_covered)


def _time_of(event: str, alerts: Sequence[AlertRow], now_ns: int) -> int:
    if event in _OPENINGS:
        return min(item.opened_ns for item in alerts)
    if event == RESOLVED_EVENT:
        return max(item.resolved_ns or now_ns for item in alerts)
    return now_ns


def _group(view: View, group_id: int) -> GroupRow:
    found = view.ask(get_group, group_id)
    if found is None:
        raise LookupError(group_id)
    return found


def _with_alerts(view: View, events: Iterable[EventRow]) -> Iterable[tuple[EventRow, AlertRow]]:
    for event in events:
        alert = view.ask(get_alert, event.alert_id)
        if alert is not None:
            yield event, alert
