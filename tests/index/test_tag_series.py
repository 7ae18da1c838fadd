from collections.abc import Iterator
from pathlib import Path

import pytest

from squash_api.index.contexts import Contexts, Tags
from tests.support.observatory import HOUR_NS, Observatory


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Observatory]:
    with Observatory(tmp_path) as site:
        yield site


def matching(site: Observatory, **tags: str | list[str]) -> list[Tags]:
    wanted = {name: [text] if isinstance(text, str) else text for name, text in tags.items()}
    with site.record.read() as connection:
        return list(Contexts(connection).tag_sets_where(wanted).values())


@pytest.mark.parametrize("text", ["r", 'a"b', "100%", "a_b", "Ω", "\u202eabc", "x\\y"])
def test_sets_are_found_by_the_whole_value_of_a_tag(site: Observatory, text: str) -> None:
    site.job(filter_name=text)
    site.job(filter_name=f"{text}2")
    assert [item["filter"] for item in matching(site, filter=text)] == [text]


def test_small_letters_are_no_capitals(site: Observatory) -> None:
    site.job(filter_name="R")
    assert matching(site, filter="r") == []


def test_of_values_any_will_do_and_of_tags_all_must_match(site: Observatory) -> None:
    for name in "riz":
        site.job(filter_name=name, dataset="x")
    found = matching(site, filter=["r", "i", "y"], dataset="x")
    assert {item["filter"] for item in found} == {"r", "i"}
    assert matching(site, filter="r", dataset="y") == []


def test_any_number_of_values_of_any_length_may_be_asked_for(site: Observatory) -> None:
    site.job(filter_name="R")
    many = ["R", *(f"x{number}" for number in range(5000))]
    assert [item["filter"] for item in matching(site, filter=many)] == ["R"]
    assert [item["filter"] for item in matching(site, filter=["R", "%" * 60_000])] == ["R"]


def test_more_may_be_asked_of_a_set(site: Observatory) -> None:
    site.job(filter_name="r")
    site.job(filter_name="r", dataset="x")
    with site.record.read() as connection:
        found = Contexts(connection).tag_sets_where(
            {"filter": ["r"]}, lambda tags: "dataset" not in tags
        )
    assert [item.get("dataset") for item in found.values()] == [None]


def test_neighbours_are_the_nearest_in_time(site: Observatory) -> None:
    hours = [5, 1, 4, 2, 3]
    jobs = {hour: site.job(ago_ns=hour * HOUR_NS, filter_name=f"f{hour % 2}") for hour in hours}
    other = site.job(ago_ns=3 * HOUR_NS + 1, instrument="other")
    now_ns = site.now_ns - 3 * HOUR_NS
    with site.record.read() as connection:
        sets = Contexts(connection).tag_sets_where({"instrument": ["HSC"]})
        assert len(sets) == 2
        earlier = Contexts(connection).neighbours(sets, now_ns, direction="earlier", limit=5)
        later = Contexts(connection).neighbours(sets, now_ns, direction="later", limit=1)
    assert [item.job_id for item in earlier] == [jobs[4], jobs[5]]
    assert [item.job_id for item in later] == [jobs[2]]
    assert other not in {item.job_id for item in earlier}
