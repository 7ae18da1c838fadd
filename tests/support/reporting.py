"""Results, and a record with jobs that reports are made of."""

from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any

from squash_api.judging.limits import Verdict, judge, limits_of
from squash_api.judging.specifications import specification_from_json
from squash_api.record.metrics import declare_metrics
from squash_api.reports.document import Cell, Column, Report
from squash_api.reports.matrix import Key, Matrix, make_matrix
from squash_api.reports.results import Result
from squash_api.schema.names import Schema
from squash_api.trends.question import read_report_question
from tests.support.definitions import spec
from tests.support.observatory import Observatory

URL = "https://squash.example.org"
HOSTILE = "\"'><script>alert(1)</script> [x](javascript:alert(1)) `|` \u202eevil" + "y" * 10_000


def verdict(value: float | None, *, last: str = "design", limit: float = 5.0) -> Verdict:
    """Return the verdict on a value by `p.a.<last>`, which asks for less than the limit."""
    document = spec(f"p.a.{last}", value=limit, tags=[last])
    (made,) = limits_of([specification_from_json(document)], unit="mmag", schema=Schema())
    return judge(made, value)


def result(
    value: float | None = 1.0,
    *verdicts: Verdict,
    metric: str = "p.a",
    job_id: int = 7,
    counts: tuple[int, int, int] = (1, 0, 0),
    **tags: str,
) -> Result:
    """Return a result; by default it is judged by `p.a.design`. `counts` end with the absent."""
    return Result(
        metric=metric,
        unit="mmag",
        tags=tuple(tags.items()),
        value=value,
        time_ns=1_795_348_800 * 10**9,
        job_id=job_id,
        run_id=None,
        run_url=None,
        verdicts=verdicts or (verdict(value),),
        values=counts[0],
        failed=counts[1],
        absent=counts[2],
    )


def unlimited(value: float = 1.0, metric: str = "p.b", **tags: str) -> Result:
    """Return a result that no specification applies to."""
    found = result(value, metric=metric)
    return replace(found, tags=tuple(tags.items()), verdicts=())


def matrix(*results: Result) -> Matrix:
    """Return the matrix of results."""
    return make_matrix(results, has_instruments=False)


def cell(found: Matrix, metric: str = "p.a", *, dataset: str | None = None) -> Cell:
    """Return the only cell of a metric, or that of a dataset."""
    (chosen,) = (
        item
        for (name, column), item in found.cells.items()
        if name == metric and dataset in (None, column.dataset)
    )
    return chosen


def key(metric: str = "p.a", **column: Any) -> Key:
    """Return the key of a cell."""
    return metric, Column(column.get("dataset"), column.get("filter"))


class ReportedJobs(Observatory):
    """An observatory of which reports are made."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder, url=URL)

    def change_unit(self, name: str, unit: str) -> None:
        """Give a metric another unit, whatever its specifications say."""
        self.record.write(lambda connection: declare_metrics(connection, {name: unit}))

    def report(self, *parameters: tuple[str, str], **given: str) -> Report:
        """Return the report that parameters ask for."""
        asked: Iterable[tuple[str, str]] = [*parameters, *given.items()]
        request = read_report_question(asked, now_ns=self.now_ns)
        return self.reports.report(request, now_ns=self.now_ns)
