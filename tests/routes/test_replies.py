import json

import httpx
import msgspec
import pytest

from squash_api.routes.answer_objects import ErrorBody
from squash_api.routes.replies import ERROR_SCHEMA, errors_of, json_reply


def test_a_float_is_written_so_that_it_reads_back_the_same() -> None:
    for value in (0.1, 7.761596740329379, 5e-324, 1.7976931348623157e308):
        assert json.loads(bytes(json_reply(value).body)) == value


def test_status_and_kind_are_set() -> None:
    reply = json_reply({"a": "Ω"}, status_code=418)
    assert (reply.status_code, reply.headers["Content-Type"]) == (418, "application/json")
    assert reply.body == '{"a":"Ω"}'.encode()


def test_each_status_has_the_one_body() -> None:
    schemas = [
        reply["content"]["application/json"]["schema"] for reply in errors_of(404, 422).values()
    ]
    assert schemas == [ERROR_SCHEMA, ERROR_SCHEMA]


@pytest.mark.parametrize(
    ("path", "status"), [("/none", 404), ("/jobs?limit=x", 422), ("/users", 401)]
)
def test_real_failures_are_as_documented(
    shared_client: httpx.Client, path: str, status: int
) -> None:
    body = msgspec.convert(shared_client.get(path).json(), ErrorBody)
    assert body["status_code"] == status
