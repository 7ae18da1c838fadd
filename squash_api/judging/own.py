"""The limits on the service itself, and the alerts on them, in one table. Pure.

Kapacitor's tasks, Chronograf's dashboard, `docs/operations.md` and `docs/runbook.md` have these
alerts under these names. The values are fields of the points in `schema/watch.py`.
"""

from dataclasses import dataclass
from typing import NamedTuple

from squash_api.judging.alerts import Alert, Level
from squash_api.judging.kinds.threshold import Operator, Threshold
from squash_api.judging.limits import Limit
from squash_api.judging.specifications import Specification
from squash_api.schema import watch as names

PREFIX = "service-"
"""What the names of these alerts begin with, and so the anchors of their entries in the runbook."""

SILENT = f"{PREFIX}silent"
SILENT_S = 300
"""So long without a point, which comes every minute, a process is silent."""

WATCH = f"{PREFIX}watch"
"""The alert on the watch, which does not know what is late."""


class _Bound(NamedTuple):
    level: Level
    operator: Operator
    number: float


@dataclass(frozen=True, slots=True)
class OwnAlert:
    """An alert on one field; its states are by the tags `per` of the points.

    Parameters
    ----------
    about
        What is wrong, as the message begins.
    measure
        What the value is; empty if the message leaves the value out.
    bounds
        What the value must be, for each level.
    advice
        What to do first, for whoever is woken by it.
    digits
        Decimal places of the value in messages.
    """

    name: str
    measurement: str
    field: str
    about: str
    measure: str
    unit: str
    bounds: tuple[_Bound, ...]
    advice: str
    digits: int = 0

    @property
    def per(self) -> tuple[str, ...]:
        """The tags whose values have alerts of their own."""
        if self.measurement == names.DELIVERY:
            return (names.TARGET,)
        return (names.PROCESS, names.INSTANCE)

    @property
    def limits(self) -> tuple[Limit, ...]:
        """The bounds as limits, worst first."""
        metric = f"{self.measurement}.{self.field}"
        return tuple(
            Limit(
                Specification(
                    f"{metric}.{self.name}",
                    metric,
                    threshold := Threshold(bound.number, self.unit, bound.operator),
                    alert=Alert(level=bound.level, per=self.per),
                ),
                (),
                threshold,
            )
            for bound in self.bounds
        )


OWN_ALERTS = (
    OwnAlert(
        f"{PREFIX}backlog",
        names.DELIVERY,
        names.OLDEST_S,
        "jobs wait too long to be delivered",
        "age of the oldest",
        "s",
        (_Bound("CRITICAL", "<=", 3600), _Bound("WARNING", "<=", 600)),
        "Nothing is lost. Look at /readyz: is the target up, does a process deliver to it?",
    ),
    OwnAlert(
        f"{PREFIX}quarantine",
        names.DELIVERY,
        names.REFUSED_LATELY,
        "a target refused points for good",
        "in the last hour",
        "",
        (_Bound("WARNING", "<=", 0),),
        "They are kept. Read the reasons: squash quarantine list",
    ),
    OwnAlert(
        f"{PREFIX}record",
        names.SERVICE,
        names.RECORD_UP,
        "the record cannot be written, no job is accepted",
        "",
        "",
        (_Bound("CRITICAL", ">=", 1),),
        "Clients get 503 and send their jobs again. The reason is below, or at /readyz.",
    ),
    OwnAlert(
        f"{PREFIX}disk",
        names.SERVICE,
        names.DISK_FREE_GB,
        "the disk of the record is nearly full",
        "free",
        "GB",
        (_Bound("CRITICAL", ">=", 1), _Bound("WARNING", ">=", 5)),
        "When it is full, no job is accepted. Free space, or move the record to a larger disk.",
        digits=2,
    ),
    OwnAlert(
        f"{PREFIX}errors",
        names.SERVICE,
        names.FAILED,
        "requests failed",
        "replies of 500 and above in 10 minutes",
        "",
        (_Bound("CRITICAL", "<=", 100), _Bound("WARNING", "<=", 0)),
        "The log has a line for each. One with an exception is a fault of the program: report it.",
    ),
    OwnAlert(
        f"{PREFIX}refusals",
        names.SERVICE,
        names.REFUSED_JOBS,
        "many jobs are refused",
        "replies of 400 to 499 to jobs in 10 minutes",
        "",
        (_Bound("WARNING", "<=", 20),),
        "Somebody sends what cannot be accepted. The log has user, address and status of each.",
    ),
    OwnAlert(
        f"{PREFIX}limited",
        names.SERVICE,
        names.LIMITED,
        "many requests are told to wait",
        "replies of 429 in 10 minutes",
        "",
        (_Bound("WARNING", "<=", 100),),
        "Somebody asks for too much, or guesses passwords. The log has the address of each.",
    ),
    OwnAlert(
        f"{PREFIX}pool",
        names.SERVICE,
        names.POOL_PERCENT,
        "the connections to the record's database are nearly used up",
        "in use",
        "%",
        (_Bound("WARNING", "<=", 80),),
        "When they are, requests wait and then get 503. Look for slow reads; is the database slow?",
    ),
    OwnAlert(
        f"{PREFIX}connections",
        names.SERVICE,
        names.CONNECTIONS_PERCENT,
        "the connections of clients are nearly used up",
        "open",
        "%",
        (_Bound("WARNING", "<=", 90),),
        "Beyond that the most idle ones of the busiest address are ended. See who it is: ss -tn",
    ),
    OwnAlert(
        f"{PREFIX}readers",
        names.SERVICE,
        names.READERS_MISSING_S,
        "a process that reads is missing",
        "for",
        "s",
        (_Bound("WARNING", "<=", 60),),
        "Pages may answer 503; jobs are accepted. The log says why it ends; look at memory, dmesg.",
    ),
    OwnAlert(
        f"{PREFIX}slow",
        names.SERVICE,
        names.LOOP_LAG_S,
        "the service was blocked",
        "longest in the last minute",
        "s",
        (_Bound("CRITICAL", "<=", 10), _Bound("WARNING", "<=", 2)),
        "Every request waited for that long. Is the machine overloaded, or out of memory?",
        digits=1,
    ),
    OwnAlert(
        f"{PREFIX}deriving",
        names.SERVICE,
        names.DERIVING_S,
        "jobs wait too long to be derived, so pages and the watch are behind",
        "age of the oldest",
        "s",
        (_Bound("WARNING", "<=", 300),),
        "Jobs are accepted. After an upgrade it passes by itself; otherwise see the log.",
    ),
)
"""The alerts on fields, by the order of their entries in the runbook."""

OWN_ALERT_NAMES = (SILENT, WATCH, *(item.name for item in OWN_ALERTS))
"""All alerts on the service itself, each with an entry in `docs/runbook.md`."""
