"""The conditions in the generated text say what the judge says at every limit; without a server."""

import pytest

from squash_api.generate.kapacitor.tasks import kapacitor_files
from squash_api.metrics_packages.loading import MetricsPackage
from tests.support.boundaries import (
    SCHEMA,
    jobs_of_one_specification,
    made_package,
    number_in,
    own_package,
    sample_package,
    verdict_levels,
)
from tests.support.tick_reader import ReadTask, Seen, read_task

NOW_NS = 1_790_000_000_000_000_000


@pytest.fixture(scope="module", params=["own", "made", "sample"])
def package(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> MetricsPackage:
    if request.param == "made":
        return made_package(tmp_path_factory.mktemp("made") / "made")
    return own_package() if request.param == "own" else sample_package()


@pytest.fixture(scope="module")
def tasks(package: MetricsPackage) -> dict[str, ReadTask]:
    files = kapacitor_files(package, schema=SCHEMA, database="d", retention_policy="r")
    return {
        name: read_task(files[f"kapacitor/tasks/{name}.tick"])
        for name in {item.metric for item in package.specifications.values()}
    }


def test_every_specification_stands_in_one_branch(
    package: MetricsPackage, tasks: dict[str, ReadTask]
) -> None:
    found = [
        f"{metric}.{label}"
        for metric, task in tasks.items()
        for branch in task.branches
        for label in branch.labels
    ]
    assert sorted(found) == sorted(package.specifications)


def test_text_and_judge_agree_at_every_limit(
    package: MetricsPackage, tasks: dict[str, ReadTask]
) -> None:
    branches = {
        f"{metric}.{label}": branch.labels
        for metric, task in tasks.items()
        for branch in task.branches
        for label in branch.labels
    }
    raised = 0
    for specification in package.specifications.values():
        for job in jobs_of_one_specification(package, specification):
            context = SCHEMA.context(job.meta)
            key = specification.metric.partition(".")[2]
            value = job.values.get(specification.metric)
            fields = {**context.fields, **({} if value is None else {key: value})}
            seen = Seen(context.tags, fields, time_ns=NOW_NS, now_ns=NOW_NS)
            judged = verdict_levels(package, job, branches)
            expected = {labels: level for labels, (level, _) in judged.items()}
            assert tasks[specification.metric].levels(seen) == expected, (specification.name, job)
            raised += bool(expected)
    assert raised >= len(package.specifications)


def test_the_numbers_in_the_text_are_the_thresholds_exactly(
    package: MetricsPackage, tasks: dict[str, ReadTask]
) -> None:
    for metric, task in tasks.items():
        written = {
            float(text)
            for branch in task.branches
            for node in branch.nodes
            if node.name in ("crit", "warn", "info")
            for kind, text in node.arguments[0]
            if kind == "number"
        }
        limits = {
            abs(number_in(item, package.metrics[metric].unit))
            for item in package.specifications.values()
            if item.metric == metric
        }
        assert written == limits


def test_data_of_a_week_ago_raise_nothing(tasks: dict[str, ReadTask]) -> None:
    week = 7 * 86400 * 10**9
    seen = Seen({}, {name.partition(".")[2]: 0.0 for name in tasks}, NOW_NS - week, NOW_NS)
    assert not any(task.root.admits(seen) for task in tasks.values())
