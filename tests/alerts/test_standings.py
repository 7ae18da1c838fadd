"""The states of series: what the alerts of the record say of limits that only these know of."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from squash_api.judging.states import State
from squash_api.standings.board import Board
from squash_api.standings.standing import Standings
from tests.support.definitions import spec
from tests.support.observatory import HOUR_NS
from tests.support.raised import AlertedObservatory

pytestmark = pytest.mark.sqlite

TWICE: dict[str, Any] = {"alert": {"after": {"runs": 2, "of": 3}}}


@pytest.fixture
def site(tmp_path: Path) -> Iterator[AlertedObservatory]:
    with AlertedObservatory(tmp_path) as site:
        yield site


def state(site: AlertedObservatory) -> tuple[State, tuple[str, ...]]:
    """Return the state of p.a, and the limits that it breaks."""
    site.step()
    (standing,) = site.stand().values()
    return standing.state, standing.broken


def test_a_limit_that_needs_two_runs_does_not_count_after_one(site: AlertedObservatory) -> None:
    site.define(spec("p.a.design", tags=["minimum"], **TWICE))
    site.job(9.0, ago_ns=5 * HOUR_NS)
    assert state(site) == ("passed", ())
    site.job(8.0, ago_ns=4 * HOUR_NS)
    assert state(site) == ("CRITICAL", ("p.a.design",))
    site.job(1.0, ago_ns=3 * HOUR_NS)
    assert state(site) == ("CRITICAL", ("p.a.design",))
    site.job(1.0, ago_ns=2 * HOUR_NS)
    assert state(site) == ("passed", ())


def test_the_worst_of_both_sorts_of_limits_counts(site: AlertedObservatory) -> None:
    site.define(spec("p.a.design", tags=["minimum"], **TWICE), spec("p.a.stretch", value=2.0))
    site.job(9.0, ago_ns=5 * HOUR_NS)
    assert state(site) == ("WARNING", ("p.a.stretch",))
    site.job(9.0, ago_ns=4 * HOUR_NS)
    assert state(site) == ("CRITICAL", ("p.a.design", "p.a.stretch"))
    entry = Board(site.standings, clock=lambda: site.now_ns).entry("p.a")
    assert entry is not None
    assert entry.state == "CRITICAL"


def test_a_value_that_is_not_measured_hides_what_is_raised(site: AlertedObservatory) -> None:
    site.define(spec("p.a.design", **TWICE))
    site.job(9.0, ago_ns=5 * HOUR_NS)
    site.job(9.0, ago_ns=4 * HOUR_NS)
    site.job(None, ago_ns=3 * HOUR_NS)
    assert state(site) == ("not measured", ())


@pytest.mark.parametrize("more", [{}, {"min_runs": 1}])
def test_a_limit_on_trial_counts_nowhere(site: AlertedObservatory, more: dict[str, Any]) -> None:
    site.define(spec("p.a.design", alert={"trial": True, **more}))
    job = site.job(9.0)
    assert state(site) == ("no limit", ())
    assert site.states.of([job])[job].word == "no limit"
    site.define(spec("p.a.other"))
    assert state(site) == ("WARNING", ("p.a.other",))


def test_an_alert_of_coarser_series_counts_for_all_that_it_is_made_of(
    site: AlertedObservatory,
) -> None:
    site.define(spec("p.a.x", alert={"min_runs": 2, "per": ["instrument"]}))
    site.job(9.0, ago_ns=5 * HOUR_NS, detector=1)
    site.job(9.0, ago_ns=4 * HOUR_NS, detector=2)
    site.step()
    assert {standing.state for standing in site.stand().values()} == {"WARNING"}


def test_an_alert_is_looked_up_and_has_only_its_own_series_judged_again(
    site: AlertedObservatory, monkeypatch: pytest.MonkeyPatch
) -> None:
    site.define(spec("p.a.design", **TWICE))
    for hours in (9, 8):
        for detector in range(20):
            site.job(9.0, ago_ns=hours * HOUR_NS, detector=detector)
    site.step()
    assert {standing.state for standing in site.stand().values()} == {"WARNING"}
    site.job(1.0, ago_ns=7 * HOUR_NS, detector=3)
    site.job(1.0, ago_ns=6 * HOUR_NS, detector=3)
    site.stand()
    site.step()
    looked: list[Any] = []
    found = Standings._raised_in

    def look(*asked: Any) -> Any:
        looked.append(asked[1:])
        return found(*asked)

    monkeypatch.setattr(Standings, "_raised_in", look)
    states = [standing.state for standing in site.stand().values()]
    assert (states.count("passed"), len(looked)) == (1, 1)
    assert len(list(site.standings._places(*looked[0]))) == 1
