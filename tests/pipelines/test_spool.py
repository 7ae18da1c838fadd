import json
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from squash_api.pipelines.spool import Damaged, Entry, Sender, Spool, spool_folder
from tests.support.counting_service import CountingService
from tests.support.http_server import HttpServer

pytestmark = pytest.mark.sqlite

Put = Callable[..., Entry]


@pytest.fixture
def spool(tmp_path: Path) -> Spool:
    return Spool(tmp_path / "spool")


@pytest.fixture
def service() -> CountingService:
    return CountingService()


@pytest.fixture
def url(service: CountingService) -> Iterator[str]:
    with HttpServer(service) as server:
        yield server.url


@pytest.fixture
def sender(spool: Spool, url: str) -> Iterator[Sender]:
    sender = Sender(spool, url=url, key="k")
    yield sender
    sender.close()


@pytest.fixture
def put(spool: Spool, url: str) -> Put:
    def put(value: float, **changes: Any) -> Entry:
        document = {"measurements": [{"metric": "p.m", "value": value}]}
        given = {"source": f"file {value}", "url": url, "why": "away", "name": f"{value}"}
        return spool.put(document, **(given | changes))

    return put


def send(sender: Sender, **options: Any) -> list[str]:
    return [sent.fate for sent in sender.send(sender.spool.paths(), **options)]


def test_what_waits_is_sent_once_and_then_gone(
    put: Put, sender: Sender, service: CountingService
) -> None:
    put(1), put(2)
    assert send(sender) == ["sent", "sent"]
    assert send(sender) == []
    assert service.values("p.m") == [1, 2]


def test_a_job_that_came_already_is_known_by_its_identifiers(
    put: Put, sender: Sender, service: CountingService
) -> None:
    entry = put(1)
    content = entry.path.read_bytes()
    send(sender)
    # The process that sent it ended before it could delete the file.
    entry.path.write_bytes(content)
    assert send(sender) == ["repeat"]
    assert len(service.jobs) == 1


def test_the_same_name_is_put_once(put: Put, spool: Spool) -> None:
    first = put(1).path.read_bytes()
    assert put(1, why="other").path.read_bytes() == first
    assert len(spool.paths()) == 1


def test_a_refused_one_stays_with_the_reason_and_holds_up_no_other(
    put: Put, sender: Sender, service: CountingService, spool: Spool
) -> None:
    service.judge = lambda document: (
        httpx.Response(422, json={"message": "No."})
        if document["measurements"][0]["value"] == 1
        else None
    )
    put(1), put(2)
    assert send(sender) == ["refused", "sent"]
    (left,) = spool.entries()
    assert isinstance(left, Entry)
    assert (left.is_refused, left.why) == (True, "422: No.")
    assert send(sender) == []
    service.judge = lambda _: None
    assert send(sender, with_refused=True) == ["sent"]


@pytest.mark.parametrize("status", [401, 404, 429, 503])
def test_what_is_not_the_fault_of_the_document_is_no_refusal(
    put: Put, sender: Sender, service: CountingService, spool: Spool, status: int
) -> None:
    service.judge = lambda _: httpx.Response(status, json={"message": "Later."})
    for value in range(4):
        put(value)
    assert send(sender) == ["waits", "waits"]
    assert sender.trouble == f"{status}: Later."
    assert len(spool.paths()) == 4


def test_a_document_that_the_service_fails_at_holds_up_no_other(
    put: Put, sender: Sender, service: CountingService
) -> None:
    service.judge = lambda document: (
        httpx.Response(500) if document["measurements"][0]["value"] < 4 else None
    )
    for value in range(6):
        put(value)
    assert send(sender) == ["waits"] * 4 + ["sent"] * 2


def test_what_is_for_another_service_is_left_unless_it_has_moved(put: Put, sender: Sender) -> None:
    put(1, url="https://old.example.org")
    put(2, url=None)
    assert send(sender) == ["sent"]
    assert send(sender, any_url=True) == ["sent"]


def test_what_another_process_sends_is_left_to_it(put: Put, sender: Sender) -> None:
    import fcntl

    with put(1).path.open("rb") as other:
        fcntl.flock(other, fcntl.LOCK_EX)
        assert send(sender) == []
    assert send(sender) == ["sent"]


def test_a_damaged_file_is_named_and_holds_up_no_other(
    put: Put, sender: Sender, spool: Spool
) -> None:
    put(2)
    (spool.folder / "1.json").write_text('{"document"')
    (spool.folder / "0.json").write_text("[]")
    assert send(sender) == ["sent"]
    assert [type(item) for item in spool.entries()] == [Damaged, Damaged]


def test_a_write_that_fails_leaves_nothing_behind(
    put: Put, spool: Spool, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(_fd: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space left"):
        put(1)
    assert list(spool.folder.iterdir()) == []


def test_an_unfinished_write_is_no_entry_and_goes_after_a_day(put: Put, spool: Spool) -> None:
    put(1)
    for name, age_s in ((".2.json.ab", 90_000), (".3.json.ab", 10)):
        (spool.folder / name).write_text("{")
        time_s = spool.folder.stat().st_mtime - age_s
        os.utime(spool.folder / name, (time_s, time_s))
    assert [path.name for path in spool.paths()] == ["1.json"]
    assert not (spool.folder / ".2.json.ab").exists()
    assert (spool.folder / ".3.json.ab").exists()


def test_others_cannot_read_what_waits(put: Put, spool: Spool) -> None:
    assert put(1).path.stat().st_mode & 0o077 == 0
    assert spool.folder.stat().st_mode & 0o077 == 0


def test_a_service_out_of_reach_is_a_reason_to_wait(put: Put, spool: Spool) -> None:
    put(1, url=None)
    sender = Sender(spool, url="http://127.0.0.1:9", key="k")
    assert send(sender) == ["waits"]
    (left,) = spool.entries()
    assert "refused" in left.why
    sender.close()


@pytest.mark.parametrize(
    ("given", "trouble"),
    [
        ({"url": None, "key": "k"}, "SQUASH_URL is not set"),
        ({"url": "http://x", "user": "ada"}, "neither SQUASH_KEY nor"),
    ],
)
def test_without_credentials_everything_waits(
    spool: Spool, given: dict[str, Any], trouble: str
) -> None:
    sender = Sender(spool, **given)
    assert sender.post({"measurements": []})[0] == "waits"
    assert sender.trouble is not None
    assert trouble in sender.trouble


@pytest.mark.parametrize(
    ("variables", "folder"),
    [
        ({"SQUASH_SPOOL": "/s"}, "/s"),
        ({"XDG_STATE_HOME": "/x"}, "/x/squash/spool"),
        ({"XDG_STATE_HOME": "relative"}, str(Path.home() / ".local/state/squash/spool")),
    ],
)
def test_the_folder_is_named_by_the_environment(variables: dict[str, str], folder: str) -> None:
    assert str(spool_folder(variables)) == folder


def test_an_entry_says_what_since_when_and_why(put: Put, url: str) -> None:
    found = json.loads(put(1).path.read_bytes())
    assert found["source"] == "file 1"
    assert found["why"] == "away"
    assert found["url"] == url
    assert found["since"].endswith("+00:00")
