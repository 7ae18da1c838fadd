"""The processes that deliver beside the service: what they do, when they end, and what then."""

import os
import re
import signal
from contextlib import closing
from pathlib import Path

import pytest

from squash_api.record.deliveries import get_target
from tests.integration.conftest import MakeSite
from tests.serving.test_readers import is_running, logged_in, post, zero_table
from tests.support.builders import open_record
from tests.support.service import READING, Service
from tests.support.site import Site, expire_leases, job_document, wait_for

# They open the record as `squash deliver` does, which is tested on every engine.
pytestmark = pytest.mark.sqlite

STARTED = re.compile(r'"part":"influxdb","pid":(\d+),"event":"a process delivers"')
DERIVES = re.compile(r'"part":"rest","pid":(\d+),"event":"a process delivers"')


def pid_of_last(service: Service, started: re.Pattern[str] = STARTED) -> int:
    """Return the id of the process that was started last, once there is one."""
    found = wait_for(lambda: started.findall(service.fresh_log()))
    return int(found[-1])


def owner(site: Site) -> str | None:
    """Return who has leased the target."""
    with closing(open_record(site.service.folder)) as record, record.read() as connection:
        return get_target(connection, "default").lease_owner


@pytest.fixture(scope="module")
def site(make_site: MakeSite) -> Site:
    return make_site(**READING)


@pytest.fixture(scope="module")
def ended(make_site: MakeSite) -> Site:
    return make_site(**READING)


def test_a_process_of_its_own_delivers(site: Site, package: str) -> None:
    site.deliver(job_document({f"{package}.m": 1.0}))
    assert site.values(f"{package}.m") == [1.0]
    assert f" {pid_of_last(site.service)} " in (owner(site) or "")


def test_one_that_is_killed_is_started_again(site: Site, package: str) -> None:
    site.deliver(job_document({f"{package}.m": 1.0}))
    killed = pid_of_last(site.service)
    os.kill(killed, signal.SIGKILL)
    wait_for(lambda: pid_of_last(site.service) != killed)
    expire_leases(site)
    site.deliver(job_document({f"{package}.m": 2.0}))
    assert site.values(f"{package}.m") == [1.0, 2.0]
    assert "a process that delivers has ended" in site.service.fresh_log()


def test_it_ignores_signals_that_are_for_the_service(site: Site, package: str) -> None:
    pid = pid_of_last(site.service)
    for number in (signal.SIGINT, signal.SIGTERM):
        os.kill(pid, number)
    site.deliver(job_document({f"{package}.m": 1.0}))
    assert pid_of_last(site.service) == pid


def test_the_settings_are_not_in_the_list_of_processes(site: Site) -> None:
    place = Path(f"/proc/{pid_of_last(site.service)}")
    secret = site.service.environment["SQUASH_SECRET"]
    assert secret not in (place / "cmdline").read_text()


def test_it_ends_with_the_service_and_gives_its_leases_back(ended: Site, package: str) -> None:
    ended.deliver(job_document({f"{package}.m": 1.0}))
    pid = pid_of_last(ended.service)
    assert owner(ended) is not None
    ended.service.stop()
    assert (is_running(pid), owner(ended)) == (False, None)


def test_it_ends_with_a_service_that_is_killed(ended: Site, package: str) -> None:
    ended.service.start()
    ended.deliver(job_document({f"{package}.m": 1.0}))
    pid = pid_of_last(ended.service)
    ended.service.kill()
    wait_for(lambda: not is_running(pid))
    assert owner(ended) is None


def test_damage_that_it_meets_ends_all_writing(tmp_path: Path) -> None:
    with Service(tmp_path, **READING) as service, logged_in(service) as calls:
        pid_of_last(service, DERIVES)
        # It derives what a job says of its run; the service only stores the job.
        zero_table(tmp_path / "squash.db", "job_run")
        post(calls, 1.0)
        wait_for(lambda: calls("GET", "/readyz").status_code == 503)
        assert "a process that delivers has met it" in service.fresh_log()
