"""The OpenAPI document in `docs/` is the one that the code makes."""

import json
import re
from collections.abc import Collection
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
import schemathesis
from jsonschema import Draft202012Validator  # type: ignore[import-untyped]

from squash_api import errors
from squash_api.openapi import main, openapi_text
from squash_api.record.record import Record
from squash_api.record.users import change_user
from squash_api.routes.description import examples
from squash_api.trends.parameters import FORMATS as MEASUREMENT_FORMATS
from squash_api.trends.parameters import REPORT_FORMATS
from tests.support.answers import kept_in_json
from tests.support.calls import PASSWORD, log_in
from tests.support.definitions import metric, spec
from tests.support.in_process import service
from tests.support.made_alerts import open_alerts
from tests.support.notebook_runs import post_notebook
from tests.support.records import record_url
from tests.support.replies import ask_everything, closed, shape

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


# Examples, and what programs are made of


def operations_of(document: dict[str, Any]) -> list[tuple[str, dict[str, Any]]]:
    """Return each operation, with its method and path."""
    return [
        (f"{method} {path}", operation)
        for path, methods in document["paths"].items()
        for method, operation in methods.items()
    ]


def test_operations_have_names_of_their_own_that_programs_can_use(
    document: dict[str, Any],
) -> None:
    names = [operation["operationId"] for _, operation in operations_of(document)]
    assert len(set(names)) == len(names)
    assert [name for name in names if not re.fullmatch(r"[a-z]+(_[a-z]+)*", name)] == []


def test_every_tag_is_described_and_used(document: dict[str, Any]) -> None:
    used = {tag for _, operation in operations_of(document) for tag in operation["tags"]}
    assert [tag["name"] for tag in document["tags"] if tag["description"].endswith(".")] == [
        tag["name"] for tag in document["tags"]
    ]
    assert {tag["name"] for tag in document["tags"]} == used


def test_the_document_names_its_server_and_all_that_requests_are_sent_with(
    document: dict[str, Any],
) -> None:
    (server,) = document["servers"]
    assert server["url"] == "{root}"
    assert server["variables"]["root"]["default"] == "http://127.0.0.1:8000"
    known = document["components"]["securitySchemes"].keys()
    used = {
        name
        for _, operation in operations_of(document)
        for way in operation.get("security", ())
        for name in way
    }
    assert used == known == {"token", "key", "password", "session", "form"}


def test_the_document_is_one_of_openapi(document: dict[str, Any]) -> None:
    schemathesis.openapi.from_dict(document).validate()


def test_every_body_has_an_example_that_its_schema_allows(document: dict[str, Any]) -> None:
    bodies = [
        (where, kind, content)
        for where, operation in operations_of(document)
        for kind, content in operation.get("requestBody", {}).get("content", {}).items()
    ]
    assert len(bodies) > 20
    for where, kind, content in bodies:
        assert "example" in content, f"{where} as {kind}"
        check(document, content)


def test_every_answer_in_json_has_a_schema(document: dict[str, Any]) -> None:
    empty = [
        f"{where} {status}"
        for where, operation in operations_of(document)
        for status, reply in operation["responses"].items()
        for kind, content in reply.get("content", {}).items()
        if "json" in kind and not content.get("schema")
    ]
    assert not empty, "give them a type in ANSWERS of squash_api/routes/schemas.py"


def test_every_answer_in_json_has_an_example_that_its_schema_describes(
    document: dict[str, Any],
) -> None:
    silent = []
    document = closed(document)
    for where, operation in operations_of(document):
        kinds = [
            content
            for status, reply in operation["responses"].items()
            if status < "3"
            for kind, content in reply.get("content", {}).items()
            if "json" in kind
        ]
        found = [content for content in kinds if "example" in content]
        silent += [where] if kinds and not found else []
        for content in found:
            check(document, content)
    assert silent == []


def test_schemas_have_readable_names_and_describe_every_field(document: dict[str, Any]) -> None:
    schemas = document["components"]["schemas"]
    assert [name for name in schemas if not re.fullmatch("[A-Z][A-Za-z]+", name)] == []
    silent = [
        f"{name}.{field}"
        for name, schema in schemas.items()
        for field, described in schema["properties"].items()
        if not described.get("description", "").endswith(".")
    ]
    assert not silent


def test_kept_answers_are_as_described(document: dict[str, Any]) -> None:
    document = closed(document)
    patterns = {
        re.compile(re.sub(r"\\{\w+\\}", "[^/]+", re.escape(path))): methods
        for path, methods in document["paths"].items()
    }
    wrong, checked = [], set()
    for kept in kept_in_json():
        path = kept.path.partition("?")[0].rstrip("/") or "/"
        found = [methods for pattern, methods in patterns.items() if pattern.fullmatch(path)]
        if kept.status >= "3" or not found:
            continue
        operation = found[0][kept.method.lower()]
        content = operation["responses"][kept.status]["content"]["application/json"]
        schema = {**content["schema"], "components": document["components"]}
        errors = Draft202012Validator(schema).iter_errors(kept.content)
        wrong += [f"{kept.name}: {error.json_path}: {error.message[:200]}" for error in errors]
        checked.add(operation["operationId"])
    assert wrong == []
    assert len(checked) > 35


def test_every_failure_that_routes_share_has_an_example_with_a_code_of_its_status(
    document: dict[str, Any],
) -> None:
    codes = {(kind.code, kind.status_code) for kind in vars(errors).values() if is_error(kind)}
    for status, reply in document["components"]["responses"].items():
        content = reply["content"]["application/json"]
        check(document, content)
        assert (content["example"]["code"], int(status)) in codes


def is_error(kind: Any) -> bool:
    return isinstance(kind, type) and issubclass(kind, errors.SquashError)


def check(document: dict[str, Any], content: dict[str, Any]) -> None:
    """Compare an example with its schema."""
    schema = {**content["schema"], "components": document["components"]}
    Draft202012Validator(schema).validate(content["example"])


def test_every_documented_request_is_accepted_and_every_answer_is_as_documented(
    tmp_path: Path,
) -> None:
    asked = ask_everything(tmp_path)
    assert asked.refused == {}
    assert {name: shape(reply) for name, reply in asked.replies.items()} == {
        name: shape(reply) for name, reply in examples().items()
    }, "run: python -m tests.support.replies"


# The kinds of content that are documented are those that come


EXAMPLES = {
    "/job/{job_id}/blob/{identifier}": "/job/1/blob/1f",
    "/jenkins/{ci_id}": "/jenkins/77",
    "/code_changes/{ci_id}": "/code_changes/77",
    "/runs/{pipeline}/{run_id}": "/runs/nightly/77",
    "/badge/{package}.svg": "/badge/p.svg",
    "/metric/{name}": "/metric/p.a",
    "/spec/{name}": "/spec/p.a.design",
    "/user/{name}": "/user/ada",
    "/search": "/search?q=p",
    "/alert/{alert_id}": "/alert/1",
    "/webhooks/{name}/deliveries": "/webhooks/hook/deliveries",
}
FORMATS_OF: dict[str, Collection[str]] = {
    "/alerts": ("json", "csv"),
    "/audit": ("json", "csv"),
    "/measurements": MEASUREMENT_FORMATS,
    "/report": REPORT_FORMATS,
    "/job/{job_id}/blob/{identifier}": ("csv", "npy"),
}


@pytest.fixture(scope="module")
def answers(
    tmp_path_factory: pytest.TempPathFactory, document: dict[str, Any]
) -> dict[str, set[str]]:
    """Ask every GET route for all it has; return the kinds of what came, by path."""
    folder = tmp_path_factory.mktemp("service")
    with service(folder) as client:
        client.post("/register", json={"username": "ada", "password": PASSWORD})
        with closing(Record.open(record_url(folder))) as record:
            record.write(lambda connection: change_user(connection, "ada", role="admin"))
            open_alerts(record)
        ada = log_in(client, "ada")
        ada("POST", "/metrics", {"metrics": [metric("p.a")]})
        ada("POST", "/specs", {"specs": [spec("p.a.design")]})
        value = {"metric": "p.a", "value": 1.0, "unit": "mmag", "identifier": "1e"}
        blob = {"identifier": "1f", "name": "b", "data": {"k": [1.0]}}
        meta = {"env": {"env_name": "jenkins", "ci_id": "77", "ci_name": "nightly"}}
        job = {"measurements": [{**value, "blob_refs": []}], "blobs": [blob], "meta": meta}
        assert ada("POST", "/job", job).status_code == 202
        notebook = post_notebook(ada)
        hook = {"name": "hook", "url": "https://hooks.example.org/", "events": ["alert.opened"]}
        assert ada("POST", "/webhooks", hook).status_code == 201
        found: dict[str, set[str]] = {}
        for path, methods in document["paths"].items():
            if "get" not in methods or path == "/events":
                continue
            job_id = notebook if path.startswith("/notebook/") else 1
            place = EXAMPLES.get(path, path.replace("{job_id}", f"{job_id}"))
            kinds = found.setdefault(path, set())
            joint = "&" if "?" in place else "?"
            for form in ("", *(f"{joint}format={name}" for name in FORMATS_OF.get(path, ()))):
                for accept in ("*/*", "text/html,*/*;q=0.5"):
                    reply = ada("GET", place + form, headers={"Accept": accept})
                    assert reply.status_code in {200, 303, 404, 503}, (place, reply.text[:300])
                    if reply.status_code == 200:
                        kinds.add(reply.headers["content-type"].partition(";")[0])
    return found


def test_what_comes_is_what_is_documented(
    document: dict[str, Any], answers: dict[str, set[str]]
) -> None:
    documented = {
        path: set(document["paths"][path]["get"]["responses"]["200"]["content"]) for path in answers
    }
    # These pages are for browsers with a session.
    for path in ("/users", "/audit"):
        documented[path].discard("text/html")
        answers[path].discard("text/html")
    assert {path: kinds for path, kinds in answers.items() if kinds} == {
        path: kinds for path, kinds in documented.items() if answers[path]
    }
    assert [path for path, kinds in answers.items() if not kinds] == []


def test_every_success_of_other_methods_is_documented_as_json(document: dict[str, Any]) -> None:
    other = {
        f"{method} {path}": list(reply["content"])
        for path, methods in document["paths"].items()
        for method, operation in methods.items()
        if method != "get"
        for status, reply in operation["responses"].items()
        if status.startswith("2") and list(reply["content"]) != ["application/json"]
    }
    # In the words of kafka-rest.
    assert other == {"post /topics/{topic}": ["application/vnd.kafka.v2+json"]}
