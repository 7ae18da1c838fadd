"""Silences: for a time, and for a reason, nobody is told of some alerts.

They open as ever; a silence is found when somebody is to be told, not kept with an alert.
"""

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from sqlalchemy import Connection, Select, insert, or_, select, update

from squash_api.judging.wording import date_text
from squash_api.record.audit import Actor, note
from squash_api.record.bulk import in_chunks
from squash_api.record.tables import silence, user
from squash_api.schema.alert_answers import Silence

SilenceState = Literal["planned", "active", "over"]


@dataclass(frozen=True, slots=True)
class SilenceRow:
    """A silence as stored.

    `metric` is a metric or a package; None is every metric. A series is silenced if it has all
    `tags`. It lasts from `from_ns` through `until_ns`, or to `ended_ns` if somebody has ended it.
    `user` and `ended_by` are names, None for a command.
    """

    silence_id: int
    metric: str | None
    tags: Mapping[str, str]
    why: str
    user: str | None
    created_ns: int
    from_ns: int
    until_ns: int
    ended_ns: int | None
    ended_by: str | None

    def covers(self, metric: str, tags: Mapping[str, str]) -> bool:
        """Return whether it is about a series, whenever it lasts."""
        return self.is_about(metric) and all(
            tags.get(name) == text for name, text in self.tags.items()
        )

    def is_about(self, metric: str) -> bool:
        """Return whether it is about series of a metric."""
        return self.metric is None or f"{metric}.".startswith(f"{self.metric}.")

    def state(self, now_ns: int) -> SilenceState:
        """Return whether it is still to come, lasts, or is over."""
        if self.ended_ns is not None or self.until_ns < now_ns:
            return "over"
        return "planned" if now_ns < self.from_ns else "active"

    def to_json(self, now_ns: int) -> Silence:
        """Describe it for programs."""
        return {
            "id": self.silence_id,
            "state": self.state(now_ns),
            "metric": self.metric,
            "tags": dict(self.tags),
            "why": self.why,
            "by": self.user,
            "created": date_text(self.created_ns),
            "from": date_text(self.from_ns),
            "until": date_text(self.until_ns),
            "ended": None if self.ended_ns is None else date_text(self.ended_ns),
            "ended_by": self.ended_by,
        }


@dataclass(frozen=True, slots=True)
class NewSilence:
    """A silence that somebody wants."""

    metric: str | None
    tags: Mapping[str, str]
    why: str
    from_ns: int
    until_ns: int


def active_silences(connection: Connection, *, now_ns: int) -> list[SilenceRow]:
    """Return the silences that last now, oldest first."""
    rows = unfinished_silences(connection, now_ns=now_ns)
    return [row for row in rows if row.from_ns <= now_ns]


def unfinished_silences(connection: Connection, *, now_ns: int) -> list[SilenceRow]:
    """Return the silences that last now or are still to come, oldest first."""
    is_left = (silence.c.until_ns >= now_ns, silence.c.ended_ns.is_(None))
    return [_row(row) for row in connection.execute(_SILENCES.where(*is_left))]


def silencing(
    silences: Iterable[SilenceRow], metric: str, tags: Mapping[str, str]
) -> SilenceRow | None:
    """Return the silence, of those that last, that is about a series: the one that lasts longest.

    None if there is none.
    """
    found = [row for row in silences if row.covers(metric, tags)]
    return max(found, key=lambda row: (row.until_ns, row.silence_id), default=None)


def get_silence(connection: Connection, silence_id: int) -> SilenceRow | None:
    """Return a silence; None if there is none of this id."""
    row = connection.execute(_SILENCES.where(silence.c.id == silence_id)).one_or_none()
    return None if row is None else _row(row)


def silences_of(connection: Connection, silence_ids: Iterable[int]) -> dict[int, SilenceRow]:
    """Return those silences, by id."""
    rows = [
        row
        for some in in_chunks(silence_ids)
        for row in connection.execute(_SILENCES.where(silence.c.id.in_(some)))
    ]
    return {row.id: _row(row) for row in rows}


def list_silences(
    connection: Connection,
    *,
    before: int | None = None,
    limit: int,
    state: SilenceState | None = None,
    now_ns: int = 0,
) -> list[SilenceRow]:
    """Return at most `limit` silences, the newest first, below the id `before`.

    With a `state` only those that are in it at `now_ns`.
    """
    query = _SILENCES.order_by(None).order_by(silence.c.id.desc()).limit(limit)
    if before is not None:
        query = query.where(silence.c.id < before)
    is_over = or_(silence.c.ended_ns.is_not(None), silence.c.until_ns < now_ns)
    is_planned = silence.c.from_ns > now_ns
    if state is not None:
        query = query.where(is_over if state == "over" else ~is_over)
    if state in {"planned", "active"}:
        query = query.where(is_planned if state == "planned" else ~is_planned)
    return [_row(row) for row in connection.execute(query)]


def add_silence(connection: Connection, new: NewSilence, *, now_ns: int, by: Actor) -> SilenceRow:
    """Store a new silence, and note it in the audit trail."""
    tags = dict(sorted(new.tags.items()))
    added = connection.execute(
        insert(silence).values(
            metric=new.metric,
            tags=json.dumps(tags),
            why=new.why,
            user_id=by.user_id,
            created_ns=now_ns,
            from_ns=new.from_ns,
            until_ns=new.until_ns,
        )
    )
    key: Any = added.inserted_primary_key
    note(
        connection,
        by,
        "silence.create",
        key[0],
        metric=new.metric,
        tags=tags,
        why=new.why,
        until=date_text(new.until_ns),
    )
    row = get_silence(connection, key[0])
    assert row is not None  # noqa: S101 - for mypy
    return row


def end_silence(connection: Connection, silence_id: int, *, now_ns: int, by: Actor) -> bool:
    """End a silence now, and note it; return whether it had not ended already."""
    ended = connection.execute(
        update(silence)
        .where(
            silence.c.id == silence_id,
            silence.c.ended_ns.is_(None),
            silence.c.until_ns >= now_ns,
        )
        .values(ended_ns=now_ns, ended_by=by.user_id)
    )
    if ended.rowcount == 0:
        return False
    note(connection, by, "silence.end", silence_id)
    return True


_ENDER = user.alias("ender")
_SILENCES: Select[Any] = (
    select(
        silence.c.id,
        silence.c.metric,
        silence.c.tags,
        silence.c.why,
        user.c.name,
        silence.c.created_ns,
        silence.c.from_ns,
        silence.c.until_ns,
        silence.c.ended_ns,
        _ENDER.c.name.label("ended_by"),
    )
    .outerjoin_from(silence, user, silence.c.user_id == user.c.id)
    .outerjoin(_ENDER, silence.c.ended_by == _ENDER.c.id)
    .order_by(silence.c.id)
)


def _row(found: Any) -> SilenceRow:
    silence_id, metric, tags, *others = found
    return SilenceRow(silence_id, metric, json.loads(tags), *others)
