import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from squash_api.schema.names import META_PREFIX, TEXT_SUFFIX, Schema
from squash_api.schema.notebooks import (
    RUN_KEY,
    pipeline_of,
    read_run_text,
    run_text,
    template_of,
)

_TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
_VALUES = st.one_of(
    st.none(), st.booleans(), st.integers(), st.floats(allow_nan=False), _TEXT, st.lists(_TEXT)
)


@given(_TEXT, st.dictionaries(_TEXT, _VALUES, max_size=4), st.none() | _TEXT)
def test_what_a_list_shows_of_a_run_is_a_field_that_keeps_it(
    template: str, parameters: dict[str, Any], problem: str | None
) -> None:
    text = run_text(template, parameters, problem)
    fields = Schema().context({RUN_KEY: text}).fields
    kept = fields[f"{META_PREFIX}{RUN_KEY}{TEXT_SUFFIX}"]
    assert kept == text
    assert read_run_text(str(kept)) == {
        "template": template,
        "parameters": parameters,
        "problem": problem,
    }


@pytest.mark.parametrize("text", [None, "", "{", "[1]", "[" * 10_000, '{"parameters": [1]}'])
def test_what_somebody_else_has_written_is_nothing(text: str | None) -> None:
    assert read_run_text(text) == {"template": None, "parameters": {}, "problem": None}


def test_a_wrong_part_does_not_lose_the_others() -> None:
    found = read_run_text(json.dumps({"template": 1, "problem": "p", "parameters": {"a": 1}}))
    assert found == {"template": None, "parameters": {"a": 1}, "problem": "p"}


def test_each_template_is_a_pipeline() -> None:
    assert template_of(pipeline_of("a b")) == "a b"
    assert template_of("validate_drp") is None
