import math
import random
import struct

import pytest

from squash_api.errors import SettingsError
from squash_api.generate.kapacitor.text import (
    comment,
    for_slack,
    go_string,
    precisions,
    reference,
    static,
    string,
)

HARD = [0.0, 8.0, 22.5, -5.0, 3e-5, 0.1 + 0.2, 1e22, 1e300, 5e-324, 1e-323, -1.7976931348623157e308]


def any_floats(count: int) -> list[float]:
    bits = random.Random(1)
    found = [struct.unpack("<d", bits.randbytes(8))[0] for _ in range(count)]
    return [value for value in found if math.isfinite(value)]


@pytest.mark.parametrize(("limit", "first"), [(8.0, 2), (22.5, 3), (3e-7, 9), (1e22, 0)])
def test_a_value_has_two_decimals_more_than_its_limit(limit: float, first: int) -> None:
    assert precisions((limit,))[0] == first


@pytest.mark.parametrize("limit", [*HARD, *any_floats(200)])
def test_with_the_last_precision_neighbours_look_different(limit: float) -> None:
    decimals = precisions((limit,))
    assert decimals == sorted(set(decimals))
    near = [math.nextafter(limit, -math.inf), math.nextafter(limit, math.inf)]
    for value in near:
        if math.isfinite(value):
            assert f"{value:.{decimals[-1]}f}" != f"{limit:.{decimals[-1]}f}"


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
