"""The OpenAPI document in `docs/` is the one that the code makes."""

import json
from pathlib import Path
from typing import Any

import pytest

from squash_api.openapi import main, openapi_text

COMMITTED = Path(__file__).parent.parent / "docs" / "openapi.json"


@pytest.fixture(scope="module")
def document() -> dict[str, Any]:
    made: dict[str, Any] = json.loads(openapi_text())
    return made


def test_committed_document_is_the_one_of_the_code() -> None:
    assert COMMITTED.read_text(encoding="utf-8") == openapi_text(), "run: make openapi"


def test_document_does_not_depend_on_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    expected = openapi_text()
    monkeypatch.setenv("SQUASH_URL", "https://squash.example.org/api")
    monkeypatch.setenv("SQUASH_SPECS", "/nowhere")
    monkeypatch.setenv("SQUASH_TAGS", "visit")
    assert openapi_text() == expected


def test_every_operation_is_described(document: dict[str, Any]) -> None:
    silent = [
        f"{method} {path}"
        for path, methods in document["paths"].items()
        for method, operation in methods.items()
        if not operation.get("description")
    ]
    assert not silent


def test_every_documented_failure_has_the_one_body(document: dict[str, Any]) -> None:
    other = [
        f"{method} {path} {status}"
        for path, methods in document["paths"].items()
        for method, operation in methods.items()
        for status, reply in operation["responses"].items()
        if status.startswith("4") and not _has_the_one_body(document, reply)
    ]
    assert not other


def _has_the_one_body(document: dict[str, Any], reply: dict[str, Any]) -> bool:
    if "$ref" in reply:
        reply = document["components"]["responses"][reply["$ref"].rpartition("/")[2]]
    return "ErrorBody" in json.dumps(reply["content"]["application/json"]["schema"])


def test_every_operation_tells_of_what_a_connection_may_be_answered(
    document: dict[str, Any],
) -> None:
    other = [
        f"{method} {path}"
        for path, methods in document["paths"].items()
        for method, operation in methods.items()
        if not {"400", "408", "414", "431", "503"} <= operation["responses"].keys()
    ]
    assert not other


def test_check_passes_where_nothing_has_changed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "openapi.json"
    monkeypatch.setattr("sys.argv", ["openapi", str(file)])
    main()
    monkeypatch.setattr("sys.argv", ["openapi", "--check", str(file)])
    main()
    assert json.loads(file.read_text(encoding="utf-8"))["info"]["title"] == "SQuaSH"


@pytest.mark.parametrize("content", [None, "{}\n"])
def test_check_fails_and_says_what_to_do_where_it_differs(
    content: str | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "openapi.json"
    if content is not None:
        file.write_text(content, encoding="utf-8")
    monkeypatch.setattr("sys.argv", ["openapi", "--check", str(file)])
    with pytest.raises(SystemExit, match="run make openapi"):
        main()
