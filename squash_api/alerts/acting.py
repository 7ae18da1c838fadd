"""What people do about alerts: acknowledge them, silence them, resolve them by hand."""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from squash_api.accounts.accounts import Account
from squash_api.alerts.changing import ended, mark_silenced
from squash_api.definitions.in_force import DefinitionsInForce
from squash_api.errors import (
    AlertChangedError,
    Detail,
    InvalidInputError,
    MissingFieldError,
    NotFoundError,
    nearest,
    sentence,
)
from squash_api.judging.alert_texts import LATE
from squash_api.judging.alerts import level_of, parse_duration, parse_level, severity_of
from squash_api.judging.wording import date_text
from squash_api.record import silences
from squash_api.record.alerts import (
    ACKNOWLEDGED,
    BY_HAND,
    OPEN,
    RESOLVED,
    AlertRow,
    NewEvent,
    add_events,
    alerts_of_groups,
    change_alert,
    get_alert,
)
from squash_api.record.audit import Actor, note
from squash_api.record.metrics import Metrics
from squash_api.record.record import Connection, Record
from squash_api.record.silences import NewSilence, SilenceRow
from squash_api.schema.text import link_text, tag_text
from squash_api.schema.times import parse_time_ns

MOST_LETTERS = 2000
"""Of a note, of a reason and of a link."""

_MOST_TAGS = 20
_NEWEST_NS = 2**63 - 1


@dataclass(frozen=True, slots=True)
class Acknowledgement:
    """What somebody who has an alert says: the severity that they saw, and until when they have it.

    It may be that of the whole group of the alert.
    """

    severity: int
    note: str
    link: str | None = None
    until_ns: int | None = None
    is_group: bool = False


class Acting:
    """Changes alerts and silences for people. Safe to use from many threads.

    `by` is who does it, an account or a command. A key that is for some packages acts on no others.
    """

    def __init__(
        self,
        record: Record,
        definitions: DefinitionsInForce,
        metrics: Metrics,
        *,
        clock_ns: Callable[[], int] = time.time_ns,
    ) -> None:
        self._record = record
        self._definitions = definitions
        self._metrics = metrics
        self._clock_ns = clock_ns

    def acknowledge(
        self,
        alert_id: int,
        given: Mapping[str, Any],
        *,
        by: Account | Actor,
        needs_note: bool = True,
    ) -> list[AlertRow]:
        """Note that a person has an alert, or all of its group; return what they have now.

        Parameters
        ----------
        given
            `severity`, the level that the person saw; `note`, what they write; `link`; `until`,
            a day or a time, or how long from now; `group`, whether it is about the whole group.

        Raises
        ------
        InvalidInputError
            With the place of what is wrong.
        NotFoundError
            If there is no such alert.
        AlertChangedError
            If it is worse now than what was seen, or is resolved.
        """
        _refuse_unknown(given, ("severity", "note", "link", "until", "group"))
        now_ns = self._clock_ns()
        wanted = _acknowledgement(given, now_ns=now_ns, needs_note=needs_note)
        actor = _actor(by)
        assert actor.user_id is not None  # noqa: S101 - whoever has an alert is a user

        def work(connection: Connection) -> list[AlertRow]:
            rows = self._living(connection, alert_id, by, is_group=wanted.is_group)
            _require_seen(rows, wanted)
            changed = [
                row
                for row in rows
                if _acknowledge(connection, row, wanted, actor=actor, now_ns=now_ns)
            ]
            if changed:
                _note(connection, actor, "alert.acknowledge", changed, wanted.note)
            return _again(connection, rows)

        return self._record.write(work)

    def release(
        self, alert_id: int, *, by: Account | Actor, is_group: bool = False
    ) -> list[AlertRow]:
        """Take back that a person has an alert, or all of its group; anybody may.

        Raises
        ------
        NotFoundError
            If there is no such alert.
        AlertChangedError
            If nobody has it.
        """
        now_ns, actor = self._clock_ns(), _actor(by)

        def work(connection: Connection) -> list[AlertRow]:
            rows = self._living(connection, alert_id, by, is_group=is_group)
            held = [row for row in rows if row.state == ACKNOWLEDGED]
            if not held:
                raise AlertChangedError("Nobody has this alert: there is nothing to take back.")
            for row in held:
                _change(connection, row, state=OPEN, **_NOBODY)
                event = _event(row, "released", actor, now_ns, why="taken back")
                add_events(connection, [event])
            _note(connection, actor, "alert.release", held)
            return _again(connection, held)

        return self._record.write(work)

    def resolve(self, alert_id: int, given: Mapping[str, Any], *, by: Account | Actor) -> AlertRow:
        """Resolve the alert of a series that reports no more; `note` in `given` may say why.

        Raises
        ------
        InvalidInputError
            If the note is none.
        NotFoundError
            If there is no such alert.
        AlertChangedError
            If it is resolved already, or its newest value is young and breaks the limit: the next
            value would open it again.
        """
        _refuse_unknown(given, ("note",))
        now_ns, actor = self._clock_ns(), _actor(by)
        why = _words(given, "note", is_needed=False)

        def work(connection: Connection) -> AlertRow:
            (row,) = self._living(connection, alert_id, by, is_group=False)
            self._require_silent(row, now_ns=now_ns)
            over = {"state": RESOLVED, "severity": 0, "resolved_ns": now_ns}
            _change(connection, row, **over, broken=ended(row, BY_HAND))
            said = {"note": why} if why else {}
            resolved = NewEvent(
                row.alert_id,
                now_ns,
                "resolved",
                0,
                row.job_id,
                actor.user_id,
                {"why": BY_HAND, **said},
            )
            add_events(connection, [resolved])
            _note(connection, actor, "alert.resolve", [row], why)
            return _again(connection, [row])[0]

        return self._record.write(work)

    def silence(self, given: Mapping[str, Any], *, by: Account | Actor) -> SilenceRow:
        """Make a silence.

        Parameters
        ----------
        given
            `metric`, a metric or a package, all if it is missing; `tags`, those that a series must
            have; `from`, now if it is missing, and `until`, each a day or a time, or how long from
            now; `why`.

        Raises
        ------
        InvalidInputError
            With the place of what is wrong.
        ForbiddenError
            If the key of the request is for other packages.
        """
        _refuse_unknown(given, ("metric", "tags", "from", "until", "why"))
        now_ns = self._clock_ns()
        metric = _words(given, "metric", is_needed=False) or None
        if isinstance(by, Account):
            by.require_namespaces([(("body", "metric"), metric or "all metrics")])
        from_ns = _moment(given, "from", now_ns, is_end=False)
        until_ns = _moment(given, "until", now_ns, is_end=True)
        if until_ns is None:
            raise _missing("until")
        if until_ns <= max(now_ns, from_ns or now_ns):
            raise _wrong(
                "until", "must be after now" if from_ns is None else "must be after `from`"
            )
        self._require_known(metric)
        new = NewSilence(
            metric,
            self._tags(given.get("tags"), metric),
            _words(given, "why"),
            now_ns if from_ns is None else from_ns,
            until_ns,
        )

        def work(connection: Connection) -> SilenceRow:
            row = silences.add_silence(connection, new, now_ns=now_ns, by=_actor(by))
            mark_silenced(connection, now_ns=now_ns)
            return row

        return self._record.write(work)

    def end_silence(self, silence_id: int, *, by: Account | Actor) -> SilenceRow:
        """End a silence now; one that is over stays as it is.

        Raises
        ------
        NotFoundError
            If there is no such silence.
        ForbiddenError
            If the key of the request is for other packages.
        """
        now_ns = self._clock_ns()

        def work(connection: Connection) -> SilenceRow:
            row = silences.get_silence(connection, silence_id)
            if row is None:
                raise NotFoundError(f"There is no silence {silence_id}.")
            if isinstance(by, Account):
                by.require_namespaces([(("path", "silence_id"), row.metric or "all metrics")])
            if silences.end_silence(connection, silence_id, now_ns=now_ns, by=_actor(by)):
                mark_silenced(connection, now_ns=now_ns)
            return silences.get_silence(connection, silence_id) or row

        return self._record.write(work)

    def _living(
        self, connection: Connection, alert_id: int, by: Account | Actor, *, is_group: bool
    ) -> list[AlertRow]:
        """Return an alert, or all of its group, if it lives; this one first."""
        row = require_alert(connection, alert_id)
        if isinstance(by, Account):
            by.require_namespaces([(("path", "alert_id"), row.metric)])
        if row.state == RESOLVED:
            when = "" if row.resolved_ns is None else f" since {date_text(row.resolved_ns)}"
            raise AlertChangedError(f"The alert {alert_id} is resolved{when}.")
        if not is_group:
            return [row]
        rows = alerts_of_groups(connection, [row.group_id])
        return [row, *(each for each in rows if each.state != RESOLVED and each != row)]

    def _require_silent(self, row: AlertRow, *, now_ns: int) -> None:
        if row.branch.startswith(LATE) or row.time_ns is None:
            return
        in_force = self._definitions.at(None).specifications
        names = [str(item.get("specification")) for item in row.broken]
        ages = [in_force[name].content.max_age_s for name in names if name in in_force]
        if row.time_ns > now_ns - max(ages, default=0) * 10**9:
            raise AlertChangedError(
                f"The newest value of the alert {row.alert_id} is of {date_text(row.time_ns)} and "
                "breaks the limit: a value that meets it resolves it. Acknowledge it or silence it."
            )

    def _require_known(self, metric: str | None) -> None:
        if metric is None:
            return
        self._metrics.refresh()
        known = {*self._metrics.now.by_name, *self._definitions.at(None).metrics}
        known |= {name.partition(".")[0] for name in known}
        if metric not in known:
            must = f"must be a metric or a package: there is no `{metric[:200]}`"
            raise _wrong("metric", f"{must}{nearest(metric, known)}")

    def _tags(self, given: Any, metric: str | None) -> dict[str, str]:
        """Read the tags of a silence: those by which the series of its metric are told apart."""
        if given is None:
            return {}
        if not isinstance(given, Mapping) or len(given) > _MOST_TAGS:
            raise _wrong("tags", f"must be an object of at most {_MOST_TAGS} tags")
        known = self._metrics.schema.tags
        limits = self._definitions.at(None).by_metric.get(metric or "", ())
        per = {name for limit in limits for name in limit.per}
        found: dict[str, str] = {}
        for name, value in given.items():
            place = ("body", "tags", str(name))
            if name not in known:
                raise _wrong_at(place, f"`tags` has no tag `{name}`{nearest(str(name), known)}")
            if per and name not in per:
                told = ", ".join(f"`{each}`" for each in sorted(per))
                raise _wrong_at(
                    place, f"the alerts of `{metric}` are not told apart by `{name}`: by {told}"
                )
            text = tag_text(value) if isinstance(value, str | int | float) else None
            if not text:
                raise _wrong_at(place, f"the tag `{name}` must be text or a number")
            found[name] = text
        return found


def require_alert(connection: Connection, alert_id: int) -> AlertRow:
    """Return an alert, or raise `NotFoundError`."""
    row = get_alert(connection, alert_id)
    if row is None:
        raise NotFoundError(f"There is no alert {alert_id}.")
    return row


_NOBODY: Mapping[str, Any] = dict.fromkeys(
    (
        "acknowledged_by",
        "acknowledged_ns",
        "acknowledged_severity",
        "acknowledged_until_ns",
        "note",
        "link",
    )
)


def _require_seen(rows: list[AlertRow], wanted: Acknowledgement) -> None:
    """Raise `AlertChangedError` if any alert is worse than what was seen."""
    worst = max(row.severity for row in rows)
    if worst > wanted.severity:
        what = f"The alert {rows[0].alert_id}"
        if rows[0].severity < worst:
            what = f"An alert of the group of the alert {rows[0].alert_id}"
        seen, now = level_of(wanted.severity), level_of(worst)
        raise AlertChangedError(
            f"{what} is {now} now, and you saw {seen}: look at it again.",
            detail=[Detail(("body", "severity"), f"is {now} now", "alert_changed")],
        )


def _acknowledge(
    connection: Connection, row: AlertRow, wanted: Acknowledgement, *, actor: Actor, now_ns: int
) -> bool:
    """Note who has an alert; return whether that is new."""
    # Nobody has seen it worse than it was.
    severity = min(wanted.severity, row.worst)
    said = {
        "acknowledged_by": actor.user_id,
        "acknowledged_severity": severity,
        "acknowledged_until_ns": wanted.until_ns,
        "note": wanted.note,
        "link": wanted.link,
    }
    is_known = all(getattr(row, name) == value for name, value in said.items())
    if row.state == ACKNOWLEDGED and is_known:
        return False
    _change(connection, row, state=ACKNOWLEDGED, acknowledged_ns=now_ns, **said)
    told = {
        "note": wanted.note,
        "link": wanted.link,
        "until": None if wanted.until_ns is None else date_text(wanted.until_ns),
    }
    told = {name: value for name, value in told.items() if value}
    add_events(connection, [_event(row, "acknowledged", actor, now_ns, **told)])
    return True


def _change(connection: Connection, row: AlertRow, **values: Any) -> None:
    """Change an alert as it was read. The caller's transaction is undone if it is another now."""
    if not change_alert(connection, row, **values):
        raise AlertChangedError(f"The alert {row.alert_id} has just changed: look at it again.")


def _event(row: AlertRow, kind: str, actor: Actor, now_ns: int, **detail: Any) -> NewEvent:
    return NewEvent(row.alert_id, now_ns, kind, row.severity, row.job_id, actor.user_id, detail)


def _note(
    connection: Connection, actor: Actor, action: str, rows: list[AlertRow], words: str = ""
) -> None:
    """Note a change in the audit trail, of the first of these alerts and how many there are."""
    detail: dict[str, Any] = {"metric": rows[0].metric}
    detail |= {"note": words} if words else {}
    detail |= {"alerts": len(rows)} if len(rows) > 1 else {}
    note(connection, actor, action, rows[0].alert_id, **detail)


def _again(connection: Connection, rows: list[AlertRow]) -> list[AlertRow]:
    """Read alerts of one group as they are now."""
    now = {row.alert_id: row for row in alerts_of_groups(connection, [rows[0].group_id])}
    return [now[row.alert_id] for row in rows]


def _actor(by: Account | Actor) -> Actor:
    return by.actor if isinstance(by, Account) else by


# What people give


def _acknowledgement(given: Mapping[str, Any], *, now_ns: int, needs_note: bool) -> Acknowledgement:
    if given.get("severity") is None:
        raise _missing("severity")
    try:
        severity = severity_of(parse_level(given["severity"]))
    except ValueError as error:
        raise _wrong("severity", f"must be the level that you saw: {error}") from None
    link = _words(given, "link", is_needed=False)
    url = link_text(link) if link else None
    if link and url is None:
        raise _wrong("link", "must be a URL of http or https")
    until_ns = _moment(given, "until", now_ns, is_end=True)
    if until_ns is not None and until_ns <= now_ns:
        raise _wrong("until", "must be after now")
    is_group = given.get("group", False)
    if not isinstance(is_group, bool):
        raise _wrong("group", "must be true or false")
    words = _words(given, "note", is_needed=needs_note)
    return Acknowledgement(severity, words, url, until_ns, is_group)


def _words(given: Mapping[str, Any], key: str, *, is_needed: bool = True) -> str:
    value = given.get(key)
    if value is None and is_needed:
        raise _missing(key)
    if not isinstance(value, str | None):
        raise _wrong(key, "must be text")
    words = (value or "").replace("\0", "").strip()
    if is_needed and not words:
        raise _wrong(key, "must not be empty")
    if len(words) > MOST_LETTERS:
        raise _wrong(key, f"must have at most {MOST_LETTERS} characters")
    return words


def _moment(given: Mapping[str, Any], key: str, now_ns: int, *, is_end: bool) -> int | None:
    """Read a time to come: a day or a time, or how long from now; None if it is missing."""
    text = _words(given, key, is_needed=False)
    if not text:
        return None
    moment = parse_time_ns(text, is_end=is_end)
    if moment is None:
        try:
            moment = now_ns + parse_duration(text) * 10**9
        except ValueError:
            raise _wrong(
                key, "must be a date, such as 2027-01-31, or how long from now, such as 8h"
            ) from None
    # Some write the year 9999 for what has no end.
    return min(max(moment, 0), _NEWEST_NS)


def _refuse_unknown(given: Mapping[str, Any], known: Sequence[str]) -> None:
    """Refuse a key that is not known: it may be a wish that is lost, such as an end."""
    for key in given:
        if key not in known:
            hint = nearest(key, known) or f"; there are {', '.join(f'`{each}`' for each in known)}"
            raise _wrong_at(("body", key), f"there is no `{key[:100]}` here{hint}")


def _missing(key: str) -> InvalidInputError:
    return MissingFieldError(
        f"The body needs `{key}`.", detail=[Detail(("body", key), "is missing", "missing")]
    )


def _wrong(key: str, must: str) -> InvalidInputError:
    return _wrong_at(("body", key), f"`{key}` {must}")


def _wrong_at(place: tuple[str, ...], message: str) -> InvalidInputError:
    return InvalidInputError(
        sentence(message[:1].upper() + message[1:]), detail=[Detail(place, message, "value_error")]
    )
