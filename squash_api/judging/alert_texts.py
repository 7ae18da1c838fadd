"""The words of alerts: of one, of a group, of what became worse, and of a recovery. Pure.

Everything that tells people of an alert says it in these words: what the service gives to
Kapacitor, its own messages, webhooks, pages and commands. Nothing is escaped here: text from jobs
is in it as it came, and whoever sends a message makes it safe for where it goes.
"""

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from types import MappingProxyType
from typing import Any, Protocol, TypeVar

from squash_api.errors import runbook_path
from squash_api.judging.alerts import level_of, severity_of
from squash_api.judging.kinds.criterion import Criterion, demand_of_past
from squash_api.judging.kinds.registry import shown_criterion
from squash_api.judging.wording import NOTHING, beside, counted, number_text, plain_number
from squash_api.schema.names import STANDING_TAGS, split_metric_name
from squash_api.verify.metrics import Metric

SYMBOLS: Mapping[str, str] = MappingProxyType(
    {
        "CRITICAL": "\U0001f534",
        "WARNING": "\U0001f7e1",
        "INFO": "\U0001f535",
        "OK": "\u2705",
        "MUTED": "\U0001f507",
        "TRIAL": "\U0001f9ea",
    }
)
"""A symbol in the color of each level, and of what is told without one."""

MOST_LISTED = 3
"""So many limits, or alerts of a group, a message lists; it counts the others."""

LATE = "expect:"
"""What the branch of an alert on late values begins with; the specification follows."""

ENDED: Mapping[str, str] = MappingProxyType(
    {
        "undefined": "no specification has this limit any more",
        "muted": "its limit is muted",
        "by hand": "resolved by hand",
    }
)
"""The words for why an alert has ended though its value need not be well."""

_NS = 10**9
_LONG = 120
_PLURALS = {"patch": "patches", "ccdnum": "CCDs", "ccd": "CCDs"}
_CLAUSE_END = re.compile(r"([:;.])(?:\s+|\Z)")
_BRACKETS = re.compile(r"\s*\([^()]*\)")
_ABBREVIATIONS = re.compile(r"(?:approx|ca|cf|e\.g|eq|etc|fig|i\.e|incl|max|min|no|resp|vs)\Z")
# A line must not end with these: what they introduce would be missing.
_DANGLING = re.compile(
    r"(?:an?|and|as|at|be|by|for|from|in|is|less|more|not?|of|on|or|over|per|than|that|the|this|to|"
    r"under|up|will|with|within)\Z"
)


class Alerted(Protocol):
    """What is told of an alert; `record.alerts:AlertRow` has it."""

    @property
    def alert_id(self) -> int: ...
    @property
    def metric(self) -> str: ...
    @property
    def branch(self) -> str: ...
    @property
    def tags(self) -> Mapping[str, str]: ...
    @property
    def is_trial(self) -> bool: ...
    @property
    def severity(self) -> int: ...
    @property
    def worst(self) -> int: ...
    @property
    def opened_ns(self) -> int: ...
    @property
    def resolved_ns(self) -> int | None: ...
    @property
    def time_ns(self) -> int | None: ...
    @property
    def value(self) -> float | None: ...
    @property
    def unit(self) -> str | None: ...
    @property
    def broken(self) -> Sequence[Mapping[str, Any]]: ...


AlertedT = TypeVar("AlertedT", bound=Alerted)


@dataclass(frozen=True, slots=True)
class Link:
    """Words that lead somewhere; without an address they are only words."""

    text: str
    url: str | None = None


@dataclass(frozen=True, slots=True)
class Message:
    """A message: its level (`OK` for a recovery), what follows that, more lines, and links."""

    level: str
    title: str
    lines: tuple[str, ...] = ()
    links: tuple[Link, ...] = ()

    @property
    def symbol(self) -> str:
        """The symbol of the level."""
        return SYMBOLS[self.level.partition(":")[0]]

    def plain(self) -> str:
        """Return it as plain text, as commands, mails and logs have it."""
        links = (f"{link.text}: {link.url}" if link.url else link.text for link in self.links)
        return "\n".join((f"{self.symbol} {self.level} {self.title}", *self.lines, *links))


@dataclass(frozen=True, slots=True)
class About:
    """What a message says beside its alerts; what is not known is left out.

    Parameters
    ----------
    metric
        The definition of the metric.
    tags
        Tags to show that the alerts have in common, besides those that they have themselves.
    grouped
        The tags by which alerts were grouped.
    total
        How many series of the metric the run has, broken or not.
    changes
        What has changed in the code, in words, such as `afw 3 commits, ip_isr`.
    notes
        Further lines, such as why it is raised, or who has it.
    told
        The severity that was told before; 0 if the message is the first on this.
    links
        Where to look: the run, the job, the alert, what to do.
    """

    metric: Metric | None = None
    tags: Mapping[str, str] = field(default_factory=dict)
    grouped: Sequence[str] = ()
    total: int | None = None
    changes: str = ""
    notes: Sequence[str] = ()
    told: int = 0
    links: Sequence[Link] = ()


def message_of(alerts: Sequence[Alerted], about: About) -> Message:
    """Return the message of a group, or of a single alert; there is at least one.

    It is a recovery if none of them is living. Otherwise its level is the worst of those that are;
    if they are all on trial, it says what the level would be.
    """
    living = [item for item in alerts if item.severity]
    heard = [item for item in living if not item.is_trial]
    severity = max((item.severity for item in heard or living), default=0)
    told = living or alerts
    first = worst_first(told)[0]
    lines = _recovered(told, about) if not severity else _broken(told, about, severity)
    level: str = level_of(severity) if severity else "OK"
    if living and not heard:
        level = f"TRIAL: would be {level}"
    where = _where(told, about)
    since = [f"since last good: {about.changes}"] if about.changes and severity else []
    return Message(
        level,
        _title(told, first, about),
        tuple(line for line in (*lines, *about.notes, *since, where) if line),
        tuple(about.links),
    )


def alert_line(alert: Alerted) -> str:
    """Return an alert in one line: its value, and the worst limit that it breaks or broke."""
    name = split_metric_name(alert.metric)[1]
    ended = _ended(alert)
    if alert.branch.startswith(LATE):
        return f"{alert.branch.removeprefix(LATE)}: {ended}" if ended else _late_line(alert)
    if alert.value is None:
        return f"{name} has no value any more: its last one was deleted or withdrawn"
    shown = _most_broken(alert)[:1]
    if ended:
        return f"{_limit_line(alert, shown[0])}: {ended}"
    if not alert.severity and shown and not _holds(shown, alert):
        return f"{_limit_line(alert, shown[0])}: not raised any more"
    return _limit_line(alert, shown[0] if shown else None)


def count_text(alerts: Sequence[Alerted], about: About) -> str:
    """Return how many alerts there are of how many, such as `PA1: 17 of 189 detectors`."""
    names = {split_metric_name(item.metric)[1] for item in alerts}
    if len(names) > 1:
        return counted(len(names), "metric")
    number, total = len(alerts), about.total
    of = f"{number} of {total}" if total is not None and total >= number else f"{number}"
    noun = plural(_part(alerts, about)) if (total or number) != 1 else _part(alerts, about)
    return f"{min(names)}: {of} {noun}"


def plural(tag: str) -> str:
    """Return the word for several values of a tag, such as `detectors`."""
    return _PLURALS.get(tag, tag if tag == "series" else f"{tag}s")


def worst_first(alerts: Iterable[AlertedT]) -> list[AlertedT]:
    """Sort alerts: the worst first, then those furthest beyond their limit, then by tags."""

    def order(item: AlertedT) -> tuple[int, int, float, str, list[tuple[str, bool, float, str]]]:
        margins = [margin for each in item.broken if (margin := each.get("margin")) is not None]
        tags = [(name, *_natural(text)) for name, text in sorted(item.tags.items())]
        return (-item.severity, -item.worst, min(margins, default=0.0), item.metric, tags)

    return sorted(alerts, key=order)


def duration_words(duration_ns: int) -> str:
    """Return how long something was, such as `31.0 h`."""
    hours = duration_ns / (3600 * _NS)
    if hours >= 48:
        return f"{hours:.0f} h"
    if hours >= 2:
        return f"{hours:.1f} h"
    minutes = hours * 60
    return "less than 1 min" if minutes < 1 else f"{minutes:.0f} min"


def time_words(time_ns: int) -> str:
    """Return a time, in UTC, as messages write it."""
    return datetime.fromtimestamp(time_ns // _NS, UTC).strftime("%Y-%m-%d %H:%M UTC")


def alert_path(alert_id: int) -> str:
    """Return where the service shows an alert, below its public root."""
    return f"/alert/{alert_id}"


def group_path(group_id: int) -> str:
    """Return where the service lists the alerts of a group, below its public root."""
    return f"/alerts?group={group_id}"


def links_of(
    root: str,
    alerts: Sequence[Alerted],
    *,
    group_id: int | None = None,
    run: str | None = None,
    run_url: str | None = None,
    job_id: int | None = None,
    artifact_url: str | None = None,
) -> tuple[Link, ...]:
    """Return where to look, in the order of messages; `root` is the public root of the service.

    A recovery has no link to what to do.
    """
    links = [Link(f"run {run}" if run else "run", run_url)] if run or run_url else []
    if job_id is not None:
        links.append(Link(f"job {job_id}", f"{root}/job/{job_id}"))
    if artifact_url:
        links.append(Link("artifact", artifact_url))
    if len(alerts) == 1:
        links.append(Link("alert", root + alert_path(alerts[0].alert_id)))
    elif group_id is not None:
        links.append(Link(f"all {len(alerts)}", root + group_path(group_id)))
    if any(item.severity for item in alerts):
        is_late = all(item.branch.startswith(LATE) for item in alerts)
        entry = "late-value" if is_late else "metric-alert"
        links.append(Link("what to do", root + runbook_path(entry)))
    return tuple(links)


def first_clause(description: str) -> str:
    """Return the first clause of a description, as one line, without what is in brackets.

    A long one is shortened, but neither within a quantity nor before what a word introduces.
    """
    text = _BRACKETS.sub("", " ".join(description.split()))
    for end in _CLAUSE_END.finditer(text):
        if _ends_clause(text[: end.start()], end[1], text[end.end() :]):
            text = text[: end.start()]
            break
    if len(text) <= _LONG:
        return text
    words = text[:_LONG].split(" ")[:-1]
    while len(words) > 1 and _is_cut(words):
        words.pop()
    return " ".join(words).rstrip(",") + " ..."


def _ends_clause(before: str, mark: str, after: str) -> bool:
    last = before.rpartition(" ")[2].lstrip("(").lower()
    if mark == ".":
        return _ABBREVIATIONS.match(last) is None
    # A ratio, such as 1: 5.
    return not (last[-1:].isdigit() and after[:1].isdigit())


def _is_cut(words: Sequence[str]) -> bool:
    """Return whether a line that ends so has lost the rest of a quantity or a phrase."""
    last = words[-1]
    has_number = any(letter.isdigit() for word in words[-2:] for letter in word)
    is_dangling = _DANGLING.match(last.lower()) is not None
    return has_number or is_dangling or not any(map(str.isalnum, last))


def _title(alerts: Sequence[Alerted], first: Alerted, about: About) -> str:
    package, name = split_metric_name(first.metric)
    metric = about.metric
    shown = f"{(metric.display_name if metric else '') or name} ({package})"
    others = len({item.metric for item in alerts}) - 1
    if others:
        shown += f" and {counted(others, 'metric')} more"
    if first.branch.startswith(LATE):
        shown += " is late" if first.severity else " is no longer late"
    clause = first_clause(metric.description) if metric else ""
    return f"{shown}: {clause}" if clause else shown


def _broken(alerts: Sequence[Alerted], about: About, severity: int) -> list[str]:
    lines = _count_lines(alerts, about)
    if len(alerts) == 1:
        (alert,) = alerts
        lines += _lines_of_one(alert)
    else:
        lines += _listed(alerts)
    if about.told and about.told != severity:
        before = level_of(about.told)
        lines.append(f"was {before} before")
    return lines


def _recovered(alerts: Sequence[Alerted], about: About) -> list[str]:
    how = "none raised any more" if any(map(_ended, alerts)) else "all well again"
    lines = [] if len(alerts) == 1 else [f"{count_text(alerts, about)}, {how}"]
    lines += _listed(alerts)
    word = "late" if alerts[0].branch.startswith(LATE) else "broken"
    began_ns = min(item.opened_ns for item in alerts)
    ended_ns = max(item.resolved_ns or 0 for item in alerts)
    how_long = f" for {duration_words(ended_ns - began_ns)}," if ended_ns > began_ns else ""
    return [*lines, f"was {word}{how_long} from {time_words(began_ns)} on"]


def _count_lines(alerts: Sequence[Alerted], about: About) -> list[str]:
    """Return the line that counts alerts, if there is more than one, or could be."""
    if len(alerts) == 1 and (about.total or 1) == 1:
        return []
    text = count_text(alerts, about)
    severities = [item.severity for item in alerts]
    counts = [
        f"{severities.count(severity)} {level_of(severity)}"
        for severity in sorted(set(severities), reverse=True)
    ]
    return [f"{text}, {' and '.join(counts)}" if len(counts) > 1 else text]


def _listed(alerts: Sequence[Alerted]) -> list[str]:
    """Return a line for each of the worst alerts, with the tags in which they differ."""
    differing = _differing(alerts)
    lines = []
    for item in worst_first(alerts)[:MOST_LISTED]:
        place = " ".join(f"{name} {item.tags[name]}" for name in differing if name in item.tags)
        lines.append(f"{place}: {alert_line(item)}" if place else alert_line(item))
    more = len(alerts) - MOST_LISTED
    return [*lines, f"and {more} more"] if more > 0 else lines


def _lines_of_one(alert: Alerted) -> list[str]:
    """Return a line for each limit of its level that an alert breaks."""
    if alert.branch.startswith(LATE) or alert.value is None:
        return [alert_line(alert)]
    level = level_of(alert.severity)
    shown = [item for item in _most_broken(alert) if item.get("level", level) == level]
    if not shown:
        return [alert_line(alert)]
    lines = [_limit_line(alert, item) for item in shown[:MOST_LISTED]]
    more = len(shown) - MOST_LISTED
    return [*lines, f"and {more} more"] if more > 0 else lines


def _most_broken(alert: Alerted) -> list[Mapping[str, Any]]:
    """Return its limits: those that decide its level first, then those furthest beyond."""

    def order(item: Mapping[str, Any]) -> tuple[bool, int, float, str]:
        level, margin = item.get("level"), item.get("margin")
        severity = severity_of(level) if level else 0
        is_other = bool(alert.severity) and severity != alert.severity
        return is_other, -severity, margin or 0.0, str(item.get("specification"))

    return sorted(alert.broken, key=order)


def _limit_line(alert: Alerted, shown: Mapping[str, Any] | None) -> str:
    """Return a value and what a limit demands: `PA1 = 8.31 mmag, must be <= 8 (minimum_r)`."""
    name = split_metric_name(alert.metric)[1]
    unit = f" {alert.unit}" if alert.unit else ""
    if shown is None:
        return f"{name} = {number_text(alert.value)}{unit}"
    label = str(shown.get("specification", "")).rpartition(".")[2]
    criterion = shown_criterion(shown, shown.get("unit") or "")
    if criterion is not None and criterion.members:
        if not alert.severity:
            return criterion.words(plain_number, is_ascii=True) + (label and f" ({label})")
        named = f": {', '.join(shown['members'])}" if shown.get("members") else ""
        return f"{criterion.value_text(shown.get('value'))} broken{named}{label and f' ({label})'}"
    if criterion is None:
        demand = f", {shown['words']}" if shown.get("words") else ", breaks its limit"
        return f"{name} = {number_text(alert.value)}{unit}{demand}{label and f' ({label})'}"
    runs = shown.get("runs") if alert.severity else None
    # Of several runs that break it, the newest of all need not.
    value = shown.get("value") if runs else alert.value
    demand = (
        demand_of_past(criterion, value, is_ascii=True)
        if shown.get("type")
        else criterion.words(plain_number, is_ascii=True)
    )
    line = f"{name} = {_value_text(value, criterion, shown)}{unit}, must be {demand}"
    line += f" ({label})" if label else ""
    if runs:
        line += f", broken in {runs['broken']} of the newest {counted(runs['of'], 'run')}"
        if alert.value != value:
            line += f"; the newest has {_value_text(alert.value, criterion, shown)}"
    return line


def _value_text(value: float | None, criterion: Criterion, shown: Mapping[str, Any]) -> str:
    if value is None:
        return NOTHING
    if shown.get("type"):
        return plain_number(float(number_text(value, *criterion.numbers)))
    return beside(value, criterion.numbers)


def _ended(alert: Alerted) -> str | None:
    """Return why an alert has ended though its value need not be well; None if that is not so."""
    found = next((item["ended"] for item in alert.broken if item.get("ended")), None)
    return None if alert.severity or found is None else ENDED.get(found)


def _holds(shown: Sequence[Mapping[str, Any]], alert: Alerted) -> bool:
    """Return whether the value of an alert meets the limits, as far as they can be told."""
    criteria = [shown_criterion(item, item.get("unit") or "") for item in shown]
    return alert.value is None or all(
        criterion is None or criterion.holds(alert.value) for criterion in criteria
    )


def _late_line(alert: Alerted) -> str:
    specification = alert.branch.removeprefix(LATE)
    if not alert.severity:
        return f"{specification} is in time again"
    since = "yet" if alert.time_ns is None else f"since {time_words(alert.time_ns)}"
    # Where `expect.each` names what is expected.
    missing = next((item["missing"] for item in alert.broken if item.get("missing")), "")
    return f"no value for {specification} {since}{f', missing: {missing}' if missing else ''}"


def _where(alerts: Sequence[Alerted], about: About) -> str:
    """Return the line of the tags that all alerts have in common."""
    common = {**about.tags} | {
        name: text
        for name, text in alerts[0].tags.items()
        if all(item.tags.get(name) == text for item in alerts)
    }
    for name in _differing(alerts):
        common.pop(name, None)
    return ", ".join(f"{name} {common[name]}" for name in _in_order(common) if common[name])


def _differing(alerts: Sequence[Alerted]) -> list[str]:
    """Return the tags in which alerts differ."""
    names = _in_order({name for item in alerts for name in item.tags})
    return [name for name in names if len({item.tags.get(name) for item in alerts}) > 1]


def _part(alerts: Sequence[Alerted], about: About) -> str:
    """Return the tag that the alerts of a group are counted by: the finest that is grouped."""
    named = [name for item in alerts[:1] for name in _in_order(item.tags)]
    found = [name for name in named if name in about.grouped] or (
        [] if about.grouped else _differing(alerts) or named
    )
    return found[-1] if found else "series"


def _in_order(names: Iterable[str]) -> list[str]:
    """Put tags in the order in which messages name them."""
    known = {name: place for place, name in enumerate(STANDING_TAGS)}
    return sorted(names, key=lambda name: (known.get(name, len(known)), name))


def _natural(text: str) -> tuple[bool, float, str]:
    """Sort numbers by what they are, before other texts."""
    is_number = text.isascii() and text.isdigit()
    return (not is_number, float(text) if is_number else 0.0, text)
