"""The scripts of the SQUASH prototype and of QLF, letter for letter, against a real service."""

from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
import requests

from tests.support.calls import PASSWORD, log_in
from tests.support.service import Service
from tests.wires.test_simple_job import PA1, PROTOTYPE, QLF

pytestmark = pytest.mark.sqlite
AUTH = ("nobody", PASSWORD)


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    folder: Path = tmp_path_factory.mktemp("service")
    with Service(folder, SQUASH_SIMPLE_PREFIXES="/api,/dashboard/api") as service:
        with httpx.Client(base_url=service.url, timeout=60) as client:
            log_in(client, AUTH[0])
        yield service.url


@pytest.mark.parametrize("path", ["/", "/api/", "/dashboard/api/"])
def test_the_clients_work_as_their_documents_print_them(root: str, path: str) -> None:
    api = requests.get(f"{root}{path}", timeout=30).json()
    metric = PA1 | {"metric": f"PA{len(path)}"}
    assert requests.post(api["metric"], data=metric, auth=AUTH, timeout=30).status_code == 201
    job = PROTOTYPE | {"name": path, "measurements": [{"metric": metric["metric"], "value": 5.0}]}
    reply = requests.post(api["job"], json=job, auth=AUTH, timeout=30)
    assert reply.status_code == 201, reply.text
    assert requests.post(api["job"], json=QLF, auth=AUTH, timeout=30).status_code == 201
    report = requests.get(f"{root}/job/{reply.json()['id']}/report", timeout=30).json()
    assert {item["specification"].rpartition(".")[2]: item["status"] for item in report} == {
        "design": "passed",
        "minimum": "passed",
        "stretch": "failed",
        "user": "passed",
    }
    refused = requests.post(api["job"], data=job, auth=AUTH, timeout=30)
    assert refused.status_code == 422
    assert "send the job as JSON" in refused.json()["message"]
