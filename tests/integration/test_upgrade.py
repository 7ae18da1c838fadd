"""The upgrade from 1.2.1 and the way back, by the words of docs/operations.md; 2.1.0 on new tables.

The code of the old releases comes from the history of the repository. The release after this one is
this one with a migration more, which expands the tables.
"""

import re
import shlex
import shutil
import subprocess
import threading
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import httpx
import pytest

import squash_api
from squash_api.record.versions import VERSION
from tests.record.test_versions import NEXT
from tests.support.answers import FOLDER, record_of_1_2_1
from tests.support.calls import PASSWORD, Calls
from tests.support.programs import find_program
from tests.support.releases import code_of
from tests.support.service import Service
from tests.support.site import job_document

pytestmark = pytest.mark.sqlite

DOCS = (Path(__file__).parents[2] / "docs" / "operations.md").read_text()
SPECS = ":".join(str(FOLDER / "specs" / name) for name in ("camera", "srd", "checks"))
JOBS = 20


def said(section: str, beginning: str) -> list[str]:
    """Return the words of a command that a section of the docs tells to run."""
    text = DOCS.partition(f"\n## {section}\n")[2].partition("\n## ")[0]
    found = [item for item in re.findall(r"`([^`\n]+)`", text) if item.startswith(beginning)]
    assert found, f"docs/operations.md, {section}: no `{beginning} ...`"
    return shlex.split(found[0])


def run_said(service: Service, section: str, beginning: str, *more: str) -> str:
    """Run a command of the docs as `service` would, and return what it prints."""
    name, *words = said(section, beginning)
    if name == "squash":
        done = service.run(*words, *more)
    else:
        program = find_program(name)
        done = subprocess.run(
            [program, *words], cwd=service.folder, check=False, capture_output=True, text=True
        )
    assert done.returncode == 0, (words, done.stdout, done.stderr)
    return str(done.stdout)


def service_of(folder: Path, code: Path | None = None, **environment: str) -> Service:
    """Make a service on the record of a folder, of this release or of the code given."""
    if code is not None:
        environment["PYTHONPATH"] = str(code)
    return Service(
        folder, SQUASH_SPECS=SPECS, SQUASH_URL="https://squash.example.org", **environment
    )


@dataclass(frozen=True)
class User:
    """A user of a service, with a token that is good for as long as the test lasts."""

    calls: Calls

    @classmethod
    @contextmanager
    def of(cls, service: Service, *, is_new: bool = False) -> Iterator[Self]:
        """Log in, after registering if the user is new."""
        credentials = {"username": "ada", "password": PASSWORD}
        with httpx.Client(base_url=service.url, timeout=60, trust_env=False) as client:
            if is_new:
                client.post("/register", json=credentials)
            reply = client.post("/auth", json=credentials)
            assert reply.status_code == 200, reply.text
            yield cls(Calls(client, reply.json()["access_token"]))

    def post(self, value: float) -> int:
        """Post a job with a value, and return its id."""
        document = job_document({"validate_drp.AM1": value}, unit="marcsec")
        reply = self.calls("POST", "/job", json=document)
        assert reply.status_code == 202, reply.text
        number: int = reply.json()["id"]
        return number

    def values(self, job_ids: Iterable[int]) -> list[Any]:
        """Return the values of jobs."""
        replies = [self.calls.client.get(f"/job/{number}").json() for number in job_ids]
        return [reply["measurements"][0]["value"] for reply in replies]


@pytest.fixture(scope="module")
def story(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    folder, found = tmp_path_factory.mktemp("upgrade"), dict[str, Any]()
    code = code_of("1.2.1", tmp_path_factory.mktemp("code"))
    (folder / "squash.db").write_bytes(record_of_1_2_1())
    old, new = service_of(folder, code), service_of(folder)
    run_said(old, "Upgrade", "sqlite3")
    found["backup"] = (folder / "before.db").read_bytes()[:15]
    run_said(new, "Upgrade", "squash specs check", *SPECS.split(":")[:2])
    with new, User.of(new) as user:
        found["ready"] = user.calls.client.get("/readyz").json()["status"]
        found["check"] = run_said(new, "Upgrade", "squash record check")
        ids = [user.post(1.0)]
    found["back"] = run_said(new, "Going back", "squash record downgrade")
    with old, User.of(old) as user:
        ids.append(user.post(2.0))
        found["gone back"] = user.values(ids)
    with new, User.of(new) as user:
        ids.append(user.post(3.0))
        found["again"] = user.values(ids)
        found["check again"] = run_said(new, "Upgrade", "squash record check")
    return found | {"ids": ids}


def test_the_backup_is_made_before(story: dict[str, Any]) -> None:
    assert story["backup"] == b"SQLite format 3"


def test_after_the_upgrade_all_is_well(story: dict[str, Any]) -> None:
    assert (story["ready"], story["check"]) == ("ok", "the record is whole\n")


def test_the_old_release_goes_on_with_the_jobs_of_the_new_one(story: dict[str, Any]) -> None:
    assert "1.2.1 can use it" in story["back"]
    assert story["gone back"] == [1.0, 2.0]


def test_after_the_next_upgrade_nothing_is_lost(story: dict[str, Any]) -> None:
    assert story["again"] == [1.0, 2.0, 3.0]
    assert story["check again"] == "the record is whole\n"
    # Sixty jobs were there before.
    assert story["ids"] == [61, 62, 63]


def next_release(folder: Path) -> Path:
    """Make this release with another migration."""
    package = folder / "squash_api"
    shutil.copytree(Path(squash_api.__file__).parent, package, symlinks=True)
    versions = package / "record" / "versions.py"
    text = versions.read_text()
    assert f'\nVERSION = "{VERSION}"\n' in text
    versions.write_text(text.replace(f'\nVERSION = "{VERSION}"\n', '\nVERSION = "9001"\n'))
    migrations = package / "record" / "migrations" / "versions"
    (migrations / "v9001.py").write_text(NEXT.format(VERSION))
    return folder


def post_some(user: User, answers: list[int]) -> None:
    answers += [user.post(float(number)) for number in range(JOBS)]


@pytest.fixture(scope="module")
def rolling(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    folder = tmp_path_factory.mktemp("record")
    url = f"sqlite:///{folder / 'squash.db'}"
    codes = [
        code_of("2.1.0", tmp_path_factory.mktemp("old")),
        next_release(tmp_path_factory.mktemp("next")),
    ]
    old, new = (
        service_of(folder / name, code, SQUASH_DATABASE_URL=url)
        for name, code in zip(("old", "new"), codes, strict=True)
    )
    answers: list[list[int]] = [[], [], []]
    with old, User.of(old, is_new=True) as first, new, User.of(new) as second:
        both = zip((first, second), answers, strict=False)
        threads = [threading.Thread(target=post_some, args=pair) for pair in both]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        old.stop()
        # On the tables of the next release.
        old.start()
        post_some(first, answers[2])
        last = [given[-1] for given in answers]
        seen = [first.values(last), second.values(last)]
        check = new.run("record", "check").stdout
    return {"answers": answers, "seen": seen, "check": check}


def test_two_releases_on_one_record_both_answer_and_nothing_is_lost(
    rolling: dict[str, Any],
) -> None:
    ids = [job_id for given in rolling["answers"] for job_id in given]
    assert len(set(ids)) == 3 * JOBS
    assert sorted(ids) == list(range(1, 3 * JOBS + 1))
    assert rolling["check"] == "the record is whole\n"


def test_each_has_the_jobs_of_the_other(rolling: dict[str, Any]) -> None:
    assert rolling["seen"] == [[float(JOBS - 1)] * 3] * 2
