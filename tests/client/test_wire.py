import httpx
import pytest

from squash_api.client.wire import SquashClientError, Wire

URL = "http://squash.example/x"


def wire(*answers: httpx.Response | Exception, pauses: list[float] | None = None) -> Wire:
    left = list(answers)

    def answer(_: httpx.Request) -> httpx.Response:
        found = left.pop(0)
        if isinstance(found, Exception):
            raise found
        return found

    paused = [] if pauses is None else pauses
    transport = httpx.MockTransport(answer)
    return Wire(timeout=5.0, retries=2, transport=transport, sleep=paused.append)


def test_a_file_is_given_piece_by_piece() -> None:
    with wire(httpx.Response(200, content=iter([b"a", b"b"]))).stream(URL) as chunks:
        assert b"".join(chunks) == b"ab"


def test_a_file_is_asked_for_again_while_the_service_is_away() -> None:
    pauses: list[float] = []
    away = httpx.Response(503, headers={"Retry-After": "7"})
    answers = (away, httpx.ConnectError("refused"), httpx.Response(200, content=b"x"))
    with wire(*answers, pauses=pauses).stream(URL) as chunks:
        assert b"".join(chunks) == b"x"
    assert (len(pauses), pauses[0]) == (2, 7.0)


def test_a_refused_file_shows_the_services_words() -> None:
    refusal = httpx.Response(422, json={"message": "No such thing.", "code": "invalid_input"})
    with (
        pytest.raises(SquashClientError, match="No such thing"),
        wire(refusal).stream(URL),
    ):
        pass


def test_an_impossible_address_is_an_error_of_the_client() -> None:
    with pytest.raises(SquashClientError, match="GET http"):
        wire().request("GET", "http://\x00")
