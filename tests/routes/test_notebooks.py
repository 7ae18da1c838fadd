"""The runs of notebooks, from the service in this process."""

from typing import Any

import pytest

from tests.support.calls import Calls, follow
from tests.support.definitions import metric, spec
from tests.support.notebook_runs import PAGE, notebook_document
from tests.support.notebook_runs import post_notebook as post


@pytest.fixture
def runs(calls: Calls) -> dict[str, int]:
    """Four runs, and a job that is of no notebook, by what they are."""
    found = {
        "old": post(calls, run="r1", release="w_1", since="30d", plots=6),
        "failed": post(calls, run="r2", release="w_2", failed=1, since="30 d"),
        "other": post(calls, "my notebook", run="r3", plots=6),
        "new": post(calls, run="r4", release="w_2", since="90d", names=["g", "r"]),
    }
    other = calls("POST", "/job", {"measurements": [{"metric": "p.a", "value": 1.0}]})
    return {**found, "job": other.json()["id"]}


def jobs(calls: Calls, query: str = "") -> list[int]:
    return [item["job"] for item in calls("GET", f"/notebooks{query}").json()["notebooks"]]


@pytest.mark.sqlite
def test_there_are_none_at_first(calls: Calls) -> None:
    assert calls("GET", "/notebooks").json() == {"notebooks": [], "next": None}
    assert jobs(calls, "?template=nightly") == []
    assert calls("GET", "/notebook/1").status_code == 404


def test_an_entry_says_what_ran_and_how(calls: Calls, runs: dict[str, int]) -> None:
    shown = calls("GET", f"/notebook/{runs['failed']}").json()
    root = calls("GET", "/").json()["jobs"].removesuffix("/jobs")
    assert shown["date"]
    del shown["date"]
    assert shown == {
        "job": runs["failed"],
        "url": f"{root}/notebook/{runs['failed']}",
        "html": f"{root}/notebook/{runs['failed']}/html",
        "ipynb": f"{root}/notebook/{runs['failed']}/ipynb",
        "template": "nightly",
        "parameters": {"since": "30 d"},
        "version_tag": "w_2",
        "run_id": "r2",
        "run": f"{root}/runs/notebook.nightly/r2",
        "result": "failed",
        "problem": "cell 2: ValueError: no values",
        "cells": 3,
        "duration_s": 2.5,
        "state": "no limit",
        "failed": {"INFO": 0, "WARNING": 0, "CRITICAL": 0},
        "passed": 0,
        "not_measured": 0,
        "verdicts": 0,
        "metrics": {},
    }


@pytest.mark.sqlite
@pytest.mark.parametrize(
    ("query", "names"),
    [
        ("", ["new", "other", "failed", "old"]),
        ("?template=nightly", ["new", "failed", "old"]),
        ("?template=my%20notebook", ["other"]),
        ("?template=none", []),
        ("?version_tag=w_2", ["new", "failed"]),
        ("?run=r1", ["old"]),
        ("?result=failed", ["failed"]),
        ("?result=finished&template=nightly", ["new", "old"]),
        ("?parameter=plots=6", ["other", "old"]),
        ("?parameter=plots=6&parameter=since=30d", ["old"]),
        ("?parameter=since=30%20d", ["failed"]),
        ('?parameter=names=["g",%20"r"]', ["new"]),
        ("?parameter=none=1", []),
    ],
)
def test_runs_are_found_by(
    query: str, names: list[str], calls: Calls, runs: dict[str, int]
) -> None:
    assert jobs(calls, query) == [runs[name] for name in names]


@pytest.mark.sqlite
@pytest.mark.parametrize("query", ["?limit=1", "?limit=2", "?limit=1&template=nightly"])
def test_the_pages_of_the_list_are_the_list(query: str, calls: Calls, runs: dict[str, int]) -> None:
    assert runs
    pages = follow(calls, f"/notebooks{query}", "notebooks")
    whole = jobs(calls, "?template=nightly" if "template" in query else "")
    assert [item["job"] for page in pages for item in page] == whole


@pytest.mark.parametrize(
    ("query", "place"),
    [
        ("?templat=a", "did you mean `template`"),
        ("?parameter=since", "must be name=value"),
        ("?result=broken", "'failed' or 'finished'"),
        ("?after=x", "cursor"),
    ],
)
def test_what_is_wrong_in_a_question_is_named(query: str, place: str, calls: Calls) -> None:
    reply = calls("GET", f"/notebooks{query}")
    assert reply.status_code == 422
    assert place in reply.text


@pytest.mark.sqlite
def test_a_limit_on_failed_cells_gives_a_run_its_state(calls: Calls) -> None:
    calls("POST", "/metrics", {"metrics": [metric("notebook.failed_cells", unit="")]})
    limit = spec("notebook.failed_cells.none", value=0.5, unit="")
    limit["tags"] = ["minimum"]
    assert calls("POST", "/specs", {"specs": [limit]}).status_code == 201
    states = [
        calls("GET", f"/notebook/{post(calls, run=f's{failed}', failed=failed)}").json()["state"]
        for failed in (0, 1)
    ]
    assert states == ["passed", "CRITICAL"]


@pytest.mark.sqlite
def test_the_page_may_do_nothing_in_a_browser(calls: Calls, runs: dict[str, int]) -> None:
    reply = calls("GET", f"/notebook/{runs['old']}/html")
    assert (reply.status_code, reply.text) == (200, PAGE)
    assert reply.headers["content-type"] == "text/html; charset=utf-8"
    policy = reply.headers["content-security-policy"].split("; ")
    assert "default-src 'none'" in policy
    (sandbox,) = [item for item in policy if item.startswith("sandbox")]
    assert not {"allow-scripts", "allow-same-origin", "allow-forms"} & set(sandbox.split())
    assert not [item for item in policy if item.startswith(("script-src", "connect-src"))]
    assert reply.headers["x-content-type-options"] == "nosniff"


@pytest.mark.sqlite
def test_the_notebook_is_a_file_to_download(calls: Calls, runs: dict[str, int]) -> None:
    reply = calls("GET", f"/notebook/{runs['other']}/ipynb")
    assert reply.json() == {"cells": []}
    assert reply.headers["content-type"] == "application/x-ipynb+json"
    name = f"my_notebook-{runs['other']}.ipynb"
    assert reply.headers["content-disposition"] == f'attachment; filename="{name}"'


@pytest.mark.sqlite
@pytest.mark.parametrize("part", ["", "/html", "/ipynb"])
def test_a_job_of_no_notebook_has_none(part: str, calls: Calls, runs: dict[str, int]) -> None:
    for job in (runs["job"], 999):
        assert calls("GET", f"/notebook/{job}{part}").status_code == 404


@pytest.mark.sqlite
@pytest.mark.parametrize("data", [None, [], {"html": 1}, {"html": {"value": ["a"]}}])
def test_what_somebody_else_has_posted_is_no_page(data: Any, calls: Calls) -> None:
    made = notebook_document()
    made["blobs"][0]["data"] = data
    job = calls("POST", "/job", made).json()["id"]
    assert calls("GET", f"/notebook/{job}/html").status_code == 404
    assert calls("GET", f"/notebook/{job}").status_code == 200


_DEEP = "[" * 300 + "]" * 300
_WRITTEN = [
    ('{"parameters": {"plots": 1180591620717411303425}}', {"plots": 2**70 + 1}),
    ('{"parameters": {"plots": 1e999, "n": NaN}}', {"plots": None, "n": None}),
    (
        '{"parameters": {"\\ud800": "\\udfff", "l": ["\\ud800"]}}',
        {"\ufffd": "\ufffd", "l": ["\ufffd"]},
    ),
    (f'{{"parameters": {{"deep": {_DEEP}}}}}', {}),
]


@pytest.mark.sqlite
@pytest.mark.parametrize(("text", "shown"), _WRITTEN)
def test_what_somebody_else_has_written_breaks_no_list(
    text: str, shown: dict[str, Any], calls: Calls
) -> None:
    made = notebook_document()
    made["meta"]["notebook_run"] = text.replace(" ", "")
    job = calls("POST", "/job", made).json()["id"]
    assert jobs(calls)[0] == job
    assert calls("GET", f"/notebook/{job}").json()["parameters"] == shown
    for path in ("/notebooks", f"/notebook/{job}"):
        assert calls("GET", path, headers={"Accept": "text/html"}).status_code == 200


@pytest.mark.sqlite
@pytest.mark.parametrize("cells", [1e300, -1e300, 2.0**63])
def test_no_number_of_cells_breaks_the_list(cells: float, calls: Calls) -> None:
    made = notebook_document()
    made["measurements"][1]["value"] = cells
    job = calls("POST", "/job", made).json()["id"]
    assert jobs(calls) == [job]
    assert calls("GET", f"/notebook/{job}").json()["cells"] is None


def test_a_deleted_run_is_gone(calls: Calls, runs: dict[str, int]) -> None:
    assert calls("DELETE", f"/job/{runs['new']}").status_code == 200
    assert jobs(calls) == [runs[name] for name in ("other", "failed", "old")]
    assert calls("GET", f"/notebook/{runs['new']}/html").status_code == 404
