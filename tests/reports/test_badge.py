from xml.etree import ElementTree as ET

import pytest

from squash_api.judging.states import STATES, State, count_states
from squash_api.reports.badge import Word, badge_svg, text_width, word_of
from tests.support.reporting import HOSTILE

SVG = "{http://www.w3.org/2000/svg}"


@pytest.mark.parametrize(
    ("states", "said"),
    [
        (["passed", "no limit", "passed"], "passed"),
        (["passed", "INFO"], "1 metric INFO"),
        (["INFO", "not measured"], "1 metric not measured"),
        (["late", "not measured", "late"], "2 metrics late"),
        (["WARNING", "late"], "1 metric WARNING"),
        (["CRITICAL", "WARNING", "CRITICAL"], "2 metrics CRITICAL"),
        (["no limit", "old"], "no limit"),
        (["old", "never seen"], "old"),
        ([], "never seen"),
    ],
)
def test_the_worst_state_is_said(states: list[State], said: str) -> None:
    assert word_of(count_states(states)).text == said


def test_every_state_has_a_colour() -> None:
    assert {word_of({state: 1}).colour for state in STATES} >= {"#1a7440", "#b3140c"}


def test_it_names_itself_to_those_who_cannot_see() -> None:
    root = ET.fromstring(badge_svg("a & b", Word("passing", "#1a7440")))
    assert root.get("aria-label") == root.findtext(f"{SVG}title") == "a & b: passing"
    assert root.get("role") == "img"


def test_texts_are_as_wide_as_their_space() -> None:
    root = ET.fromstring(badge_svg("package", Word("3 critical", "#b3140c")))
    texts = list(root.iter(f"{SVG}text"))
    assert [item.text for item in texts] == ["package", "3 critical"]
    last = texts[-1]
    assert float(last.get("x", "")) + float(last.get("textLength", "")) < float(
        root.get("width", "")
    )


def test_wide_characters_take_more_room() -> None:
    assert text_width("WWW") > text_width("aaa") > text_width("iii")


def test_it_loads_nothing() -> None:
    badge = badge_svg("package", Word("passing", "#1a7440"))
    assert badge.count("http") == badge.count("http://www.w3.org/2000/svg") == 1
    assert not {"href", "<style", "<image", "url(h"} & set(badge.split())


@pytest.mark.parametrize("label", [HOSTILE, "\x00\x1b\ud800", "\u202e", ""])
def test_hostile_labels_are_text(label: str) -> None:
    root = ET.fromstring(badge_svg(label, Word("passing", "#1a7440")))
    assert {item.tag for item in root.iter()} == {
        f"{SVG}{name}" for name in ("svg", "title", "clipPath", "rect", "g", "text")
    }
    assert float(root.get("width", "")) < 600
