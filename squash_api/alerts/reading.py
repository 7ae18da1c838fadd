"""Reading alerts: lists, counts, and all that there is to know of one."""

import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import islice
from typing import Any

from squash_api.alerts.seen import Counts, Detail, Happened, RunValue, Seen, SeenGroup
from squash_api.definitions.in_force import DefinitionsInForce
from squash_api.delivery.verdicts import counted_over
from squash_api.errors import Detail as Place
from squash_api.errors import InvalidInputError, NotFoundError, nearest, sentence
from squash_api.index.code_changes import CodeChanges
from squash_api.index.contexts import Tags
from squash_api.index.history import Entry, history_of
from squash_api.index.reader import Reader, View
from squash_api.ingest.stored_job import artifacts_in
from squash_api.judging.alert_plan import BranchKey
from squash_api.judging.alert_texts import LATE, About, count_text, worst_first
from squash_api.judging.alerts import GROUPED_TAGS, LEVELS, severity_of
from squash_api.judging.limits import Limit, LimitJudge, limits_of
from squash_api.judging.metadata_query import applies
from squash_api.record import alert_lists
from squash_api.record.alert_lists import Listed, Which
from squash_api.record.alerts import (
    ACKNOWLEDGED,
    OPEN,
    AlertRow,
    events_of,
    newest_alert_version,
)
from squash_api.record.silences import SilenceRow, silences_of
from squash_api.schema.names import Context
from squash_api.schema.text import tag_text

MOST_RUNS = 30
"""So many runs of its series an alert shows."""

MOST_ALERTS = 5000
"""So many alerts at most are listed on a page, the newest."""

_MOST_SIMILAR = 10
_MOST_LIVING = 500
_MOST_COUNTED = 20
# A run may have several jobs of a series.
_MOST_ENTRIES = 200
_MOST_TAGS = 20


class Alerts:
    """Reads alerts. Safe to use from many threads."""

    def __init__(
        self,
        reader: Reader,
        definitions: DefinitionsInForce,
        *,
        clock_ns: Callable[[], int] = time.time_ns,
    ) -> None:
        self._reader = reader
        self._definitions = definitions
        self._clock_ns = clock_ns
        self._lock = threading.Lock()
        # For a version of the alerts.
        self._counted: tuple[int, Counts] | None = None

    def counts(self) -> Counts:
        """Count the living alerts; they are counted only when something has changed."""
        with self._reader.view() as view:
            version = view.ask(newest_alert_version)
            with self._lock:
                if self._counted is not None and self._counted[0] == version:
                    return self._counted[1]
            counts = Counts(*view.ask(alert_lists.count_living))
        with self._lock:
            self._counted = (version, counts)
        return counts

    def find(self, which: Which, *, before: int | None = None, limit: int) -> list[Seen]:
        """Return at most `limit` alerts, the newest first, below the id `before`."""
        with self._reader.view() as view:
            found = view.ask(alert_lists.list_alerts, which, before=before, limit=limit)
            return self._seen(view, found)

    def groups(self, seen: Iterable[Seen]) -> list[SeenGroup]:
        """Put alerts into their groups, those that need a person first."""
        by_group: dict[int, list[Seen]] = {}
        for item in seen:
            by_group.setdefault(item.row.group_id, []).append(item)
        with self._reader.view() as view:
            totals = view.ask(alert_lists.sizes_of_groups, by_group)
            found = [
                SeenGroup(some[0].group, _worst_first(some), totals[number], "")
                for number, some in by_group.items()
            ]
            found.sort(key=lambda each: each.order)
            left = _MOST_COUNTED
            for place, group in enumerate(found):
                found[place] = replace(group, text=self._text(view, group, is_counted=left > 0))
                left -= group.total > 1
        return found

    def _text(self, view: View, item: SeenGroup, *, is_counted: bool) -> str:
        """Say what a group is about; what its run measured in all costs a look at the run."""
        rows = [each.row for each in item.alerts]
        grouped: Sequence[str] = GROUPED_TAGS
        total = None
        if is_counted and item.total > 1:
            snapshot = self._definitions.at(None)
            named, total = counted_over(view, item.group, rows[0], snapshot)
            grouped = named or GROUPED_TAGS
        return count_text(rows, About(grouped=grouped, total=total))

    def living_of(self, metric: str, tags: Mapping[str, str]) -> list[Seen]:
        """Return the living alerts of a metric that no tag here excludes, worst first."""
        found = self.find(Which(states=(OPEN, ACKNOWLEDGED), metric=metric), limit=_MOST_LIVING)
        return _worst_first(
            item
            for item in found
            if item.row.metric == metric
            and all(item.row.tags.get(name, text) == text for name, text in tags.items())
        )

    def of_jobs(self, job_ids: Iterable[int]) -> list[Seen]:
        """Return the alerts that jobs have opened or that live because of them, worst first."""
        with self._reader.view() as view:
            return _worst_first(self._seen(view, view.ask(alert_lists.alerts_of_jobs, job_ids)))

    def silenced_by(self, silence: SilenceRow) -> list[Seen]:
        """Return the living alerts that a silence, which may be still to come, is about."""
        living = (OPEN, ACKNOWLEDGED)
        which = Which(states=living, metric=silence.metric, tags=silence.tags)
        return self.find(which, limit=MOST_ALERTS)

    def detail(self, alert_id: int) -> Detail:
        """Return all that there is to know of an alert.

        Raises
        ------
        NotFoundError
            If there is no such alert.
        """
        self._reader.catch_up()
        with self._reader.view() as view:
            listed = view.ask(alert_lists.get_listed, alert_id)
            if listed is None:
                raise NotFoundError(f"There is no alert {alert_id}.")
            row = listed.row
            runs, last_good = self._runs(view, row)
            seen = self._seen(view, view.ask(alert_lists.listed_of_groups, [row.group_id]))
            (own,) = (item for item in seen if item.row.alert_id == alert_id)
            similar = view.ask(alert_lists.before_it, row, limit=_MOST_SIMILAR)
            same_run = view.ask(alert_lists.of_same_run, listed.group, limit=_MOST_SIMILAR)
            job_id = row.opened_job_id
            jobs = () if job_id is None else (job_id,)
            return Detail(
                own,
                self._history(view, alert_id),
                _worst_first(item for item in seen if item != own),
                runs,
                last_good,
                None if job_id is None else _changes(view, last_good, job_id),
                view.ask(artifacts_in, jobs).get(jobs[0], []) if jobs else [],
                self._seen(view, similar),
                self._seen(view, same_run),
            )

    def _seen(self, view: View, found: Iterable[Listed]) -> list[Seen]:
        listed = list(found)
        ids = {number for item in listed if (number := item.row.silence_id) is not None}
        silences = view.ask(silences_of, ids) if ids else {}
        return [
            Seen(item.row, item.group, item.holder, silences.get(item.row.silence_id or 0))
            for item in listed
        ]

    def _history(self, view: View, alert_id: int) -> list[Happened]:
        events = view.ask(events_of, alert_id)
        users = {event.user_id for event in events if event.user_id is not None}
        names = view.ask(alert_lists.names_of, users)
        return [Happened(event, names.get(event.user_id or 0)) for event in events]

    def _runs(self, view: View, row: AlertRow) -> tuple[list[RunValue], RunValue | None]:
        """Return the newest runs of the series of an alert, and the last good one before it."""
        metric = view.metrics.by_name.get(row.metric)
        if metric is None:
            return [], None
        limits = self._limits(row, metric.unit)
        entries = _entries_of(view, metric.metric_id, row, limits)
        found = list(_judged(entries, limits))
        opened = next((item for item in found if item.entry.job_id == row.opened_job_id), None)
        opened_ns = row.opened_ns if opened is None else opened.entry.time_ns
        good = (item for item in found if item.severity == 0 and item.entry.time_ns < opened_ns)
        last_good = next(good, None)
        return found[:MOST_RUNS][::-1], last_good

    def _limits(self, row: AlertRow, unit: str | None) -> list[Limit]:
        """Return the limits of the branch of an alert; none if they are no longer in force."""
        specifications = self._definitions.at(None).by_metric.get(row.metric, ())
        found = limits_of(specifications, unit=unit, schema=self._reader.metrics.schema)
        if row.branch.startswith(LATE):
            return [item for item in found if item.name == row.branch.removeprefix(LATE)]
        return [
            item for item in found if BranchKey.of(item.specification, item.terms).key == row.branch
        ]


def _entries_of(
    view: View, metric_id: int, row: AlertRow, limits: Sequence[Limit]
) -> Iterator[Entry]:
    """Yield the newest entry of each run of the series of an alert, newest first."""
    per = limits[0].specification.per if limits else tuple(row.tags)
    without = [name for name in per if name not in row.tags]

    def has_no_others(tags: Tags) -> bool:
        return not any(name in tags for name in without)

    def suits(context: Context) -> bool:
        return not limits or applies(limits[0].terms, context)

    sets = view.contexts.tag_sets_where(
        {name: [text] for name, text in row.tags.items()}, has_no_others
    )
    runs: set[Any] = set()
    for entry in islice(history_of(view, metric_id, list(sets), suits=suits), _MOST_ENTRIES):
        if entry.run not in runs:
            runs.add(entry.run)
            yield entry


def _judged(entries: Iterable[Entry], limits: Sequence[Limit]) -> Iterator[RunValue]:
    """Judge each entry, newest first, by limits, with those before it as their past."""
    alone = LimitJudge(item for item in limits if item.is_alone)
    known = list(entries)
    for place, entry in enumerate(known):
        if entry.value is None:
            yield RunValue(entry, None)
            continue
        severity = alone.badness(entry.value)
        served = [item for item in limits if not item.is_alone and not item.problem]
        if served:
            past = [each.value for each in known[place + 1 :] if each.value is not None]
            settled = [each for item in served if (each := item.settled(past)) is not None]
            severity = max(severity, LimitJudge(settled).badness(entry.value))
        yield RunValue(entry, severity)


def _changes(view: View, last_good: RunValue | None, job_id: int) -> CodeChanges | None:
    if last_good is None:
        return None
    before = last_good.entry.job_id
    runs = view.runs.of_jobs([before, job_id])
    if before not in runs or job_id not in runs:
        return None
    return view.changes_between(runs[before], runs[job_id])


def _worst_first(seen: Iterable[Seen]) -> list[Seen]:
    found = {item.row.alert_id: item for item in seen}
    rows = worst_first(item.row for item in found.values())
    return [found[row.alert_id] for row in rows]


def which_of(
    *,
    states: Sequence[str] = (),
    severities: Sequence[str] = (),
    metric: str | None = None,
    package: str | None = None,
    tags: Sequence[str] = (),
    since_ns: int | None = None,
    until_ns: int | None = None,
    is_trial: bool | None = None,
    is_silenced: bool | None = None,
    holder: str | None = None,
    group_id: int | None = None,
) -> Which:
    """Read which alerts are wanted; a tag is such as `detector=42`.

    Raises
    ------
    InvalidInputError
        If one of these is wrong.
    """
    if since_ns is not None and until_ns is not None and until_ns < since_ns:
        raise _wrong("until", "`until` is before `since`")
    if metric and package and not f"{metric}.".startswith(f"{package}."):
        raise _wrong(
            "metric", f"`metric` is not of the package `{package[:200]}`: give one of them"
        )
    if len(tags) > _MOST_TAGS:
        raise _wrong("tag", f"`tag` can be given at most {_MOST_TAGS} times")
    return Which(
        states=states,
        severities=[_severity(text) for text in severities],
        metric=metric or package or None,
        tags=dict(map(_tag, tags)),
        since_ns=since_ns,
        until_ns=until_ns,
        is_trial=is_trial,
        is_silenced=is_silenced,
        holder=holder or None,
        group_id=group_id,
    )


def _severity(text: str) -> int:
    level = text.upper()
    if level not in LEVELS:
        hint = nearest(level, LEVELS) or f": it is one of {', '.join(LEVELS)}"
        raise _wrong("severity", f"`severity` is no level{hint}")
    return severity_of(level)


def _tag(text: str) -> tuple[str, str]:
    name, sign, value = text.partition("=")
    if not sign or not name.strip() or not value.strip():
        raise _wrong("tag", "`tag` must be a name and a value, such as detector=42")
    return name.strip(), tag_text(value.strip()) or ""


def _wrong(name: str, message: str) -> InvalidInputError:
    place = Place(("query", name), message, "value_error")
    return InvalidInputError(sentence(message), detail=[place])
