"""Bodies that are posted as jobs: sound documents, mutated and torn ones, in any encoding."""

import gzip
import json
import random
import sqlite3
import zlib
from dataclasses import dataclass
from functools import cache
from typing import Any

from hypothesis import strategies as st

from tests.support.answers import record_of_1_2_1
from tests.support.json_documents import hostile_text, jobs, objects, values, wild_jobs
from tests.support.metrics_packages import SHARED_DATA

LIMIT = 100_000
"""`SQUASH_MAX_BODY_BYTES` where these are posted."""

# What JSON readers stumble over.
_SNIPPETS = (
    *(
        b"NaN",
        b"-Infinity",
        b"1e999",
        b"-0",
        b"1" * 400,
        b"0.1e-999",
        b"1e",
        b"01",
        b"0x1",
        b"null",
    ),
    *(
        b"null",
        b'"\\ud800"',
        b'"\\u0000"',
        b'"\x00"',
        b'"\\x"',
        b"\xff",
        b"\xc3(",
        b"\xef\xbb\xbf",
        b"\x80",
    ),
    *(b"{", b"}", b"[", b"]", b",", b":", b'"', b"\\", b"'", b"//", b"#", b"\n", b"{}", b"[]"),
    *(b"[" * 300, b'{"a":' * 260, b"]" * 300, b'"metric":', b'"value":', b'"meta":', b'"env":'),
    *(b'"measurements":[],', b'"meta":null,', b'"unit":"mag",', b'"x\\n m,t=a v=1 1"', b"\\\n"),
    *(b"9223372036854775807", b"9223372036854775808", b"-9223372036854775809", b"4" * 17 + b".5"),
)
_CODECS = ("utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-32", "latin-1", "utf-7")
_TYPES = ("application/json", "application/json; charset=utf-8", "application/vnd.lsst+json")
_WRONG_TYPES = ("", "text/plain", "multipart/form-data; boundary=x", "json", "application/json5")


@dataclass(frozen=True)
class Sent:
    """What is posted: the query of its URL, its headers, and the bytes."""

    content: bytes
    query: str = ""
    encoding: str | None = None
    kind: str = "application/json"

    @property
    def headers(self) -> dict[str, str]:
        """The headers that say what it is."""
        coding = {} if self.encoding is None else {"Content-Encoding": self.encoding}
        return {"Content-Type": self.kind, **coding}


@cache
def real_bodies() -> tuple[bytes, ...]:
    """Return bodies that pipelines have posted; those of the data that are not committed too."""
    with sqlite3.connect(":memory:") as record:
        record.deserialize(_without_wal(record_of_1_2_1()))
        found = [body for (body,) in record.execute("SELECT body FROM job WHERE body IS NOT NULL")]
    payload = SHARED_DATA / "jobs" / "ldf.payload.json"
    if payload.exists():
        found.append(payload.read_bytes())
    # The shortest of those that begin alike is like the others.
    return tuple({body[:60]: body for body in sorted(found, key=len, reverse=True)}.values())


def _without_wal(record: bytes) -> bytes:
    """Return a file of SQLite as one that can be opened in memory: without a log beside it."""
    return record[:18] + b"\1\1" + record[20:]


def _mutated(body: bytes, seed: int, count: int) -> bytes:
    """Change some places of a body: replace, insert, remove, repeat."""
    chance = random.Random(seed)
    found = bytearray(body)
    for _ in range(count):
        start = chance.randrange(len(found) + 1)
        end = min(len(found), start + chance.choice((0, 0, 1, 1, 2, 8, 40, 400)))
        part = chance.choice((chance.choice(_SNIPPETS), b"", bytes(found[start:end]) * 2))
        found[start:end] = part
    return bytes(found)


def _restructured(body: bytes, seed: int, new: Any) -> bytes:
    """Put something else into one place of a document, or take the place away."""
    chance = random.Random(seed)
    document = json.loads(body)
    node = document
    while True:
        places = list(node) if isinstance(node, dict) else list(range(len(node)))
        if not places:
            break
        place = chance.choice(places)
        inner = node[place]
        if isinstance(inner, dict | list) and chance.random() < 0.7:
            node = inner
            continue
        if chance.random() < 0.2:
            del node[place]
        else:
            node[place] = new
        break
    return json.dumps(document).encode()


def _with_keys_twice(document: dict[str, Any], again: dict[str, Any]) -> bytes:
    """Write an object of which some keys come a second time."""
    first, second = json.dumps(document)[1:-1], json.dumps(again)[1:-1]
    return f"{{{', '.join(part for part in (first, second) if part)}}}".encode()


def _gzip_bomb(size: int) -> bytes:
    packer = zlib.compressobj(9, zlib.DEFLATED, 31)
    return (
        packer.compress(b'{"meta": {"a": "' + b" " * size)
        + packer.compress(b'"}}')
        + packer.flush()
    )


_seeds = st.integers(0, 2**32)
_documents = jobs | wild_jobs | objects | values
_texts = st.one_of(
    _documents.map(lambda document: json.dumps(document).encode()),
    _documents.map(
        lambda document: json.dumps(document, ensure_ascii=False, indent=1).encode(
            "utf-8", "surrogatepass"
        )
    ),
    st.builds(_with_keys_twice, jobs, wild_jobs),
    st.builds(_restructured, st.sampled_from(real_bodies()), _seeds, values),
    st.builds(_mutated, st.sampled_from(real_bodies()), _seeds, st.integers(1, 6)),
    st.sampled_from(real_bodies()),
    hostile_text.map(lambda text: text.encode("utf-8", "surrogatepass")),
    st.binary(max_size=60),
    st.sampled_from(
        [
            b"",
            b" " * (LIMIT + 1),
            b'{"meta": {"a": "' + b"x" * (LIMIT - 30) + b'"}}',
            b'{"meta":' + b'{"a":' * 1500 + b"1" + b"}" * 1501,
            b'{"meta": {"a": [' + b"1," * 40_000 + b"1]}}",
            b'{"measurements": [' + b'{"metric":"p.a"},' * 4_000 + b'{"metric":"p.a"}]}',
            b'{"measurements": [' + b"1," * 20_000 + b"1]}",
            b"-" * 50_000,
            b'"' + b"\\u0000" * 10_000 + b'"',
            b'{"meta": {"a": 1' + b"0" * 90_000 + b"}}",
        ]
    ),
)


def _recoded(text: bytes, codec: str) -> bytes:
    return text.decode("utf-8", "replace").encode(codec, "replace")


def _packed(text: bytes, packing: str) -> Sent:
    packed = gzip.compress(text, mtime=0)
    half = len(text) // 2
    return {
        "plain": Sent(text),
        "identity": Sent(text, encoding="identity"),
        "gzip": Sent(packed, encoding="gzip"),
        "x-gzip": Sent(packed, encoding="X-GZIP"),
        "two members": Sent(
            gzip.compress(text[:half], mtime=0) + gzip.compress(text[half:], mtime=0),
            encoding="gzip",
        ),
        "twice": Sent(gzip.compress(packed, mtime=0), encoding="gzip"),
        "cut off": Sent(packed[: len(packed) * 2 // 3], encoding="gzip"),
        "wrong sum": Sent(packed[:-8] + bytes(8), encoding="gzip"),
        "more behind": Sent(packed + b"more", encoding="gzip"),
        "none": Sent(text, encoding="gzip"),
        "not declared": Sent(packed),
        "other": Sent(zlib.compress(text), encoding="deflate"),
    }[packing]


_packings = ("plain",) * 8 + (
    *("gzip", "gzip", "x-gzip", "identity", "two members", "twice", "cut off", "wrong sum"),
    *("more behind", "none", "not declared", "other"),
)
_sent = st.one_of(
    st.builds(_packed, _texts, st.sampled_from(_packings)),
    _texts.map(Sent),
    st.builds(_recoded, _texts, st.sampled_from(_CODECS)).map(Sent),
    st.sampled_from([LIMIT // 2, LIMIT, 10 * LIMIT, 200 * LIMIT]).map(
        lambda size: Sent(_gzip_bomb(size), encoding="gzip")
    ),
)
bodies = st.builds(
    lambda sent, kind, query: Sent(sent.content, query, sent.encoding, kind),
    _sent,
    st.sampled_from((*_TYPES * 8, *_WRONG_TYPES)),
    st.sampled_from(("",) * 6 + ("?strict=true", "?strict=0", "?strict=maybe", "?stict=true")),
)
"""Anything that somebody may post as a job."""


def assert_refusal(status: int, body: dict[str, Any]) -> None:
    """Check that a body is refused with the one body of failures, and that names a place."""
    assert status in {400, 413, 415, 422}, body
    assert {"message", "code", "status_code", "detail"} == set(body), body
    assert body["status_code"] == status
    assert body["message"].endswith((".", "?"))
    assert status in {413, 415} or body["detail"][0]["loc"][0] in {"body", "query"}, body
    assert len(json.dumps(body)) < 64_000
