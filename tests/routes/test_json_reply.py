import json

from squash_api.routes.replies import json_reply


def test_a_float_is_written_so_that_it_reads_back_the_same() -> None:
    for value in (0.1, 7.761596740329379, 5e-324, 1.7976931348623157e308):
        assert json.loads(bytes(json_reply(value).body)) == value


def test_status_and_kind_are_set() -> None:
    reply = json_reply({"a": "Ω"}, status_code=418)
    assert (reply.status_code, reply.headers["Content-Type"]) == (418, "application/json")
    assert reply.body == '{"a":"Ω"}'.encode()
