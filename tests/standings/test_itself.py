"""What a process says of itself: the same to every outlet, once a minute, whatever fails."""

from typing import Any

import pytest
from structlog.testing import capture_logs

from squash_api.errors import RecordUnavailableError
from squash_api.record.deliveries import Quarantined, ensure_targets, mark_sent, mark_trouble
from squash_api.standings.figures import Figures
from squash_api.standings.itself import OwnState, OwnWatch
from squash_api.standings.watch import MINUTE_NS
from tests.support.observatory import NOW_NS, FakeOutlet, Observatory
from tests.support.told_kapacitor import parse_line

MINUTE = NOW_NS - NOW_NS % MINUTE_NS
S_NS = 10**9


class Own:
    """A process with the targets `default` and `summit`."""

    def __init__(self, site: Observatory) -> None:
        self.site = site
        self.outlets = {name: FakeOutlet(name) for name in ("default", "summit")}
        site.record.write(lambda connection: ensure_targets(connection, list(self.outlets)))
        self.state = OwnState(
            site.record,
            site.reader,
            Figures(),
            targets=[*self.outlets],
            process="serve",
            instance="one:8000",
            squash_url="https://squash.example",
            clock=lambda: site.now_ns,
        )
        self.watches = [
            OwnWatch(outlet, self.state, clock=lambda: site.now_ns)
            for outlet in self.outlets.values()
        ]

    def step(self) -> None:
        """Let a second pass in each thread."""
        for watch in self.watches:
            watch.step()

    def points(self, name: str = "default") -> dict[str, dict[str, Any]]:
        """Return the fields of the points that an outlet was given since, by series."""
        outlet = self.outlets[name]
        found = [parse_line(line) for line in outlet.lines]
        outlet.lines.clear()
        return {" ".join([name, *tags.values()]): fields for name, tags, fields, _ in found}


@pytest.fixture
def own(site: Observatory) -> Own:
    return Own(site)


def test_every_outlet_gets_the_same_points_at_the_whole_minute(own: Own) -> None:
    own.step()
    assert own.outlets["default"].lines == own.outlets["summit"].lines
    assert {line.rpartition(" ")[2] for line in own.outlets["default"].lines} == {str(MINUTE)}


def test_there_is_a_point_of_the_process_and_one_of_each_target(own: Own) -> None:
    own.step()
    assert set(own.points()) == {
        "squash_service one:8000 serve",
        "squash_delivery default",
        "squash_delivery summit",
    }


def test_it_says_so_once_a_minute(own: Own) -> None:
    own.step()
    own.points()
    own.step()
    assert own.points() == {}
    own.site.now_ns += MINUTE_NS
    own.step()
    assert len(own.points()) == 3


def test_what_waits_is_said_of_each_target(own: Own) -> None:
    first = own.site.job(1.0, ago_ns=700 * S_NS)
    own.site.job(2.0, ago_ns=600 * S_NS)
    own.site.record.write(
        lambda connection: mark_sent(
            connection,
            "summit",
            through=None,
            redelivered=[],
            quarantined=[Quarantined(first, "p", "p a=1 1", "why")],
            now_ns=own.site.now_ns - 3500 * S_NS,
        )
    )
    own.step()
    found = own.points()["squash_delivery summit"]
    assert (found["waiting"], found["oldest_s"]) == (2.0, pytest.approx(700))
    assert (found["quarantined"], found["refused_lately"]) == (1.0, 1.0)
    own.site.now_ns += 2 * MINUTE_NS
    own.step()
    found = own.points()["squash_delivery summit"]
    assert (found["quarantined"], found["refused_lately"]) == (1.0, 0.0)


def test_a_target_that_is_held_up_is_told_of_to_the_others_only(own: Own) -> None:
    own.site.record.write(
        lambda connection: mark_trouble(connection, "summit", trouble="<disk> full", now_ns=1)
    )
    own.step()
    assert own.points("summit") == {}
    found = own.points()["squash_delivery summit"]
    assert (found["up"], found["reason"]) == (0.0, "<disk> full")
    assert own.site.record.trouble is None


def test_without_trouble_the_reason_is_empty_so_that_the_last_one_goes(own: Own) -> None:
    own.step()
    for fields in own.points().values():
        assert fields["reason"] == ""
        assert fields["runbook_url"] == "https://squash.example/docs/runbook"


def test_if_the_record_cannot_be_read_this_is_what_is_said(
    own: Own, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: Any) -> None:
        raise RecordUnavailableError("The record is away.", reason="its disk is gone")

    monkeypatch.setattr(own.site.reader, "view", fail)
    own.step()
    ((series, fields),) = own.points().items()
    assert series == "squash_service one:8000 serve"
    assert (fields["record_up"], fields["reason"]) == (0.0, "its disk is gone")


def test_an_outlet_that_takes_nothing_is_logged_once_and_tried_each_minute(own: Own) -> None:
    own.outlets["summit"].is_up = False
    with capture_logs() as logs:
        for _ in range(3):
            own.step()
            own.site.now_ns += MINUTE_NS
    assert [(line["target"], line["log_level"]) for line in logs] == [("summit", "warning")]
    assert len(own.points()) == 3
    own.outlets["summit"].is_up = True
    own.step()
    assert len(own.points("summit")) == 3
