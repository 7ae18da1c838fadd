"""GitHub is told of runs: the state of a commit, and one comment that is edited."""

from collections.abc import Iterator
from typing import Any

import httpx
import pytest
from pydantic import SecretStr

from squash_api.delivery.github import FOLLOWED_NS, GitHubTeller
from squash_api.delivery.github_api import repository_of
from squash_api.record.record import Record
from squash_api.record.webhooks import GITHUB, Receiver, get_receiver
from tests.support.builders import make_body, measured, store_job
from tests.support.fake_github import TOKEN, FakeGitHub, Request, limited
from tests.support.made_alerts import open_alerts
from tests.support.told import ROOT, Told

HEAD, BASE, OTHER = "a" * 40, "b" * 40, "c" * 40
NAME = "lsst/afw"
URL = f"https://127.0.0.1/{NAME}.git"


class ToldGitHub(Told):
    """A record, a GitHub with a pull request, and what tells it."""

    def __init__(self, record: Record, github: FakeGitHub) -> None:
        super().__init__(record)
        self.github = github
        self.count = 0
        self.teller = self.another()
        # From now on.
        self.teller.step()

    def another(self, *repositories: str) -> GitHubTeller:
        return GitHubTeller(
            self.record,
            self.reader,
            url=self.github.url,
            token=SecretStr(TOKEN),
            repositories=repositories or (NAME,),
            squash_url=ROOT,
            clock=self.clock,
        )

    def job(self, *, run: str = "7", pipeline: str = "nightly", **meta: Any) -> int:
        """Store and derive a job of a run, received now."""
        self.count += 1
        env = {"ci_id": run, "ci_name": pipeline}
        job_id = store_job(
            self.record,
            asked_ns=self.clock.now_ns + self.count,
            received_ns=self.clock.now_ns,
            body=make_body(measured("p.a", 1.0), env=env, **meta),
            new_units={"p.a": "mmag"} if self.count == 1 else {},
        )
        self.deriver.catch_up()
        return job_id

    def commit(self, sha: str = HEAD, **meta: Any) -> int:
        return self.job(git_url=URL, git_sha=sha, **meta)

    def tell(self, *, after_s: float = 0.0) -> None:
        self.clock.go_on(after_s)
        self.teller.round()

    def row(self) -> Receiver:
        with self.record.read() as connection:
            found = get_receiver(connection, GITHUB)
        assert found is not None
        return found


@pytest.fixture
def github() -> Iterator[FakeGitHub]:
    made = FakeGitHub(commits={NAME: {HEAD, BASE}}, requests={NAME: [Request(12, HEAD, BASE)]})
    with made as server:
        yield server


@pytest.fixture
def told(record: Record, github: FakeGitHub) -> ToldGitHub:
    return ToldGitHub(record, github)


def test_a_run_is_pending_then_green_then_red_then_green_again(
    told: ToldGitHub, github: FakeGitHub
) -> None:
    job_id = told.commit()
    told.tell()
    assert github.newest == ("pending", "Jobs of this run are arriving")
    told.tell(after_s=61)
    assert github.newest == ("success", "No alert is open")
    first, second = open_alerts(
        told.record, {"detector": "1"}, {"detector": "2"}, job_id=job_id, opened_job_id=job_id
    )
    told.tell()
    assert github.newest == ("failure", "2 CRITICAL")
    told.acknowledge(first)
    told.tell()
    assert github.newest == ("failure", "1 CRITICAL")
    told.resolve(second)
    told.tell()
    assert github.newest == ("success", "1 alert, somebody has each of them")
    told.tell()
    name, sha, document = github.states[-1]
    assert (name, sha, document["context"]) == (NAME, HEAD, "squash/nightly")
    assert document["target_url"] == f"{ROOT}/job/{job_id}"
    assert len(github.states) == 5


def test_the_request_has_one_comment_that_is_edited(told: ToldGitHub, github: FakeGitHub) -> None:
    job_id = told.commit()
    told.tell(after_s=61)
    (alert_id,) = open_alerts(
        told.record, {"detector": "1"}, job_id=job_id, opened_job_id=job_id, value=9.5
    )
    told.tell()
    (body,) = github.bodies()
    assert f"[CRITICAL]({ROOT}/alert/{alert_id})" in body
    assert "`detector 1: PA1 = 9.50 mmag, must be <= 8 (minimum)`" in body
    told.acknowledge(alert_id, note="@everybody | `look`")
    told.tell()
    (body,) = github.bodies()
    assert "`ada has it: @everybody \u00a6 'look'`" in body


def test_a_comment_that_somebody_deleted_is_made_anew(told: ToldGitHub, github: FakeGitHub) -> None:
    job_id = told.commit()
    told.tell(after_s=61)
    github.comments.clear()
    open_alerts(told.record, job_id=job_id)
    told.tell()
    assert len(github.bodies()) == 1


def test_a_comment_that_was_made_by_a_process_that_died_is_found(
    told: ToldGitHub, github: FakeGitHub
) -> None:
    others = {number: (NAME, 12, f"comment {number}") for number in range(150)}
    github.comments.update(others)
    github.comments[500] = (NAME, 12, f"<!-- squash {ROOT} -->\nold")
    told.commit()
    told.tell(after_s=61)
    assert len(github.comments) == 151
    assert "No alert is open" in github.comments[500][2]


def test_pipelines_of_one_commit_share_the_comment(told: ToldGitHub, github: FakeGitHub) -> None:
    told.commit(pipeline="one")
    told.commit(pipeline="two", run="8")
    told.tell(after_s=61)
    (body,) = github.bodies()
    assert "`one run 7`" in body
    assert "`two run 8`" in body
    contexts = {document["context"] for _, _, document in github.states}
    assert contexts == {"squash/one", "squash/two"}


def test_closed_requests_and_other_commits_get_no_comment(
    told: ToldGitHub, github: FakeGitHub
) -> None:
    github.requests[NAME] = [Request(1, HEAD, BASE, "closed"), Request(2, OTHER, HEAD)]
    told.commit()
    told.tell(after_s=61)
    assert github.bodies() == []
    assert github.newest[0] == "success"


@pytest.mark.parametrize("kept", ["is_trial", "silenced"])
def test_what_nobody_is_told_of_turns_nothing_red(
    told: ToldGitHub, github: FakeGitHub, kept: str
) -> None:
    job_id = told.commit()
    if kept == "silenced":
        told.silence("demo")
    open_alerts(told.record, job_id=job_id, is_trial=kept == "is_trial")
    told.tell(after_s=61)
    assert github.newest == ("success", "No alert is open")


def test_alerts_of_other_runs_turn_nothing_red(told: ToldGitHub, github: FakeGitHub) -> None:
    told.commit()
    other = told.job(run="6")
    open_alerts(told.record, job_id=other, opened_job_id=other)
    told.tell(after_s=61)
    assert github.newest == ("success", "No alert is open")


def packages(**shas: str) -> dict[str, Any]:
    return {
        name: {"name": name, "git_sha": sha, "git_url": f"https://127.0.0.1/lsst/{name}"}
        for name, sha in shas.items()
    }


def test_packages_that_changed_are_told_where_jobs_name_no_commit(
    told: ToldGitHub, github: FakeGitHub
) -> None:
    told.job(run="6", packages=packages(afw=BASE, ip_isr=BASE))
    told.clock.go_on(1)
    told.job(run="7", packages=packages(afw=HEAD, ip_isr=OTHER))
    told.tell(after_s=61)
    assert {(name, sha) for name, sha, _ in github.states} == {(NAME, HEAD)}


def test_a_base_that_was_measured_with_other_packages_is_a_warning(
    told: ToldGitHub, github: FakeGitHub
) -> None:
    told.commit(BASE, run="5", packages=packages(afw=BASE, ip_isr=BASE, utils=BASE))
    told.clock.go_on(1)
    told.job(run="6", packages=packages(afw=OTHER, ip_isr=HEAD, utils=HEAD))
    told.clock.go_on(1)
    told.commit(HEAD, run="7", packages=packages(afw=HEAD, ip_isr=OTHER, utils=BASE))
    told.tell(after_s=61)
    (body,) = github.bodies()
    assert "1 other package differed when the base of this request was measured" in body
    assert "`ip_isr bbbbbbb to ccccccc`" in body
    assert "utils" not in body


def test_without_the_base_the_run_before_is_compared(told: ToldGitHub, github: FakeGitHub) -> None:
    told.job(run="6", packages=packages(afw=OTHER, ip_isr=BASE))
    told.clock.go_on(1)
    told.commit(HEAD, run="7", packages=packages(afw=HEAD, ip_isr=OTHER))
    told.tell(after_s=61)
    (body,) = github.bodies()
    assert "differed in the run before; the base of this request was not measured" in body


def test_repositories_that_are_not_named_are_never_asked_for(
    told: ToldGitHub, github: FakeGitHub
) -> None:
    github.commits["lsst/other"] = {HEAD}
    told.job(git_url="https://127.0.0.1/lsst/other", git_sha=HEAD)
    told.job(git_url="https://elsewhere.example/lsst/afw", git_sha=HEAD)
    told.job(git_url=URL, git_sha="main")
    told.tell(after_s=61)
    assert github.asked == []
    told.teller = told.another("lsst/*")
    told.job(git_url="https://127.0.0.1/lsst/other", git_sha=HEAD)
    told.tell(after_s=61)
    assert {name for name, _, _ in github.states} == {"lsst/other"}


def test_a_commit_that_github_does_not_know_holds_up_no_other(
    told: ToldGitHub, github: FakeGitHub, capfd: pytest.CaptureFixture[str]
) -> None:
    told.commit(OTHER, run="6", pipeline="a")
    told.commit(HEAD, run="7", pipeline="b")
    told.tell(after_s=61)
    assert {sha for _, sha, _ in github.states} == {HEAD}
    assert told.row().trouble is None
    told.tell(after_s=600)
    asked = [path for _, path in github.asked if OTHER in path]
    assert len(asked) == 1
    assert TOKEN not in "".join(capfd.readouterr())


@pytest.mark.parametrize(
    ("answer", "pause_s"),
    [
        (lambda _: limited(429, retry_after="90"), 90),
        (lambda _: limited(403, "You have exceeded a secondary rate limit", retry_after="30"), 30),
        (lambda _: limited(403, "You have exceeded a secondary rate limit"), 60),
        (
            lambda now_s: limited(
                403, x_ratelimit_remaining="0", x_ratelimit_reset=str(int(now_s) + 200)
            ),
            200,
        ),
    ],
)
def test_a_limit_is_obeyed_and_then_it_goes_on(
    told: ToldGitHub, github: FakeGitHub, answer: Any, pause_s: int
) -> None:
    told.commit()
    told.clock.go_on(61)
    github.trouble = lambda _: answer(told.clock.now_ns // 10**9)
    told.tell()
    github.trouble = lambda _: None
    told.tell(after_s=pause_s - 5)
    assert github.states == []
    told.tell(after_s=7)
    assert github.newest[0] == "success"


def test_a_wrong_token_is_said_and_not_repeated(
    told: ToldGitHub, github: FakeGitHub, capfd: pytest.CaptureFixture[str]
) -> None:
    told.commit()
    github.trouble = lambda _: httpx.Response(401, json={"message": "Bad credentials"})
    told.tell(after_s=61)
    assert told.row().trouble == "401: Bad credentials (runbook: github-refused)"
    told.tell(after_s=600)
    assert len(github.asked) == 1
    assert TOKEN not in "".join(capfd.readouterr())


def test_a_renamed_repository_is_followed_and_another_host_is_not(
    told: ToldGitHub, github: FakeGitHub
) -> None:
    github.commits["lsst/afw2"] = github.commits.pop(NAME)
    github.renamed[NAME] = "lsst/afw2"
    told.commit()
    told.tell(after_s=61)
    assert github.states[-1][0] == "lsst/afw2"

    with FakeGitHub(commits={NAME: {BASE}}) as other:
        github.trouble = lambda request: httpx.Response(
            307, headers={"Location": other.url + request.url.path}
        )
        told.commit(BASE, run="8", pipeline="other")
        told.tell(after_s=61)
        # The token went nowhere else.
        assert other.asked == []


def test_a_github_that_is_away_is_told_how_things_are_then(
    told: ToldGitHub, github: FakeGitHub
) -> None:
    job_id = told.commit()
    github.trouble = lambda _: httpx.Response(502, text="<html>")
    told.tell(after_s=61)
    alert_ids = open_alerts(told.record, job_id=job_id)
    told.tell(after_s=60)
    told.resolve(*alert_ids)
    github.trouble = lambda _: None
    told.tell(after_s=60)
    assert [document["state"] for _, _, document in github.states] == ["success"]
    assert told.row().trouble is None


def test_several_processes_tell_once(told: ToldGitHub, github: FakeGitHub) -> None:
    other = told.another()
    told.commit()
    told.tell(after_s=61)
    other.round()
    assert len(github.states) == 1
    assert len(github.comments) == 1


def test_a_run_is_followed_for_some_days(told: ToldGitHub, github: FakeGitHub) -> None:
    job_id = told.commit()
    told.tell(after_s=61)
    told.clock.go_on(FOLLOWED_NS / 10**9)
    open_alerts(told.record, job_id=job_id)
    told.tell()
    assert len(github.states) == 1


@pytest.mark.sqlite
@pytest.mark.parametrize(
    ("git_url", "name"),
    [
        ("https://github.com/lsst/afw", "lsst/afw"),
        ("https://github.com/LSST/afw.git", "lsst/afw"),
        ("https://www.github.com/lsst/afw/", "lsst/afw"),
        ("https://x-access-token:t@github.com/lsst/afw", "lsst/afw"),
        ("git@github.com:lsst/afw.git", "lsst/afw"),
        ("ssh://git@github.com/lsst/afw.git", "lsst/afw"),
        ("https://gitlab.com/lsst/afw", None),
        ("https://github.com.evil.example/lsst/afw", None),
        ("https://evil.example/github.com/lsst/afw", None),
        ("https://github.com/lsst", None),
        ("https://github.com/lsst/afw/../../x", None),
        ("lsst/afw", None),
        ("", None),
    ],
)
def test_a_repository_is_read_from_any_form_of_its_address(git_url: str, name: str | None) -> None:
    assert repository_of(git_url, "https://api.github.com") == name


@pytest.mark.sqlite
def test_github_enterprise_has_its_own_host() -> None:
    api = "https://github.example.org/api/v3"
    assert repository_of("git@github.example.org:lsst/afw.git", api) == "lsst/afw"
    assert repository_of("https://github.com/lsst/afw", api) is None
