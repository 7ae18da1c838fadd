from pathlib import Path

from squash_api.generate.files import file_problems, make_files, task_of
from squash_api.generate.output import MARK
from squash_api.metrics_packages.loading import load_metrics_packages
from squash_api.schema.names import Schema
from tests.support.metrics_packages import write_metrics_package
from tests.support.yaml_packages import ROOT, shared

PLACE = {"database": "squash", "retention_policy": "autogen"}


def test_all_files_of_the_project_are_sound_and_marked() -> None:
    package = load_metrics_packages([ROOT / "specs" / "srd", ROOT / "specs" / "camera"])
    files = make_files(package, schema=Schema(), **PLACE)
    assert file_problems(files) == []
    assert [path for path, text in files.items() if MARK not in text] == []
    assert list(files) == sorted(files)


def test_all_files_of_the_sample_of_verify_metrics_are_sound() -> None:
    package = load_metrics_packages([shared("verify_metrics_sample")])
    assert file_problems(make_files(package, schema=Schema(), **PLACE)) == []


def test_a_task_alone_is_the_one_among_all(tmp_path: Path) -> None:
    package = load_metrics_packages([write_metrics_package(tmp_path)])
    only = {"validate.AM1": package.metrics["validate.AM1"]}
    alone = load_metrics_packages([write_metrics_package(tmp_path / "again")])
    alone.metrics.clear()
    alone.metrics.update(only)
    del alone.specifications["validate.PA1.design_r"]
    files = make_files(package, schema=Schema(), **PLACE)
    assert task_of(alone, schema=Schema(), **PLACE) == files["kapacitor/tasks/validate.AM1.tick"]
