from pathlib import Path

import pytest

from squash_api.definitions.definitions import Definitions
from squash_api.definitions.from_yaml import SpecificationSources
from squash_api.errors import NotFoundError, ReadOnlyError, SettingsError
from squash_api.schema.names import Schema
from tests.support.definitions import ADA, BOB, ROOT, World, metric, spec
from tests.support.metrics_packages import SPECS, write_metrics_package


def write_package(folder: Path, *, unit: str = "mmag", value: float = 5.0, extra: str = "") -> Path:
    """Write a metrics package with metric p.a and specification p.a.design."""
    (folder / "metrics").mkdir(parents=True, exist_ok=True)
    (folder / "specs" / "p").mkdir(parents=True, exist_ok=True)
    (folder / "metrics" / "p.yaml").write_text(f"a:\n  description: What it is.\n  unit: {unit}\n")
    (folder / "specs" / "p" / "p.yaml").write_text(
        "---\nname: a.design\nmetric: a\nthreshold:\n"
        f"  {{value: {value}, unit: mmag, operator: '<'}}\n{extra}"
    )
    return folder


OTHER = "---\nname: a.other\nmetric: a\nthreshold:\n  {value: 1, unit: mmag, operator: '<'}\n"


def test_yaml_becomes_definitions_with_their_places(world: World, tmp_path: Path) -> None:
    change = world.definitions.sync_yaml([write_package(tmp_path / "srd")])
    assert change.stored == ("p.a", "p.a.design")
    found = world.definitions.get("metric", "p.a")
    assert (found.origin, found.source) == ("yaml", "srd/metrics/p.yaml:1")


def test_metrics_from_yaml_are_known(world: World, tmp_path: Path) -> None:
    world.definitions.sync_yaml([write_package(tmp_path / "srd")])
    found = world.metrics.now.by_name["p.a"]
    assert (found.unit, found.is_declared) == ("mmag", True)


def test_the_same_yaml_again_stores_nothing(world: World, tmp_path: Path) -> None:
    package = write_package(tmp_path / "srd")
    world.definitions.sync_yaml([package])
    before = world.revision
    change = world.definitions.sync_yaml([package])
    assert (change.stored, change.withdrawn, world.revision) == ((), (), before)


def test_no_yaml_at_all_stores_nothing(world: World) -> None:
    world.definitions.sync_yaml([])
    assert world.revision == 0


def test_changed_yaml_stores_what_differs(world: World, tmp_path: Path) -> None:
    world.definitions.sync_yaml([write_package(tmp_path / "srd")])
    change = world.definitions.sync_yaml([write_package(tmp_path / "srd", value=6.0)])
    assert change.stored == ("p.a.design",)
    assert world.definitions.get("spec", "p.a.design").content.criterion.numbers == (6.0,)


def test_what_vanishes_from_yaml_is_withdrawn(world: World, tmp_path: Path) -> None:
    world.definitions.sync_yaml([write_package(tmp_path / "srd", extra=OTHER)])
    change = world.definitions.sync_yaml([write_package(tmp_path / "srd")])
    assert change.withdrawn == ("p.a.other",)
    with pytest.raises(NotFoundError):
        world.definitions.get("spec", "p.a.other")


@pytest.mark.parametrize(
    ("before", "now", "lost"),
    [
        ("srd", "", "p"),  # the setting was forgotten
        ("srd camera", "srd", "q"),  # one directory was forgotten
        ("srd camera", "camera", "p"),
        ("srd more", "srd", "more"),  # of one verification package, in another directory
    ],
)
def test_a_whole_package_is_not_withdrawn_without_being_asked_for(
    world: World, tmp_path: Path, before: str, now: str, lost: str
) -> None:
    write_package(tmp_path / "srd")
    for name, package in (("camera", "q"), ("more", "p")):
        (tmp_path / name / "specs").mkdir(parents=True)
        (tmp_path / name / "metrics").mkdir()
        definition = f"{name}: {{description: What it is., unit: mmag}}\n"
        (tmp_path / name / "metrics" / f"{package}.yaml").write_text(definition)
    world.definitions.sync_yaml([tmp_path / name for name in before.split()])
    revision = world.revision
    directories = [tmp_path / name for name in now.split()]
    with pytest.raises(SettingsError, match=rf"all of {lost}\. .*squash specs withdraw"):
        world.definitions.sync_yaml(directories)
    assert world.revision == revision
    orphans = world.definitions.orphans(directories)
    world.definitions.withdraw(orphans)
    assert world.definitions.sync_yaml(directories).withdrawn == ()
    assert len(world.definitions.list_metrics(limit=9)) == len(now.split())


@pytest.mark.parametrize("has_other", [False, True])
def test_all_specifications_of_a_package_are_not_withdrawn_without_being_asked_for(
    world: World, tmp_path: Path, *, has_other: bool
) -> None:
    package = write_package(tmp_path / "srd")
    if has_other:
        (package / "metrics" / "q.yaml").write_text("b: {description: What., unit: mmag}\n")
        (package / "specs" / "q").mkdir()
        text = (package / "specs" / "p" / "p.yaml").read_text()
        (package / "specs" / "q" / "q.yaml").write_text(
            text.replace("a.design\nmetric: a", "b.design\nmetric: b")
        )
    world.definitions.sync_yaml([package])
    revision = world.revision
    (package / "specs" / "p" / "p.yaml").unlink()
    said = r"all of the specifications of p\. .*squash specs withdraw"
    with pytest.raises(SettingsError, match=said):
        world.definitions.sync_yaml([package])
    assert world.revision == revision
    change = world.definitions.sync_yaml([package], may_withdraw=True)
    assert change.withdrawn == ("p.a.design",)
    assert world.definitions.sync_yaml([package]).withdrawn == ()


def test_a_package_whose_only_definition_is_renamed_is_not_lost(
    world: World, tmp_path: Path
) -> None:
    package = write_package(tmp_path / "srd")
    (package / "specs" / "p" / "p.yaml").unlink()
    world.definitions.sync_yaml([package])
    (package / "metrics" / "p.yaml").write_text("b: {description: What it is., unit: mmag}\n")
    assert world.definitions.sync_yaml([package]).withdrawn == ("p.a",)


def test_a_package_that_is_moved_is_not_lost(world: World, tmp_path: Path) -> None:
    world.definitions.sync_yaml([write_package(tmp_path / "srd")])
    change = world.definitions.sync_yaml([write_package(tmp_path / "moved")])
    assert (change.withdrawn, len(change.stored)) == ((), 2)


def test_a_package_that_is_renamed_and_loses_a_definition_is_not_lost(
    world: World, tmp_path: Path
) -> None:
    world.definitions.sync_yaml([write_package(tmp_path / "srd", extra=OTHER)])
    change = world.definitions.sync_yaml([write_package(tmp_path / "moved")])
    assert change.withdrawn == ("p.a.other",)


def test_without_yaml_all_that_came_from_it_is_withdrawn(world: World, tmp_path: Path) -> None:
    world.definitions.sync_yaml([write_package(tmp_path / "srd")])
    world.definitions.sync_yaml([], may_withdraw=True)
    assert world.definitions.list_metrics(limit=10) == []
    found = world.metrics.now.by_name["p.a"]
    assert (found.unit, found.is_declared) == ("mmag", False)


def test_what_the_api_defines_survives_a_change_of_yaml(world: World, tmp_path: Path) -> None:
    world.definitions.sync_yaml([write_package(tmp_path / "srd")])
    world.definitions.post_one("spec", "p.a.mine", spec("p.a.mine"), ADA)
    world.definitions.sync_yaml([], may_withdraw=True)
    assert world.definitions.get("spec", "p.a.mine").origin == "api"


def test_yaml_takes_over_a_name_of_the_api(world: World, tmp_path: Path) -> None:
    world.definitions.post_one("metric", "p.a", metric(description="What it is."), ADA)
    change = world.definitions.sync_yaml([write_package(tmp_path / "srd")])
    assert change.taken_over == ("p.a",)
    assert world.definitions.get("metric", "p.a").origin == "yaml"


def test_yaml_that_breaks_a_specification_of_the_api_is_taken(world: World, tmp_path: Path) -> None:
    world.definitions.post_one("metric", "p.a", metric(unit="s"), ADA)
    world.definitions.post_one("spec", "p.a.mine", spec("p.a.mine", unit="s"), ADA)
    world.definitions.sync_yaml([write_package(tmp_path / "srd")])
    assert world.definitions.get("metric", "p.a").content.unit == "mmag"
    assert world.definitions.get("spec", "p.a.mine").content.criterion.unit == "s"


def test_a_unit_from_yaml_requeues_jobs(world: World, tmp_path: Path) -> None:
    world.measure("mag")
    change = world.definitions.sync_yaml([write_package(tmp_path / "srd")])
    assert (change.requeued_jobs, world.requeued()) == (1, [1])


def test_problems_in_yaml_are_all_named_and_nothing_is_stored(world: World, tmp_path: Path) -> None:
    package = write_package(tmp_path / "srd", unit="furlongs", extra=OTHER.replace("1", "x"))
    with pytest.raises(SettingsError) as caught:
        world.definitions.sync_yaml([package])
    assert "srd/metrics/p.yaml:3" in caught.value.message
    assert "srd/specs/p/p.yaml:10" in caught.value.message
    assert world.revision == 0


def test_a_mute_that_has_ended_does_not_stop_the_service(world: World, tmp_path: Path) -> None:
    mute = "alert: {mute: {until: 2001-01-01, why: reprocessing}}\n"
    package = write_package(tmp_path / "srd", extra=OTHER + mute)
    assert "p.a.other" in world.definitions.sync_yaml([package]).stored


@pytest.fixture
def yaml_defined(world: World, tmp_path: Path) -> Definitions:
    world.definitions.sync_yaml([write_package(tmp_path / "srd")])
    return world.definitions


def test_what_is_from_yaml_cannot_be_posted_differently(yaml_defined: Definitions) -> None:
    with pytest.raises(ReadOnlyError, match="YAML"):
        yaml_defined.post_one("metric", "p.a", metric(unit="mag"), ROOT)


def test_what_is_from_yaml_cannot_be_put(yaml_defined: Definitions) -> None:
    with pytest.raises(ReadOnlyError, match=r"srd/specs/p/p\.yaml:2"):
        yaml_defined.put("spec", "p.a.design", spec(value=9.0), ROOT)


def test_what_is_from_yaml_cannot_be_deleted(yaml_defined: Definitions) -> None:
    with pytest.raises(ReadOnlyError):
        yaml_defined.delete("metric", "p.a", ROOT)


def test_what_is_from_yaml_may_be_sent_as_it_is(yaml_defined: Definitions) -> None:
    document = yaml_defined.get("spec", "p.a.design").content.to_json()
    assert yaml_defined.put("spec", "p.a.design", document, BOB).unchanged == 1


def test_a_specification_may_be_posted_for_a_metric_of_yaml(yaml_defined: Definitions) -> None:
    assert yaml_defined.post("spec", [spec("p.a.mine")], ADA).stored == ("p.a.mine",)


BASES = ("validate:limits#limit",)


def test_the_bases_in_yaml_are_known(world: World, tmp_path: Path) -> None:
    package = write_metrics_package(tmp_path)
    world.definitions.sync_yaml([package])
    sources = SpecificationSources(world.record, [package], Schema())
    assert sources.bases(world.definitions.get("spec", "validate.AM1.design")) == BASES
    assert sources.bases(world.definitions.get("spec", "validate.PA1.design_r")) == ()


def test_files_that_have_changed_since_the_start_say_nothing(world: World, tmp_path: Path) -> None:
    package = write_metrics_package(tmp_path)
    world.definitions.sync_yaml([package])
    file = package / "specs" / "validate" / "limits.yaml"
    file.write_text(SPECS.replace("threshold: {value: 10}", "threshold: {value: 11}"))
    sources = SpecificationSources(world.record, [package], Schema())
    assert sources.bases(world.definitions.get("spec", "validate.AM1.design")) == ()
    assert sources.bases(world.definitions.get("spec", "validate.AM1.stretch")) == BASES


def test_files_that_are_gone_say_nothing(
    world: World, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    package = write_metrics_package(tmp_path)
    world.definitions.sync_yaml([package])
    sources = SpecificationSources(world.record, [tmp_path / "gone"], Schema())
    assert sources.bases(world.definitions.get("spec", "validate.AM1.design")) == ()
    assert "cannot be read any more" in capsys.readouterr().out


def test_the_author_of_a_specification_is_who_wrote_it_last(world: World) -> None:
    world.definitions.post("metric", [metric()], ADA)
    world.definitions.post("spec", [spec("p.a.x"), spec("p.a.y")], BOB)
    sources = SpecificationSources(world.record, [], Schema())
    assert sources.authors(["p.a.x", "p.a.nothing"]) == {"p.a.x": "bob"}
    assert sources.authors([]) == {}


def test_what_is_from_the_api_has_no_bases(world: World) -> None:
    world.definitions.post("metric", [metric()], ADA)
    world.definitions.post("spec", [spec("p.a.x")], ADA)
    sources = SpecificationSources(world.record, [], Schema())
    assert sources.bases(world.definitions.get("spec", "p.a.x")) == ()
