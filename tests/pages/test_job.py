"""The page of a job, from the service in this process."""

import re
from html import unescape
from pathlib import Path
from typing import Any

import httpx
import pytest

from squash_api.judging.wording import NOTHING
from squash_api.pages.metadata_rows import (
    DEEPEST,
    MOST_ROWS,
    MetadataRow,
    linked,
    links_in,
    metadata_rows,
)
from squash_api.wires.decoding import decode_exactly
from tests.pages.conftest import BROWSER
from tests.support.calls import Calls, log_in
from tests.support.definitions import metric, spec
from tests.support.in_process import service

HOSTILE = [
    "<script>alert(1)</script>",
    "\"'><img src=x onerror=alert(1)>",
    "javascript:alert(1)",
    "\u202eevil\u202c \u05e9\u05dc\u05d5\u05dd",
    "{{ 7 * 7 }}",
    "x" * 10_000,
]


def post(calls: Calls, *measurements: dict[str, Any], **document: Any) -> int:
    reply = calls("POST", "/job", {"measurements": list(measurements), **document})
    assert reply.status_code == 202, reply.text
    job: int = reply.json()["id"]
    return job


def measured(value: Any = 1.0, *, name: str = "p.a", **changes: Any) -> dict[str, Any]:
    return {"metric": name, "value": value, "unit": "mmag", **changes}


@pytest.fixture
def limited(calls: Calls) -> Calls:
    """The metric p.a, with three limits."""
    calls("POST", "/metrics", {"metrics": [metric("p.a")]})
    limits = [
        spec(f"p.a.{tag}", value=value, tags=[tag])
        for tag, value in (("minimum", 8.0), ("design", 5.0), ("stretch", 2.0))
    ]
    assert calls("POST", "/specs", {"specs": limits}).status_code == 201
    return calls


def page(browser: httpx.Client, path: str) -> str:
    reply = browser.get(path)
    assert (reply.status_code, reply.headers["content-type"][:9]) == (200, "text/html"), reply.text
    return reply.text


def row_of(text: str, heading: str, table: str) -> str:
    """Return a row as its texts, found by what its heading holds, below the heading of a table."""
    below = text[text.index(f'id="{table}"') :]
    rows = re.findall(r"<tr>(.*?)</tr>", below, re.DOTALL)
    row = next(item for item in rows if heading in item)
    return " ".join(unescape(re.sub(r"<[^>]*>", " ", row)).split())


# Verdicts and measurements


def test_verdicts_are_listed_the_worst_first(browser: httpx.Client, limited: Calls) -> None:
    text = page(browser, f"/job/{post(limited, measured(6.0))}")
    names = re.findall(r"</a>\.(\w+)</th>", text)
    assert names == ["design", "stretch", "minimum"]
    assert row_of(text, ".design", "verdicts") == "p.a .design WARNING 6 mmag < 5 mmag -20 %"
    assert row_of(text, ".minimum", "verdicts") == "p.a .minimum passed 6 mmag < 8 mmag +25 %"


def test_a_job_says_what_broke_then_what_changed_then_the_rest(
    browser: httpx.Client, limited: Calls
) -> None:
    text = page(browser, f"/job/{post(limited, measured(6.0), measured(1.0, name='p.b'))}")
    assert "<title>WARNING · Job 1 · SQuaSH</title>" in text
    assert re.findall(r'<h2 id="([\w-]+)"', text) == [
        *("verdicts", "changes", "passed", "measurements", "packages-of-job", "metadata"),
        "delivery",
    ]
    broke, passed = text.split('id="verdicts"')[1].split('id="passed"')
    assert "state-passed" not in broke
    assert re.findall(r"</a>\.(\w+)</th>", passed) == ["minimum"]


def test_a_job_in_which_nothing_broke_says_so(browser: httpx.Client, limited: Calls) -> None:
    text = page(browser, f"/job/{post(limited, measured(1.0))}")
    assert "Nothing: every limit that applies is met." in text


def test_limits_at_receipt_or_todays_may_judge(browser: httpx.Client, limited: Calls) -> None:
    job = post(limited, measured(6.0))
    limited("PUT", "/spec/p.a.minimum", spec("p.a.minimum", value=5.5, tags=["minimum"]))
    assert "state-critical" not in page(browser, f"/job/{job}")
    text = page(browser, f"/job/{job}?specs=now")
    assert row_of(text, ".minimum", "verdicts").startswith("p.a .minimum CRITICAL")
    assert f'href="/job/{job}"' in text


def test_measurements_have_units_states_and_reasons(browser: httpx.Client, limited: Calls) -> None:
    job = post(
        limited,
        measured(0.006, unit="mag"),
        measured(None, name="p.absent"),
        measured(1.0, name="p.metre", unit="m"),
        measured("text", name="p.text"),
    )
    text = page(browser, f"/job/{job}")
    assert row_of(text, "/metric/p.a", "measurements") == f"p.a 6 mmag WARNING {NOTHING}"
    assert "undeclared" in row_of(text, "p.metre", "measurements")
    assert "not measured null, NaN or infinite" in row_of(text, "p.absent", "measurements")
    skipped = row_of(text, "p.text", "measurements")
    assert "not measured the value is text, not a number" in skipped


def test_a_job_without_anything_is_shown(browser: httpx.Client, calls: Calls) -> None:
    text = page(browser, f"/job/{post(calls)}")
    for sentence in (
        "No specification applies.",
        "This job has no measurements.",
        "This job has no metadata.",
        "This job lists no packages.",
        "There is no earlier run or job to compare with.",
        "No InfluxDB is configured",
    ):
        assert sentence in text
    assert "bokeh" not in text


def test_programs_get_the_json_that_they_always_got(browser: httpx.Client, calls: Calls) -> None:
    job = post(calls, measured())
    assert browser.get(f"/job/{job}", headers={"Accept": "*/*"}).json()["id"] == job
    assert browser.get(f"/job/{job}?format=json").json()["id"] == job


@pytest.mark.parametrize("job", ["7", "x", "9" * 30])
def test_a_job_that_is_not_there_has_a_page_that_says_so(browser: httpx.Client, job: str) -> None:
    reply = browser.get(f"/job/{job}")
    assert reply.status_code == 404
    assert f"There is no job {job}." in reply.text


# Its series


def run(number: int, value: float, sha: str = "", **changes: Any) -> dict[str, Any]:
    env = {"ci_id": str(number), "ci_name": "drp", "date": f"2026-03-{number:02}T00:00:00Z"}
    url = "https://github.com/lsst/afw.git"
    packages = {"afw": {"name": "afw", "git_sha": sha, "git_url": url}} if sha else {}
    return {
        "measurements": [measured(value)],
        "meta": {"env": env, "packages": packages, "filter_name": "r", **changes},
    }


def test_a_job_leads_to_its_neighbours_and_the_last_that_passed(
    browser: httpx.Client, limited: Calls
) -> None:
    first, second, third, fourth = (
        limited("POST", "/job", run(number, value, sha)).json()["id"]
        for number, value, sha in ((1, 1.0, "a1"), (2, 9.0, "b2"), (3, 9.0, "c3"), (4, 1.0, "d4"))
    )
    text = page(browser, f"/job/{third}")
    series = text[text.index('aria-label="Series"') :].partition("</nav>")[0]
    assert re.findall(r'href="/job/(\d+)"', series) == [str(second), str(fourth), str(first)]
    assert "https://github.com/lsst/afw/compare/b2...c3" in text
    assert "https://github.com/lsst/afw/compare/a1...c3" in text
    assert 'href="/runs/drp/3"' in text


def test_a_run_before_that_passed_is_named_once(browser: httpx.Client, limited: Calls) -> None:
    for number, sha in ((1, "a1"), (2, "b2")):
        job = limited("POST", "/job", run(number, 1.0, sha)).json()["id"]
    text = page(browser, f"/job/{job}")
    assert text.count("/compare/a1...b2") == 1
    assert "This is also the last one that passed." in text


def test_where_none_passed_it_is_said(browser: httpx.Client, limited: Calls) -> None:
    for number in (1, 2):
        job = limited("POST", "/job", run(number, 9.0)).json()["id"]
    assert "No earlier run of this series passed. Jobs searched: 1." in page(browser, f"/job/{job}")


def test_without_runs_the_job_before_in_the_series_is_compared_with(
    browser: httpx.Client, calls: Calls
) -> None:
    post(calls, measured(), meta={"filter_name": "r"})
    job = post(calls, measured(), meta={"filter_name": "r"})
    assert "Since the previous job in this series" in page(browser, f"/job/{job}")


# Metadata


def test_metadata_are_nested_and_their_links_named(browser: httpx.Client, calls: Calls) -> None:
    meta = {
        "env": {"ci_url": "https://ci.example.org/7"},
        "deep": {"er": {"note": "see https://x.example/y."}},
    }
    text = page(browser, f"/job/{post(calls, meta=meta)}")
    assert 'class="depth-2"' in text
    links = text[text.index('<ul class="links"') :].partition("</ul>")[0]
    assert re.findall(r'href="([^"]*)"', links) == [
        "https://ci.example.org/7",
        "https://x.example/y",
    ]


PLOT = {
    "url": "https://plots.example.org/7.png",
    "type": "image/png",
    "description": 'Sky "level" <b>',
}


def test_artifacts_are_listed_with_what_they_show(browser: httpx.Client, calls: Calls) -> None:
    meta = {"plots": {"sky": PLOT, "log": "https://logs.example.org/7.txt"}}
    text = page(browser, f"/job/{post(calls, meta=meta)}")
    listed = text[text.index('<ul class="artifacts"') :].partition("</ul>")[0]
    assert re.findall(r'href="([^"]*)"', listed) == [PLOT["url"], "https://logs.example.org/7.txt"]
    for words in ("Sky &#34;level&#34; &lt;b&gt;", "plots.sky", "plots.log", "image/png"):
        assert words in listed
    assert "<img" not in text
    assert "Links in the metadata" not in text


def test_a_job_without_artifacts_has_no_list_of_them(browser: httpx.Client, calls: Calls) -> None:
    text = page(browser, f"/job/{post(calls, meta={'ci_url': 'https://ci.example.org/7'})}")
    assert 'id="artifacts"' not in text


@pytest.mark.parametrize(
    "url",
    [
        "https://user:password@plots.example.org/7.png",
        "https://good.example@plots.example.org/7.png",
        'https://plots.example.org/" onerror="alert(1).png',
        "https://plots.example.org/a|b.png",
        "javascript://plots.example.org/%0aalert(1)",
        "data:image/svg+xml,<svg onload=alert(1)>",
    ],
)
def test_hostile_artifacts_are_text(tmp_path: Path, url: str) -> None:
    with service(tmp_path, artifact_hosts=("plots.example.org",)) as client:
        client.headers.update(BROWSER)
        text = page(client, f"/job/{post(log_in(client, 'ada'), meta={'a': {'url': url}})}")
    assert 'id="artifacts"' not in text
    assert "<img" not in text
    assert not [found for found in re.findall(r'href="([^"]*)"', text) if "@" in found]


def test_pictures_of_named_hosts_are_shown_and_no_others(tmp_path: Path) -> None:
    hosts = ("plots.example.org", "127.0.0.1:8800")
    with service(tmp_path, artifact_hosts=hosts) as client:
        client.headers.update(BROWSER)
        meta = {"sky": PLOT, "other": "https://other.example.org/7.png"}
        reply = client.get(f"/job/{post(log_in(client, 'ada'), meta=meta)}")
        front = client.get("/")
    (image,) = re.findall(r"<img [^>]*>", reply.text)
    for attribute in (
        f'src="{PLOT["url"]}"',
        'alt="Sky &#34;level&#34; &lt;b&gt;"',
        'loading="lazy"',
        'referrerpolicy="no-referrer"',
    ):
        assert attribute in image
    sources = {"'self'", "data:", "blob:"}
    for found, more in ((reply, set(hosts)), (front, set[str]())):
        policy = found.headers["Content-Security-Policy"]
        (images,) = re.findall(r"img-src ([^;]*);", policy)
        assert set(images.split()) == sources | more
        assert "script-src 'self';" in policy


def test_only_http_and_https_are_links(browser: httpx.Client, calls: Calls) -> None:
    urls = ["javascript:alert(1)", "data:text/html,x", "ftp://x.example/a", "https://x.example/b"]
    packages = {
        f"p{number}": {"name": f"p{number}", "git_sha": "a", "git_url": url}
        for number, url in enumerate(urls)
    }
    meta = {"env": {"ci_url": urls[0], "urls": urls}, "packages": packages}
    text = page(browser, f"/job/{post(calls, meta=meta)}")
    schemes = {url.partition(":")[0] for url in re.findall(r'href="([a-z]+:[^"]*)"', text)}
    assert schemes == {"https"}


def test_hostile_names_are_shown_as_text(browser: httpx.Client, calls: Calls) -> None:
    packages = {text: {"name": text, "git_sha": text, "git_url": text} for text in HOSTILE}
    meta = {
        "env": {"run_id": HOSTILE[0], "ci_name": HOSTILE[1], "dataset": HOSTILE[3]},
        "packages": packages,
        **{f"{text}!": {text: text} for text in HOSTILE},
    }
    blobs = [
        {
            "identifier": text,
            "name": text,
            "data": {
                f"{text}{kind}": {"value": value, "unit": text, "label": text, "description": text}
                for kind, value in (("a", [1, 2, 3, 4, 5]), ("s", text))
            },
        }
        for text in HOSTILE
    ]
    measurements = [
        measured(1.0, name=f"p.{text}", unit="mmag", blob_refs=[text]) for text in HOSTILE
    ]
    measurements.append(measured(HOSTILE[0], name="p.text", unit=HOSTILE[1]))
    text = page(browser, f"/job/{post(calls, *measurements, meta=meta, blobs=blobs)}")
    for tag in re.findall(r"<[^>]*>", text):
        assert not tag.startswith("<img")
        assert " onerror=" not in tag.replace("&#34;", "").split('="')[0]
    assert re.findall(r"<script[^>]*>", text) == re.findall(
        r'<script src="/static[^>]*defer>', text
    )
    assert "&lt;script&gt;alert(1)&lt;/script&gt;" in text
    assert "{{ 7 * 7 }}" in text
    assert 'href="javascript' not in text


def test_metadata_of_any_depth_and_size_are_shown(browser: httpx.Client, calls: Calls) -> None:
    deep: dict[str, Any] = {}
    for _ in range(200):
        deep = {"o": deep}
    meta = {"deep": deep, **{f"k{number}": number for number in range(1500)}}
    assert "The JSON of the job has more." in page(browser, f"/job/{post(calls, meta=meta)}")


# Blobs


def test_measurements_lead_to_their_blobs(browser: httpx.Client, calls: Calls) -> None:
    blobs = [
        {"identifier": "b0", "name": "other", "data": {}},
        {"identifier": "b1", "name": "p.a", "data": {"rms": {"value": [3, 1, 2, 5, 4]}}},
    ]
    text = page(browser, f"/job/{post(calls, measured(blob_refs=['b1']), blobs=blobs)}")
    assert 'href="#blob-1"' in row_of_markup(text, "/metric/p.a")
    assert row_of(text, "rms", "blob-1") == "rms 5 values 1 3 5 csv npy"
    assert "This blob is empty." in text


def test_the_log_of_a_pipeline_is_shown_as_text(browser: httpx.Client, calls: Calls) -> None:
    tail = {"value": f"line 1\n<b>line 2</b>\n{HOSTILE[3]}\n", "unit": "", "label": "Tail"}
    blobs = [
        {"identifier": "b1", "name": "log", "data": {"tail": tail}},
        {"identifier": "b2", "name": "log", "data": {"lines": {"value": [1, 2]}}},
    ]
    text = page(browser, f"/job/{post(calls, measured(blob_refs=['b1']), blobs=blobs)}")
    assert '<h2 id="log">Log</h2>' in text
    assert 'tabindex="0">line 1\n&lt;b&gt;line 2&lt;/b&gt;\nevil' in text
    assert 'href="#blob-0"' in row_of_markup(text, "/metric/p.a")
    assert '<pre class="log" id="blob-0"' in text
    assert '<details class="blob" id="blob-1">' in text


def row_of_markup(text: str, heading: str) -> str:
    rows: list[str] = re.findall(r"<tr>(.*?)</tr>", text, re.DOTALL)
    return next(item for item in rows if heading in item)


def test_the_address_opens_a_blob_and_chooses_what_is_drawn(
    browser: httpx.Client, calls: Calls
) -> None:
    data = {"a": [1, 2, 3, 4, 5], "b": [3, 1, 2, 5, 4]}
    job = post(calls, blobs=[{"identifier": "b", "name": "p.a", "data": data}])
    closed, opened = page(browser, f"/job/{job}"), page(browser, f"/job/{job}?blob=0&y=a&x=b")
    assert '<details class="blob" id="blob-0">' in closed
    assert '<details class="blob" id="blob-0" open>' in opened
    assert re.findall(r'<option value="(\w+)" selected', opened) == ["a", "b"]
    assert re.findall(r'<option value="(\w+)" selected', closed) == ["b", "a"]
    assert '<option value="b" selected' in page(browser, f"/job/{job}?blob=0&y=nothing")


def test_the_first_of_many_blobs_are_shown(browser: httpx.Client, calls: Calls) -> None:
    blobs = [{"identifier": str(number), "name": "b", "data": {}} for number in range(103)]
    job = post(calls, measured(blob_refs=["101"]), blobs=blobs)
    text = page(browser, f"/job/{job}")
    assert "3 more are in the" in text
    assert 'href="#blob-101"' not in text


# Delivery


def test_the_delivery_to_each_target_is_shown(tmp_path: Any) -> None:
    from pydantic import TypeAdapter

    from squash_api.settings import InfluxTarget
    from tests.pages.conftest import BROWSER
    from tests.support.calls import log_in
    from tests.support.in_process import service

    targets = TypeAdapter(list[InfluxTarget]).validate_python(
        [{"name": "summit", "url": "http://127.0.0.1:9"}]
    )
    with service(tmp_path, influx_targets=targets, deliver="off") as client:
        calls = log_in(client, "ada")
        job = post(calls, measured())
        client.headers.update(BROWSER)
        assert (
            row_of(page(client, f"/job/{job}"), "summit", "delivery") == f"summit waiting {NOTHING}"
        )


def test_objects_come_before_what_is_in_them() -> None:
    meta = {"a": 1, "env": {"b": True, "deep": {"c": None}}, "d": "text"}
    assert metadata_rows(meta) == [
        MetadataRow(0, "a", "1"),
        MetadataRow(0, "env", None),
        MetadataRow(1, "b", "true"),
        MetadataRow(1, "deep", None),
        MetadataRow(2, "c", "null"),
        MetadataRow(0, "d", "text"),
    ]


def test_lists_are_written_out_and_packages_left_out() -> None:
    assert metadata_rows({"l": [1, {"x": "y"}], "packages": {"a": 1}, "empty": {}}) == [
        MetadataRow(0, "l", '[1, {"x": "y"}]'),
        MetadataRow(0, "empty", "{}"),
    ]


@pytest.mark.parametrize(
    "text", ["12345678901234567890123", "[1, [12345678901234567890123]]", '[{"x": 0.10000000001}]']
)
def test_numbers_have_the_digits_that_were_sent_wherever_they_are(text: str) -> None:
    assert metadata_rows({"l": decode_exactly(text.encode())}) == [MetadataRow(0, "l", text)]


def test_deep_metadata_end_at_a_margin() -> None:
    meta: dict[str, Any] = {"leaf": 1}
    for _ in range(240):
        meta = {"o": meta}
    rows = metadata_rows(meta)
    assert len(rows) == 241
    assert max(row.depth for row in rows) == DEEPEST


def test_there_are_so_many_rows_and_one_that_says_there_are_more() -> None:
    assert len(metadata_rows({str(number): 1 for number in range(5000)})) == MOST_ROWS + 1


@pytest.mark.parametrize(
    ("text", "urls"),
    [
        ("see https://a.example/x?y=1&z=2, or not", ["https://a.example/x?y=1&z=2"]),
        ("(http://a.example/).", ["http://a.example/"]),
        ('"https://a.example/b"', ["https://a.example/b"]),
        ("HTTPS://A.EXAMPLE", ["HTTPS://A.EXAMPLE"]),
        ("https://a.example/1 https://a.example/2", ["https://a.example/1", "https://a.example/2"]),
        ("javascript:alert(1)//https", []),
        ("https://", []),
        ("ftp://a.example", []),
    ],
)
def test_addresses_are_found_in_texts(text: str, urls: list[str]) -> None:
    assert [url for _, url in links_in([MetadataRow(0, "k", text)])] == urls
    assert linked(text).count("<a ") == len(urls)


@pytest.mark.parametrize(
    ("key", "text", "link"),
    [
        ("ci_url", "https://a.example/my run", "https://a.example/my%20run"),
        (
            "ci_url",
            "https://a.example/|https://b.example",
            "https://a.example/%7Chttps://b.example",
        ),
        ("log", "https://a.example/a|b", "https://a.example/a%7Cb"),
        ("log", "https://a.example/my run", "https://a.example/my"),
    ],
)
def test_an_address_opens_what_it_shows(key: str, text: str, link: str) -> None:
    assert f'href="{link}"' in linked(text, key)


def test_each_address_is_named_once_with_its_first_key() -> None:
    rows = [MetadataRow(0, "a", "https://x.example"), MetadataRow(0, "b", "https://x.example")]
    assert links_in(rows) == [("a", "https://x.example")]


@pytest.mark.parametrize(
    "text",
    [
        "<script>alert(1)</script>",
        '"><img src=x onerror=alert(1)>',
        "https://a.example/\"onmouseover='alert(1)'",
        "https://a.example/<script>",
        "javascript:alert('https://a.example')",
    ],
)
def test_all_else_is_escaped(text: str) -> None:
    made = str(linked(text))
    outside = made.replace('<a href="', "").replace('" rel="noopener noreferrer nofollow">', "")
    outside = outside.replace("</a>", "")
    assert not {"<", ">", '"', "'"} & set(outside)
    assert 'href="javascript' not in made
