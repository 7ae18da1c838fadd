from typing import Any

import pytest

from squash_api.definitions.changes import read_proposal, read_proposals
from squash_api.errors import InvalidInputError
from squash_api.record.definitions import DefinitionRow
from squash_api.schema.names import Schema
from tests.support.definitions import metric, spec

SCHEMA = Schema()


def test_a_proposal_knows_its_kind_and_name() -> None:
    found = [
        read_proposal("metric", metric(), schema=SCHEMA),
        read_proposal("spec", spec(), schema=SCHEMA),
    ]
    assert [(item.kind, item.name) for item in found] == [
        ("metric", "p.a"),
        ("spec", "p.a.design"),
    ]


def test_the_name_may_be_in_the_address_alone() -> None:
    found = read_proposal("metric", {"description": "x"}, name="p.a", schema=SCHEMA)
    assert found.name == "p.a"


def test_a_problem_is_placed_in_the_body() -> None:
    with pytest.raises(InvalidInputError, match="furlongs") as caught:
        read_proposal("metric", metric(unit="furlongs"), schema=SCHEMA)
    assert [item.loc for item in caught.value.detail] == [("body", "unit")]


def test_all_problems_of_a_list_are_named_with_their_places() -> None:
    documents = [metric("p.a"), metric("p.b", unit="furlongs"), 3, metric("nodot")]
    with pytest.raises(InvalidInputError, match=r"metrics\.1\.unit.*and 2 more") as caught:
        read_proposals("metric", documents, schema=SCHEMA)
    assert [item.loc for item in caught.value.detail] == [
        ("body", "metrics", 1, "unit"),
        ("body", "metrics", 2),
        ("body", "metrics", 3, "name"),
    ]


def test_a_list_that_defines_a_name_in_two_ways_is_refused() -> None:
    documents = [metric(reference={"page": 1}), metric(reference={"page": True})]
    with pytest.raises(InvalidInputError) as caught:
        read_proposals("metric", documents, schema=SCHEMA)
    assert [item.loc for item in caught.value.detail] == [("body", "metrics", 1, "name")]


def test_a_list_may_repeat_itself() -> None:
    assert len(read_proposals("spec", [spec(), spec()], schema=SCHEMA)) == 1


@pytest.mark.parametrize(
    ("stored", "is_same"),
    [
        (spec(tags=["x"], metadata_query={"flag": 1}), True),
        (spec(tags=["x"], metadata_query={"flag": True}), False),
        (spec(tags=[], metadata_query={"flag": 1}), False),
    ],
)
def test_a_proposal_is_stored_already_if_every_word_is(
    stored: dict[str, Any], *, is_same: bool
) -> None:
    proposal = read_proposal("spec", spec(tags=["x"], metadata_query={"flag": 1}), schema=SCHEMA)
    row = DefinitionRow(
        kind="spec",
        name="p.a.design",
        document={**stored, "type": "threshold"},
        origin="api",
        created_ns=0,
    )
    assert proposal.is_in(row) is is_same
