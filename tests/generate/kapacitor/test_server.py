from collections.abc import Iterator

import httpx
import pytest

from squash_api.generate.kapacitor.server import Handler, Kapacitor, Task
from squash_api.generate.servers import ServerError, UnreachableError
from tests.support.fake_kapacitor import FakeKapacitor

GOOD = """// a comment
dbrp "squash"."autogen"
stream
    |from().measurement('demo')
    |alert().id('x/{{ .Group }}').crit(lambda: "AM1" > 1.0).topic('metrics-live')
"""
BETTER = GOOD.replace("1.0", "2.0")
NOT_STARTING = GOOD.replace("{{ .Group }}", "{{ .Group }")
REFUSED = GOOD.replace("|from()", "|frm()")
HANDLER = Handler("metrics-live", "metrics-live-slack", "slack", {"channel": "#a"})


@pytest.fixture
def kapacitor(kapacitor_url: str) -> Iterator[Kapacitor]:
    server = Kapacitor(kapacitor_url)
    yield server
    server.close()


def names(kapacitor: Kapacitor) -> list[str]:
    return [task.name for task in kapacitor.tasks()]


def test_an_empty_server_has_nothing(kapacitor: Kapacitor) -> None:
    assert (kapacitor.tasks(), kapacitor.handlers()) == ([], [])


def test_a_task_is_made_and_runs_with_the_script_as_given(kapacitor: Kapacitor) -> None:
    kapacitor.put(Task("demo.AM1", GOOD), None)
    assert kapacitor.tasks() == [Task("demo.AM1", GOOD)]


def test_a_script_that_is_refused_is_told_and_not_kept(kapacitor: Kapacitor) -> None:
    with pytest.raises(ServerError, match="frm"):
        kapacitor.put(Task("demo.AM1", REFUSED), None)
    assert kapacitor.tasks() == []


def test_a_task_that_does_not_start_is_told_and_taken_away(kapacitor: Kapacitor) -> None:
    with pytest.raises(ServerError, match="unexpected"):
        kapacitor.put(Task("demo.AM1", NOT_STARTING), None)
    assert kapacitor.tasks() == []


def test_a_task_that_somebody_else_made_meanwhile_is_not_taken_away(kapacitor: Kapacitor) -> None:
    kapacitor.put(Task("demo.AM1", GOOD), None)
    with pytest.raises(ServerError, match="already exists"):
        kapacitor.put(Task("demo.AM1", BETTER), None)
    assert kapacitor.tasks() == [Task("demo.AM1", GOOD)]


def test_a_task_gets_another_script_and_runs(kapacitor: Kapacitor) -> None:
    kapacitor.put(Task("demo.AM1", GOOD), None)
    kapacitor.put(Task("demo.AM1", BETTER), Task("demo.AM1", GOOD))
    assert kapacitor.tasks() == [Task("demo.AM1", BETTER)]


@pytest.mark.parametrize("script", [NOT_STARTING, REFUSED])
def test_a_task_whose_new_script_fails_runs_with_the_old_one(
    kapacitor: Kapacitor, script: str
) -> None:
    kapacitor.put(Task("demo.AM1", GOOD), None)
    with pytest.raises(ServerError, match=r"frm|unexpected"):
        kapacitor.put(Task("demo.AM1", script), Task("demo.AM1", GOOD))
    (task,) = kapacitor.tasks()
    assert (task.script, task.trouble) == (GOOD, "")


def test_where_the_old_script_fails_too_both_are_told(kapacitor: Kapacitor) -> None:
    kapacitor.put(Task("demo.AM1", GOOD), None)
    with pytest.raises(
        ServerError, match=r"frm.*the previous script does not start either: .*unexpected"
    ):
        kapacitor.put(Task("demo.AM1", REFUSED), Task("demo.AM1", NOT_STARTING))


def test_a_task_that_failed_before_runs_after_an_update(kapacitor: Kapacitor) -> None:
    kapacitor.put(Task("demo.AM1", GOOD), None)
    with pytest.raises(ServerError):
        kapacitor.put(Task("demo.AM1", NOT_STARTING), Task("demo.AM1", NOT_STARTING))
    (broken,) = kapacitor.tasks()
    assert broken.trouble.startswith("does not run: ")
    kapacitor.put(Task("demo.AM1", GOOD), broken)
    (task,) = kapacitor.tasks()
    assert (task.script, task.trouble) == (GOOD, "")


def test_a_task_is_taken_away(kapacitor: Kapacitor) -> None:
    kapacitor.put(Task("demo.AM1", GOOD), None)
    kapacitor.remove(Task("demo.AM1", GOOD))
    assert kapacitor.tasks() == []


def test_all_tasks_are_listed_however_many(kapacitor: Kapacitor) -> None:
    for number in range(120):
        kapacitor.put(Task(f"demo.A{number:03}", GOOD), None)
    assert names(kapacitor) == [f"demo.A{number:03}" for number in range(120)]


def test_a_handler_is_made_replaced_and_taken_away(kapacitor: Kapacitor) -> None:
    kapacitor.put(HANDLER, None)
    assert kapacitor.handlers() == [HANDLER]
    other = Handler(HANDLER.topic, HANDLER.name, "slack", {}, "level() > INFO")
    kapacitor.put(other, HANDLER)
    assert kapacitor.handlers() == [other]
    kapacitor.remove(other)
    assert kapacitor.handlers() == []


def test_handlers_of_other_topics_are_not_looked_at(kapacitor: Kapacitor) -> None:
    kapacitor.put(Handler("own-topic", "mine", "slack"), None)
    assert kapacitor.handlers() == []


def test_a_handler_that_is_refused_is_told(kapacitor: Kapacitor) -> None:
    with pytest.raises(ServerError, match="kind"):
        kapacitor.put(Handler("metrics-live", "a", "carrier-pigeon"), None)


def test_a_server_that_goes_away_is_no_refusal() -> None:
    fake = FakeKapacitor()

    def answer(request: httpx.Request) -> httpx.Response:
        if request.method == "GET":
            return fake(request)
        raise httpx.ConnectError("connection refused")

    kapacitor = Kapacitor("http://k:9092", transport=httpx.MockTransport(answer))
    with pytest.raises(UnreachableError):
        kapacitor.put(Task("demo.AM1", GOOD), None)
    with pytest.raises(UnreachableError):
        kapacitor.put(Task("demo.AM1", BETTER), Task("demo.AM1", GOOD))
    assert "DELETE" not in {method for method, _ in fake.requests}


SUBSCRIBED = {"name": "local", "enabled": True, "disable-subscriptions": False}


@pytest.mark.parametrize(
    ("options", "count"),
    [
        (SUBSCRIBED, 1),
        ({**SUBSCRIBED, "disable-subscriptions": True}, 0),
        ({**SUBSCRIBED, "enabled": False}, 0),
    ],
)
def test_a_note_names_the_influxdb_that_it_subscribes_to(
    options: dict[str, object], count: int
) -> None:
    fake = FakeKapacitor()
    fake.influxdb = [options]
    with Kapacitor("http://kapacitor.invalid", transport=httpx.MockTransport(fake)) as server:
        notes = server.notes()
    assert len(notes) == count
    assert all("'local'" in note.what and "disable-subscriptions" in note.advice for note in notes)


def test_a_server_without_influxdb_has_no_notes(kapacitor: Kapacitor) -> None:
    assert kapacitor.notes() == []
