"""Jobs that the original lost, or that forged points in its database; and any bodies at all."""

import random
import socket
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.integration.conftest import MakeSite
from tests.support.bodies import LIMIT, Sent, assert_refusal, bodies
from tests.support.fuzzing import counted, examples
from tests.support.raw_http import RawReply, read_reply
from tests.support.site import AS_JSON, Site, job_document

FORGED = "forged_by_a_line"


def deliver_one(site: Site, package: str, **meta: Any) -> dict[str, Any]:
    """Deliver a job with this metadata, and return its one point."""
    site.deliver(job_document({f"{package}.m": 0.1}, **meta))
    (point,) = site.points(package)
    assert point["fields"]["m"] == 0.1
    return point


def forgery(time_ns: int = 1_700_000_000_000_000_000) -> str:
    return f"x\n{FORGED} v=1 {time_ns}\n"


@pytest.mark.parametrize(
    "meta",
    [
        {"instrument": forgery()},
        {"note": forgery()},
        {"note": f'x"\n{FORGED} v=1'},
        {forgery(): "a key"},
        {"env": {"env_name": forgery(), "run_id": forgery(), "version_tag": forgery()}},
        {"env": {"env_name": "ldf", "run_id_url": f"https://x.example/{forgery()}"}},
        {"list": [forgery(), {"deep": forgery()}]},
        {"packages": {"p": {"name": forgery(), "git_sha": forgery(), "git_url": forgery()}}},
    ],
)
def test_no_line_can_be_forged_in_metadata(site: Site, package: str, meta: dict[str, Any]) -> None:
    deliver_one(site, package, **meta)
    assert site.points(FORGED) == []


@pytest.mark.parametrize(
    "name", [f"{{}}\n{FORGED} v=1\nx.m", f"{{}}.m=1\n{FORGED} v", f"#{{}}.{FORGED}"]
)
def test_no_line_can_be_forged_in_the_name_of_a_metric(site: Site, package: str, name: str) -> None:
    forged = name.format(package)
    reply = site.dispatch(job_document({forged: 1.0, f"{package}.m": 2.0}))
    site.wait_until_delivered([reply["id"]])
    assert [skip["metric"] for skip in reply["skipped"]] == [forged]
    assert site.points(FORGED) == []
    assert site.values(f"{package}.m") == [2.0]


@pytest.mark.parametrize(
    ("value", "stored"),
    [
        ("a b", "a_b"),
        ("a,b=c", "a,b=c"),
        ('say "hi"', 'say_"hi"'),
        ("Ωμέγα", "Ωμέγα"),
        ("ends in \\", "ends_in_"),
        ("\ud800", "\ufffd"),
        ([1, 2.0, "x"], '[1,2,"x"]'),
        (True, "true"),
        (9813.0, "9813"),
    ],
)
def test_a_tag_may_be_any_text(site: Site, package: str, value: Any, stored: str) -> None:
    assert deliver_one(site, package, instrument=value)["tags"] == {"instrument": stored}


@pytest.mark.parametrize("value", ["", None, "\n", "\\", "x" * 2000])
def test_a_tag_that_influxdb_cannot_hold_costs_no_point(
    site: Site, package: str, value: str | None
) -> None:
    assert deliver_one(site, package, instrument=value)["tags"] == {}


def test_two_keys_of_one_tag_cost_no_point(site: Site, package: str) -> None:
    point = deliver_one(
        site,
        package,
        filter_name="r",
        physical_filter="HSC-R2",
        ci_dataset="validation",
        env={"env_name": "ldf", "dataset": "HSC RC2"},
    )
    assert point["tags"] == {
        "filter": "r",
        "physical_filter": "HSC-R2",
        "dataset": "validation",
        "env_name": "ldf",
    }


def test_a_key_named_time_is_metadata_like_any_other(site: Site, package: str) -> None:
    point = deliver_one(site, package, time="noon", date="2026-05-01T12:00:00Z")
    assert point["time"] == 1_777_636_800_000_000_000
    assert point["fields"]["meta.time.text"] == "noon"


def test_metadata_named_like_a_metric_leaves_its_value_alone(site: Site, package: str) -> None:
    point = deliver_one(site, package, m="text", **{f"{package}.m": 7.0})
    assert point["fields"]["meta.m.text"] == "text"


def test_metadata_that_changes_its_type_costs_no_point(site: Site, package: str) -> None:
    kinds: list[Any] = [1, "one", True, 1.5, [1], None]
    site.deliver(*[job_document({f"{package}.m": 0.1}, visit=kind) for kind in kinds])
    assert len(site.points(package)) == len(kinds)


@pytest.mark.parametrize(
    "meta",
    [
        {},
        {"packages": None},
        {"packages": []},
        {"packages": [{"name": "afw", "git_sha": "a1"}, "no object", {"no": "name"}]},
        {"packages": {"afw": {"name": "afw"}}},
        {"env": None},
        {"env": {}},
        {"env": {"env_name": "jenkins"}},
        {"env": {"env_name": "jenkins", "ci_url": "https://ci.example/1"}},
        {"env": {"env_name": "ldf", "run_id_url": "https://x.example/1"}},
    ],
)
def test_what_a_client_leaves_out_costs_no_point(
    site: Site, package: str, meta: dict[str, Any]
) -> None:
    assert deliver_one(site, package, **meta)["measurement"] == package


def test_links_are_plain_urls_and_others_are_left_out(site: Site, package: str) -> None:
    link = "https://ci.example/1?a=b"
    point = deliver_one(site, package, env={"env_name": "jenkins", "ci_url": link})
    assert point["fields"]["run_url"] == link
    assert point["fields"]["squash_url"].startswith(f"{site.service.url}/job/")
    script = {"env_name": "jenkins", "ci_url": "javascript:alert(1)"}
    site.deliver(job_document({f"{package}_2.m": 1.0}, env=script))
    (other,) = site.points(f"{package}_2")
    assert "run_url" not in other["fields"]


def test_what_looks_like_code_is_kept_as_text(site: Site, package: str) -> None:
    code = "__import__('os').getcwd()"
    point = deliver_one(site, package, note=code, template="{0.__class__} %s ${HOME} {{ x }}")
    assert point["fields"]["meta.note.text"] == code
    assert point["fields"]["meta.template.text"] == "{0.__class__}_%s_${HOME}_{{_x_}}"


def test_the_status_says_what_was_cleaned(site: Site, package: str) -> None:
    (job_id,) = site.deliver(job_document({f"{package}.m": 1.0}, instrument="a\nb"))
    assert [item["key"] for item in site.status(job_id)["cleaned"]] == ["instrument"]


@pytest.mark.parametrize(
    ("body", "status"),
    [
        (b"", 400),
        (b"{", 400),
        (b'"text"', 422),
        (b"[]", 422),
        (b'{"measurements": 5}', 422),
        (b'{"measurements": [{"value": 1}]}', 422),
        (b'{"measurements": [{"metric": "p.m", "value": {}}]}', 422),
        (b'{"meta": {"env": []}}', 422),
        (b"\xff\xfe", 400),
        (b'{"a":' * 2000 + b"1" + b"}" * 2000, 422),
    ],
)
def test_what_is_no_job_is_refused_and_not_stored(site: Site, body: bytes, status: int) -> None:
    count = site.get("/stats")["stats"]["number_of_jobs"]
    reply = site.calls("POST", "/job", content=body, headers=AS_JSON)
    assert (reply.status_code, reply.json()["status_code"]) == (status, status)
    assert site.get("/stats")["stats"]["number_of_jobs"] == count


# How a body is told from what follows it, and how its bytes come.
FRAMINGS = ("length", "pieces", "chunks", "expected")


def pieces_of(site: Site, sent: Sent, framing: str, seed: int) -> list[bytes]:
    """Return the parts in which a request is sent, the head first."""
    chance = random.Random(seed)
    content = sent.content
    cuts = sorted(chance.randrange(len(content) + 1) for _ in range(chance.randrange(4)))
    ends = [*cuts, len(content)]
    pieces = [content[start:end] for start, end in zip([0, *cuts], ends, strict=True)]
    told = {
        "chunks": "Transfer-Encoding: chunked",
        "expected": f"Content-Length: {len(content)}\r\nExpect: 100-continue",
    }.get(framing, f"Content-Length: {len(content)}")
    headers = "".join(f"{name}: {text}\r\n" for name, text in sent.headers.items())
    head = (
        f"POST /job{sent.query} HTTP/1.1\r\nHost: squash\r\n{headers}"
        f"Authorization: JWT {site.calls.token}\r\n{told}\r\n\r\n"
    ).encode()
    if framing == "chunks":
        return [
            head,
            *(b"%x\r\n%b\r\n" % (len(piece), piece) for piece in pieces if piece),
            b"0\r\n\r\n",
        ]
    return [head, *pieces] if framing == "pieces" else [head + content]


def send(site: Site, pieces: list[bytes]) -> RawReply:
    """Send a request over a connection of its own; a service may answer before it has all."""
    with socket.create_connection(("127.0.0.1", site.service.port), timeout=60) as connection:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for piece in pieces:
            connection.sendall(piece)
        return read_reply(connection)


def test_any_body_over_any_connection_is_accepted_or_refused_whole(make_site: MakeSite) -> None:
    site = make_site(SQUASH_MAX_BODY_BYTES=f"{LIMIT}")

    def number_of_jobs() -> int:
        number: int = site.get("/stats")["stats"]["number_of_jobs"]
        return number

    with counted("bodies over connections") as counts:

        @given(sent=bodies, framing=st.sampled_from(FRAMINGS), seed=st.integers(0, 2**32))
        @examples(60)
        def check(sent: Sent, framing: str, seed: int) -> None:
            before = number_of_jobs()
            reply = send(site, pieces_of(site, sent, framing, seed))
            counts[reply.status] += 1
            assert number_of_jobs() - before == (reply.status == 202)
            if reply.status in {200, 202}:
                job = site.get(f"/job/{reply.json()['id']}")
                assert job["id"] == reply.json()["id"]
            else:
                assert_refusal(reply.status, reply.json())

        check()
    state = site.wait_until_idle()
    assert {item["quarantined"] for item in state["targets"].values()} == {0}
