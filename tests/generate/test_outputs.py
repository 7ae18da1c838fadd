from pathlib import Path
from typing import Any

import pytest

from squash_api.generate.comparison import server_of
from squash_api.generate.files import file_problems, make_files, task_of
from squash_api.generate.output import MARK, Output
from squash_api.generate.outputs import OUTPUTS, SERVED, file_kind_of
from squash_api.metrics_packages.loading import load_metrics_packages
from squash_api.schema.names import Schema
from squash_api.settings import Settings
from tests.support.metrics_packages import ROOT, shared, write_metrics_package

OUTPUT = pytest.mark.parametrize("output", OUTPUTS, ids=lambda output: output.name)
SERVER = pytest.mark.parametrize("output", SERVED, ids=lambda output: output.name)
PLACE: dict[str, Any] = {"database": "squash", "retention_policy": "autogen"}


def test_all_files_of_the_project_are_sound_and_marked() -> None:
    package = load_metrics_packages(
        [ROOT / "specs" / "srd", ROOT / "examples" / "specs" / "camera"]
    )
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


@OUTPUT
def test_an_output_makes_files_of_its_own_kinds_alone(output: Output, tmp_path: Path) -> None:
    package = load_metrics_packages([write_metrics_package(tmp_path)])
    files = output.render(package, schema=Schema(), **PLACE)
    assert {file_kind_of(path) for path in files} == {*output.files}


@SERVER
def test_the_address_of_a_server_is_a_documented_setting(output: Output) -> None:
    assert output.setting in Settings.model_fields
    assert server_of(output).what.lower() == output.name
    page = (ROOT / "docs" / "operations.md").read_text(encoding="utf-8")
    assert f"`SQUASH_{output.setting.upper()}`" in page


@OUTPUT
def test_only_files_of_an_output_with_a_server_hold_things_of_it(output: Output) -> None:
    assert bool(output.kinds) == bool(output.server)


def test_no_two_outputs_share_files_or_kinds_of_things() -> None:
    kinds = [kind for output in OUTPUTS for kind in output.files]
    assert len({(kind.folder, kind.extension) for kind in kinds}) == len(kinds)
    things = [name for output in OUTPUTS for name in output.kinds]
    assert len(set(things)) == len(things)


@OUTPUT
def test_what_is_generated_is_committed_and_documented(output: Output) -> None:
    page = (ROOT / "docs" / "operations.md").read_text(encoding="utf-8")
    assert f"{output.name}/" in page
    assert [kind.folder for kind in output.files if not (ROOT / kind.folder).is_dir()] == []
