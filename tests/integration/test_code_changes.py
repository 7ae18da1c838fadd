"""What changed in the code between runs of a pipeline, in the API and in InfluxDB."""

from dataclasses import dataclass
from typing import Any

import pytest

from tests.support.site import Site, job_document, new_package

AFW = {"name": "afw", "git_sha": "a1", "git_url": "https://x.example/afw.git"}
NEW_AFW = AFW | {"git_sha": "a2"}
BASE = {"name": "base", "git_sha": "b1", "git_url": "https://x.example/base.git"}
NEW = {"name": "new", "git_sha": "n1"}


@dataclass
class Runs:
    """Runs 1 to 3 of a pipeline, the second with an update, the third with less; another between.

    Run 2 of the other pipeline comes before run 2 of the first.
    """

    pipeline: str
    other: str
    points: dict[str, dict[str, Any]]


@pytest.fixture(scope="module")
def runs(site: Site) -> Runs:
    package = new_package()
    pipeline, other = f"{package}_p", f"{package}_q"
    story = [
        (pipeline, "1", [AFW, BASE]),
        (other, "2", [NEW]),
        (pipeline, "2", [NEW_AFW, BASE, NEW]),
        (pipeline, "3", [NEW_AFW]),
    ]
    for number, (name, run_id, packages) in enumerate(story):
        env = {"env_name": "jenkins", "ci_name": name, "ci_id": run_id}
        document = job_document({f"{package}.m": float(number)}, env=env)
        document["meta"]["packages"] = {each["name"]: each for each in packages}
        site.deliver(document)
    found = {
        f"{point['tags']['pipeline']} {point['fields']['run_id']}": point["fields"]
        for point in site.points(package)
    }
    return Runs(pipeline, other, found)


def changes(site: Site, pipeline: str, run_id: str) -> dict[str, Any]:
    found: dict[str, Any] = site.get(f"/code_changes/{run_id}?ci_name={pipeline}")
    return found


def test_a_first_run_is_compared_with_none(site: Site, runs: Runs) -> None:
    found = changes(site, runs.pipeline, "1")
    assert (found["id"], found["previous_id"], found["counts"]) == ("1", None, 0)


def test_a_run_is_compared_with_the_one_before_it(site: Site, runs: Runs) -> None:
    found = changes(site, runs.pipeline, "2")
    assert found["previous_id"] == "1"
    assert found["packages"] == [
        ["afw", "a2", "https://x.example/afw.git"],
        ["new", "n1", None],
    ]


def test_removed_packages_are_named(site: Site, runs: Runs) -> None:
    found = changes(site, runs.pipeline, "3")
    assert [name for name, _, _ in found["removed"]] == ["base", "new"]
    assert (found["packages"], found["counts"]) == ([], 2)


def test_runs_of_another_pipeline_do_not_count(site: Site, runs: Runs) -> None:
    assert changes(site, runs.other, "2")["previous_id"] is None


def test_an_unknown_run_has_nulls(site: Site, runs: Runs) -> None:
    found = changes(site, runs.pipeline, "4")
    assert (found["id"], found["previous_id"], found["packages"]) == (None, None, [])


def test_the_point_of_a_run_links_to_the_commits(runs: Runs) -> None:
    fields = runs.points[f"{runs.pipeline} 2"]
    assert fields["code_changes"] == "[afw](https://x.example/afw/commit/a2), new"
    assert fields["code_changes_counts"] == 2.0


def test_the_point_of_a_first_run_has_no_changes(runs: Runs) -> None:
    assert not {"code_changes", "code_changes_counts"} & set(runs.points[f"{runs.pipeline} 1"])


def test_a_run_is_found_by_its_number_and_pipeline(site: Site, runs: Runs) -> None:
    job = site.get(f"/jenkins/2?ci_name={runs.pipeline}")
    assert job["meta"]["env"]["ci_name"] == runs.pipeline
    assert [each["name"] for each in job["meta"]["packages"]] == ["afw", "base", "new"]
