"""A report as Markdown for a message or an issue, and as JUnit XML for CI. Pure.

The page of the report writes values, limits and tags with the same functions.
"""

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import lru_cache
from typing import Literal
from xml.etree import ElementTree as ET

from squash_api.judging.alerts import severity_of
from squash_api.judging.states import BROKEN, NOT_MEASURED, counts_text
from squash_api.judging.wording import NOTHING, counted, number_text, percent_text
from squash_api.reports.document import (
    Cell,
    Change,
    Finding,
    JobArtifact,
    LevelChange,
    LevelChanges,
    Report,
    Row,
    Summary,
)

_LONGEST = 60
_MOST_ROWS = 50
_MOST_PACKAGES = 8
# These reverse the direction of text, even of what follows the name that they are in.
_TURNING = re.compile("[\u200e\u200f\u202a-\u202e\u2066-\u2069]")
_NO_XML = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
# Markup inside a line. Underscores inside words are plain text; URLs would become links.
_MARKUP = re.compile(
    r"([\\`*<>\[\]|~$&#!@]|(?<![^\W_])_|_(?![^\W_])|:(?=//)|(?<=www)\.)", re.IGNORECASE
)
# What makes a list or a heading of a line that begins with it.
_LEADING = re.compile(r"\A(\d*)([-+=.)])(?=[-=\s]|\Z)")
_TAG = re.compile(r"\\<(?=[a-zA-Z/!?])")
_CONTROL = re.compile("[\x00-\x1f\x7f-\x9f]")
_BLANKS = re.compile(r"\s+")


def summary_text(summary: Summary) -> str:
    """Say what was counted: metrics and series by their states, and values by what they broke."""
    values = counted(summary.values, "value")
    beyond = f"{summary.failed} beyond a limit"
    if summary.failed:
        beyond += f" ({counts_text(summary.beyond)})"
    absent = f", {summary.absent} absent" if summary.absent else ""
    series = counted(summary.results, "series")
    return (
        f"{counts_text(summary.metrics, 'metric')} in {series}; "
        f"{counted(summary.jobs, 'job')}; {values}: {beyond}{absent}"
    )


def value_text(finding: Finding) -> str:
    """Write a value with its unit."""
    return _with_unit(bare_value_text(finding), finding)


def bare_value_text(finding: Finding) -> str:
    """Write a value with enough digits to differ from its limit."""
    criterion = finding.criterion
    # What a compound counts is not the value.
    if criterion is None or criterion.members:
        return number_text(finding.value)
    return criterion.value_text(finding.value)


def limit_text(finding: Finding) -> str:
    """Write what the value must meet, such as `≤ 15 marcsec`."""
    criterion = finding.criterion
    if criterion is None:
        return NOTHING
    words = criterion.words_against(finding.value)
    return words if criterion.members else _with_unit(words, finding)


def beyond_text(finding: Finding) -> str:
    """Say how many values of the selection broke the limit that is shown."""
    return f"{finding.broken} of {finding.judged}"


def state_text(state: str | None, value: float | None) -> str:
    """Write a state with its value, if it has one; a dash if there is neither."""
    words = [state] if state else []
    return " ".join([*words, *([] if value is None else [number_text(value)])]) or NOTHING


def tags_text(tags: Mapping[str, str]) -> str:
    """Write tags as people read them."""
    return ", ".join(f"{name} {name_text(value)}" for name, value in tags.items()) or NOTHING


def name_text(name: str) -> str:
    """Shorten a name from outside, and remove characters that reverse the direction of text."""
    plain = _TURNING.sub("", name)
    return plain if len(plain) <= _LONGEST else f"{plain[: _LONGEST - 1]}\u2026"


def minute_text(moment: str | None) -> str:
    """Write a moment of a report as day and minute."""
    return NOTHING if moment is None else moment[:16].replace("T", " ")


# A report writes the times of few jobs for many series.
@lru_cache(maxsize=4096)
def moment_text(time_ns: int) -> str:
    """Write a time as a moment of a report: ISO 8601 to the second, in UTC."""
    return datetime.fromtimestamp(time_ns // 10**9, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def _with_unit(text: str, finding: Finding) -> str:
    return f"{text} {finding.unit}" if finding.unit and text != NOTHING else text


@dataclass(frozen=True, slots=True)
class Case:
    """A test case; `text` says why it failed or was skipped, or is a remark if it passed.

    `kind` is the type of a failure.
    """

    group: str
    name: str
    outcome: Literal["passed", "failed", "skipped"] = "passed"
    text: str = ""
    kind: str = ""


def junit_xml(suite: str, cases: Sequence[Case]) -> bytes:
    """Write a suite of test cases; characters that XML does not allow are replaced."""
    outcomes = [case.outcome for case in cases]
    counts = {
        "tests": str(len(cases)),
        "failures": str(outcomes.count("failed")),
        "skipped": str(outcomes.count("skipped")),
    }
    root = ET.Element("testsuites", counts)
    inner = ET.SubElement(root, "testsuite", {"name": _plain(suite), "errors": "0", **counts})
    for case in cases:
        names = {"classname": _plain(case.group), "name": _plain(case.name), "time": "0"}
        element = ET.SubElement(inner, "testcase", names)
        text = _plain(case.text)
        if case.outcome == "failed":
            ET.SubElement(element, "failure", message=text, type=_plain(case.kind))
        elif case.outcome == "skipped":
            ET.SubElement(element, "skipped", message=text)
        elif text:
            ET.SubElement(element, "system-out").text = text
    ET.indent(root)
    document: bytes = ET.tostring(root, encoding="utf-8", xml_declaration=True)
    return document


def _plain(text: str) -> str:
    return _NO_XML.sub("\ufffd", _TURNING.sub("", text))


def report_markdown(report: Report) -> str:
    """Write a report as Markdown, in which no name can act as markup."""
    summary = report.summary
    facts = [
        summary_text(summary),
        *(f"{name}: {', '.join(values)}" for name, values in report.filters.items()),
    ]
    parts = [
        f"# {escaped(name_text(report.title))}",
        f"**{escaped(summary.headline)}**",
        "\n".join(f"- {escaped_line(fact)}" for fact in facts),
    ]
    for heading, table in _sections(report):
        parts.extend([f"## {heading}", table])
    made = f"Made {minute_text(report.made)} UTC by SQuaSH, {report.url}"
    return "\n\n".join([*parts, made]) + "\n"


def markdown_table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Write a table as Markdown; all cells are text without markup."""
    lines = ["".join(f"| {escaped(cell)} " for cell in cells) + "|" for cells in (head, *rows)]
    return "\n".join([lines[0], "|---" * len(head) + "|", *lines[1:]])


def escaped(text: str) -> str:
    """Escape text for Markdown, on one line, of which it is not the beginning.

    What could begin a tag becomes an entity: some that show Markdown know no other escape.
    """
    line = _CONTROL.sub("\ufffd", _TURNING.sub("", _BLANKS.sub(" ", text)))
    return _TAG.sub("&lt;", _MARKUP.sub(r"\\\1", line))


def escaped_line(text: str) -> str:
    """Escape text for Markdown that is a line, or an item of a list."""
    return _LEADING.sub(r"\1\\\2", escaped(text))


def report_junit(report: Report, *, level: str) -> bytes:
    """Write a report as JUnit XML: a case for each cell of the matrix.

    A broken limit milder than `level` is a remark rather than a failure; what was not measured is
    skipped. A broken limit has the first artifact of its job.
    """
    first: dict[int, str] = {}
    for item in report.artifacts:
        first.setdefault(item.job_id, item.url)
    cases = [
        _case(report, row, cell, level=level, artifact=first.get(cell.shown.job_id))
        for row in report.rows
        for cell in row.cells
    ]
    cases += [
        Case(item.metric, "no value", "skipped", f"no value for {', '.join(item.specifications)}")
        for item in report.missing
    ]
    if not cases:
        cases = [Case("report", report.title, "failed", report.summary.headline, "no data")]
    return junit_xml(f"squash report: {report.title}", cases)


def _case(report: Report, row: Row, cell: Cell, *, level: str, artifact: str | None) -> Case:
    name = name_text(report.columns[cell.column].label)
    shown = cell.shown
    text = f"{cell.state}: {shown.specification}: {value_text(shown)}, must be {limit_text(shown)}"
    if cell.results > 1:
        text += f" ({tags_text(shown.tags)}; {cell.broken} of {cell.results} series broken)"
    if artifact is not None:
        text += f"; artifact: {artifact}"
    if cell.state == NOT_MEASURED:
        return Case(row.metric, name, "skipped", NOT_MEASURED)
    if cell.state not in BROKEN:
        return Case(row.metric, name)
    if severity_of(cell.state) < severity_of(level):
        return Case(row.metric, name, "passed", f"broken, but milder than {level}: {text}")
    return Case(row.metric, name, "failed", text, cell.state)


def _sections(report: Report) -> Iterator[tuple[str, str]]:
    if report.worst:
        yield "Broken limits", _findings(report.worst, report.violations)
    if report.artifacts:
        yield "Artifacts", _artifacts(report.artifacts)
    found = report.comparison
    if found is not None:
        heading = f"Compared with {escaped(found.title)}"
        text = escaped_line(found.headline)
        yield heading, f"{text}\n\n{_changes(found.changes)}" if found.changes else text
    if report.change_points is not None:
        yield "Change points", _level_changes(report.change_points)
    if report.rows:
        yield "Metrics by dataset and filter", _matrix(report)
    if report.near:
        yield "Near their limits", _findings(report.near, len(report.near))
    if report.missing or report.silent_packages:
        yield "Not measured", _missing(report)
    for heading, names in (
        ("Limits that applied to nothing", report.idle),
        ("Limits that cannot judge", [f"{i.specification}: {i.reason}" for i in report.unusable]),
        ("Measured, without limits", report.unlimited),
    ):
        if names:
            yield heading, _listed(names)


def _findings(findings: Sequence[Finding], total: int) -> str:
    head = (
        "level",
        "specification",
        "value",
        "must be",
        "margin",
        "where",
        "job",
        "values beyond this limit",
    )
    rows = [
        (
            item.state,
            item.specification or item.metric,
            value_text(item),
            limit_text(item),
            percent_text(item.margin),
            tags_text(item.tags),
            str(item.job_id),
            beyond_text(item),
        )
        for item in findings[:_MOST_ROWS]
    ]
    return markdown_table(head, rows) + _rest(total - len(rows))


def level_change_text(change: LevelChange) -> str:
    """Write the levels before and after a change point, and its size."""
    sizes = f"{number_text(change.before)} \u2192 {number_text(change.after)} {change.unit or ''}"
    return f"{sizes.rstrip()} ({change.times_noise:+.1f} times the noise)"


def level_note(changes: LevelChanges) -> str:
    """Say how many change points there are, or why they are not known."""
    if changes.note or not changes.count:
        return changes.note or "The level of no series has changed."
    rest = f"; the {len(changes.largest)} largest" if changes.count > len(changes.largest) else ""
    return f"The level of a series changed {counted(changes.count, 'time')}{rest}."


def packages_text(change: LevelChange) -> str:
    """Name the packages that changed between the runs around a change point."""
    if change.packages is None:
        return "not known"
    names = [name_text(item.name) for item in change.packages]
    more = f" and {len(names) - _MOST_PACKAGES} more" if len(names) > _MOST_PACKAGES else ""
    return ", ".join(names[:_MOST_PACKAGES]) + more or "nothing"


def _level_changes(changes: LevelChanges) -> str:
    text = escaped_line(level_note(changes))
    head = ("since", "metric", "where", "level", "job", "run", "what changed in the code")
    rows = [
        (
            minute_text(item.time),
            item.metric,
            tags_text(item.tags),
            level_change_text(item),
            str(item.job_id),
            name_text(item.run_id or NOTHING),
            packages_text(item),
        )
        for item in changes.largest
    ]
    return f"{text}\n\n{markdown_table(head, rows)}" if rows else text


def _changes(changes: Sequence[Change]) -> str:
    head = ("what", "metric", "where", "before", "now", "margin before", "margin now")
    rows = [
        (
            item.kind,
            item.metric,
            name_text(item.column),
            state_text(item.state_before, item.value_before),
            state_text(item.state, item.value),
            percent_text(item.margin_before),
            percent_text(item.margin),
        )
        for item in changes[:_MOST_ROWS]
    ]
    return markdown_table(head, rows) + _rest(len(changes) - len(rows))


def _matrix(report: Report) -> str:
    head = ("metric", *(name_text(column.label) for column in report.columns))
    rows = []
    for row in report.rows:
        texts = [""] * len(report.columns)
        for cell in row.cells:
            texts[cell.column] = _cell(cell)
        rows.append((row.metric, *texts))
    return markdown_table(head, rows)


def _cell(cell: Cell) -> str:
    count = f" ({cell.broken} of {cell.results} series)" if cell.broken and cell.results > 1 else ""
    return state_text(f"{cell.state}{count}", cell.shown.value)


def _missing(report: Report) -> str:
    lines = [f"{item.metric}: {', '.join(item.specifications)}" for item in report.missing]
    lines += [
        f"{item.package}: nothing; it has {counted(item.metrics, 'metric')} with limits"
        for item in report.silent_packages
    ]
    return _listed(lines)


def _artifacts(artifacts: Sequence[JobArtifact]) -> str:
    # These URLs have nothing that could end a link.
    lines = [
        f"- job {item.job_id}: {escaped(name_text(item.label))}: <{item.url}>"
        for item in artifacts[:_MOST_ROWS]
    ]
    return "\n".join(lines) + _rest(len(artifacts) - len(lines))


def _listed(lines: Sequence[str]) -> str:
    shown = [f"- {escaped_line(line)}" for line in lines[:_MOST_ROWS]]
    return "\n".join(shown) + _rest(len(lines) - len(shown))


def _rest(number: int) -> str:
    return f"\n\nand {number} more" if number > 0 else ""
