"""Signed links open one page, for a while."""

from pathlib import Path
from typing import Any

import pytest
from pydantic import SecretStr

from squash_api.accounts.links import DAYS, Links
from squash_api.judging.alert_texts import Link, Message
from tests.support.builders import make_settings

pytestmark = pytest.mark.sqlite
NOW = 1_800_000_000
DAY = 86_400
ADDRESSES = ("/alert/7", "/alerts?group=5")


def links(folder: Path, at: float = NOW, **settings: Any) -> Links:
    return Links(make_settings(folder, **{"read": "users", **settings}), clock=lambda: at)


@pytest.mark.parametrize("address", ADDRESSES)
def test_a_link_is_good_for_a_week(tmp_path: Path, address: str) -> None:
    signed = links(tmp_path).sign(address)
    assert signed.startswith(address)
    assert links(tmp_path, NOW + DAYS * DAY).opens(signed)
    assert not links(tmp_path, NOW + (DAYS + 1) * DAY).opens(signed)


@pytest.mark.parametrize("address", ADDRESSES)
def test_a_link_is_the_same_all_day(tmp_path: Path, address: str) -> None:
    morning = NOW // DAY * DAY
    assert links(tmp_path, morning).sign(address) == links(tmp_path, morning + DAY - 1).sign(
        address
    )


def test_no_other_address_is_opened(tmp_path: Path) -> None:
    own = links(tmp_path)
    signed = own.sign("/alert/7")
    end, mac = signed.partition("t=")[2].split(".")
    for other in (
        "/alert/7",
        "/alert/7?t=",
        "/alert/7?t=x.y",
        signed.replace("7?", "8?"),
        signed.replace("?t=", "?x=1&t="),
        signed.replace("?t=", "&t="),
        signed[:-1],
        f"{signed}0",
        f"/alert/7?t={int(end) + DAY}.{mac}",
        f"{signed}&limit=1",
        f"/job/1?next={signed}",
        f"/alert/7?t={'9' * 200}.{mac}",
        "/alert/7?t=\u0661.\u0661",
    ):
        assert not own.opens(other), other


def test_a_secret_that_was_replaced_still_opens(tmp_path: Path) -> None:
    signed = links(tmp_path).sign("/alert/7")
    new = SecretStr("another secret of tests, as long as it must be")
    before = make_settings(tmp_path).secret
    assert links(tmp_path, secret=new, secret_previous=before).opens(signed)
    assert not links(tmp_path, secret=new).opens(signed)


@pytest.mark.parametrize("settings", [{"read": "open"}, {"secret": None}])
def test_where_it_is_no_use_nothing_is_signed(tmp_path: Path, settings: dict[str, Any]) -> None:
    assert links(tmp_path, **settings).sign("/alert/7") == "/alert/7"


def test_only_links_to_alerts_are_signed_in_a_message(tmp_path: Path) -> None:
    own, root = links(tmp_path), "https://squash.example"
    given = (
        Link("job 1", f"{root}/job/1"),
        Link("alert", f"{root}/alert/7"),
        Link("run", "https://ci.example/alert/7"),
        Link("run 7"),
    )
    found = own.in_message(Message("CRITICAL", "t", links=given), root).links
    assert found == (given[0], Link("alert", root + own.sign("/alert/7")), *given[2:])
