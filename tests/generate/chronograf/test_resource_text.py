import json

from squash_api.generate.chronograf.connections import json_text, resource_text


def test_json_is_sorted_and_ends_in_a_line_break() -> None:
    assert json_text({"b": 1, "a": "ü"}) == '{\n  "a": "ü",\n  "b": 1\n}\n'


def test_what_a_template_begins_with_is_printed_by_one() -> None:
    assert resource_text({"a": "{{.X}} {{{"}) == '{\n  "a": "{{`{{`}}.X}} {{`{{`}}{"\n}\n'


def test_the_escaped_text_is_json_still() -> None:
    assert json.loads(resource_text({"a": "{{"})) == {"a": "{{`{{`}}"}
