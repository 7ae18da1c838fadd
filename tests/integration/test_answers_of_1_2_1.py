"""A record of release 1.2.1 opens, and what it answers is what 1.2.1 answered.

How the record was made, and what to do when an answer is bettered, is in
`tests/data/record_1_2_1/README.md`.
"""

from collections.abc import Iterator
from difflib import unified_diff
from itertools import islice
from pathlib import Path

import httpx
import pytest

from tests.support.answers import (
    ANSWERS,
    answer_path,
    answer_text,
    at_the_time_of_the_record,
    is_harmless,
    service_of_1_2_1,
)
from tests.support.requests_of_1_2_1 import REQUESTS

_MOST_LINES = 60


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[httpx.Client]:
    """The service for all requests that leave it as it was."""
    with (
        at_the_time_of_the_record(),
        service_of_1_2_1(tmp_path_factory.mktemp("record")) as client,
    ):
        yield client


@pytest.mark.parametrize("name", REQUESTS)
def test_answer_is_that_of_1_2_1(name: str, shared: httpx.Client, tmp_path: Path) -> None:
    asked = REQUESTS[name]
    if is_harmless(asked):
        answer = answer_text(shared, asked)
    else:
        with service_of_1_2_1(tmp_path, **asked[0].settings) as client:
            answer = answer_text(client, asked)
    kept = answer_path(name).read_bytes().decode()
    if answer != kept:
        # pytest would compare such long texts letter by letter, which takes minutes.
        found = unified_diff(
            kept.splitlines(), answer.splitlines(), "kept", "now", n=2, lineterm=""
        )
        pytest.fail("\n".join(islice(found, _MOST_LINES)))


def test_there_are_answers_to_these_requests_and_no_others() -> None:
    assert {path.stem for path in ANSWERS.iterdir()} == REQUESTS.keys()
