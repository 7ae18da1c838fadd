"""What `lsst.verify`'s `Job.dispatch` sends, byte for byte, each request on its own connection."""

import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

import pytest

from tests.integration.conftest import MakeSite
from tests.support.calls import PASSWORD
from tests.support.metrics_packages import shared
from tests.support.raw_http import RawReply, exchange
from tests.support.site import Site, job_document, new_package

# The headers of the library `requests`, in its order.
_GET = (
    "GET {path} HTTP/1.1\r\n"
    "Host: {host}\r\n"
    "User-Agent: python-requests/2.34.2\r\n"
    "Accept-Encoding: gzip, deflate\r\n"
    "Accept: application/json; version=1.0\r\n"
    "Connection: keep-alive\r\n"
    "\r\n"
)
_POST = (
    "POST {path} HTTP/1.1\r\n"
    "Host: {host}\r\n"
    "User-Agent: python-requests/2.34.2\r\n"
    "Accept-Encoding: gzip, deflate\r\n"
    "Accept: application/json; version=1.0\r\n"
    "Connection: keep-alive\r\n"
    "{authorization}"
    "Content-Length: {length}\r\n"
    "Content-Type: application/json\r\n"
    "\r\n"
)


@dataclass(frozen=True)
class Sequence:
    """The answers to the three requests of a dispatch."""

    root: RawReply
    auth: RawReply
    job: RawReply


def dispatch(
    site: Site, document: Any, *, root: str, seen_by_service: Callable[[str], str] = str
) -> Sequence:
    """Do what the client does with a root of this path.

    `seen_by_service` says what a proxy in between makes of a path.
    """
    host = f"127.0.0.1:{site.service.port}"

    def post(url: str, body: Any, authorization: str = "") -> RawReply:
        content = json.dumps(body).encode("ascii")
        head = _POST.format(
            path=seen_by_service(urlsplit(url).path),
            host=host,
            authorization=authorization,
            length=len(content),
        )
        return exchange(site.service.port, head.encode() + content)

    request = _GET.format(path=seen_by_service(root), host=host)
    root_reply = exchange(site.service.port, request.encode())
    urls = root_reply.json()
    auth = post(urls["auth"], {"username": "ada", "password": PASSWORD})
    token = auth.json()["access_token"]
    return Sequence(
        root_reply, auth, post(urls["job"], document, f"Authorization: JWT {token}\r\n")
    )


def lsst_job(package: str) -> dict[str, Any]:
    """Return a job with text that JSON has to escape."""
    return job_document({f"{package}.Ωm": 0.1}, instrument="Hyper-Suprime Kamera Ä")


@pytest.fixture(scope="module")
def sequence(site: Site) -> Sequence:
    return dispatch(site, lsst_job(new_package()), root="/")


@pytest.fixture(scope="module")
def site_below_a_path(make_site: MakeSite) -> Site:
    return make_site(SQUASH_URL="https://lsst.example/dashboard/api")


def test_the_root_answers_with_absolute_urls(sequence: Sequence, site: Site) -> None:
    assert sequence.root.status == 200
    urls = sequence.root.json()
    assert (urls["auth"], urls["job"]) == (f"{site.service.url}/auth", f"{site.service.url}/job")


def test_auth_answers_with_an_access_token(sequence: Sequence) -> None:
    assert (sequence.auth.status, list(sequence.auth.json())) == (200, ["access_token"])


def test_the_job_is_accepted_with_202(sequence: Sequence) -> None:
    assert sequence.job.status == 202


def test_the_id_stands_between_the_first_back_ticks(sequence: Sequence, site: Site) -> None:
    job_id = sequence.job.json()["message"].split("`")[1]
    assert site.get(f"/job/{job_id}")["id"] == int(job_id)


def test_polling_the_absolute_status_url_reaches_success(sequence: Sequence, site: Site) -> None:
    url = sequence.job.json()["status"]
    assert url.startswith(f"{site.service.url}/status/")
    assert site.wait_for_status(int(url.rpartition("/")[2]), "SUCCESS")


def test_success_means_that_influxdb_holds_the_points(site: Site, package: str) -> None:
    job_id = dispatch(site, lsst_job(package), root="/").job.json()["id"]
    site.wait_until_delivered([job_id])
    (point,) = site.points(package)
    assert point["fields"]["Ωm"] == 0.1
    assert point["tags"]["instrument"] == "Hyper-Suprime_Kamera_Ä"


@pytest.mark.parametrize("root", ["/dashboard/api", "/dashboard/api/"])
def test_a_path_that_the_proxy_leaves_is_understood(site_below_a_path: Site, root: str) -> None:
    sequence = dispatch(site_below_a_path, lsst_job(new_package()), root=root)
    assert [sequence.root.status, sequence.auth.status, sequence.job.status] == [200, 200, 202]


@pytest.mark.parametrize("root", ["/dashboard/api", "/dashboard/api/"])
def test_a_path_that_the_proxy_strips_is_understood(site_below_a_path: Site, root: str) -> None:
    sequence = dispatch(
        site_below_a_path,
        lsst_job(new_package()),
        root=root,
        seen_by_service=lambda path: path.removeprefix("/dashboard/api") or "/",
    )
    assert [sequence.root.status, sequence.auth.status, sequence.job.status] == [200, 200, 202]


def test_urls_below_a_path_are_those_of_the_public_root(site_below_a_path: Site) -> None:
    sequence = dispatch(site_below_a_path, lsst_job(new_package()), root="/dashboard/api")
    assert sequence.root.json()["job"] == "https://lsst.example/dashboard/api/job"
    assert sequence.job.json()["status"].startswith("https://lsst.example/dashboard/api/status/")


@pytest.mark.parametrize(
    ("path", "status"), [("/auth/", 400), ("/job/", 401), ("/register/", 400), ("//job", 404)]
)
def test_no_post_is_ever_redirected(site: Site, path: str, status: int) -> None:
    head = _POST.format(path=path, host="127.0.0.1", authorization="", length=2).encode()
    assert exchange(site.service.port, head + b"{}").status == status


def test_the_host_header_makes_no_url(site: Site) -> None:
    request = _GET.format(path="/", host="evil.example")
    assert b"evil.example" not in exchange(site.service.port, request.encode()).body


def test_the_bytes_of_a_real_dispatch_are_accepted(site: Site) -> None:
    body = shared("jobs/ldf.payload.json").read_bytes()
    head = _POST.format(
        path="/job",
        host=f"127.0.0.1:{site.service.port}",
        authorization=f"Authorization: JWT {site.calls.token}\r\n",
        length=len(body),
    )
    reply = exchange(site.service.port, head.encode() + body)
    assert (reply.status, reply.json()["skipped"]) == (202, [])
