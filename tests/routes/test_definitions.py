import pytest

from squash_api.definitions.changes import Change
from squash_api.routes.definitions import changed_list, changed_one
from tests.support.calls import Calls


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (Change(("p.a",), 0, 0, ()), "1 metric created."),
        (
            Change(("p.a", "p.b"), 1, 0, ()),
            "2 metrics created. 1 metric existed already, with the same definition.",
        ),
        (Change((), 3, 0, ()), "3 metrics existed already, with the same definition."),
        (Change((), 0, 0, ()), "0 metrics created."),
        (
            Change(("p.a",), 0, 12, ("Mind this.",)),
            "1 metric created. Read again, and sent to InfluxDB again: 12 jobs. Mind this.",
        ),
    ],
)
def test_the_message_of_a_list_says_what_was_done(change: Change, message: str) -> None:
    assert changed_list(change, noun="metric")["message"] == message


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (Change(("p.a",), 0, 0, ()), "`p.a` changed."),
        (Change((), 1, 0, ()), "`p.a` was defined like this already."),
        (
            Change(("p.a",), 0, 1, ()),
            "`p.a` changed. Read again, and sent to InfluxDB again: 1 job.",
        ),
    ],
)
def test_the_message_of_one_definition_says_what_was_done(change: Change, message: str) -> None:
    assert changed_one(change, name="p.a", verb="changed")["message"] == message


@pytest.mark.parametrize("key", ["metrics", "specs"])
@pytest.mark.parametrize("is_null", [False, True])
def test_a_body_without_its_list_lacks_a_field(calls: Calls, key: str, *, is_null: bool) -> None:
    reply = calls("POST", f"/{key}", {key: None} if is_null else {})
    assert (reply.status_code, reply.json()["code"]) == (400, "missing_parameter")


@pytest.mark.parametrize("key", ["metrics", "specs"])
def test_a_body_with_something_else_than_a_list_is_refused(calls: Calls, key: str) -> None:
    reply = calls("POST", f"/{key}", {key: {}})
    assert (reply.status_code, reply.json()["message"]) == (422, f"`{key}` must be a list.")
