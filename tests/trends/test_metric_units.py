from typing import Any

import pytest

from squash_api.errors import InvalidInputError
from squash_api.record.metrics import declare_metrics, note_metrics
from squash_api.trends.question import Question
from squash_api.trends.series import MetricUnits
from tests.support.measured_jobs import MeasuredJobs


def units(jobs: MeasuredJobs, unit: str | None = None) -> MetricUnits:
    found = MetricUnits(unit)
    refresh(jobs, found)
    return found


def refresh(jobs: MeasuredJobs, found: MetricUnits) -> None:
    with jobs.reader.view() as view:
        found.take(view.metrics)


def names(jobs: MeasuredJobs, *chosen: str, packages: tuple[str, ...] = ()) -> list[str]:
    return [row.name for row in units(jobs).choose(Question(metrics=chosen, packages=packages))]


def test_metrics_are_chosen_by_name_and_by_package(jobs: MeasuredJobs) -> None:
    assert names(jobs) == ["p.a", "p.b", "q.a"]
    assert names(jobs, "p.b") == ["p.b"]
    assert names(jobs, "q.a", packages=("p",)) == ["p.a", "p.b", "q.a"]


def test_a_value_is_shown_in_its_metrics_unit_or_in_another(jobs: MeasuredJobs) -> None:
    (metric,) = jobs.ids("p.a")
    assert units(jobs).shown(metric, 1500.0) == ("p.a", "mmag", 1500.0)
    assert units(jobs, "mag").shown(metric, 1500.0) == ("p.a", "mag", 1.5)
    assert units(jobs, "mag").shown(metric, None) == ("p.a", "mag", None)


def test_the_metrics_own_unit_changes_no_bit(jobs: MeasuredJobs) -> None:
    jobs.record.write(lambda connection: declare_metrics(connection, {"d.a": "deg"}))
    (metric,) = jobs.ids("d.a")
    assert units(jobs, "deg").shown(metric, 0.1 + 0.2) == ("d.a", "deg", 0.1 + 0.2)


def test_what_has_no_logarithm_has_no_value(jobs: MeasuredJobs) -> None:
    jobs.record.write(lambda connection: declare_metrics(connection, {"f.a": "Jy"}))
    (metric,) = jobs.ids("f.a")
    assert units(jobs, "mag(AB)").shown(metric, -1.0) == ("f.a", "mag(AB)", None)


def test_a_change_of_unit_is_taken_in(jobs: MeasuredJobs) -> None:
    found = units(jobs, "mag")
    jobs.record.write(lambda connection: declare_metrics(connection, {"p.a": "mag"}))
    refresh(jobs, found)
    assert found.shown(jobs.ids("p.a")[0], 1.0) == ("p.a", "mag", 1.0)


@pytest.mark.parametrize(
    ("unit", "asked", "parameter", "message"),
    [
        (None, (["q.aa"], []), "metric", "There is no metric `q.aa`; did you mean `q.a`?"),
        (None, (["zzz"], []), "metric", "There is no metric `zzz`."),
        (None, ([], ["p", "x"]), "package", "There is no package `x`."),
        ("mag", ([], ["p", "q"]), "unit", "The metric q.a is in 'arcsec', which does not convert"),
        ("mag", (["u.a"], []), "unit", "The metric u.a has no unit yet."),
    ],
)
def test_what_cannot_be_is_refused_with_its_parameter(
    jobs: MeasuredJobs, unit: str | None, asked: Any, parameter: str, message: str
) -> None:
    jobs.record.write(lambda connection: note_metrics(connection, {"u.a": None}))
    with pytest.raises(InvalidInputError) as caught:
        units(jobs, unit).choose(Question(metrics=asked[0], packages=asked[1]))
    assert caught.value.message.startswith(message)
    assert caught.value.detail[0].loc == ("query", parameter)
