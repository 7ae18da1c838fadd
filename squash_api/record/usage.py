"""What users have used of their limits: new names, jobs and bytes.

It is counted in the transaction that stores a job, so that all processes count together, and a job
that is refused has used nothing. A name that the record knows already costs nobody anything: what
one user brings never uses up the limits of another.
"""

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from hashlib import blake2b
from typing import Protocol

import orjson
from sqlalchemy import Connection, bindparam, delete, insert, select, update

from squash_api.errors import OverLimitError
from squash_api.record.bulk import in_chunks
from squash_api.record.tables import known_name, usage

_NS = 10**9
_HOUR_NS = 3600 * _NS
_DAY_NS = 24 * _HOUR_NS
_KEPT_NS = 7 * _DAY_NS

_METRICS, _METADATA, _SERIES, _JOBS, _BYTES = "metrics", "metadata", "series", "jobs", "bytes"
_TAG = "tag:"


@dataclass(frozen=True, slots=True)
class Limits:
    """What one job, and one user, may bring; 0 is no limit. Settings of the same names have them.

    Those of users are per UTC hour or day, and do not hold for admins.
    """

    metadata_per_job: int = 0
    new_metrics_per_job: int = 0
    new_metrics_per_day: int = 0
    new_tag_values_per_day: int = 0
    new_metadata_per_day: int = 0
    new_series_per_day: int = 0
    jobs_per_hour: int = 0
    bytes_per_day: int = 0

    @property
    def has_quotas(self) -> bool:
        """Whether every job counts, not only those that bring something new."""
        return bool(self.jobs_per_hour or self.bytes_per_day)


NO_LIMITS = Limits()


@dataclass(frozen=True, slots=True, kw_only=True)
class Brings:
    """What a job, or a change of definitions, brings with it; some of it may be known already.

    `values` is how many values it has, each of which is in a series of its own; `jobs` and `size`
    count against the quotas. `limits` are those of its user, if there are any.
    """

    user_id: int
    now_ns: int
    limits: Limits = NO_LIMITS
    tags: Mapping[str, str] = field(default_factory=dict)
    metadata: Collection[str] = ()
    values: int = 0
    jobs: int = 0
    size: int = 0

    @property
    def is_counted_only(self) -> bool:
        """Whether it has no names that the record might not know."""
        return not (self.tags or self.metadata or self.values)


class Ledger:
    """Counts what is brought in one transaction; `store` writes it down."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._counts: dict[tuple[str, int, str], int] = {}
        self._added: dict[tuple[str, int, str], int] = {}
        self._names: dict[str, set[str]] = {}

    def charge(self, brings: Brings, *, new_metrics: int) -> OverLimitError | None:
        """Count what is brought, or return why it may not be; then nothing is counted."""
        new = self._new_names(brings)
        wanted = {kind: len(names) for kind, names in new.items() if kind != _SERIES}
        wanted |= {
            _METRICS: new_metrics,
            _SERIES: brings.values if _SERIES in new else 0,
            _JOBS: brings.jobs,
            _BYTES: brings.size,
        }
        charges = []
        for kind, count in wanted.items():
            limit, setting, span_ns = _limit(brings.limits, kind)
            if not limit or not count:
                continue
            from_ns = brings.now_ns // span_ns * span_ns
            key = f"user:{brings.user_id}", from_ns, kind
            used = self._used(key)
            if used + count > limit:
                left_s = (from_ns + span_ns - brings.now_ns) // _NS + 1
                until = datetime.fromtimestamp((from_ns + span_ns) // _NS, UTC)
                return OverLimitError(
                    f"Too many {_words(kind)}: this brings {count}, and you have used {used} of "
                    f"the {limit} that a user may bring in one {_SPANS[span_ns]}. "
                    f"Nothing was stored. Send it after {until:%Y-%m-%dT%H:%M:%SZ}, or have an "
                    f"admin raise {setting}.",
                    retry_after_s=max(left_s, 1),
                )
            charges.append((key, count))
        for key, count in charges:
            self._added[key] = self._added.get(key, 0) + count
        for kind, names in new.items():
            self._names.setdefault(kind, set()).update(names)
        return None

    def store(self) -> None:
        """Write down what has been counted, and the names that are known from now on."""
        rows = [
            {"kind": kind, "name": name}
            for kind, names in self._names.items()
            for name in sorted(names)
        ]
        if rows:
            self._connection.execute(insert(known_name), rows)
        for (owner, from_ns, kind), count in self._added.items():
            where = (
                usage.c.owner == owner,
                usage.c.from_ns == from_ns,
                usage.c.kind == kind,
            )
            total = self._counts[owner, from_ns, kind] + count
            changed = self._connection.execute(update(usage).where(*where).values(count=total))
            if not changed.rowcount:
                self._connection.execute(
                    insert(usage).values(owner=owner, from_ns=from_ns, kind=kind, count=total)
                )
                self._connection.execute(
                    delete(usage).where(
                        usage.c.owner == owner, usage.c.from_ns < from_ns - _KEPT_NS
                    )
                )

    def _used(self, key: tuple[str, int, str]) -> int:
        if key not in self._counts:
            owner, from_ns, kind = key
            found = self._connection.execute(
                _USED, {"owner": owner, "from_ns": from_ns, "kind": kind}
            ).scalar_one_or_none()
            self._counts[key] = found or 0
        return self._counts[key] + self._added.get(key, 0)

    def _new_names(self, brings: Brings) -> dict[str, set[str]]:
        """Return the names that neither the record nor this transaction knows, by kind."""
        asked: dict[str, Collection[str]] = {_METADATA: brings.metadata}
        asked |= {f"{_TAG}{tag}": [value] for tag, value in brings.tags.items()}
        if brings.values:
            asked[_SERIES] = [series_name(brings.tags)]
        new: dict[str, set[str]] = {}
        for kind, names in asked.items():
            left = set(names) - self._names.get(kind, set())
            for chunk in in_chunks(left):
                known = self._connection.execute(_KNOWN, {"kind": kind, "names": chunk})
                left -= set(known.scalars())
            if left:
                new[kind] = left
        return new


def charge_metrics(
    connection: Connection, user: "Limited", count: int, *, limits: Limits, now_ns: int
) -> None:
    """Count new metrics of a user who is no admin.

    Raises
    ------
    OverLimitError
        If there are too many.
    """
    if user.is_admin:
        return
    ledger = Ledger(connection)
    brings = Brings(user_id=user.user_id, now_ns=now_ns, limits=limits)
    refusal = ledger.charge(brings, new_metrics=count)
    if refusal is not None:
        raise refusal
    ledger.store()


class Limited(Protocol):
    """Whose use is counted."""

    @property
    def user_id(self) -> int:
        """The user."""

    @property
    def is_admin(self) -> bool:
        """Whether the limits do not hold."""


def series_name(tags: Mapping[str, str]) -> str:
    """Return the name of the series of jobs with these tags, whatever they measure."""
    return blake2b(orjson.dumps(tags, option=orjson.OPT_SORT_KEYS), digest_size=16).hexdigest()


def names_of_tags(sets: Iterable[Mapping[str, str]]) -> set[tuple[str, str]]:
    """Return kind and name of all that sets of tags make known."""
    return {
        *((f"{_TAG}{tag}", value) for tags in sets for tag, value in tags.items()),
        *((_SERIES, series_name(tags)) for tags in sets),
    }


def _limit(limits: Limits, kind: str) -> tuple[int, str, int]:
    """Return the limit of what is counted, the setting that has it, and how long it counts (ns)."""
    name = "new_tag_values_per_day" if kind.startswith(_TAG) else _LIMITS[kind]
    span_ns = _HOUR_NS if name.endswith("hour") else _DAY_NS
    return getattr(limits, name), f"SQUASH_{name.upper()}", span_ns


_LIMITS = {
    _METRICS: "new_metrics_per_day",
    _METADATA: "new_metadata_per_day",
    _SERIES: "new_series_per_day",
    _JOBS: "jobs_per_hour",
    _BYTES: "bytes_per_day",
}
_WORDS = {
    _METRICS: "new metrics",
    _METADATA: "new metadata keys",
    _SERIES: "new series",
    _JOBS: "jobs",
    _BYTES: "bytes of jobs",
}


_SPANS = {_HOUR_NS: "hour", _DAY_NS: "day (UTC)"}


def _words(kind: str) -> str:
    if kind.startswith(_TAG):
        return f"new values of the tag `{kind.removeprefix(_TAG)}`"
    return _WORDS[kind]


_USED = select(usage.c.count).where(
    usage.c.owner == bindparam("owner"),
    usage.c.from_ns == bindparam("from_ns"),
    usage.c.kind == bindparam("kind"),
)
_KNOWN = select(known_name.c.name).where(
    known_name.c.kind == bindparam("kind"),
    known_name.c.name.in_(bindparam("names", expanding=True)),
)
