import asyncio
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import httpx
import pytest
from fastapi import FastAPI
from hypothesis import given
from hypothesis import strategies as st
from starlette.types import Message, Receive, Scope, Send

from squash_api.app import create_app
from squash_api.errors import BusyError
from squash_api.routes import admission
from squash_api.routes.admission import (
    MOST_KEPT_BYTES,
    MOST_STREAMS_OF_ONE,
    MOST_WAITING,
    MOST_WAITING_OF_ONE,
    Admission,
    Places,
    network_of,
)
from squash_api.routes.replies import add_failure_handlers
from tests.support.builders import make_settings


@pytest.fixture(autouse=True)
def _no_pause(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(admission, "PAUSE_S", 0.0)


class Slow:
    """An application whose answers are made when the test says so; its answer is their number."""

    def __init__(self) -> None:
        self.begun: list[str] = []
        self.may_end: dict[int, asyncio.Event] = {}
        self.size = 1
        self.headers: list[tuple[bytes, bytes]] = []
        self.error: Exception | None = None

    async def __call__(self, scope: Scope, _receive: Receive, send: Send) -> None:
        number = len(self.begun)
        self.begun.append(scope["path"])
        self.may_end[number] = asyncio.Event()
        await self.may_end[number].wait()
        if self.error is not None:
            raise self.error
        await send({"type": "http.response.start", "status": 200, "headers": self.headers})
        await send({"type": "http.response.body", "body": b"x" * self.size, "more_body": True})
        await send({"type": "http.response.body", "body": b"%d" % number})


class Client:
    """Somebody who asks for something, and may go away."""

    def __init__(self, **scope: Any) -> None:
        headers = {b"accept": b"*/*", **scope.pop("headers", {})}
        self.path = scope.pop("path", "/runs")
        self.scope: Scope = {
            "type": "http",
            "method": "GET",
            "path": self.path,
            "raw_path": self.path.encode(),
            "query_string": b"",
            "client": (scope.pop("address", "192.0.2.1"), 1),
            "headers": list(headers.items()),
            "app": _app(),
            **scope,
        }
        self.sent: list[Message] = []
        self.leaves = asyncio.Event()
        self.body: list[bytes] = []
        self.reads = asyncio.Event()
        self.reads.set()
        self.task: asyncio.Task[None] | None = None

    def ask(self, middleware: Admission) -> None:
        self.task = asyncio.create_task(middleware(self.scope, self._receive, self._send))

    async def _receive(self) -> Message:
        if self.body:
            return {"type": "http.request", "body": self.body.pop(), "more_body": True}
        await self.leaves.wait()
        return {"type": "http.disconnect"}

    async def _send(self, message: Message) -> None:
        await self.reads.wait()
        self.sent.append(message)

    @property
    def status(self) -> int | None:
        return self.sent[0]["status"] if self.sent else None

    @property
    def answer(self) -> bytes:
        return b"".join(message.get("body", b"") for message in self.sent)


def _app() -> FastAPI:
    app = FastAPI()
    add_failure_handlers(app, page=_no_page, paths=[], url="")
    return app


def _no_page(*_: Any, **__: Any) -> Any:
    raise NotImplementedError


async def settle() -> None:
    """Let everything go on that can."""
    for _ in range(30):
        await asyncio.sleep(0)


async def asking(clients: Sequence[Client], *, places: int = 2) -> tuple[Slow, Admission, Places]:
    """Let clients ask in order, and wait until those who have a place are being answered."""
    inner, given_places = Slow(), Places(places)
    middleware = Admission(inner, places=given_places)
    for client in clients:
        client.ask(middleware)
        await settle()
    return inner, middleware, given_places


async def end_all(inner: Slow) -> None:
    done = 0
    while done < len(inner.begun):
        inner.may_end[done].set()
        done += 1
        await settle()


async def test_only_so_many_are_made_at_a_time() -> None:
    clients = [Client(path=f"/{number}", address=f"192.0.2.{number}") for number in range(5)]
    inner, _, places = await asking(clients)
    assert (len(inner.begun), places.running, places.waiting) == (2, 2, 3)
    await end_all(inner)
    assert [client.status for client in clients] == [200] * 5
    assert (places.running, places.waiting, places.streams) == (0, 0, 0)


async def test_addresses_take_turns() -> None:
    many = [Client(path=f"/many/{number}", address="192.0.2.1") for number in range(6)]
    few = [Client(path=f"/few/{number}", address="192.0.2.2") for number in range(2)]
    inner, _, _ = await asking([*many, *few])
    await end_all(inner)
    assert [path for path in inner.begun if "few" in path] == ["/few/0", "/few/1"]
    assert inner.begun.index("/few/1") < inner.begun.index("/many/3")


async def test_one_address_does_not_have_all_places() -> None:
    clients = [Client(path=f"/{number}") for number in range(5)]
    inner, middleware, places = await asking(clients, places=3)
    assert (len(inner.begun), places.waiting) == (2, 3)
    other = Client(path="/other", address="192.0.2.2")
    other.ask(middleware)
    await settle()
    assert "/other" in inner.begun
    await end_all(inner)


async def test_users_of_one_address_take_turns() -> None:
    many = [Client(path=f"/{n}", headers={b"authorization": b"JWT a"}) for n in range(6)]
    other = Client(path="/other", headers={b"authorization": b"JWT b"})
    inner, _, _ = await asking([*many, other])
    await end_all(inner)
    assert inner.begun.index("/other") <= 2


async def test_what_is_asked_for_again_while_it_waits_is_made_once() -> None:
    first = Client(path="/first")
    same = [Client(address=f"192.0.2.{number}") for number in range(9)]
    inner, _, _ = await asking([first, *same], places=1)
    await end_all(inner)
    assert inner.begun == ["/first", "/runs"]
    assert {client.answer for client in same} == {b"x1"}


async def test_what_has_begun_to_be_made_is_made_again_for_those_who_ask_then() -> None:
    # They may have posted what the first answer does not contain.
    first, second = Client(), Client()
    inner, _, _ = await asking([first, second], places=1)
    await end_all(inner)
    assert (first.answer, second.answer) == (b"x0", b"x1")


@pytest.mark.parametrize(
    "difference",
    [
        {"query_string": b"limit=2"},
        {"path": "/report"},
        {"raw_path": b"/r%75ns"},
        {"headers": {b"accept": b"text/html"}},
        {"headers": {b"authorization": b"JWT a"}},
        {"headers": {b"cookie": b"session=a"}},
    ],
)
async def test_only_what_is_the_same_is_made_once(difference: dict[str, Any]) -> None:
    clients = [Client(path="/first"), Client(), Client(**difference)]
    inner, _, _ = await asking(clients, places=1)
    await end_all(inner)
    assert len(inner.begun) == 3


async def test_what_sets_a_cookie_is_for_one_client() -> None:
    clients = [Client(path="/first"), Client(), Client()]
    inner, _, _ = await asking(clients, places=1)
    inner.headers = [(b"set-cookie", b"form=a")]
    await end_all(inner)
    assert {client.answer for client in clients} == {b"x0", b"x1", b"x2"}


async def test_a_failure_is_that_of_all_who_asked() -> None:
    clients = [Client(path="/first"), Client(), Client()]
    inner, _, _ = await asking(clients, places=1)
    inner.may_end[0].set()
    await settle()
    inner.error = ZeroDivisionError()
    await end_all(inner)
    for client in clients[1:]:
        assert client.task is not None
        assert isinstance(client.task.exception(), ZeroDivisionError)


async def test_those_who_are_too_many_are_told_when_to_come_back() -> None:
    clients = [Client(path=f"/{number}") for number in range(MOST_WAITING_OF_ONE + 2)]
    inner, middleware, _ = await asking(clients, places=1)
    assert clients[-1].status == 429
    assert (b"retry-after", b"5") in clients[-1].sent[0]["headers"]
    other = Client(path="/other", address="192.0.2.2")
    other.ask(middleware)
    await end_all(inner)
    assert other.status == 200


async def test_those_of_all_addresses_can_be_too_many() -> None:
    clients = [
        Client(path=f"/{number}", address=f"192.0.{number % 250}.2")
        for number in range(MOST_WAITING + 2)
    ]
    inner, _, _ = await asking(clients, places=1)
    assert [client.status for client in clients if client.status] == [429]
    await end_all(inner)


async def test_nobody_waits_for_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(admission, "LONGEST_WAIT_S", 0.01)
    clients = [Client(path="/first"), Client(), Client()]
    inner, _, places = await asking(clients, places=1)
    for client in clients[1:]:
        assert client.task is not None
        await client.task
        assert client.status == 429
    assert places.waiting == 0
    await end_all(inner)


async def test_who_goes_away_leaves_the_queue() -> None:
    clients = [Client(path="/first"), Client(), Client(path="/third")]
    inner, _, places = await asking(clients, places=1)
    clients[1].leaves.set()
    await settle()
    assert places.waiting == 1
    await end_all(inner)
    assert inner.begun == ["/first", "/third"]


async def test_who_asked_as_well_is_answered_when_the_first_goes_away() -> None:
    clients = [Client(path="/first"), Client(), Client()]
    inner, _, _ = await asking(clients, places=1)
    clients[1].leaves.set()
    await end_all(inner)
    assert clients[2].answer == b"x1"


async def test_a_client_that_goes_away_keeps_its_place_until_its_answer_is_made() -> None:
    # A report cannot be stopped: to go away and ask again must not make it twice at a time.
    first, second = Client(path="/first"), Client()
    inner, _, places = await asking([first, second], places=1)
    first.leaves.set()
    await settle()
    assert (inner.begun, places.running) == (["/first"], 1)
    await end_all(inner)
    assert second.status == 200


async def test_a_client_that_reads_slowly_holds_no_place() -> None:
    slow, other = Client(path="/first"), Client()
    slow.reads.clear()
    inner, _, places = await asking([slow, other], places=1)
    await end_all(inner)
    assert (other.status, slow.status, places.running) == (200, None, 0)
    slow.reads.set()
    await settle()
    assert slow.status == 200


async def test_a_large_answer_is_sent_while_it_is_made_to_each_who_asked() -> None:
    clients = [Client(path="/first"), Client(), Client()]
    inner, _, places = await asking(clients, places=1)
    inner.size = MOST_KEPT_BYTES + 1
    clients[1].reads.clear()
    await end_all(inner)
    assert (places.running, places.streams) == (0, 1)
    clients[1].reads.set()
    await settle()
    assert len(inner.begun) == 3
    assert [len(client.answer) for client in clients] == [MOST_KEPT_BYTES + 2] * 3
    assert places.streams == 0


async def test_only_so_many_large_answers_are_sent_at_a_time() -> None:
    clients = [Client(path=f"/{number}") for number in range(MOST_STREAMS_OF_ONE + 1)]
    inner, middleware, places = await asking(clients, places=100)
    inner.size = MOST_KEPT_BYTES + 1
    for client in clients[:-1]:
        client.reads.clear()
    await end_all(inner)
    assert (clients[-1].status, places.streams) == (429, MOST_STREAMS_OF_ONE)
    other = Client(path="/other", address="192.0.2.2")
    other.ask(middleware)
    await settle()
    await end_all(inner)
    assert other.status == 200
    for client in clients:
        client.reads.set()
    await settle()
    assert (places.streams, places.running) == (0, 0)


async def test_a_large_body_is_refused() -> None:
    client = Client()
    client.body = [b"x" * 100_000] * 11
    inner, _, places = await asking([Client(path="/first"), client], places=1)
    assert client.status == 413
    await end_all(inner)
    assert (inner.begun, places.running) == (["/first"], 0)


@pytest.mark.parametrize(
    "path", ["/healthz", "/readyz", "/prometheus", "/events", "/", "/static/a"]
)
async def test_what_is_quick_waits_for_nothing(path: str) -> None:
    inner, _, places = await asking([Client(path="/first"), Client(path=path)], places=1)
    assert (inner.begun, places.running) == (["/first", path], 1)
    await end_all(inner)


async def test_writing_waits_for_no_read() -> None:
    clients = [Client(path="/first"), Client(method="POST"), Client(method="DELETE")]
    inner, _, _ = await asking(clients, places=1)
    assert len(inner.begun) == 3
    await end_all(inner)


@given(
    st.integers(1, 4),
    st.lists(st.tuples(st.booleans(), st.sampled_from("abc"), st.sampled_from("xy")), max_size=60),
)
def test_places_are_never_too_many_and_nobody_is_forgotten(
    count: int, steps: list[tuple[bool, str, str]]
) -> None:
    async def run() -> None:
        places = Places(count)
        asked: list[tuple[str, asyncio.Future[None]]] = []
        for is_new, network, user in steps:
            if is_new or not asked:
                asked.append((network, places.ask(network, user)))
            else:
                places.leave(*asked.pop(0))
            taken = Counter(name for name, place in asked if place.done())
            assert taken.total() == places.running <= count
            assert all(number <= max(1, count - 1) for number in taken.values())
            assert places.waiting == len(asked) - places.running
            waiting = {name for name, place in asked if not place.done()}
            # No place is free that somebody who waits could have.
            assert places.running == count or all(
                taken[name] == max(1, count - 1) for name in waiting
            )
        while asked:
            asked.sort(key=lambda item: not item[1].done())
            assert asked[0][1].done()
            places.leave(*asked.pop(0))
        assert (places.running, places.waiting) == (0, 0)

    asyncio.run(run())


def test_people_are_told_in_words(tmp_path: Path) -> None:
    app = create_app(make_settings(tmp_path))

    def full(*_: object) -> None:
        raise BusyError("Too many reads are waiting. Try again.", retry_after_s=5)

    async def get(accept: str) -> httpx.Response:
        app.state.places.ask = full
        transport = httpx.ASGITransport(app)
        async with httpx.AsyncClient(transport=transport, base_url="http://x") as client:
            return await client.get("/runs", headers={"Accept": accept})

    page, reply = asyncio.run(get("text/html")), asyncio.run(get("*/*"))
    assert (page.status_code, reply.status_code) == (429, 429)
    assert page.headers["retry-after"] == reply.headers["retry-after"] == "5"
    assert "Too many reads are waiting" in page.text
    assert reply.json()["code"] == "busy"
    app.state.site.close()


@pytest.mark.parametrize(
    ("address", "network"),
    [
        ("192.0.2.7", "192.0.2.7"),
        ("::ffff:192.0.2.7", "192.0.2.7"),
        ("2001:db8:1:2:3:4:5:6", "2001:db8:1:2"),
        ("2001:db8:1:2::9", "2001:db8:1:2"),
        ("2001:db8::9", "2001:db8:0:0"),
        ("fe80::1%eth0", "fe80:0:0:0"),
        ("::1", "0:0:0:0"),
        ("::", "0:0:0:0"),
        ("", ""),
    ],
)
def test_an_address_is_counted_by_its_network(address: str, network: str) -> None:
    assert network_of(address) == network
