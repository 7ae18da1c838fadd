"""What can be a webhook, and what cannot."""

from typing import Any

import pytest
from sqlalchemy import select

from squash_api.accounts.accounts import Account
from squash_api.delivery.subscriptions import MOST_WEBHOOKS, shown_url
from squash_api.errors import ForbiddenError, InvalidInputError, NameTakenError
from squash_api.record.record import Record
from squash_api.record.tables import webhook, webhook_delivery
from tests.support.told import ROOT_USER, Told

GOOD: dict[str, Any] = {
    "name": "hook",
    "url": "https://hooks.example.org/hushed",
    "events": ["alert.opened"],
    "filters": {},
}


@pytest.fixture
def told(record: Record) -> Told:
    return Told(record)


def create(told: Told, *, by: Any = ROOT_USER, **changes: Any) -> None:
    given = {**GOOD, **changes}
    told.subscriptions.create(given.pop("name"), given.pop("url"), **given, by=by)


@pytest.mark.parametrize(
    ("place", "value"),
    [
        ("url", "http://hooks.example.org/"),
        ("url", "ftp://hooks.example.org/"),
        ("url", "https://"),
        ("url", "hooks.example.org"),
        ("url", "https://ada:hushed@hooks.example.org/"),
        ("url", "https://hooks.example.org/#part"),
        ("url", "https://hooks.example.org/a b"),
        ("url", "https://hooks.example.org/\n"),
        ("url", "https://hooks.example.org:99999/"),
        ("url", "https://hooks.example.org/" + "x" * 2_000),
        ("url", "https://10.0.0.7/"),
        ("url", "https://169.254.169.254/latest/meta-data/"),
        ("url", "https://[::1]/"),
        ("url", "https://[::ffff:10.0.0.7]/"),
        ("url", "https://[64:ff9b::a00:7]/"),
        ("url", "https://0.0.0.0/"),
        ("name", ""),
        ("name", " "),
        ("name", "7"),
        ("name", "a/b"),
        ("name", "a\nb"),
        ("events", []),
        ("events", ["alert.open"]),
        ("filters", {"metrics": ["a.b"]}),
        ("filters.severity", {"severity": "loud"}),
        ("filters.tags", {"tags": {"detectr": "1"}}),
        ("filters.tags", {"tags": {"detector": 1}}),
        ("filters.tags", {"tags": ["detector"]}),
        ("filters.metric", {"metric": [7]}),
        ("filters.package", {"package": ["p"] * 101}),
    ],
)
@pytest.mark.sqlite
def test_what_cannot_be_a_webhook_is_refused_with_its_place(
    told: Told, place: str, value: Any
) -> None:
    with pytest.raises(InvalidInputError) as caught:
        create(told, **{place.partition(".")[0]: value})
    assert caught.value.detail[0].loc == ("body", *place.split("."))
    assert "hushed" not in caught.value.message


def test_addresses_on_this_machine_may_be_without_tls_where_a_setting_allows_it(
    told: Told,
) -> None:
    create(told, url="http://127.0.0.1:9/x")
    create(told, url="http://localhost:9/x", name="two")


def test_a_name_is_used_once_and_there_are_only_so_many(told: Told) -> None:
    create(told)
    with pytest.raises(NameTakenError):
        create(told)
    for number in range(MOST_WEBHOOKS - 1):
        create(told, name=f"hook {number}")
    with pytest.raises(InvalidInputError, match="remove some"):
        create(told, name="one more")


def test_only_admins_and_commands_make_them(told: Told) -> None:
    with pytest.raises(ForbiddenError):
        create(told, by=Account(1, "ada", "user", 1))
    create(told, by=Account(1, "ada", "admin", 1))


@pytest.mark.sqlite
@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("https://hooks.example.org", "https://hooks.example.org/"),
        ("https://hooks.example.org/", "https://hooks.example.org/"),
        ("https://hooks.example.org:8443/a", "https://hooks.example.org:8443/..."),
        ("https://hooks.example.org/?token=x", "https://hooks.example.org/..."),
    ],
)
def test_of_an_address_only_the_beginning_is_shown(url: str, shown: str) -> None:
    assert shown_url(url) == shown


def test_nothing_of_a_removed_webhook_is_kept_that_is_secret(told: Told) -> None:
    create(told)
    hook = told.hook()
    told.subscriptions.test("hook", by=ROOT_USER)
    told.subscriptions.remove("hook", by=ROOT_USER)
    with told.record.read() as connection:
        row = connection.execute(select(webhook).where(webhook.c.id == hook.receiver_id)).one()
        assert (row.url, row.secret) == ("", "")
        assert connection.execute(select(webhook_delivery)).all() == []
