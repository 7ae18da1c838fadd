"""The rows of a backtest's report: specifications side by side, messages side by side. Pure."""

from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal

from squash_api.backtest import Backtest, Side
from squash_api.verify.alert_history import StateChange


@dataclass(frozen=True, slots=True)
class SpecificationRow:
    """One specification in both editions; a limit is empty where an edition does not have it."""

    name: str
    change: str
    old_limit: str
    new_limit: str
    old_flagged: int
    new_flagged: int
    judged: int

    @property
    def cells(self) -> list[str]:
        """The row as text."""
        limits = [limit for limit in (self.old_limit, self.new_limit) if limit]
        limit = " → ".join(dict.fromkeys(limits))
        old, new = self.old_flagged, self.new_flagged
        counts = {"new": f"{new}", "removed": f"{old}"}.get(self.change, f"{old} → {new}")
        return [self.name, self.change, limit, counts, str(self.judged)]


@dataclass(frozen=True, slots=True)
class Message:
    """A message: `sign` is + if the new edition alone sends it, - if the old one alone does."""

    sign: str
    change: StateChange


def specification_rows(outcome: Backtest) -> list[SpecificationRow]:
    """Return a row for each specification of either edition, by name."""
    old, new = outcome.old.edition.specifications, outcome.new.edition.specifications
    return [_row(name, outcome) for name in sorted(old.keys() | new.keys())]


def _row(name: str, outcome: Backtest) -> SpecificationRow:
    old, new = outcome.old, outcome.new
    before, after = (side.edition.specifications.get(name) for side in (old, new))
    change = "same" if before == after else "changed"
    change = "new" if before is None else "removed" if after is None else change
    return SpecificationRow(
        name=name,
        change=change,
        old_limit=limit_text(old, name),
        new_limit=limit_text(new, name),
        old_flagged=old.tally(name).flagged.count,
        new_flagged=new.tally(name).flagged.count,
        judged=(old if change == "removed" else new).tally(name).judged.count,
    )


def messages(outcome: Backtest) -> list[Message]:
    """Return the messages of both editions in the order of the jobs.

    Where only the newest of an edition are kept, the others' older ones are left out too.
    """
    sides = (outcome.old, outcome.new)
    cut = [side.changes[0].job_id for side in sides if is_cut(side)]
    old, new = (
        dict.fromkeys(change for change in side.changes if change.job_id > max(cut, default=-1))
        for side in sides
    )
    found = [Message(" " if change in old else "+", change) for change in new]
    found += [Message("-", change) for change in old if change not in new]
    return sorted(found, key=lambda item: (item.change.job_id, item.change.metric, item.sign))


def limit_text(side: Side, name: str) -> str:
    """Return a limit as it is judged, in the metric's unit, with its level."""
    limit = side.edition.limits.get(name)
    specification = side.edition.specifications.get(name)
    if limit is None or specification is None:
        return ""
    unit = side.edition.unit(specification.metric)
    words = [limit.operator, _plain(repr(limit.threshold)), unit, limit.level]
    return " ".join(word for word in words if word)


def number(value: float) -> str:
    """Return six digits of a number, without an exponent."""
    return _plain(f"{value:.6g}")


def _plain(text: str) -> str:
    plain = format(Decimal(text), "f")
    return plain.removesuffix(".0")


def received_text(change: StateChange) -> str:
    """Return when the job of a message was received, in UTC."""
    return f"{datetime.fromtimestamp(change.received_ns // 10**9, UTC):%Y-%m-%d %H:%M}"


def is_cut(side: Side) -> bool:
    """Tell whether older messages of an edition were not kept."""
    return sum(side.messages.values()) > len(side.changes)
