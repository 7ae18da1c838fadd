from squash_api.generate.chronograf.package import EVERYTHING, SHOWN, template_variables
from squash_api.generate.chronograf.queries import Place
from squash_api.schema.names import VALUE_TAGS, Schema

VARIABLES = template_variables(Place("squash", "autogen", "validate_drp"))


def test_the_tags_are_tags_of_the_points() -> None:
    assert set(VALUE_TAGS) <= set(Schema().tags)


def test_there_is_a_list_of_the_values_of_each_tag() -> None:
    lists = [item for item in VARIABLES if item["type"] == "tagValues"]
    assert [(item["tempVar"], item["query"]["tagKey"]) for item in lists] == [
        (f":{tag}:", tag) for tag in VALUE_TAGS
    ]


def test_the_lists_are_those_of_the_package() -> None:
    queries = [item["query"] for item in VARIABLES if item["type"] == "tagValues"]
    assert {(query["db"], query["measurement"]) for query in queries} == {
        ("squash", "validate_drp")
    }


def test_everything_is_shown_at_first() -> None:
    (show,) = (item for item in VARIABLES if item["tempVar"] == SHOWN)
    assert [item["key"] for item in show["values"] if item["selected"]] == [EVERYTHING]


def test_every_set_of_tags_can_be_chosen() -> None:
    (show,) = (item for item in VARIABLES if item["tempVar"] == SHOWN)
    choices = {item["key"]: item["value"] for item in show["values"]}
    assert len(choices) == 2 ** len(VALUE_TAGS)
    assert choices["only dataset + filter"] == '"dataset" = :dataset: AND "filter" = :filter:'


def test_no_two_variables_share_a_name() -> None:
    assert len({item["tempVar"] for item in VARIABLES}) == len(VARIABLES)
