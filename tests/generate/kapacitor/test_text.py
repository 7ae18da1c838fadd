import pytest

from squash_api.errors import SettingsError
from squash_api.generate.kapacitor.text import (
    comment,
    for_slack,
    go_string,
    reference,
    static,
    string,
)


@pytest.mark.parametrize(
    ("text", "written"),
    [
        ("a", "'a'"),
        ("it's", r"'it\'s'"),
        (r"a\'b", r"'a\\'b'"),
        (r"a\b", r"'a\b'"),
        ("a\\", "'''a\\'''"),
        ('"', "'\"'"),
    ],
)
def test_only_a_single_quote_is_escaped_in_a_string(text: str, written: str) -> None:
    assert string(text) == written


def test_a_string_that_cannot_be_written_is_refused() -> None:
    with pytest.raises(SettingsError, match="cannot be written as a string"):
        string("'''\\")


def test_only_a_double_quote_is_escaped_in_a_reference() -> None:
    assert reference("a'b\\c\"d") == '"a\'b\\c\\"d"'


def test_a_reference_that_ends_in_a_backslash_is_refused() -> None:
    with pytest.raises(SettingsError, match="backslash"):
        reference("a\\")


def test_a_comment_is_one_line() -> None:
    assert comment("a\nb\u2028c\td") == "// a b c d"


def test_slack_shows_text_as_it_is() -> None:
    assert for_slack("<!channel> & \"'") == "&lt;!channel&gt; &amp; \"'"


def test_a_template_shows_text_as_it_is() -> None:
    assert static("{{ .ID }} {{{") == '{{"{"}}{{"{"}} .ID }} ' + '{{"{"}}' * 3


def test_a_constant_of_a_template_is_escaped() -> None:
    assert go_string('a"b\\c\nΩ') == '"a\\"b\\\\c\\nΩ"'
