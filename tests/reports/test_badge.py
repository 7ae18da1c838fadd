from typing import Any
from xml.etree import ElementTree as ET

import pytest

from squash_api.index.contexts import JobContext
from squash_api.judging.limits import Limit, judge
from squash_api.record.metrics import MetricRow
from squash_api.reports.badge import Word, badge_svg, text_width, word_of
from squash_api.schema.names import Context
from squash_api.standings.standing import Standing, stand
from tests.support.limits import limit
from tests.support.reporting import HOSTILE

SVG = "{http://www.w3.org/2000/svg}"


def standing(severity: int = 0, *, metric: str = "p.a", **changes: Any) -> Standing:
    tags = tuple(changes.pop("tags", {}).items())
    verdict = judge(limit(), 1.0)
    return Standing(
        metric, tags, 1.0, "mmag", 5, 7, severity=severity, **{"verdict": verdict, **changes}
    )


def text(*standings: Standing, where: dict[str, str] | None = None) -> str:
    return word_of(standings, package="p", where=where or {}).text


@pytest.mark.parametrize(
    ("severities", "said"),
    [
        ([0, 0], "passing"),
        ([0, 1], "1 info"),
        ([1, 2], "1 warning"),
        ([2, 2], "2 warnings"),
        ([3, 2, 3], "2 critical"),
        ([], "no data"),
    ],
)
def test_the_worst_is_said(severities: list[int], said: str) -> None:
    assert text(*map(standing, severities)) == said


def test_other_packages_say_nothing() -> None:
    assert text(standing(3, metric="pp.a")) == "no data"


def test_tags_narrow_it_down() -> None:
    items = [standing(3, tags={"filter": "r"}), standing(0, tags={"filter": "g"})]
    assert text(*items, where={"filter": "g"}) == "passing"
    assert text(*items, where={"filter": "u"}) == "no data"


def test_without_limits_nothing_passes() -> None:
    assert text(standing(0, verdict=None)) == "no limits"


@pytest.mark.parametrize("made", [limit("==", 1.0), limit(">", 0.0)])
def test_limits_that_give_no_margin_judge_too(made: Limit) -> None:
    job = JobContext(7, 5, 6, Context())
    row = MetricRow("mmag", is_declared=True, metric_id=1, name="p.a", version=1)
    found = stand(row, (), 1.0, job, [made])
    assert (found.margin, text(found)) == (None, "passing")


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
