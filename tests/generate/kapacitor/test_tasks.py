"""The load directory as text; see test_tick_conditions.py and tests/integration/test_alerts*.py."""

from pathlib import Path

import pytest

from squash_api.errors import SettingsError
from squash_api.generate.files import file_problems, with_marks
from squash_api.generate.kapacitor.tasks import kapacitor_files
from squash_api.judging.alert_plan import Branch, watched_metrics
from squash_api.metrics_packages.loading import MetricsPackage, load_metrics_package
from squash_api.schema.names import Schema
from tests.support.boundaries import own_package
from tests.support.metrics_packages import write_metrics_package

SCHEMA = Schema()
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


def test_there_is_a_task_per_metric_a_heartbeat_and_a_handler(tmp_path: Path) -> None:
    files = files_of(load_metrics_package(write_metrics_package(tmp_path)))
    assert list(files) == [
        "kapacitor/handlers/metrics-default-slack.yaml",
        "kapacitor/tasks/squash.heartbeat.tick",
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
