"""Another list of tags would split every series: the databases have to be filled anew."""

import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pytest

from tests.integration.conftest import MakeSite
from tests.support.site import Site, job_document, new_package

PACKAGE = new_package()


@dataclass
class Story:
    """What the commands say with another `SQUASH_TAGS`, and the points at the end."""

    before: list[dict[str, Any]]
    serve: subprocess.CompletedProcess[str]
    replay: subprocess.CompletedProcess[str]
    into_full: subprocess.CompletedProcess[str]
    into_empty: subprocess.CompletedProcess[str]
    after: list[dict[str, Any]]


@pytest.fixture(scope="module")
def story(make_site: MakeSite) -> Iterator[Story]:
    site = make_site()
    documents = [job_document({f"{PACKAGE}.m": float(n)}, visit=n) for n in range(3)]
    site.deliver(*documents)
    before = site.points()
    site.service.stop()
    site.service.environment["SQUASH_TAGS"] = "visit"
    yield tell(site, before)
    site.service.stop()


def tell(site: Site, before: list[dict[str, Any]]) -> Story:
    run = site.service.run
    serve, replay, into_full = run("serve"), run("replay"), run("replay", "--into-empty")
    site.influxd.query(f'DROP DATABASE "{site.database}"')
    into_empty = run("replay", "--into-empty")
    site.service.start()
    site.deliver(job_document({f"{PACKAGE}.m": 3.0}, visit=3))
    return Story(before, serve, replay, into_full, into_empty, site.points())


def test_without_being_asked_for_metadata_is_no_tag(story: Story) -> None:
    assert [point["tags"] for point in story.before] == [{}, {}, {}]


def test_serve_refuses_another_list_and_says_what_to_do(story: Story) -> None:
    assert story.serve.returncode == 1
    assert "SQUASH_TAGS" in story.serve.stderr
    assert "squash replay --into-empty" in story.serve.stderr


def test_a_plain_replay_refuses_it_too(story: Story) -> None:
    assert (story.replay.returncode, "SQUASH_TAGS" in story.replay.stderr) == (1, True)


def test_a_database_that_is_not_empty_is_not_refilled(story: Story) -> None:
    assert (story.into_full.returncode, "is not empty" in story.into_full.stderr) == (1, True)


def test_an_emptied_database_is_refilled(story: Story) -> None:
    assert (story.into_empty.returncode, story.into_empty.stderr) == (0, "")


def test_afterwards_every_point_has_the_new_tag(story: Story) -> None:
    assert [point["tags"] for point in story.after] == [{"visit": str(n)} for n in range(4)]


def test_the_values_and_times_are_those_of_before(story: Story) -> None:
    def values(points: list[dict[str, Any]]) -> list[tuple[int, float]]:
        return [(point["time"], point["fields"]["m"]) for point in points]

    assert values(story.after)[:3] == values(story.before)
