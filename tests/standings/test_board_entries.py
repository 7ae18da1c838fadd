from typing import Any

import pytest

from squash_api.standings.board import POINTS, Board, Entry, Wanted
from tests.support.definitions import ADA, metric, spec
from tests.support.observatory import DAY_NS, HOUR_NS, Observatory, expecting, loaded_ago

HSC = (("instrument", "HSC"),)
DECAM = (("instrument", "DECam"),)


@pytest.fixture
def board(site: Observatory) -> Board:
    return Board(site.standings, clock=lambda: site.now_ns)


def entries(board: Board, **wanted: Any) -> dict[str, Entry]:
    found = board.filtered(board.entries(), Wanted(**wanted))
    return {entry.name: entry for entry in found}


def states(board: Board) -> dict[str, tuple[str, ...]]:
    return {name: entry.states for name, entry in entries(board).items()}


def values(
    board: Board, name: str = "p.a", tag: str | None = None, **tags: str
) -> list[float | None]:
    entry = entries(board, values=tags, tag=tag).get(name)
    return [] if entry is None else [row.standing.value for row in entry.rows]


def test_what_is_declared_and_has_no_value_was_never_seen(board: Board) -> None:
    assert states(board) == {"p.a": ("never seen",), "p.b": ("never seen",)}


def test_what_is_measured_and_not_declared_is_there(site: Observatory, board: Board) -> None:
    site.metrics.refresh()
    site.define_metrics(metric("p.c"))
    site.job(1.0, name="p.c")
    site.definitions.delete("metric", "p.c", ADA)
    assert states(board)["p.c"] == ("no limit",)


def test_what_is_withdrawn_without_a_value_is_gone(site: Observatory, board: Board) -> None:
    assert "p.b" in states(board)
    site.definitions.delete("metric", "p.b", ADA)
    assert "p.b" not in states(board)


def test_a_metric_carries_its_definition(board: Board) -> None:
    entry = entries(board)["p.a"]
    assert (entry.unit, entry.description, entry.package) == ("mmag", "What it is.", "p")


def test_the_worst_limit_that_is_broken_is_shown(site: Observatory, board: Board) -> None:
    site.define(
        spec("p.a.minimum", value=8.0, tags=["minimum"]),
        spec("p.a.stretch", value=3.0, tags=["stretch"]),
    )
    site.job(10.0)
    (row,) = entries(board)["p.a"].rows
    assert row.state == "CRITICAL"
    assert row.verdict is not None
    assert (row.verdict.name, row.verdict.limit.criterion.numbers) == ("p.a.minimum", (8.0,))
    assert row.verdict.margin == pytest.approx(-0.25)


def test_where_none_is_broken_the_nearest_limit_is_shown(site: Observatory, board: Board) -> None:
    site.define(spec("p.a.minimum", value=8.0), spec("p.a.design", value=5.0))
    site.job(4.0)
    (row,) = entries(board)["p.a"].rows
    assert row.verdict is not None
    assert (row.state, row.verdict.name) == ("passed", "p.a.design")


def test_a_limit_without_margin_is_a_limit(site: Observatory, board: Board) -> None:
    flag = {"name": "p.a.flag", "threshold": {"value": 1.0, "unit": "mmag", "operator": "=="}}
    site.define({**flag, "metadata_query": {"instrument": "HSC"}})
    site.job(1.0)
    site.job(1.0, instrument="DECam")
    rows = {row.standing.tags: row for row in entries(board)["p.a"].rows}
    assert (rows[HSC].state, rows[DECAM].state) == ("passed", "no limit")


def test_a_new_job_and_a_new_limit_are_taken_in(site: Observatory, board: Board) -> None:
    assert states(board)["p.a"] == ("never seen",)
    site.job(10.0)
    assert states(board)["p.a"] == ("no limit",)
    site.define(spec("p.a.design", value=5.0))
    assert states(board)["p.a"] == ("WARNING",)
    site.job(1.0)
    assert states(board)["p.a"] == ("passed",)


def test_without_a_value_of_late_a_metric_is_old(site: Observatory, board: Board) -> None:
    site.define(spec("p.a.design", value=5.0))
    site.job(10.0, ago_ns=40 * DAY_NS)
    assert states(board)["p.a"] == ("old",)
    assert values(board) == [10.0]


@pytest.mark.parametrize("newest", ["old", "recent"])
def test_each_old_series_is_old(site: Observatory, board: Board, newest: str) -> None:
    site.define(spec("p.a.design", value=5.0))
    site.job(9.0, ago_ns=31 * DAY_NS, instrument="O", env={"env_name": "ldf"})
    ago_ns = 31 * DAY_NS - HOUR_NS if newest == "old" else HOUR_NS
    site.job(None, ago_ns=ago_ns, instrument="O3")
    for wanted in ({"values": {"instrument": "O"}}, {"tag": "env_name=ldf"}):
        entry = entries(board, **wanted)["p.a"]
        assert entry.states == ("old",)
        assert [row.standing.value for row in entry.rows] == [9.0]
    assert values(board, instrument="O2") == []
    assert len(values(board)) == (2 if newest == "old" else 1)


def test_a_deleted_value_is_gone(site: Observatory, board: Board) -> None:
    job_id = site.job(10.0, ago_ns=40 * DAY_NS)
    assert values(board) == [10.0]
    site.delete(job_id)
    assert states(board)["p.a"] == ("never seen",)


def test_a_combination_that_is_overdue_is_late(site: Observatory, board: Board) -> None:
    site.define(expecting("p.a.design", alert={"per": ["instrument"]}))
    loaded_ago(site.record, 60 * DAY_NS)
    site.job(1.0, ago_ns=40 * HOUR_NS)
    site.job(1.0, instrument="DECam")
    entry = entries(board)["p.a"]
    assert entry.states == ("late", "passed")
    assert [row.standing.tags for row in entry.rows if row.late] == [HSC]


def test_of_two_late_specifications_the_worse_is_said(site: Observatory, board: Board) -> None:
    for name, every, level in (
        ("p.a.a", "2h", "critical"),
        ("p.a.b", "1h", "critical"),
        ("p.a.z", "1h", "info"),
    ):
        alert = {"per": ["instrument"], "level": level}
        site.define(expecting(name, every, alert=alert))
    loaded_ago(site.record, 60 * DAY_NS)
    site.job(1.0, ago_ns=40 * HOUR_NS)
    (row,) = entries(board)["p.a"].rows
    assert row.late is not None
    assert row.late.specification == "p.a.b"


def test_a_metric_that_never_came_is_late_once_it_should_have(
    site: Observatory, board: Board
) -> None:
    site.define(expecting("p.a.design"))
    loaded_ago(site.record, HOUR_NS)
    assert states(board)["p.a"] == ("never seen",)
    site.now_ns += 31 * HOUR_NS
    assert states(board)["p.a"] == ("late", "never seen")


def test_values_are_narrowed_by_what_tells_them_apart(site: Observatory, board: Board) -> None:
    site.job(1.0, filter_name="r")
    site.job(2.0, filter_name="g", instrument="DECam")
    assert values(board, filter="r") == [1.0]
    assert values(board, instrument="DECam", filter="g") == [2.0]
    assert values(board, filter="y") == []


def test_values_are_narrowed_by_any_tag(site: Observatory, board: Board) -> None:
    site.job(1.0, filter_name="r", env={"env_name": "ldf"})
    site.job(2.0, filter_name="g", env={"env_name": "jenkins"})
    assert values(board, tag="env_name=ldf") == [1.0]
    assert values(board, tag="env_name=", filter="r") == []


def trend(board: Board, name: str = "p.a") -> list[float]:
    entry = entries(board)[name]
    row = entry.rows[0]
    found = board.trends([(entry, row)])
    return [value for _, value in found[entry.metric_id, row.standing.tags]]


def test_a_trend_has_the_last_values_of_the_combination(site: Observatory, board: Board) -> None:
    for number in range(POINTS + 5):
        site.job(float(number), ago_ns=(POINTS + 5 - number) * HOUR_NS)
    site.job(-1.0, ago_ns=HOUR_NS // 2, instrument="DECam", filter_name="r")
    entry = entries(board)["p.a"]
    shown = [(entry, row) for row in entry.rows]
    found = board.trends(shown)
    assert [value for _, value in found[entry.metric_id, HSC]] == [
        float(number) for number in range(5, POINTS + 5)
    ]
    assert len(found) == 2


def test_a_trend_follows_what_comes_and_goes(site: Observatory, board: Board) -> None:
    site.job(1.0, ago_ns=2 * HOUR_NS)
    middle = site.job(3.0, ago_ns=HOUR_NS)
    assert trend(board) == [1.0, 3.0]
    site.job(2.0)
    assert trend(board) == [1.0, 3.0, 2.0]
    site.delete(middle)
    assert trend(board) == [1.0, 2.0]


def test_what_is_old_has_a_trend_too(site: Observatory, board: Board) -> None:
    site.job(1.0, ago_ns=50 * DAY_NS)
    site.job(2.0, ago_ns=40 * DAY_NS)
    assert trend(board) == [1.0, 2.0]


def test_what_has_not_changed_is_not_made_again(site: Observatory, board: Board) -> None:
    site.job(1.0)
    site.job(1.0, name="p.b")
    before = entries(board)
    site.job(2.0)
    after = entries(board)
    assert after["p.b"] is before["p.b"]
    assert after["p.a"] is not before["p.a"]


def test_one_metric_is_looked_at_alone(site: Observatory, board: Board) -> None:
    site.define(expecting(), spec("p.b.design", value=5.0))
    loaded_ago(site.record, 3 * DAY_NS, now_ns=site.now_ns)
    site.job(6.0, ago_ns=2 * DAY_NS, filter="r")
    site.job(4.0, name="p.b")
    assert board.entry("p.a") == entries(Board(site.standings, clock=lambda: site.now_ns))["p.a"]
    assert board.entry("p.a").states == ("WARNING", "late")  # type: ignore[union-attr]
    assert [seen.entry.name for seen in board._seen.values()] == ["p.a"]
    site.job(7.0, name="p.b")
    assert values(board, "p.b") == [7.0]
    assert board.entry("p.zzz") is None
