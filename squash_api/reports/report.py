"""The report on a run, a period or a release: `/report` and `squash report`."""

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import islice

from squash_api.alerts.freshness import Combination
from squash_api.definitions.in_force import DefinitionsInForce
from squash_api.errors import RecordUnavailableError
from squash_api.index.derived import derived_through
from squash_api.index.reader import Reader, View
from squash_api.index.windows import MOST_JOBS, Wanted
from squash_api.ingest.stored_job import artifacts_in
from squash_api.judging.states import BROKEN
from squash_api.record.metrics import MetricRow
from squash_api.reports.document import (
    MOST_OF_A_JOB,
    ChangedPackage,
    Comparison,
    Finding,
    JobArtifact,
    Kind,
    LevelChange,
    LevelChanges,
    Report,
    Row,
    Unusable,
)
from squash_api.reports.matrix import (
    Key,
    Matrix,
    changes_of,
    compare,
    instruments_of,
    make_matrix,
    near_of,
    rows_of,
    summary_of,
    worst_of,
)
from squash_api.reports.results import MOST_KEPT, Kept, Limits, Result, Results
from squash_api.reports.subject import Subject, filters_of, gaps_of, subject_of, title_of
from squash_api.reports.texts import moment_text
from squash_api.schema.artifacts import may_have_artifacts
from squash_api.standings.evidence import Evidence, JobEvidence
from squash_api.trends.change_points import MISSING, ChangePoint, change_points, is_installed
from squash_api.trends.question import Question, ReportQuestion

_TRIES = 5
# Artifacts are in the documents of jobs, each of which takes about a millisecond to read.
_MOST_LOOKED_AT = 1000
_MOST_JOBS_WITH_ARTIFACTS = 50
_MOST_LEVEL_CHANGES = 50


class PeriodReports:
    """Makes reports from the index of measurements. Safe to use from many threads.

    The last value of each metric and combination counts, judged by the specifications that are in
    force now.

    Parameters
    ----------
    url
        Public root of the service.
    """

    def __init__(
        self,
        reader: Reader,
        definitions: DefinitionsInForce,
        *,
        url: str,
        evidence: Evidence | None = None,
    ) -> None:
        self._reader = reader
        self._definitions = definitions
        self._evidence = evidence
        self._schema = reader.metrics.schema
        self._url = url

    def report(self, question: ReportQuestion, *, now_ns: int) -> Report:
        """Make a report; it includes all jobs that were posted before.

        Raises
        ------
        InvalidInputError
            If a metric or package is unknown, or a report cannot hold all that is asked for.
        """
        self._reader.catch_up()
        with self._reader.view() as view:
            metrics = {row.name for row in view.metrics.by_id.values()}
        about, other = question.about, question.other
        subject = subject_of(self._definitions.at(None), metrics, about)
        judged_before = None if other is None else self._judge(subject, other)
        kept = Kept() if about.has_steps else None
        judged = self._judge(subject, about, kept)
        results = self._results_of(judged)
        before = [] if judged_before is None else self._results_of(judged_before)
        has_instruments = len(instruments_of([*results, *before])) > 1
        matrix = make_matrix(results, has_instruments=has_instruments)
        changes: dict[Key, Kind] = {}
        comparison: Comparison | None = None
        if other is not None and judged_before is not None:
            matrix_before = make_matrix(before, has_instruments=has_instruments)
            changes = changes_of(matrix_before, matrix)
            comparison = compare(
                matrix_before,
                matrix,
                changes,
                title=title_of(other, now_ns=now_ns),
                jobs=judged_before.jobs,
            )
        report = self._put_together(
            question,
            subject,
            judged,
            results=results,
            matrix=matrix,
            changes=changes,
            comparison=comparison,
            now_ns=now_ns,
        )
        if kept is None:
            return report
        return replace(report, change_points=self._level_changes(kept, judged))

    def _put_together(
        self,
        question: ReportQuestion,
        subject: Subject,
        judged: Results,
        *,
        results: Sequence[Result],
        matrix: Matrix,
        changes: Mapping[Key, Kind],
        comparison: Comparison | None,
        now_ns: int,
    ) -> Report:
        about, limits = question.about, judged.limits
        rows = rows_of(matrix, changes)
        found = {item.metric for item in results}
        gaps = gaps_of(subject, found, limits, about, self._schema)
        worst, near = worst_of(results), near_of(results)
        return Report(
            title=title_of(about, now_ns=now_ns),
            filters={name: list(values) for name, values in filters_of(about).items()},
            url=self._url,
            made=moment_text(now_ns),
            since=None if about.since_ns is None else moment_text(about.since_ns),
            until=None if about.until_ns is None else moment_text(about.until_ns),
            asked={name: list(values) for name, values in question.given.items()},
            summary=summary_of(results, jobs=judged.jobs, missing=len(gaps.missing)),
            columns=matrix.columns,
            rows=rows,
            violations=sum(item.state in BROKEN for item in results),
            worst=worst,
            near=near,
            missing=gaps.missing,
            silent_packages=gaps.silent,
            idle=gaps.idle,
            unusable=[Unusable(*item) for item in sorted(limits.unusable.items())],
            unlimited=sorted(found - {row.metric for row in rows}),
            comparison=comparison,
            artifacts=self._artifacts([*worst, *near, *_shown_in(rows)]),
        )

    def _level_changes(self, kept: Kept, judged: Results) -> LevelChanges:
        """Find the change points of all series."""
        if not is_installed():
            return LevelChanges(MISSING)
        series = kept.series()
        if series is None:
            return LevelChanges(
                f"Change points are not looked for in more than {MOST_KEPT:,} values: ask for "
                "less, for instance for one package or dataset."
            )
        with self._reader.view() as view:
            found = [
                (judged.metrics[metric_id], tags, point)
                for (metric_id, tags), values in sorted(series.items())
                for point in change_points(view, values)
            ]
        found.sort(key=lambda item: -abs(item[2].sigmas))
        largest = [_level_change(*item) for item in found[:_MOST_LEVEL_CHANGES]]
        return LevelChanges(count=len(found), largest=largest)

    def _artifacts(self, findings: Iterable[Finding]) -> list[JobArtifact]:
        """Find the artifacts of the jobs that a report shows, in the order of the findings."""
        shown: dict[int, Finding] = {}
        for item in findings:
            shown.setdefault(item.job_id, item)
        with self._reader.view() as view:
            contexts = view.contexts.of(islice(shown, _MOST_LOOKED_AT))
            may_have = [
                number
                for number in shown
                if number in contexts and may_have_artifacts(contexts[number].context)
            ]
            found = view.ask(artifacts_in, may_have[:_MOST_JOBS_WITH_ARTIFACTS])
        return [
            JobArtifact(
                job_id=number,
                run_id=shown[number].run_id,
                key=item.key,
                url=item.url,
                type=item.type,
                description=item.description,
            )
            for number in shown
            for item in found.get(number, [])[:MOST_OF_A_JOB]
        ]

    def _results_of(self, judged: Results) -> list[Result]:
        """List results; limits that need more than a value judge the last one of each."""
        evidence, snapshot = self._evidence, self._definitions.at(None)
        if evidence is None or all(
            item.criterion.is_alone for some in snapshot.by_metric.values() for item in some
        ):
            return judged.results()
        with self._reader.view() as view:

            def of(job_id: int) -> JobEvidence | None:
                job = view.contexts.of([job_id]).get(job_id)
                return None if job is None else evidence.of(view, job, snapshot)

            return judged.results(of)

    def _judge(self, subject: Subject, question: Question, kept: Kept | None = None) -> Results:
        for _ in range(_TRIES):
            if kept is not None:
                kept.clear()
            limits = Limits(subject.specifications, self._schema)
            results = read_results(
                self._reader, names=subject.metrics, limits=limits, question=question, kept=kept
            )
            if results is not None:
                return results
        raise RecordUnavailableError("Units of metrics are being changed. Try again.")


def _level_change(metric: MetricRow, tags: Combination, found: ChangePoint) -> LevelChange:
    packages = None if found.changes is None else found.changes.packages
    return LevelChange(
        metric=metric.name,
        tags=dict(tags),
        unit=metric.unit,
        time=moment_text(found.time_ns),
        before=found.step.before,
        after=found.step.after,
        times_noise=found.sigmas,
        job_before=found.job_before,
        job_id=found.job_id,
        run_id=found.run_id,
        packages=None
        if packages is None
        else [ChangedPackage(item.name, item.before, item.after, item.link) for item in packages],
    )


def _shown_in(rows: Sequence[Row]) -> Iterator[Finding]:
    for row in rows:
        yield from (cell.shown for cell in row.cells)


def read_results(
    reader: Reader,
    *,
    names: Collection[str],
    limits: Limits,
    question: Question,
    kept: Kept | None = None,
) -> Results | None:
    """Judge all values that are asked for, and keep their series; the index must be up to date.

    Returns
    -------
    Results or None
        None if the unit of a metric has changed, so that everything must be read again.

    Raises
    ------
    InvalidInputError
        If there are too many metrics and combinations.
    """
    with reader.view() as view:
        chosen = {number: row for number, row in view.metrics.by_id.items() if row.name in names}
        wanted = Wanted(
            metric_ids=sorted(chosen),
            tags=question.tags,
            run_ids=question.runs,
            version_tags=question.version_tags,
            since_ns=question.since_ns,
            until_ns=question.until_ns,
            through=view.ask(derived_through),
            has_fields=limits.needs_fields,
            has_absent=True,
        )
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
        results.take(jobs, kept.keep(jobs, entries, tags) if kept else entries, tags)
        return through_ns, True

    is_same = True
    while at_ns is not None:
        at_ns, is_same = reader.settled(read)
    return results if is_same else None
