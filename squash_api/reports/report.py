"""The report on a run, a period or a release: `/report` and `squash report`."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from squash_api.definitions.in_force import DefinitionsInForce
from squash_api.errors import RecordUnavailableError
from squash_api.index.derived import derived_through
from squash_api.index.reader import Reader, View
from squash_api.index.windows import MOST_JOBS, Wanted
from squash_api.record.metrics import MetricRow
from squash_api.reports.comparison import changes_of, compare
from squash_api.reports.document import RANKS, VIOLATED, Comparison, Kind, Report, Unusable
from squash_api.reports.matrix import (
    Key,
    Matrix,
    instruments_of,
    make_matrix,
    near_of,
    rows_of,
    summary_of,
    worst_of,
)
from squash_api.reports.results import Limits, Result, Results
from squash_api.reports.subject import Subject, filters_of, gaps_of, subject_of, title_of
from squash_api.trends.question import Question, ReportQuestion

_TRIES = 5


@dataclass(frozen=True, slots=True)
class _Judged:
    """What was measured of what is asked for, and what it was judged by."""

    results: list[Result]
    jobs: int
    limits: Limits


@dataclass(frozen=True, slots=True)
class _Made:
    """What a report is put together from."""

    subject: Subject
    judged: _Judged
    matrix: Matrix
    changes: dict[Key, Kind]
    comparison: Comparison | None


class PeriodReports:
    """Makes reports from the index of measurements. Safe to use from many threads.

    The last value of each metric and combination of tags counts, judged by the specifications that
    are in force now.

    Parameters
    ----------
    reader
        Where the jobs are.
    definitions
        The specifications in force.
    url
        Public root of the service.
    """

    def __init__(self, reader: Reader, definitions: DefinitionsInForce, *, url: str) -> None:
        self._reader = reader
        self._definitions = definitions
        self._schema = reader.metrics.schema
        self._url = url

    def report(self, question: ReportQuestion, *, now_ns: int) -> Report:
        """Return the report that is asked for; jobs that were posted before are in it.

        Raises
        ------
        InvalidInputError
            If there is no such metric or package, or more is asked for than fits a report.
        """
        self._reader.catch_up()
        with self._reader.view() as view:
            metrics = {row.name for row in view.metrics.by_id.values()}
        subject = subject_of(self._definitions.at(None), metrics, question.about)
        judged = self._judge(subject, question.about)
        other = None if question.other is None else self._judge(subject, question.other)
        both = [*judged.results, *(other.results if other else ())]
        has_instruments = len(instruments_of(both)) > 1
        matrix = make_matrix(judged.results, has_instruments=has_instruments)
        changes: dict[Key, Kind] = {}
        comparison: Comparison | None = None
        if other is not None and question.other is not None:
            before = make_matrix(other.results, has_instruments=has_instruments)
            changes = changes_of(before, matrix)
            comparison = compare(
                before,
                matrix,
                changes,
                title=title_of(question.other, now_ns=now_ns),
                jobs=other.jobs,
            )
        made = _Made(subject, judged, matrix, changes, comparison)
        return self._put_together(question, made, now_ns)

    def _put_together(self, question: ReportQuestion, made: _Made, now_ns: int) -> Report:
        subject, judged, about = made.subject, made.judged, question.about
        rows = rows_of(made.matrix, made.changes)
        found = {item.metric for item in judged.results}
        gaps = gaps_of(subject, found, judged.limits, about, self._schema)
        return Report(
            title=title_of(about, now_ns=now_ns),
            filters={name: list(values) for name, values in filters_of(about).items()},
            url=self._url,
            made=_moment(now_ns),
            since=None if about.since_ns is None else _moment(about.since_ns),
            until=None if about.until_ns is None else _moment(about.until_ns),
            asked={name: list(values) for name, values in question.given.items()},
            summary=summary_of(judged.results, jobs=judged.jobs, missing=len(gaps.missing)),
            columns=made.matrix.columns,
            rows=rows,
            violations=_violations(judged.results),
            worst=worst_of(judged.results),
            near=near_of(judged.results),
            missing=gaps.missing,
            silent_packages=gaps.silent,
            idle=gaps.idle,
            unusable=[Unusable(*item) for item in sorted(judged.limits.unusable.items())],
            unlimited=sorted(found - {row.metric for row in rows}),
            comparison=made.comparison,
        )

    def _judge(self, subject: Subject, question: Question) -> _Judged:
        for _ in range(_TRIES):
            limits = Limits(subject.specifications, self._schema)
            results = read_results(
                self._reader, names=subject.metrics, limits=limits, question=question
            )
            if results is not None:
                return _Judged(results.results(), results.jobs, limits)
        raise RecordUnavailableError("Units of metrics are being changed. Try again.")


def read_results(
    reader: Reader, *, names: Collection[str], limits: Limits, question: Question
) -> Results | None:
    """Judge all values that are asked for; the index is up to date already.

    Parameters
    ----------
    names
        The metrics to read.
    limits
        What to judge by.

    Returns
    -------
    Results or None
        None if the unit of a metric has changed meanwhile: everything is to be read again.

    Raises
    ------
    InvalidInputError
        If there are too many metrics and combinations of tags.
    """
    with reader.view() as view:
        chosen = {number: row for number, row in view.metrics.by_id.items() if row.name in names}
        wanted = _wanted(chosen, limits, question, through=view.ask(derived_through))
        plan = view.windows.plan(wanted)
    results = Results(chosen, limits)
    at_ns: int | None = -1

    def read(view: View) -> tuple[int | None, bool]:
        jobs, entries, through_ns = view.windows.entries(plan, after_ns=at_ns, jobs=MOST_JOBS)
        view.require_settled(jobs)
        now = view.metrics.by_id
        if any(now[number].unit != row.unit for number, row in chosen.items()):
            return None, False
        tags = view.contexts.tags({job.tag_set_id for job in jobs.values()})
        results.take(jobs, entries, tags)
        return through_ns, True

    is_same = True
    while at_ns is not None:
        at_ns, is_same = reader.settled(read)
    return results if is_same else None


def _wanted(
    chosen: Mapping[int, MetricRow], limits: Limits, question: Question, *, through: int
) -> Wanted:
    return Wanted(
        metric_ids=sorted(chosen),
        tags=question.tags,
        run_ids=question.runs,
        version_tags=question.version_tags,
        since_ns=question.since_ns,
        until_ns=question.until_ns,
        through=through,
        has_fields=limits.needs_fields,
        has_absent=True,
    )


def _violations(results: Sequence[Result]) -> int:
    return sum(RANKS[item.state] >= VIOLATED for item in results)


def _moment(time_ns: int) -> str:
    return datetime.fromtimestamp(time_ns // 10**9, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
