"""The messages of alerts, as Go templates that Kapacitor fills in. Pure.

Text from outside is never read as Slack's markup: the task makes escaped fields of it.
"""

from collections.abc import Iterable, Sequence
from datetime import date

from squash_api.errors import runbook_path
from squash_api.generate.kapacitor.nodes import ROOT_URL, text_field
from squash_api.generate.kapacitor.text import go_string, static
from squash_api.judging.alert_texts import MOST_LISTED, SYMBOLS, first_clause
from squash_api.judging.alerts import WORST_FIRST, duration_text
from squash_api.judging.limits import Limit
from squash_api.judging.specifications import DEFAULT_MAX_AGE_S
from squash_api.judging.wording import HUGE, exact_number, plain_number, precisions
from squash_api.schema.names import (
    ARTIFACT_URL,
    GONE,
    GONE_WHOLLY,
    MESSAGE_TAGS,
    RUN_ID,
    RUN_URL,
    SINCE_GOOD,
    SQUASH_ID,
    SQUASH_URL,
    split_metric_name,
)
from squash_api.verify.metrics import Metric

SHOWN_FIELDS = (RUN_ID, RUN_URL, SQUASH_URL)
"""The text fields that every message shows if they have a value."""

_TIME = "2006-01-02 15:04 UTC"
_LINE = "{{ $line }}"


def shown_tags(per: Sequence[str]) -> tuple[str, ...]:
    """Return the tags in a message: those that separate alerts, and `MESSAGE_TAGS`."""
    return tuple(dict.fromkeys((*per, *MESSAGE_TAGS)))


def after_field(day: date) -> str:
    """Return the field, made in the task, that is true after the last day of a mute."""
    return f"squash.after_{day.isoformat()}"


def alert_message(
    metric: Metric, limits: Sequence[Limit], *, max_age_s: int = DEFAULT_MAX_AGE_S
) -> str:
    """Return the template of a branch's message, without the `whereabouts`.

    `max_age_s` is the age from which on values raise no alert.
    """
    name = split_metric_name(metric.name)[1]
    levels = [level for level in WORST_FIRST if any(item.level == level for item in limits)]
    listed = "".join(
        f"{{{{ else if eq .Level {go_string(level)} }}}}"
        + _broken(name, metric.unit, [limit for limit in limits if limit.level == level])
        for level in levels
    )
    muted = [limit for limit in limits if limit.muted_through is not None]
    too_old = (
        f"the newest value that is left is older than {duration_text(max_age_s)}, "
        "too old to alert on"
    )
    gone = (
        f"\n{static(name)}{{{{ if gt $gone {exact_number(GONE_WHOLLY)} }}}}: {too_old}"
        "{{ else }} has no value any more: its last one was deleted or withdrawn{{ end }}"
    )
    return (
        _opening(name)
        + _still_broken(muted)
        + heading(metric)
        + f'{{{{ if ne (printf "%T" $v) "float64" }}}}\n{static(name)} = {{{{ $v }}}}'
        + _unit(metric.unit)
        + listed
        + (f"{{{{ else if $still }}}}{_broken(name, metric.unit, muted)}" if muted else "")
        + f"{{{{ else if $gone }}}}{gone}{was('broken')}"
        + f"{{{{ else }}}}{_well(name, metric.unit, limits)}{was('broken')}{{{{ end }}}}"
    )


def heading(metric: Metric, more: str = "") -> str:
    """Return the first line: the level and the metric; `more` is a template after the name."""
    package, name = split_metric_name(metric.name)
    clause = first_clause(metric.description)
    return (
        f"{{{{ if $still }}}}{SYMBOLS['MUTED']} *MUTED*"
        f"{{{{ else }}}}{level_symbol()} *{{{{ .Level }}}}*{{{{ end }}}} "
        + static(f"{metric.display_name or name} ({package})")
        + more
        + static(f": {clause}" if clause else "")
    )


def level_symbol() -> str:
    """Return the template of a symbol in the color of the level.

    Kapacitor gives Slack the color of a recovery for INFO too.
    """
    *others, last = ((level, SYMBOLS[level]) for level in (*WORST_FIRST, "OK"))
    tests = "".join(
        f"{{{{ {'else if' if number else 'if'} eq .Level {go_string(level)} }}}}{symbol}"
        for number, (level, symbol) in enumerate(others)
    )
    return f"{tests}{{{{ else }}}}{last[1]}{{{{ end }}}}"


def since() -> str:
    """Return the template of the time, in UTC, at which the previous state began.

    For a recovery this is when the alert was raised.
    """
    return f"{{{{ (.Time.Add (.Time.Sub (.Time.Add .Duration))).UTC.Format {go_string(_TIME)} }}}}"


def duration() -> str:
    """Return the template of how long the alert was raised; templates cannot divide by a day."""
    texts = ('{{ printf "%.0f h" .Duration.Hours }}', '{{ printf "%.1f h" .Duration.Hours }}')
    minutes = (
        "{{ if lt .Duration.Minutes 1.0 }}less than 1 min"
        '{{ else }}{{ printf "%.0f min" .Duration.Minutes }}{{ end }}'
    )
    return (
        f"{{{{ if ge .Duration.Hours 48.0 }}}}{texts[0]}"
        f"{{{{ else if ge .Duration.Hours 2.0 }}}}{texts[1]}{{{{ else }}}}{minutes}{{{{ end }}}}"
    )


def was(word: str) -> str:
    """Return the last line of a recovery: how long and from when on something was `word`.

    The duration is between times of jobs: none is said if the value told is no newer than the one
    that raised the alert, as after a deletion or a correction.
    """
    how_long = f"{{{{ if gt .Duration.Seconds 0.0 }}}} for {duration()},{{{{ end }}}}"
    return f"\nwas {word}{how_long} from {since()} on"


def whereabouts(per: Sequence[str], *, runbook: str, is_of_value: bool = False) -> str:
    """Return the last lines: tags that have a value, and links to the run, the job and the runbook.

    `runbook` is the entry that says what to do; a recovery has no link to it. If it `is_of_value`,
    the points may name an artifact of the job, and what has changed since the last good run.
    """
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
        '{{ if eq (printf "%T" $job) "float64" }}{{ printf " %.0f" $job }}{{ end }}>'
        '{{ $line = ", " }}{{ end }}'
    )
    artifact = (
        f"{{{{ with index .Fields {shown_text(ARTIFACT_URL)} }}}}{_LINE}<{{{{ . }}}}|artifact>"
        '{{ $line = ", " }}{{ end }}'
    )
    advice = (
        f'{{{{ if ne .Level "OK" }}}}{{{{ with index .Fields {go_string(ROOT_URL)} }}}}{_LINE}'
        f"<{{{{ . }}}}{runbook_path(runbook)}|what to do>"
        f"{{{{ else }}}}{_LINE}{runbook_words(runbook)}{{{{ end }}}}{{{{ end }}}}"
    )
    lines = f'{{{{ $line := "\\n" }}}}{tags}{{{{ $line = "\\n" }}}}{run}{job}'
    if is_of_value:
        return f"{_since_good()}{lines}{artifact}{advice}"
    return lines + advice


def _since_good() -> str:
    """Return the line on what has changed since the last good run, which a recovery has not."""
    return (
        f'{{{{ if ne .Level "OK" }}}}{{{{ with index .Fields {shown_text(SINCE_GOOD)} }}}}'
        '{{ "\\n" }}since last good: {{ . }}{{ end }}{{ end }}'
    )


def runbook_words(runbook: str) -> str:
    """Name an entry of the runbook where there is nothing to make a link of."""
    return f"what to do: docs/runbook.md, {runbook}"


def shown_text(name: str) -> str:
    """Return the name of the field with the shown text of a tag or field, for a Go template."""
    return go_string(text_field(name))


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


def _well(name: str, unit: str, limits: Sequence[Limit]) -> str:
    """Return the line of a value that meets all limits, with those that it was judged by."""
    listed = ", ".join(_asked(limit) for limit in limits[:MOST_LISTED])
    more = f" and {len(limits) - MOST_LISTED} more" if len(limits) > MOST_LISTED else ""
    numbers = [number for limit in limits for number in limit.criterion.numbers]
    # Equal numbers may look equal.
    value = shown_value(
        numbers, unless="".join(f" (eq $v {exact_number(item)})" for item in numbers)
    )
    return f"{value}\n{static(name)} = {{{{ $s }}}}{_unit(unit)}, must be {static(listed + more)}"


def _line(name: str, unit: str, limit: Limit) -> str:
    """Return the line of a broken limit, with more decimals where it looks like the value."""
    muted = "" if limit.muted_through is None else f", muted through {limit.muted_through}"
    words = f", must be {_asked(limit).removesuffix(')')}"
    still = f"{{{{ if $still }}}}{muted}{{{{ end }}}}" if muted else ""
    value = shown_value(limit.criterion.numbers)
    return f"{value}\n{static(name)} = {{{{ $s }}}}{_unit(unit)}{static(words)}{still})"


def _asked(limit: Limit) -> str:
    """Return what a limit demands and its name, such as `<= 8 (minimum_r)`."""
    return f"{limit.criterion.words(plain_number, is_ascii=True)} ({limit.label})"


def shown_value(numbers: Sequence[float], *, unless: str = "") -> str:
    """Set `$s` to the value, with more decimals where it looks like one of the numbers.

    It keeps the fewest if one of the terms `unless` is true. A huge value gets an exponent, unless
    a number is huge too.
    """
    first, *others = precisions(numbers)
    value = f'{{{{ $s := printf "%.{first}f" $v }}}}'
    fewer = first
    for decimals in others:
        same = [f"{number:.{fewer}f}".removeprefix("-") for number in numbers]
        alike = " ".join(
            f"{go_string(text)} {go_string('-' + text)}" for text in dict.fromkeys(same)
        )
        is_alike = f"eq $s {alike}"
        if unless:
            is_alike = f"and (not (or false{unless})) ({is_alike})"
        value += f'{{{{ if {is_alike} }}}}{{{{ $s = printf "%.{decimals}f" $v }}}}{{{{ end }}}}'
        fewer = decimals
    if all(abs(number) < HUGE for number in numbers):
        huge = exact_number(HUGE)
        is_huge = f"or (ge $v {huge}) (le $v -{huge})"
        value += f'{{{{ if {is_huge} }}}}{{{{ $s = printf "%.3e" $v }}}}{{{{ end }}}}'
    return value


def _unit(unit: str) -> str:
    return static(f" {unit}" if unit else "")
