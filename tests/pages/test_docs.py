import json
import re
import subprocess
import sys
from html import unescape
from pathlib import Path
from shutil import copy2, copytree
from typing import Any
from zipfile import ZipFile

import httpx
import pytest

from squash_api.pages.docs import _markdown
from squash_api.routes.documents import documents
from tests.support.calls import Calls
from tests.support.in_process import service

ROOT = Path(__file__).parents[2]


def test_the_api_is_in_the_menu(shared_browser: httpx.Client) -> None:
    text = shared_browser.get("/docs").text
    assert '<a href="/docs" aria-current="page">Docs</a>' in text
    assert "<h1" in text


@pytest.mark.parametrize("name", sorted(documents()))
def test_every_document_is_a_page(shared_browser: httpx.Client, name: str) -> None:
    page = shared_browser.get(f"/docs/{name}")
    assert page.status_code == 200
    assert f"<title>{documents()[name][0].title} · Documentation" in unescape(page.text)


def test_every_link_between_documents_leads_somewhere(shared_browser: httpx.Client) -> None:
    texts = {name: shared_browser.get(f"/docs/{name}").text for name in documents()}
    texts[""] = shared_browser.get("/docs").text
    dead, seen = [], 0
    for name, text in texts.items():
        for link in re.findall(r'href="([^"]*)"', text):
            target = re.fullmatch(r"(?:/docs(?:/([a-z-]+))?)?(?:#(.+))?", unescape(link))
            if target is None or not link:
                continue
            seen += 1
            other = name if link.startswith("#") else target[1] or ""
            if other not in texts or (target[2] and f'id="{target[2]}"' not in texts[other]):
                dead.append(f"{name}: {link}")
    assert not dead
    assert seen > 200


def test_a_link_to_the_repository_is_text_alone(shared_browser: httpx.Client) -> None:
    for name in documents():
        text = shared_browser.get(f"/docs/{name}").text
        assert not re.findall(r'href="[^"]*(?:\.\./|\.md)[^"]*"', text)


def test_there_is_no_other_document(shared_browser: httpx.Client) -> None:
    for name in ("nothing", "..%2Fhttp-api", "http-api.md", "%2e%2e", "openapi.json"):
        assert shared_browser.get(f"/docs/{name}").status_code == 404


def test_programs_get_the_same_page(shared_browser: httpx.Client) -> None:
    for path in ("/docs", "/docs/alerts"):
        reply = shared_browser.get(path, headers={"Accept": "*/*"})
        assert reply.headers["content-type"] == "text/html; charset=utf-8"


def test_documents_are_below_the_public_root(tmp_path: Path) -> None:
    with service(tmp_path, url="https://host.example/squash") as client:
        text = client.get("/squash/docs").text
        text += client.get("/squash/docs/alerts", headers={"Accept": "text/html"}).text
    links = re.findall(r'(?:href|src|action)="([^"]*)"', text)
    assert not [item for item in links if not item.startswith(("/squash/", "#", "http"))]
    assert "curl 'https://host.example/squash/jobs'" in unescape(text)


def test_html_in_a_document_is_text() -> None:
    made = _markdown("").render('<script>alert(1)</script> [x](javascript:alert(1)) <b onx="1">')
    assert "<script" not in made
    assert "<b " not in made
    assert 'href="javascript' not in made


# The examples of the API


def bodies() -> dict[str, Any]:
    """The examples of bodies in the OpenAPI document, by method and path."""
    document = json.loads((ROOT / "docs" / "openapi.json").read_text(encoding="utf-8"))
    found = {}
    for path, methods in document["paths"].items():
        for method, operation in methods.items():
            if "requestBody" in operation:
                content = operation["requestBody"].get("content", {})
                examples = [each.get("example") for each in content.values()]
                found[f"{method.upper()} {path}"] = examples[0] if examples else None
    return found


def test_every_route_with_a_body_has_an_example() -> None:
    assert [name for name, example in bodies().items() if example is None] == []


def test_the_examples_are_accepted_as_they_are(calls: Calls) -> None:
    examples = bodies()
    names = {"/metric/{name}": "/metric/camera.Pressure", "/measurement/{job_id}": "/measurement/1"}
    names["/spec/{name}"] = "/spec/camera.Pressure.minimum"
    refused = []
    order = ("register", "auth", "metrics", "metric", "specs", "spec", "job", "measurement")
    for first in order:
        for name, example in examples.items():
            method, _, path = name.partition(" ")
            if path.split("/")[1] != first:
                continue
            reply = calls(method, names.get(path, path), example)
            if reply.status_code >= 300:
                refused.append(f"{name}: {reply.text}")
    assert not refused


def test_an_example_is_a_call_to_copy(shared_browser: httpx.Client) -> None:
    text = unescape(shared_browser.get("/docs").text)
    assert "curl -X POST 'http://127.0.0.1:8000/auth' \\\n  -H 'Content-Type" in text
    job = text.partition("curl -X POST 'http://127.0.0.1:8000/job'")[2]
    assert job.startswith(' \\\n  -H "Authorization: JWT $TOKEN" \\\n')


def test_a_package_has_the_documents(tmp_path: Path) -> None:
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        copy2(ROOT / name, tmp_path)
    for name in ("squash_api", "docs"):
        copytree(ROOT / name, tmp_path / name, symlinks=True)
    build = "from setuptools.build_meta import build_wheel; build_wheel('wheel')"
    (tmp_path / "wheel").mkdir()
    subprocess.run([sys.executable, "-c", build], cwd=tmp_path, check=True, capture_output=True)
    (wheel,) = (tmp_path / "wheel").glob("*.whl")
    with ZipFile(wheel) as archive:
        files = set(archive.namelist())
    missing = {f"squash_api/pages/documents/{name}.md" for name in documents()} - files
    assert not missing
