"""The load directory as text; what Kapacitor makes of it is in tests/integration/test_alerts*."""

from pathlib import Path

import pytest

from squash_api.errors import SettingsError
from squash_api.generate.files import file_problems, with_marks
from squash_api.generate.kapacitor.tasks import kapacitor_files, noted_unit, unit_note
from squash_api.judging.alert_plan import Branch, watched_metrics
from squash_api.metrics_packages.loading import MetricsPackage, load_metrics_package
from squash_api.schema.names import NOT_FOR
from tests.support.boundaries import (
    SCHEMA,
    jobs_of_one_specification,
    made_package,
    numbers_in,
    own_package,
    sample_package,
    verdict_levels,
)
from tests.support.metrics_packages import write_metrics_package
from tests.support.tick_reader import ReadTask, Seen, read_task

LATE = """
name: AM1.design
threshold: {operator: "<=", unit: marcsec, value: 10}
expect: {every: 24h}
alert: {channel: "#late"}
"""


def files_of(package: MetricsPackage, database: str = "squash") -> dict[str, str]:
    return kapacitor_files(package, schema=SCHEMA, database=database, retention_policy="autogen")


def package_of(tmp_path: Path, specs: str) -> MetricsPackage:
    package = load_metrics_package(write_metrics_package(tmp_path, specs=specs))
    assert package.problems == ()
    return package


def one(extra: str, value: float = 10.0) -> str:
    threshold = f'{{operator: "<=", unit: marcsec, value: {value}}}'
    return f"name: AM1.design\nthreshold: {threshold}\n{extra}\n"


def test_there_is_a_task_per_metric_those_of_the_service_and_a_handler(tmp_path: Path) -> None:
    files = files_of(load_metrics_package(write_metrics_package(tmp_path)))
    assert list(files) == [
        "kapacitor/handlers/metrics-default-slack.yaml",
        "kapacitor/tasks/squash.delivery.tick",
        "kapacitor/tasks/squash.heartbeat.tick",
        "kapacitor/tasks/squash.service.tick",
        "kapacitor/tasks/squash.silence.tick",
        "kapacitor/tasks/squash.verdict.tick",
        "kapacitor/tasks/validate.AM1.tick",
        "kapacitor/tasks/validate.PA1.tick",
    ]


def test_what_is_expected_has_a_task_and_a_channel_a_handler(tmp_path: Path) -> None:
    files = files_of(package_of(tmp_path, LATE))
    assert "kapacitor/tasks/squash.freshness.tick" in files
    assert "kapacitor/handlers/metrics-channel-late-slack.yaml" in files
    assert (
        "\n// From demo/specs/validate/limits.yaml\n"
        in (files["kapacitor/tasks/squash.freshness.tick"])
    )


def test_the_files_are_sound() -> None:
    assert file_problems(with_marks(files_of(own_package()))) == []


def test_the_same_definitions_give_the_same_bytes() -> None:
    assert files_of(own_package()) == files_of(own_package())


def test_the_order_of_specifications_does_not_matter() -> None:
    package = own_package()
    turned = MetricsPackage(
        package.directory,
        dict(reversed(package.metrics.items())),
        dict(reversed(package.specifications.items())),
        (),
    )
    assert files_of(turned) == files_of(package)


def test_a_task_names_its_sources_and_no_place_of_this_machine() -> None:
    files = files_of(own_package())
    assert (
        "\n// From srd/specs/validate_drp/photometry.yaml\n"
        in (files["kapacitor/tasks/validate_drp.PA1.tick"])
    )
    assert not [path for path, text in files.items() if str(Path.cwd()) in text]


def test_the_database_is_that_of_the_argument(tmp_path: Path) -> None:
    files = files_of(package_of(tmp_path, LATE), 'my "db"')
    tasks = [text for path, text in files.items() if path.endswith(".tick")]
    assert all('\ndbrp "my \\"db\\""."autogen"\n' in text for text in tasks)


def test_a_database_that_cannot_be_written_is_refused(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="backslash"):
        files_of(package_of(tmp_path, LATE), "db\\")


@pytest.mark.parametrize(
    "alert",
    ["after: {runs: 2, of: 3}", "min_runs: 3", "trial: true"],
    ids=["after", "min", "trial"],
)
def test_what_only_the_service_raises_and_what_is_on_trial_has_no_branch(
    tmp_path: Path, alert: str
) -> None:
    name = "kapacitor/tasks/validate.AM1.tick"
    assert name not in files_of(package_of(tmp_path / "a", one(f"alert: {{{alert}}}")))
    both = one("") + "---\n" + one(f"alert: {{{alert}}}").replace("design", "other")
    task = read_task(files_of(package_of(tmp_path / "b", both))[name])
    assert [branch.labels for branch in task.branches] == [("design",)]


def test_a_verdict_goes_to_its_topic_and_to_the_default_one_if_there_is_none(
    tmp_path: Path,
) -> None:
    trial = one("alert: {trial: true, channel: '#b'}").replace("design", "other")
    specs = one('alert: {channel: "#a"}') + "---\n" + trial
    files = files_of(package_of(tmp_path, specs))
    assert "kapacitor/handlers/metrics-channel-b-slack.yaml" not in files
    task = read_task(files["kapacitor/tasks/squash.verdict.tick"])

    def heard(topic: str, severity: float) -> dict[tuple[str, ...], str]:
        fields: dict[str, float | str] = {"severity": severity, "text": "x", "topic": topic}
        return task.levels(Seen({"metric": "m", "branch": "b", "squash_group": "1"}, fields))

    assert heard("metrics-channel-a", 3.0) == {("metrics-channel-a",): "CRITICAL"}
    assert heard("metrics-default", 2.0) == {("metrics-default",): "WARNING"}
    assert heard("metrics-channel-gone", 1.0) == {("metrics-default",): "INFO"}
    assert heard("metrics-channel-a", 0.0) == {}


def test_a_branch_does_not_alert_on_a_point_that_is_not_for_it(tmp_path: Path) -> None:
    branch = branch_of(tmp_path / "a", one(""))
    task = read_task(
        files_of(package_of(tmp_path / "b", one("")))["kapacitor/tasks/validate.AM1.tick"]
    )
    for marked, count in ((branch.key, 0), ("0" * 12, 1), (f"{'0' * 12} {branch.key}", 0)):
        seen = Seen({}, {"AM1": 99.0, NOT_FOR: marked}, time_ns=NOW_NS, now_ns=NOW_NS)
        assert len(task.levels(seen)) == count


def branch_of(tmp_path: Path, specs: str) -> Branch:
    package = package_of(tmp_path, specs)
    (found,) = watched_metrics(package.specifications.values(), package.metrics, SCHEMA)
    (branch,) = found.branches
    return branch


def test_a_branch_keeps_its_key_when_its_limits_change(tmp_path: Path) -> None:
    mute = "alert: {mute: {until: 2999-01-01, why: known}}"
    keys = {
        branch_of(tmp_path / name, specs).key
        for name, specs in (("a", one("")), ("b", one("", 11.0)), ("c", one(mute)))
    }
    assert len(keys) == 1


@pytest.mark.parametrize(
    "extra",
    [
        "metadata_query: {filter_name: r}",
        'alert: {channel: "#a"}',
        "alert: {per: [dataset]}",
        "alert: {max_age: 1d}",
    ],
)
def test_another_branch_has_another_key(tmp_path: Path, extra: str) -> None:
    assert branch_of(tmp_path / "a", one("")).key != branch_of(tmp_path / "b", one(extra)).key


# The conditions in the generated text say what the judge says at every limit; without a server.


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
            abs(number)
            for item in package.specifications.values()
            if item.metric == metric
            for number in numbers_in(item, package.metrics[metric].unit)
        }
        assert written == limits


def test_data_of_a_week_ago_raise_nothing(tasks: dict[str, ReadTask]) -> None:
    week = 7 * 86400 * 10**9
    seen = Seen({}, {name.partition(".")[2]: 0.0 for name in tasks}, NOW_NS - week, NOW_NS)
    assert not any(task.root.admits(seen) for task in tasks.values())


@pytest.mark.parametrize("unit", ["mmag", "", "%", "a\nb"])
def test_a_task_notes_the_unit_of_its_metric(unit: str) -> None:
    script = f"// Made.\n{unit_note('p.a', unit)}\n// Alerts on p.a.\n"
    assert noted_unit(script, "p.a") == unit_note("p.a", unit)
    assert noted_unit(script, "p.b") is None
    assert noted_unit("// Alerts on p.a.\n", "p.a") is None
    assert unit_note("p.a", unit) != unit_note("p.a", "mag")
