"""The messages of alerts, as Go templates that Kapacitor fills in. Pure.

Text from outside is never read as Slack's markup: the task makes escaped fields of it.
"""

import re
from collections.abc import Iterable, Sequence
from datetime import date

from squash_api.generate.kapacitor.nodes import text_field
from squash_api.generate.kapacitor.text import go_string, precisions, static
from squash_api.judging.alerts import WORST_FIRST
from squash_api.judging.limits import Limit
from squash_api.judging.wording import plain_number
from squash_api.schema.names import (
    GONE,
    MESSAGE_TAGS,
    RUN_ID,
    RUN_URL,
    SQUASH_ID,
    SQUASH_URL,
    split_metric_name,
)
from squash_api.verify.metrics import Metric

SHOWN_FIELDS = (RUN_ID, RUN_URL, SQUASH_URL)
"""The text fields that every message shows if they have a value."""

MOST_LISTED = 3
_TIME = "2006-01-02 15:04 UTC"
_CLAUSE_END = re.compile(r"[:;](?=\s|\Z)|\.(?=\s|\Z)|\s\(")
_LONG = 100
_LINE = "{{ $line }}"


def shown_tags(per: Sequence[str]) -> tuple[str, ...]:
    """Return the tags in a message: those that separate alerts, and `MESSAGE_TAGS`."""
    return tuple(dict.fromkeys((*per, *MESSAGE_TAGS)))


def after_field(day: date) -> str:
    """Return the field, made in the task, that is true after the last day of a mute."""
    return f"squash.after_{day.isoformat()}"


def alert_message(metric: Metric, limits: Sequence[Limit]) -> str:
    """Return the template of a branch's message, without the `whereabouts`."""
    name = split_metric_name(metric.name)[1]
    levels = [level for level in WORST_FIRST if any(item.level == level for item in limits)]
    listed = "".join(
        f"{{{{ else if eq .Level {go_string(level)} }}}}"
        + _broken(name, metric.unit, [limit for limit in limits if limit.level == level])
        for level in levels
    )
    muted = [limit for limit in limits if limit.muted_through is not None]
    gone = f"\n{static(name)} has no value any more: its last one was deleted or withdrawn"
    decimals = max(precisions(limit.criterion.numbers)[0] for limit in limits)
    recovered = f'\n{static(name)} = {{{{ printf "%.{decimals}f" $v }}}}{_unit(metric.unit)}'
    return (
        _opening(name)
        + _still_broken(muted)
        + heading(metric)
        + f'{{{{ if ne (printf "%T" $v) "float64" }}}}\n{static(name)} = {{{{ $v }}}}'
        + _unit(metric.unit)
        + listed
        + (f"{{{{ else if $still }}}}{_broken(name, metric.unit, muted)}" if muted else "")
        + f"{{{{ else if $gone }}}}{gone}, broken since {since()}"
        + f"{{{{ else }}}}{recovered}, broken since {since()}{{{{ end }}}}"
    )


def heading(metric: Metric, more: str = "") -> str:
    """Return the first line: the level and the metric; `more` is a template after the name."""
    package, name = split_metric_name(metric.name)
    clause = first_clause(metric.description)
    return (
        "*{{ if $still }}MUTED{{ else }}{{ .Level }}{{ end }}* "
        + static(f"{metric.display_name or name} ({package})")
        + more
        + static(f": {clause}" if clause else "")
    )


def since() -> str:
    """Return the template of the time, in UTC, at which the previous state began."""
    return f"{{{{ (.Time.Add (.Time.Sub (.Time.Add .Duration))).UTC.Format {go_string(_TIME)} }}}}"


def whereabouts(per: Sequence[str]) -> str:
    """Return the last lines: tags that have a value, and links to the run and the job."""
    tags = "".join(
        f"{{{{ with index .Fields {shown_text(tag)} }}}}{_LINE}{static(tag)} {{{{ . }}}}"
        '{{ $line = ", " }}{{ end }}'
        for tag in shown_tags(per)
    )
    run = (
        f"{{{{ $run := index .Fields {shown_text(RUN_ID)} }}}}"
        f"{{{{ $url := index .Fields {shown_text(RUN_URL)} }}}}"
        f"{{{{ if $url }}}}{_LINE}<{{{{ $url }}}}|run{{{{ if $run }}}} {{{{ $run }}}}{{{{ end }}}}>"
        '{{ $line = ", " }}'
        f"{{{{ else if $run }}}}{_LINE}run {{{{ $run }}}}"
        '{{ $line = ", " }}{{ end }}'
    )
    job = (
        f"{{{{ $job := index .Fields {go_string(SQUASH_ID)} }}}}"
        f"{{{{ with index .Fields {shown_text(SQUASH_URL)} }}}}{_LINE}<{{{{ . }}}}|job"
        '{{ if eq (printf "%T" $job) "float64" }}{{ printf " %.0f" $job }}{{ end }}>{{ end }}'
    )
    return f'{{{{ $line := "\\n" }}}}{tags}{{{{ $line = "\\n" }}}}{run}{job}'


def shown_text(name: str) -> str:
    """Return the name of the field with the shown text of a tag or field, for a Go template."""
    return go_string(text_field(name))


def first_clause(description: str) -> str:
    """Return the first clause of a description, as one short line."""
    text = " ".join(description.split())
    end = _CLAUSE_END.search(text)
    text = text[: end.start()] if end else text
    if len(text) > _LONG:
        text = text.partition(", ")[0]
    if len(text) > _LONG:
        text = text[:_LONG].rpartition(" ")[0] + " ..."
    return text


def _opening(name: str) -> str:
    gone = f"{{{{ $gone := index .Fields {go_string(GONE)} }}}}"
    return f"{{{{ $v := index .Fields {go_string(name)} }}}}{gone}{{{{ $still := false }}}}"


def _still_broken(muted: Iterable[Limit]) -> str:
    """Set `$still` where the level is OK only because the broken limits are muted."""
    terms = "".join(
        f"{{{{ if {limit.criterion.broken_in_go('$v')} }}}}{{{{ $still = true }}}}{{{{ end }}}}"
        for limit in muted
    )
    is_well = '{{ if and (eq .Level "OK") (not $gone) (eq (printf "%T" $v) "float64") }}'
    return f"{is_well}{terms}{{{{ end }}}}" if terms else ""


def _broken(name: str, unit: str, limits: Sequence[Limit]) -> str:
    """List the broken limits of a level, the first of them in words."""
    if len(limits) <= MOST_LISTED:
        return "".join(
            f"{{{{ if {_is_broken(limit)} }}}}{_line(name, unit, limit)}{{{{ end }}}}"
            for limit in limits
        )
    entries = "".join(
        f"{{{{ if {_is_broken(limit)} }}}}{{{{ if lt (len $listed) {MOST_LISTED} }}}}"
        f"{_line(name, unit, limit)}"
        '{{ $listed = print $listed "." }}{{ else }}{{ $more = print $more "." }}{{ end }}{{ end }}'
        for limit in limits
    )
    more = "{{ if $more }}\nand {{ len $more }} more{{ end }}"
    return f'{{{{ $listed := "" }}}}{{{{ $more := "" }}}}{entries}{more}'


def _is_broken(limit: Limit) -> str:
    condition = limit.criterion.broken_in_go("$v")
    if limit.muted_through is None:
        return condition
    # It is listed under MUTED while it is muted, under its level after that.
    after = f"index .Fields {go_string(after_field(limit.muted_through))}"
    return f"and (or $still ({after})) ({condition})"


def _line(name: str, unit: str, limit: Limit) -> str:
    """Return the line of a broken limit, with more decimals where it looks like the value."""
    numbers = limit.criterion.numbers
    first, *others = precisions(numbers)
    value = f'{{{{ $s := printf "%.{first}f" $v }}}}'
    fewer = first
    for decimals in others:
        same = [f"{number:.{fewer}f}".removeprefix("-") for number in numbers]
        alike = " ".join(f"{go_string(text)} {go_string('-' + text)}" for text in same)
        value += f'{{{{ if eq $s {alike} }}}}{{{{ $s = printf "%.{decimals}f" $v }}}}{{{{ end }}}}'
        fewer = decimals
    muted = "" if limit.muted_through is None else f", muted through {limit.muted_through}"
    asked = limit.criterion.words(plain_number, is_ascii=True)
    words = f", must be {asked} ({limit.label}"
    still = f"{{{{ if $still }}}}{muted}{{{{ end }}}}" if muted else ""
    return f"{value}\n{static(name)} = {{{{ $s }}}}{_unit(unit)}{static(words)}{still})"


def _unit(unit: str) -> str:
    return static(f" {unit}" if unit else "")
