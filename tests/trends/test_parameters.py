import inspect
import json
import re
from typing import get_args

import pytest

from squash_api.client import Squash
from squash_api.schema.names import HEADLINE_TAGS, RUN_TAGS, SERIES_TAGS, TAGS, Schema
from squash_api.trends.parameters import ASKED, OPTIONS, PARAMETERS, Place, openapi_parameters
from squash_api.trends.question import Question, read_question, read_report_question
from tests.support.metrics_packages import ROOT

PLACES: tuple[Place, ...] = get_args(Place)
TEXTS = {
    "ids": "7",
    "time": "1d",
    "truth": "true",
    "unit": "mag",
    "count": "2",
    "cursor": "1.1",
    "level": "info",
}


@pytest.mark.parametrize("place", PLACES)
def test_every_name_is_in_the_table(place: Place) -> None:
    assert {*ASKED[place], *OPTIONS[place]} <= PARAMETERS.keys()


@pytest.mark.parametrize("place", PLACES)
def test_commands_ask_what_addresses_ask(place: Place) -> None:
    assert {*OPTIONS[place]} - {*ASKED[place]} <= {*HEADLINE_TAGS}


def test_every_row_gives_a_part_of_a_question() -> None:
    assert {row.gives for row in PARAMETERS.values()} <= set(Question.__dataclass_fields__)


@pytest.mark.parametrize("name", ASKED["measurements"])
def test_whatever_is_asked_of_measurements_is_read(name: str) -> None:
    row = PARAMETERS[name]
    text = {"format": "csv", "fields": "meta.a"}.get(name, TEXTS.get(row.kind, "text"))
    question = read_question([(name, text)], schema=Schema(), now_ns=10**18)
    assert getattr(question, row.gives) != getattr(Question(), row.gives)


@pytest.mark.parametrize("name", sorted({*ASKED["report"]} - {"level"}))
def test_whatever_is_asked_of_a_report_is_read(name: str) -> None:
    row = PARAMETERS[name]
    found = read_report_question([(name, TEXTS.get(row.kind, "text"))], now_ns=10**18)
    part = found.other if name.startswith("compare_") else found.about
    assert getattr(part, row.gives) != getattr(Question(), row.gives)


@pytest.mark.parametrize("place", PLACES)
def test_openapi_describes_each_parameter_once(place: Place) -> None:
    found = [item["name"] for item in openapi_parameters(place)]
    assert len(found) == len(set(found))
    assert all(item["description"].endswith(".") for item in openapi_parameters(place))


def test_the_client_asks_what_there_is() -> None:
    """It lies below the table, and writes its arguments out for those who read them."""
    arguments = set(inspect.signature(Squash.measurements).parameters)
    listed = re.search(r"terms\n\s+(`.*), or any tag", Squash.measurements.__doc__ or "")
    assert listed is not None
    terms = set(re.findall(r"`(\w+)`", listed[1]))
    own = {"self", "as_pandas", "meta", "terms"}
    assert (arguments - own) | terms == {*ASKED["measurements"]} - {"format", "after"}


def test_tags_that_people_see_are_tags_of_the_points() -> None:
    assert {*HEADLINE_TAGS} <= {*SERIES_TAGS} <= {*TAGS}


@pytest.mark.parametrize(
    ("path", "tags"), [("/badge/{package}.svg", HEADLINE_TAGS), ("/runs", RUN_TAGS)]
)
def test_routes_have_a_parameter_for_each_tag(path: str, tags: tuple[str, ...]) -> None:
    """FastAPI reads these from signatures, which the list cannot make."""
    document = json.loads((ROOT / "docs" / "openapi.json").read_text(encoding="utf-8"))
    named = {item["name"] for item in document["paths"][path]["get"]["parameters"]}
    assert {*tags} <= named
