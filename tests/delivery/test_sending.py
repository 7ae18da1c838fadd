"""What may be sent to, and that nothing that answers can hold up who sends."""

import asyncio
import socket
import ssl
import subprocess
import threading
from collections.abc import Iterator
from ipaddress import ip_address, ip_network
from pathlib import Path

import httpx
import pytest

from squash_api.delivery.sending import (
    MOST_BYTES,
    Answer,
    Sender,
    SendingError,
    _certificates,
    is_allowed,
)
from tests.support.programs import find_program
from tests.support.receiver import ReceivingServer

pytestmark = pytest.mark.sqlite

LOOPBACK = ("127.0.0.0/8", "::1/128")


def send(url: str, networks: tuple[str, ...] | None = LOOPBACK, whole_s: float = 20.0) -> Answer:
    async def work() -> Answer:
        async with Sender(networks, whole_s=whole_s) as sender:
            return await sender.send("POST", url, headers={}, content=b"{}")

    return asyncio.run(work())


@pytest.fixture
def receiver() -> Iterator[ReceivingServer]:
    with ReceivingServer() as server:
        yield server


@pytest.mark.parametrize(
    "address",
    [
        "127.0.0.1",
        "10.1.2.3",
        "172.16.0.1",
        "192.168.1.1",
        "169.254.169.254",
        "100.64.0.1",
        "0.0.0.0",
        "224.0.0.1",
        "255.255.255.255",
        "192.0.2.1",
        "::",
        "::1",
        "::10.1.2.3",
        "::ffff:127.0.0.1",
        "::ffff:169.254.169.254",
        "64:ff9b::a00:1",
        "64:ff9b::7f00:1",
        "2002:a01:203::1",
        "fe80::1",
        "fc00::1",
        "ff02::1",
    ],
)
def test_what_is_not_public_may_not_be_sent_to(address: str) -> None:
    assert not is_allowed(ip_address(address), [])


@pytest.mark.parametrize("address", ["1.1.1.1", "2606:4700::1111", "64:ff9b::101:101"])
def test_what_is_public_may_be_sent_to(address: str) -> None:
    assert is_allowed(ip_address(address), [])


def test_what_the_settings_name_may_be_sent_to() -> None:
    networks = [ip_network("10.1.0.0/16")]
    assert is_allowed(ip_address("10.1.2.3"), networks)
    assert is_allowed(ip_address("::ffff:10.1.2.3"), networks)
    assert not is_allowed(ip_address("10.2.2.3"), networks)


def test_a_name_is_judged_by_what_it_leads_to(receiver: ReceivingServer) -> None:
    url = receiver.url.replace("127.0.0.1", "localhost")
    with pytest.raises(SendingError, match="is not a public address") as caught:
        send(url, ())
    assert caught.value.is_refused
    assert receiver.got == []


def test_the_host_of_the_url_is_told_to_the_receiver(receiver: ReceivingServer) -> None:
    url = receiver.url.replace("127.0.0.1", "localhost")
    assert send(url).status == 204
    assert receiver.got[0].headers["Host"] == httpx.URL(url).netloc.decode()


def test_a_name_that_is_not_known_is_said() -> None:
    with pytest.raises(SendingError, match="cannot be looked up"):
        send("https://nowhere.invalid/")


def test_nobody_there_is_said_without_the_address() -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
        with pytest.raises(SendingError) as caught:
            send(f"http://127.0.0.1:{port}/hushed")
    assert str(caught.value) == "no connection: refused, or nobody answers"


def test_a_reply_that_never_ends_is_cut() -> None:
    with ReceivingServer(lambda _: httpx.Response(200, content=b"x" * 2 * MOST_BYTES)) as server:
        answer = send(server.url)
    assert len(answer.body) == MOST_BYTES
    assert answer.words == f"200: {'x' * 160}"


def test_a_reply_that_trickles_is_given_up() -> None:
    """A byte of the headers now and then is no answer, whatever the timeout of each byte is."""
    is_over = threading.Event()

    def trickle(server: socket.socket) -> None:
        connection, _ = server.accept()
        with connection:
            connection.sendall(b"HTTP/1.1 200 OK\r\nX-A: ")
            while not is_over.wait(0.02):
                connection.sendall(b"a")

    with socket.create_server(("127.0.0.1", 0)) as server:
        thread = threading.Thread(target=trickle, args=(server,))
        thread.start()
        try:
            with pytest.raises(SendingError, match="no whole reply in"):
                send(f"http://127.0.0.1:{server.getsockname()[1]}/", whole_s=0.2)
        finally:
            is_over.set()
            thread.join()


def test_a_certificate_is_that_of_the_name_and_not_of_the_address(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The connection goes to an address that was looked up; the name is what must be proven."""
    key, certificate = tmp_path / "key.pem", tmp_path / "certificate.pem"
    words = "req -x509 -newkey rsa:2048 -nodes -days 2 -subj /CN=localhost"
    made = [find_program("openssl"), *words.split(), "-addext", "subjectAltName=DNS:localhost"]
    made += ["-keyout", str(key), "-out", str(certificate)]
    subprocess.run(made, check=True, capture_output=True)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    with ReceivingServer() as server:
        inner = server._server._server
        inner.socket = context.wrap_socket(inner.socket, server_side=True)
        url = server.url.replace("http://127.0.0.1", "https://localhost")
        _certificates.cache_clear()
        with pytest.raises(SendingError, match="its certificate is not valid"):
            send(url)
        monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
        _certificates.cache_clear()
        assert send(url).status == 204
        with pytest.raises(SendingError, match="its certificate is not valid"):
            send(url.replace("localhost", "127.0.0.1"))
    _certificates.cache_clear()


def test_a_redirect_is_an_answer(receiver: ReceivingServer) -> None:
    receiver.answer = lambda _: httpx.Response(301, headers={"Location": "http://127.0.0.1:1/"})
    assert send(receiver.url).status == 301


@pytest.mark.parametrize(
    ("text", "wait_s"),
    [
        ("120", 120.0),
        ("99999", 3600.0),
        ("Wed, 21 Oct 2015 07:28:00 GMT", 0.0),
        ("Wed, 21 Oct 2215 07:28:00 GMT", 3600.0),
        ("soon", None),
        ("", None),
    ],
)
def test_a_wait_that_is_asked_for_is_at_most_an_hour(text: str, wait_s: float | None) -> None:
    assert Answer(429, {"retry-after": text}, b"").retry_after_s() == wait_s


def test_of_an_answer_only_text_is_shown() -> None:
    assert Answer(502, {}, b"<html>no</html>").words == "502"
    assert Answer(400, {}, b"not\nthis\x00one").words == "400: not this one"
