"""Subscriptions: which webhooks there are and what each is told, made and removed by admins.

The secret of a webhook is shown when it is made, and never again. Its address may hold a secret of
the receiver, so only the beginning of it is ever shown.
"""

import base64
import json
import secrets
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from ipaddress import ip_address, ip_network
from typing import Any, Final, Literal, Self, TypedDict

import httpx

from squash_api.accounts.accounts import Account
from squash_api.delivery.documents import body_of
from squash_api.delivery.sending import is_allowed
from squash_api.delivery.telling import (
    ACKNOWLEDGED,
    OPENED,
    RESOLVED_EVENT,
    SERIES_LATE,
    WORSENED,
    Cursor,
    from_now,
)
from squash_api.errors import (
    Detail,
    ForbiddenError,
    InvalidInputError,
    NameTakenError,
    NotFoundError,
    nearest,
    sentence,
    split_runbook,
)
from squash_api.index.reader import Reader, View
from squash_api.judging.alerts import parse_level, severity_of
from squash_api.judging.wording import date_text
from squash_api.record.alerts import AlertRow
from squash_api.record.audit import Actor, note
from squash_api.record.jobs import last_job_id
from squash_api.record.record import Connection, Record
from squash_api.record.webhooks import (
    Delivery,
    DeliveryState,
    Receiver,
    add_deliveries,
    add_webhook,
    deliveries,
    last_refused,
    remove_webhook,
    retry_deliveries,
    webhooks,
)
from squash_api.schema.names import Schema, split_metric_name

JOB_ACCEPTED, JOB_QUARANTINED, TEST = "job.accepted", "job.quarantined", "webhook.test"
EVENTS: Mapping[str, str] = {
    OPENED: "a group of alerts has opened, and is complete",
    WORSENED: "a group of alerts is worse than it was told before",
    ACKNOWLEDGED: "somebody has alerts of a group",
    RESOLVED_EVENT: "all alerts of a group are resolved",
    SERIES_LATE: "values of a group of series are late",
    JOB_ACCEPTED: "a job was accepted, and is in the index",
    JOB_QUARANTINED: "a target refused points of a job for good",
}
"""What a webhook may be told, by name."""

ALERT_EVENTS = frozenset(EVENTS) - {JOB_ACCEPTED, JOB_QUARANTINED}
FILTERS = ("metric", "package", "severity", "tags")
MOST_WEBHOOKS: Final = 50
SECRET_PREFIX = "whsec_"  # noqa: S105  of every secret

_MOST_NAMED, _LONGEST_URL, _LONGEST_NAME = 100, 2_000, 128


@dataclass(frozen=True, slots=True)
class Filters:
    """What a webhook wants to hear of; what is empty is no condition.

    `metrics` and `packages` are alternatives; `severity` is the least one of alerts.
    """

    metrics: Sequence[str] = ()
    packages: Sequence[str] = ()
    severity: int = 1
    tags: Mapping[str, str] | None = None

    @classmethod
    def of(cls, stored: Mapping[str, Any]) -> Self:
        """Read the filters of a webhook as stored."""
        return cls(
            stored.get("metric") or (),
            stored.get("package") or (),
            severity_of(stored.get("severity") or "INFO"),
            stored.get("tags") or {},
        )

    def names_metric(self, name: str) -> bool:
        """Return whether a metric is wanted."""
        if not self.metrics and not self.packages:
            return True
        return name in self.metrics or split_metric_name(name)[0] in self.packages

    def names_package(self, package: str) -> bool:
        """Return whether a package is wanted, or a metric of it."""
        wanted = {*self.packages, *(split_metric_name(name)[0] for name in self.metrics)}
        return not wanted or package in wanted

    def has_tags(self, tags: Mapping[str, str]) -> bool:
        """Return whether tags are wanted."""
        return all(tags.get(name) == text for name, text in (self.tags or {}).items())

    def hears(self, alert: AlertRow) -> bool:
        """Return whether an alert is wanted, or was."""
        is_wanted = self.names_metric(alert.metric) and self.has_tags(alert.tags)
        return is_wanted and alert.worst >= self.severity


class Subscriptions:
    """Makes, lists, tries and removes webhooks. Safe to use from many threads.

    `networks` are those, of addresses that are not public, that may be sent to.
    """

    def __init__(
        self,
        record: Record,
        reader: Reader,
        schema: Schema,
        *,
        squash_url: str,
        networks: Sequence[str] = (),
    ) -> None:
        self._record = record
        self._reader = reader
        self._schema = schema
        self._squash_url = squash_url
        self._networks = networks

    def create(
        self,
        name: str,
        url: str,
        *,
        events: Sequence[str],
        filters: Mapping[str, Any],
        by: Account | Actor,
    ) -> tuple[Receiver, str]:
        """Make a webhook; return it, and its secret, which is never shown again.

        It is told what happens from now on.

        Raises
        ------
        InvalidInputError
            If the name, the address, an event or a filter cannot be one.
        NameTakenError
            If there is a webhook of this name, or if there are too many.
        ForbiddenError
            If `by` is not an admin.
        """
        _require_admin(by)
        name, events = _clean_name(name), _clean_events(events)
        kept = self._clean_filters(filters)
        check_url(url, self._networks)
        secret = SECRET_PREFIX + base64.b64encode(secrets.token_bytes(32)).decode()
        now_ns = time.time_ns()
        with self._reader.view() as view:
            cursor = _first_cursor(view, Filters.of(kept), now_ns=now_ns)

        def work(connection: Connection) -> Receiver:
            _require_room(connection, name)
            actor = _actor(by)
            row = add_webhook(
                connection,
                name=name,
                url=url,
                secret=secret,
                events=events,
                filters=kept,
                cursor=json.loads(cursor.text),
                user_id=actor.user_id,
                now_ns=now_ns,
            )
            place = shown_url(url)
            note(connection, actor, "webhook.create", name, url=place, events=events, filters=kept)
            return row

        return self._record.write(work), secret

    def doubts(self, row: Receiver) -> Sequence[str]:
        """Return a sentence for each metric and package that a webhook waits for in vain so far."""
        self._reader.metrics.refresh()
        metrics = self._reader.metrics.now.by_name
        kinds = {
            "metric": metrics.keys(),
            "package": {split_metric_name(name)[0] for name in metrics},
        }
        return [
            sentence(f"No job has had the {kind} `{name}` yet{nearest(name, known)}")
            for kind, known in kinds.items()
            for name in row.filters.get(kind, ())
            if name not in known
        ]

    def list(self, *, by: Account | Actor, after: int = 0, limit: int = 1000) -> Sequence[Receiver]:
        """List at most `limit` webhooks after the one with the id `after`; for admins."""
        _require_admin(by)
        with self._record.read() as connection:
            return webhooks(connection, after=after, limit=limit)

    def find(self, name: str, *, by: Account | Actor) -> Receiver:
        """Return the webhook of a name, or of an id; for admins.

        Raises
        ------
        NotFoundError
            If there is none.
        """
        known = self.list(by=by)
        for item in known:
            if name in {item.name, f"{item.receiver_id}"}:
                return item
        raise NotFoundError.of("webhook", name, [item.name for item in known])

    def remove(self, name: str, *, by: Account | Actor) -> Receiver:
        """Remove a webhook, with what waits for it; for admins."""
        row = self.find(name, by=by)

        def work(connection: Connection) -> None:
            remove_webhook(connection, row.receiver_id, now_ns=time.time_ns())
            note(connection, _actor(by), "webhook.remove", row.name)

        self._record.write(work)
        return row

    def deliveries(
        self, name: str, *, by: Account | Actor, before: int | None = None, limit: int
    ) -> tuple[Receiver, Sequence[Delivery]]:
        """Return a webhook, and what was or is to be sent to it, the newest first; for admins."""
        row = self.find(name, by=by)
        with self._record.read() as connection:
            return row, deliveries(connection, row.receiver_id, before=before, limit=limit)

    def test(self, name: str, *, by: Account | Actor) -> tuple[Receiver, Delivery]:
        """Have a test sent to a webhook; for admins."""
        row, now_ns = self.find(name, by=by), time.time_ns()
        data = {"text": f"A test of this webhook, by {self._squash_url}"}
        bodies = [(TEST, body_of(TEST, now_ns, data))]

        def work(connection: Connection) -> Delivery:
            (made,) = add_deliveries(connection, row.receiver_id, bodies, now_ns=now_ns)
            note(connection, _actor(by), "webhook.test", row.name)
            (found,) = deliveries(connection, row.receiver_id, before=made + 1, limit=1)
            return found

        return row, self._record.write(work)

    def retry(self, name: str, *, delivery_id: int | None, by: Account | Actor) -> int:
        """Have what was given up, or one delivery whatever its state, sent again; for admins.

        Raises
        ------
        NotFoundError
            If there is no such webhook, or no such delivery to it.
        """
        row = self.find(name, by=by)

        def work(connection: Connection) -> int:
            count = retry_deliveries(
                connection, row.receiver_id, delivery_id=delivery_id, now_ns=time.time_ns()
            )
            if delivery_id is not None and not count:
                raise NotFoundError(f"`{row.name}` has no delivery {delivery_id}.")
            note(connection, _actor(by), "webhook.retry", row.name, count=count)
            return count

        return self._record.write(work)

    def _clean_filters(self, filters: Mapping[str, Any]) -> dict[str, Any]:
        unknown = [name for name in filters if name not in FILTERS]
        if unknown:
            raise _invalid("filters", f"has the keys {', '.join(FILTERS)}, not `{unknown[0][:40]}`")
        kept: dict[str, Any] = {}
        for name in ("metric", "package"):
            if filters.get(name) is not None:
                names = _clean_names(f"filters.{name}", filters[name])
                kept |= {name: names} if names else {}
        if filters.get("severity") is not None:
            try:
                kept["severity"] = parse_level(filters["severity"])
            except ValueError:
                raise _invalid("filters.severity", "must be info, warning or critical") from None
        if filters.get("tags") is not None:
            tags = self._clean_tags(filters["tags"])
            kept |= {"tags": tags} if tags else {}
        return kept

    def _clean_tags(self, tags: Any) -> dict[str, str]:
        if not isinstance(tags, dict) or not all(isinstance(text, str) for text in tags.values()):
            raise _invalid("filters.tags", "must be an object of texts, by tag")
        unknown = [name for name in tags if name not in self._schema.tags]
        if unknown:
            near = nearest(unknown[0], self._schema.tags)
            raise _invalid("filters.tags", f"must name tags: `{unknown[0][:40]}` is none{near}")
        return dict(sorted(tags.items()))


class Webhook(TypedDict):
    """A webhook, without its secret."""

    id: int
    """The webhook's id."""
    name: str
    """What admins call it."""
    url: str
    """The beginning of its address, as far as it can hold no secret."""
    events: list[str]
    """What it is told of."""
    filters: dict[str, Any]
    """Only what matches: `metric`, `package`, `severity`, `tags`."""
    created: str
    """When it was made."""
    state: Literal["ok", "failing"]
    """Whether it takes what it is sent."""
    trouble: str | None
    """Why it does not."""
    since: str | None
    """Since when."""


class WebhookDelivery(TypedDict):
    """What was, or is to be, sent to a webhook."""

    id: int
    """The delivery's id."""
    event: str
    """What it tells of."""
    state: DeliveryState
    """What became of it."""
    attempts: int
    """How often it was tried."""
    answer: str | None
    """What the receiver answered last."""
    created: str
    """When it happened."""
    tried: str | None
    """When it was last tried."""
    next: str | None
    """When it is tried again."""
    delivered: str | None
    """When the receiver took it."""
    body: dict[str, Any]
    """What is sent: `type`, `timestamp` and `data`."""


def webhook_object(row: Receiver) -> Webhook:
    """Describe a webhook for JSON: of its address the beginning, and never its secret."""
    trouble = None if row.trouble is None else split_runbook(row.trouble)[0]
    return {
        "id": row.receiver_id,
        "name": row.name,
        "url": shown_url(row.url),
        "events": list(row.events),
        "filters": dict(row.filters),
        "created": date_text(row.created_ns),
        "state": "ok" if trouble is None else "failing",
        "trouble": trouble,
        "since": _date(row.trouble_since_ns),
    }


def delivery_object(row: Delivery) -> WebhookDelivery:
    """Describe a delivery for JSON, with its body."""
    return {
        "id": row.delivery_id,
        "event": row.event,
        "state": row.state,
        "attempts": row.attempts,
        "answer": row.answer,
        "created": date_text(row.created_ns),
        "tried": _date(row.tried_ns),
        "next": _date(row.next_ns),
        "delivered": _date(row.delivered_ns),
        "body": json.loads(row.body),
    }


def _date(time_ns: int | None) -> str | None:
    return None if time_ns is None else date_text(time_ns)


def shown_url(url: str) -> str:
    """Return the beginning of an address, as far as it can hold no secret."""
    parts = httpx.URL(url)
    more = "/..." if parts.raw_path not in {b"", b"/"} else "/"
    return f"{parts.scheme}://{parts.netloc.decode('ascii')}{more}"


def check_url(url: str, networks: Sequence[str]) -> None:
    """Check the address of a webhook, as far as it can be without looking up its name.

    Raises
    ------
    InvalidInputError
        If it cannot be sent to.
    """
    try:
        parts = httpx.URL(url)
        host = parts.raw_host.decode("ascii").strip("[]")
    except (httpx.InvalidURL, TypeError, UnicodeError):
        raise _invalid("url", "must be an https:// URL") from None
    is_text = len(url) <= _LONGEST_URL and url.isprintable() and " " not in url
    is_port = parts.port is None or 0 < parts.port < 65_536
    if parts.scheme not in {"http", "https"} or not host or not is_text or not is_port:
        raise _invalid("url", "must be an https:// URL with a host, without spaces")
    if parts.userinfo or parts.fragment:
        raise _invalid("url", "must have no user, password and fragment: use the signature")
    try:
        address = ip_address(host)
    except ValueError:
        is_loopback = host == "localhost"
    else:
        is_loopback = address.is_loopback
        if not is_allowed(address, [ip_network(item) for item in networks]):
            raise _invalid(
                "url",
                f"must have a public address: if {address} may be sent to, name its network in "
                "SQUASH_WEBHOOK_NETWORKS",
            )
    if parts.scheme == "http" and not is_loopback:
        raise _invalid("url", "must begin with https://, unless it is on this machine")


def _first_cursor(view: View, filters: Filters, *, now_ns: int) -> Cursor:
    """Return the cursor of a webhook that is told what happens from now on."""
    cursor = from_now(view, filters.hears, now_ns=now_ns)
    return replace(cursor, job=view.ask(last_job_id), refused=view.ask(last_refused))


def _require_room(connection: Connection, name: str) -> None:
    """Check that a name is free, and that there may be one more webhook."""
    known = webhooks(connection)
    if any(item.name == name for item in known):
        raise NameTakenError(f"There is a webhook `{name}` already: remove that first.")
    if len(known) >= MOST_WEBHOOKS:
        raise InvalidInputError(f"There are {MOST_WEBHOOKS} webhooks: remove some.")


def _require_admin(by: Account | Actor) -> None:
    if isinstance(by, Account) and not by.is_admin:
        raise ForbiddenError("Only admins may see and change webhooks.")


def _actor(by: Account | Actor) -> Actor:
    return by.actor if isinstance(by, Account) else by


def _clean_name(name: Any) -> str:
    is_good = isinstance(name, str) and 0 < len(name.strip()) <= _LONGEST_NAME
    if not is_good or not name.isprintable() or name.strip().isdigit() or "/" in name:
        must = f"must be 1 to {_LONGEST_NAME} characters that can be printed, without /"
        raise _invalid("name", f"{must}, and not a number")
    return str(name).strip()


def _clean_events(events: Sequence[str]) -> list[str]:
    unknown = [item for item in events if item not in EVENTS]
    if unknown or not events:
        wrong = (
            f": `{str(unknown[0])[:40]}` is none{nearest(unknown[0], EVENTS)}" if unknown else ""
        )
        raise _invalid("events", f"must be some of {', '.join(EVENTS)}{wrong}")
    return [item for item in EVENTS if item in events]


def _clean_names(field: str, names: Any) -> list[str]:
    found = [names] if isinstance(names, str) else names
    if not isinstance(found, list) or not all(isinstance(item, str) and item for item in found):
        raise _invalid(field, "must be a name, or a list of names")
    if len(found) > _MOST_NAMED:
        raise _invalid(field, f"must be at most {_MOST_NAMED} names")
    return sorted(set(found))


def _invalid(field: str, must: str) -> InvalidInputError:
    place = ("body", *field.split("."))
    return InvalidInputError(f"`{field}` {must}.", detail=[Detail(place, must)])
