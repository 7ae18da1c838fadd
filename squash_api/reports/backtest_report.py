"""A backtest as tables for the terminal, as Markdown for a pull request, and as JSON. Pure."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from squash_api.judging.alert_history import StateChange
from squash_api.judging.wording import counted, plain_number
from squash_api.reports.backtest import Backtest, Difference, Side
from squash_api.reports.texts import escaped_line, markdown_table, minute_text, moment_text

_MOST_ROWS = 60
_MOST_PER_SPECIFICATION = 10
_DEFAULT_CHANNEL = "default"


@dataclass(frozen=True, slots=True)
class SpecificationRow:
    """One specification in both sets; a limit is empty if a set does not have it."""

    name: str
    change: str
    old_limit: str
    new_limit: str
    old_flagged: int
    new_flagged: int
    judged: int

    @property
    def cells(self) -> list[str]:
        """The row of the table."""
        limits = [limit for limit in (self.old_limit, self.new_limit) if limit]
        limit = " → ".join(dict.fromkeys(limits))
        old, new = self.old_flagged, self.new_flagged
        counts = {"new": f"{new}", "removed": f"{old}"}.get(self.change, f"{old} → {new}")
        return [self.name, self.change, limit, counts, str(self.judged)]


@dataclass(frozen=True, slots=True)
class Message:
    """A message; `sign` is + if only the new set sends it, - if only the old one does."""

    sign: str
    change: StateChange


def specification_rows(outcome: Backtest) -> list[SpecificationRow]:
    """Make a row for each specification of either set, sorted by name."""
    old, new = outcome.old.specs.specifications, outcome.new.specs.specifications
    return [_row(name, outcome) for name in sorted(old.keys() | new.keys())]


def _row(name: str, outcome: Backtest) -> SpecificationRow:
    old, new = outcome.old, outcome.new
    before, after = (side.specs.specifications.get(name) for side in (old, new))
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
    """List the messages of both sets in the order of the jobs.

    If only the newest messages of one set were kept, older ones of the other are left out too.
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
    """Write a limit in the metric's unit, with its level."""
    limit = side.specs.limits.get(name)
    if limit is None:
        return ""
    words = [limit.criterion.words(plain_number, is_ascii=True), limit.unit, limit.level]
    return " ".join(word for word in words if word)


def number(value: float) -> str:
    """Write six digits of a number, without an exponent."""
    return plain_number(float(f"{value:.6g}"))


def received_text(change: StateChange) -> str:
    """Write when the job of a message was received, in UTC."""
    return minute_text(moment_text(change.received_ns))


def is_cut(side: Side) -> bool:
    """Whether older messages of a set were dropped."""
    return sum(side.messages.values()) > len(side.changes)


@dataclass(frozen=True, slots=True)
class Section:
    """A part of the report: a title, a table, and notes; Markdown folds one that `is_long`."""

    title: str
    columns: tuple[str, ...]
    rows: list[list[str]]
    notes: list[str]
    is_long: bool = False


def sections(outcome: Backtest, *, is_all: bool) -> list[Section]:
    """Make the report; it lists only the specifications that differ, unless `is_all`."""
    found = [_of_specifications(outcome, is_all=is_all), _of_differences(outcome)]
    found += [_of_channels(outcome), _of_keys(outcome)]
    found += [_of_messages(outcome), _of_unused(outcome)]
    return [section for section in found if section.rows or section.notes]


def summary(outcome: Backtest, since: str) -> str:
    """Write the first sentence of the report."""
    counts = [len(side.specs.specifications) for side in (outcome.old, outcome.new)]
    return (
        f"{counted(outcome.jobs, 'job')} of {counted(outcome.runs, 'run')} since {since}, "
        f"judged by {counts[0]} specifications "
        f"as they are and by {counts[1]} as proposed."
    )


def to_markdown(title: str, found: Sequence[Section]) -> str:
    """Write the report for a pull request; names and tags cannot act as markup."""
    parts = ["### Backtest", "", escaped_line(title), ""]
    for section in found:
        body = _markdown_body(section)
        if section.is_long:
            summary_line = f"<details><summary>{section.title}</summary>"
            parts += [summary_line, "", *body, "</details>", ""]
        else:
            parts += [f"#### {section.title}", "", *body]
    return "\n".join(parts).rstrip() + "\n"


def _markdown_body(section: Section) -> list[str]:
    lines = [markdown_table(section.columns, section.rows), ""] if section.rows else []
    return lines + [line for note in section.notes for line in (escaped_line(note), "")]


def to_json(outcome: Backtest) -> dict[str, Any]:
    """Write everything that was kept."""
    return {
        "jobs": outcome.jobs,
        "runs": outcome.runs,
        "specifications": [asdict(row) for row in specification_rows(outcome)],
        "differing": dict(sorted(outcome.differing.items())),
        "differences": [
            asdict(item) for _, kept in sorted(outcome.differences.items()) for item in kept
        ],
        "messages": {"old": _side_json(outcome.old), "new": _side_json(outcome.new)},
        "unused": [
            {"metric": metric, "reason": reason, "values": count}
            for (metric, reason), count in sorted(outcome.unused.items())
        ],
    }


def _side_json(side: Side) -> dict[str, Any]:
    return {
        "without_keys": side.plain,
        "in_groups": side.told,
        "by_channel": {
            name or _DEFAULT_CHANNEL: count for name, count in sorted(side.messages.items())
        },
        "changes": [
            {**asdict(item), "received": received_text(item), "series": dict(item.series)}
            for item in side.changes
        ],
    }


def _of_specifications(outcome: Backtest, *, is_all: bool) -> Section:
    rows = specification_rows(outcome)
    shown = [
        row
        for row in rows
        if is_all
        or row.change != "same"
        or row.old_limit != row.new_limit
        or outcome.differing[row.name]
    ]
    notes = []
    others = len(rows) - len(shown)
    if others:
        is_one = others == 1
        words = "other is the same, and flags" if is_one else "others are the same, and flag"
        notes.append(f"{others} {words} the same.")
    gone = _packages(outcome.old) - _packages(outcome.new)
    if gone:
        names = ", ".join(sorted(gone))
        notes.append(f"Nothing is left of {names}: name its directory too if that is not intended.")
    columns = ("specification", "", "limit", "runs flagged", "of runs")
    return Section("Specifications", columns, [row.cells for row in shown], notes)


def _packages(side: Side) -> set[str]:
    return {name.partition(".")[0] for name in side.specs.specifications}


def _of_differences(outcome: Backtest) -> Section:
    kept = [
        item
        for _, items in sorted(outcome.differences.items())
        for item in list(items)[-_MOST_PER_SPECIFICATION:]
    ]
    total = sum(outcome.differing.values())
    columns = ("specification", "", "run", "job", "dataset", "filter", "value", "limit")
    rows = [_difference_cells(item, outcome) for item in kept[:_MOST_ROWS]]
    return Section("Jobs judged differently", columns, rows, _more(total, len(rows)), is_long=True)


def _difference_cells(item: Difference, outcome: Backtest) -> list[str]:
    side = outcome.new if item.is_flagged else outcome.old
    return [
        item.specification,
        "now flagged" if item.is_flagged else "no longer",
        item.run_id,
        str(item.job_id),
        item.dataset,
        item.filter,
        number(item.value),
        limit_text(side, item.specification),
    ]


def _of_channels(outcome: Backtest) -> Section:
    old, new = outcome.old.messages, outcome.new.messages
    rows = [
        [name or _DEFAULT_CHANNEL, str(old[name]), str(new[name])]
        for name in sorted(old.keys() | new.keys())
    ]
    notes = [] if rows else ["Neither set of specifications would have sent a message."]
    return Section("Messages", ("channel", "now", "proposed"), rows, notes)


def _of_keys(outcome: Backtest) -> Section:
    """Say how many messages `alert.after`, `min_runs`, `trial` and `group` spare people."""
    rows = [
        [name, str(side.plain), str(sum(side.messages.values())), str(side.told)]
        for name, side in (("now", outcome.old), ("proposed", outcome.new))
    ]
    if all(len(set(row[1:])) == 1 for row in rows):
        rows = []
    columns = ("", "without them", "after, min_runs, trial", "told in groups")
    return Section("Messages that alert.after, min_runs, trial and group spare", columns, rows, [])


def _of_messages(outcome: Backtest) -> Section:
    found = messages(outcome)
    if len(found) > _MOST_ROWS:
        found = [item for item in found if item.sign != " "]
    total = len(found)
    shown = found[-_MOST_ROWS:]
    notes = _more(total, len(shown))
    same = len(messages(outcome)) - total
    if same:
        notes.append(f"{same} messages are the same in both, and not listed.")
    if any(map(is_cut, (outcome.old, outcome.new))):
        notes.append("Only the newest messages were compared.")
    rows = [_message_cells(item, outcome) for item in shown]
    columns = ("", "received", "channel", "state", "metric", "value", "breaks", "series")
    title = "Messages one by one (+ new, - gone)"
    return Section(title, (*columns, "run", "job"), rows, notes, is_long=True)


def _message_cells(item: Message, outcome: Backtest) -> list[str]:
    change = item.change
    side = outcome.old if item.sign == "-" else outcome.new
    unit = side.specs.unit(change.metric)
    return [
        item.sign,
        received_text(change),
        change.channel or _DEFAULT_CHANNEL,
        f"{change.previous} → {change.level}",
        change.metric,
        f"{number(change.value)} {unit}".rstrip(),
        " ".join(name.rpartition(".")[2] for name in change.broken),
        " ".join(f"{name}={text}" for name, text in change.series),
        change.run_id,
        str(change.job_id),
    ]


def _of_unused(outcome: Backtest) -> Section:
    rows = [
        [metric, reason, str(count)] for (metric, reason), count in sorted(outcome.unused.items())
    ]
    notes = []
    silent = sum(
        not outcome.new.tally(name).judged.count for name in outcome.new.specs.specifications
    )
    if silent:
        count = len(outcome.new.specs.specifications)
        notes.append(f"{silent} of the {count} proposed specifications had no value to judge.")
    return Section("Not judged", ("metric", "reason", "values"), rows[:_MOST_ROWS], notes)


def _more(total: int, shown: int) -> list[str]:
    return [f"{total - shown} more; --json has those that are kept."] if total > shown else []
