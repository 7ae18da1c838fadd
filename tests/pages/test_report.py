import re
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import httpx
import pytest

from squash_api.pages.report import Group, PackageTable, package_tables, report_file
from squash_api.reports.document import Report
from squash_api.routes.middleware import PAGE_POLICY
from tests.support.calls import Calls
from tests.support.definitions import metric, spec
from tests.support.reporting import HOSTILE, URL, ReportedJobs
from tests.support.site import job_document

LOADING = {"script", "link", "img", "iframe", "object", "embed", "video", "audio", "source", "base"}


class Elements(HTMLParser):
    """The elements of a page, and the text outside of styles."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.found: list[tuple[str, dict[str, str | None]]] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, dict(attrs)))

    @property
    def links(self) -> list[str]:
        return [attributes["href"] or "" for tag, attributes in self.found if tag == "a"]


def define(calls: Calls) -> None:
    metric = {"name": "p.a", "unit": "mmag", "description": "What it is."}
    assert calls("POST", "/metric/p.a", metric).status_code == 201
    threshold = {"value": 5.0, "unit": "mmag", "operator": "<"}
    for name in ("p.a.minimum", "p.a.stretch"):
        document = {"name": name, "threshold": threshold, "tags": [name.rpartition(".")[2]]}
        assert calls("POST", f"/spec/{name}", document).status_code == 201


def dispatch(calls: Calls, values: dict[str, float], **meta: Any) -> int:
    reply = calls("POST", "/job", job_document(values, unit=None, **meta))
    assert reply.status_code == 202, reply.text
    return int(reply.json()["id"])


def test_an_empty_service_has_no_data(browser: httpx.Client) -> None:
    page = browser.get("/report")
    assert page.status_code == 200
    assert page.headers["content-security-policy"] == PAGE_POLICY.decode()
    assert '<span class="state state-not-measured">not measured</span>' in page.text
    assert "meet their limits" not in page.text


def test_programs_get_json_at_the_same_address(browser: httpx.Client) -> None:
    reply = browser.get("/report", headers={"Accept": "*/*"})
    assert reply.json()["summary"]["state"] == "not measured"


def test_the_page_says_what_is_broken(browser: httpx.Client, calls: Calls) -> None:
    define(calls)
    job_id = dispatch(calls, {"p.a": 9.0}, dataset="RC2", filter="r", detector=3)
    text = browser.get("/report").text
    assert "1 of 1 series breaks a limit: 1 CRITICAL." in text
    assert '<span class="state state-critical">CRITICAL</span>' in text
    assert f'href="/job/{job_id}"' in text
    assert 'href="/metric/p.a"' in text
    assert "dataset RC2, filter r, detector 3" in text
    assert "-80 %" in text


def test_the_page_compares(browser: httpx.Client, calls: Calls) -> None:
    define(calls)
    dispatch(calls, {"p.a": 1.0}, run_id="1")
    dispatch(calls, {"p.a": 9.0}, run_id="2")
    text = browser.get("/report?run=2&compare_run=1").text
    assert "<h2>Compared with run 1</h2>" in text
    assert "<strong>newly broken</strong>" in text


def test_links_keep_what_was_asked_for(browser: httpx.Client, calls: Calls) -> None:
    dispatch(calls, {"p.a": 1.0})
    links = Elements(browser.get("/report?run=a%26b&filter=r&filter=g").text).links
    query = "run=a%26b&filter=r&filter=g"
    assert [f"/report?{query}&format={name}" in links for name in ("html", "md", "xml")] == [
        True
    ] * 3


def test_the_form_holds_what_was_asked_for(browser: httpx.Client) -> None:
    text = browser.get("/report?run=%22%3E%3Cb%3E&filter=r&filter=g&level=warning").text
    assert 'name="run" value="&#34;&gt;&lt;b&gt;"' in text
    assert text.count('name="filter"') == 2
    assert "<option selected>WARNING</option>" in text


def test_a_wrong_parameter_is_a_page_too(browser: httpx.Client) -> None:
    page = browser.get("/report?since=yesterday")
    assert page.status_code == 422
    assert "is not a time" in page.text


@pytest.mark.parametrize("name", ["json", "md", "xml"])
def test_a_browser_gets_the_files_that_it_asks_for(browser: httpx.Client, name: str) -> None:
    reply = browser.get(f"/report?format={name}")
    assert "html" not in reply.headers["content-type"]


def test_a_program_gets_the_file_as_html(browser: httpx.Client) -> None:
    reply = browser.get("/report?format=html", headers={"Accept": "application/json"})
    assert reply.headers["content-type"] == "text/html; charset=utf-8"
    assert reply.headers["content-security-policy"].startswith("default-src 'none'; style-src")
    assert "squash-report.html" in reply.headers["content-disposition"]


# The file that can be mailed


@pytest.fixture(scope="module")
def mailed(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A file of hostile jobs."""
    jobs = ReportedJobs(tmp_path_factory.mktemp("record"))
    jobs.define(spec(value=0.5))
    jobs.job(
        1.0,
        dataset=HOSTILE[:200],
        filter=HOSTILE[:300],
        run_id=HOSTILE[:100],
        run_url="javascript:alert(1)",
        version_tag=HOSTILE[:50],
    )
    jobs.job(1.0, run_id="safe", run_url="https://ci.example.org/1")
    found = report_file(jobs.report(since="1d", compare_run="none"))
    jobs.close()
    return found


def test_the_file_loads_nothing(mailed: str) -> None:
    elements = Elements(mailed).found
    assert not LOADING & {tag for tag, _ in elements}
    assert not [
        attributes for _, attributes in elements if {"src", "srcset", "style"} & set(attributes)
    ]
    (style,) = re.findall(r"<style>(.*?)</style>", mailed, re.DOTALL)
    assert not [word for word in ("@import", "url(", "http", "</") if word in style]


def test_the_file_forbids_to_load_anything(mailed: str) -> None:
    (policy,) = (
        attributes["content"]
        for tag, attributes in Elements(mailed).found
        if tag == "meta" and attributes.get("http-equiv") == "Content-Security-Policy"
    )
    assert policy is not None
    assert policy.startswith("default-src 'none'; style-src 'unsafe-inline'")


def test_links_of_the_file_are_absolute(mailed: str) -> None:
    links = Elements(mailed).links
    assert f"{URL}/job/1" in links
    assert not [link for link in links if not link.startswith((URL, "https://ci.example.org/"))]


def test_hostile_names_are_text(mailed: str) -> None:
    assert "<script" not in mailed
    assert "&lt;script&gt;alert(1)&lt;/script&gt;" in mailed
    assert "\u202e" not in mailed
    assert not [link for link in Elements(mailed).links if "javascript" in link]


def test_hostile_names_are_text_on_the_page(browser: httpx.Client, calls: Calls) -> None:
    name = f"p.{HOSTILE[:60]}"
    dispatch(calls, {name: 1.0}, dataset=HOSTILE[:500], run_id=HOSTILE[:100])
    text = browser.get("/report").text
    assert "<script>" not in text
    assert "&lt;script&gt;" in text


def test_the_page_is_below_the_root_of_the_service(tmp_path: Path) -> None:
    from tests.support.in_process import service

    with service(tmp_path, url="https://host.example/squash") as client:
        links = Elements(client.get("/squash/report", headers={"Accept": "text/html"}).text).links
    assert all(link.startswith(("/squash", "#")) for link in links)


def made(folder: Path) -> Report:
    jobs = ReportedJobs(folder)
    jobs.define_metrics(metric("q.a"))
    jobs.define(spec(), spec("q.a.design"), spec("p.b.design"))
    jobs.job(1.0, dataset="RC2", filter="g")
    jobs.job(1.0, dataset="RC2", filter="r")
    jobs.job(1.0, dataset="DC2", filter="r", name="p.b")
    jobs.job(9.0, dataset="RC2", filter="y", name="q.a")
    jobs.job(1.0, name="q.a")
    found = jobs.report()
    jobs.close()
    return found


def tables(folder: Path) -> dict[str, PackageTable]:
    return {item.package: item for item in package_tables(made(folder))}


def test_packages_with_violations_come_first(tmp_path: Path) -> None:
    assert list(tables(tmp_path)) == ["q", "p"]


def test_a_table_has_only_the_columns_of_its_package(tmp_path: Path) -> None:
    table = tables(tmp_path)["p"]
    assert table.groups == [Group("DC2", 1), Group("RC2", 2)]
    assert table.labels == ["r", "g", "r"]


def test_cells_are_below_their_columns(tmp_path: Path) -> None:
    table = tables(tmp_path)["p"]
    shown = [[cell and cell.shown.tags["filter"] for cell in line.cells] for line in table.lines]
    assert shown == [[None, "g", "r"], ["r", None, None]]


def test_what_has_no_dataset_has_a_dash_above(tmp_path: Path) -> None:
    table = tables(tmp_path)["q"]
    assert (table.groups[0], table.labels[0]) == (Group("\u2013", 1), "\u2013")


def test_broken_results_are_counted(tmp_path: Path) -> None:
    found = tables(tmp_path)
    assert (found["q"].counts, found["q"].series) == ({"WARNING": 1}, {"WARNING": 1, "passed": 1})
    assert found["p"].counts == {"passed": 2}


def test_a_report_without_rows_has_no_tables(tmp_path: Path) -> None:
    assert package_tables(replace(made(tmp_path), rows=[])) == []
