"""Two replicas of the service on one record: what is changed at one counts at the other.

Each has its own caches: of metrics, definitions, keys, passwords, names that are known, standings.
"""

import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import httpx
import pytest

from squash_api.app import create_app
from squash_api.errors import UnauthorizedError
from squash_api.site import Site
from tests.support.builders import make_settings
from tests.support.calls import PASSWORD, Calls, log_in
from tests.support.in_process import serving
from tests.support.site import job_document, wait_for

# What the limits below allow a user, and no more.
MOST = 3
WRONG = 6
# A key is remembered for a second.
SOON_S = 5.0


@dataclass(frozen=True)
class Replica:
    """A service in this process, and its parts."""

    client: httpx.Client
    site: Site

    def as_user(self, name: str) -> Calls:
        """Log in here, as a user who is registered if there is none of that name."""
        return log_in(self.client, name)

    def with_token(self, calls: Calls) -> Calls:
        """Call this replica with the token that another has given."""
        return Calls(self.client, calls.token)

    def post(self, calls: Calls, values: dict[str, float], unit: str = "mm", **meta: Any) -> int:
        """Post a job here, and return the status of the reply."""
        document = job_document(values, unit=unit, **meta)
        return self.with_token(calls)("POST", "/job", document).status_code


@pytest.fixture(scope="module")
def replicas(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Replica, Replica]]:
    folder = tmp_path_factory.mktemp("replicas")
    settings = make_settings(
        folder,
        new_metrics_per_day=MOST,
        new_tag_values_per_day=MOST,
        registrations_per_address=1000,
        registrations_per_hour=1000,
    )
    one, other = create_app(settings), create_app(settings)
    # Nobody has asked either for anything when the first change comes.
    with serving(one) as client, serving(other) as other_client:
        yield Replica(client, one.state.site), Replica(other_client, other.state.site)


@pytest.fixture
def name() -> str:
    """A name of this test's own, for a user and for a package."""
    return f"n{uuid.uuid4().hex[:12]}"


def admin_of(replica: Replica) -> Calls:
    """Log in as an admin."""
    names = {row.name for row in replica.site.accounts.list(after="", limit=1000)}
    if "root" not in names:
        replica.site.accounts.add("root", PASSWORD, role="admin")
    return replica.as_user("root")


def define(replica: Replica, calls: Calls, name: str, unit: str = "mm") -> None:
    document = {"unit": unit, "description": "Of a test."}
    reply = replica.with_token(calls)("PUT", f"/metric/{name}", document)
    if reply.status_code == 404:
        reply = replica.with_token(calls)("POST", f"/metric/{name}", document)
    assert reply.status_code in {200, 201}, reply.text


def limit(replica: Replica, calls: Calls, metric: str, most: float) -> None:
    document = {
        "metric": metric,
        "threshold": {"operator": "<=", "unit": "mm", "value": most},
        "tags": ["minimum"],
    }
    reply = replica.with_token(calls)("POST", f"/spec/{metric}.most", document)
    assert reply.status_code == 201, reply.text


def a_new_metric(one: Replica, other: Replica, name: str) -> None:
    """A value is judged by, and converted to the unit of, a metric that the other has defined."""
    calls, metric = admin_of(one), f"{name}.m"
    # It knows the metric without a unit, as another user's value has brought it.
    assert other.post(calls, {metric: 1.0}, unit="s") == 202
    define(one, calls, metric)
    reply = other.with_token(calls)("POST", "/job", job_document({metric: 2.0}, unit="m"))
    assert reply.status_code == 202
    found = other.client.get("/measurements", params={"metric": metric}).json()
    assert [row["value"] for row in found["measurements"]][-1:] == [2000.0]


def a_new_specification(one: Replica, other: Replica, name: str) -> None:
    """The next job at the other is judged by a specification, and its pages know it."""
    calls, metric = admin_of(one), f"{name}.m"
    define(one, calls, metric)
    assert other.post(calls, {metric: 1.0}) == 202
    limit(one, calls, metric, 0.5)
    assert other.client.get(f"/spec/{metric}.most").status_code == 200
    assert other.post(calls, {metric: 1.0}) == 202
    standings = other.client.get("/standings", params={"package": name}).json()
    assert "CRITICAL" in str(standings)


def a_withdrawn_definition(one: Replica, other: Replica, name: str) -> None:
    """A metric that is withdrawn at one is not defined at the other."""
    calls, metric = admin_of(one), f"{name}.m"
    define(one, calls, metric)
    assert other.client.get(f"/metric/{metric}").json()["name"] == metric
    assert one.with_token(calls)("DELETE", f"/metric/{metric}").status_code == 200
    reply = other.client.get(f"/metric/{metric}", headers={"Accept": "application/json"})
    assert reply.status_code == 404


def a_learned_unit(one: Replica, other: Replica, name: str) -> None:
    """A unit that a value has brought at one is that of the metric at the other."""
    calls, metric = one.as_user(name), f"{name}.m"
    assert one.post(calls, {metric: 1.0}, unit="mm") == 202
    assert other.post(calls, {metric: 1.0}, unit="m") == 202
    found = one.client.get("/measurements", params={"metric": metric}).json()
    assert [row["value"] for row in found["measurements"]] == [1.0, 1000.0]


def a_job(one: Replica, other: Replica, name: str) -> None:
    """A job that one has answered can be read at the other at once, its values too."""
    calls, metric = one.as_user(name), f"{name}.m"
    for number in range(MOST):
        reply = one.with_token(calls)("POST", "/job", job_document({metric: 1.0}, unit="mm"))
        job_id = reply.json()["id"]
        assert other.client.get(f"/job/{job_id}").status_code == 200
        found = other.client.get("/measurements", params={"metric": metric}).json()
        assert len(found["measurements"]) == number + 1


def a_deleted_job(one: Replica, other: Replica, name: str) -> None:
    """A job that one deletes is gone at the other, which has shown it."""
    calls, metric = one.as_user(name), f"{name}.m"
    kept, gone = (
        one.with_token(calls)("POST", "/job", job_document({metric: 1.0}, unit="mm")).json()["id"]
        for _ in range(2)
    )
    asked = {"metric": metric}
    shown = other.client.get("/measurements", params=asked).json()["measurements"]
    assert [row["job"] for row in shown] == [kept, gone]
    assert one.with_token(calls)("DELETE", f"/job/{gone}").status_code == 200
    shown = other.client.get("/measurements", params=asked).json()["measurements"]
    assert [row["job"] for row in shown] == [kept]


def the_same_job(one: Replica, other: Replica, name: str) -> None:
    """A job that one has is a repeat at the other."""
    calls = one.as_user(name)
    document = job_document({f"{name}.m": 1.0}, unit="mm")
    first = one.with_token(calls)("POST", "/job", document)
    again = other.with_token(calls)("POST", "/job", document)
    assert (first.status_code, again.status_code) == (202, 200)
    assert first.json()["id"] == again.json()["id"]


def a_revoked_key(one: Replica, other: Replica, name: str) -> None:
    """A key that one revokes is refused by the other within a second, although it knew it."""
    calls = one.as_user(name)
    asked = {"name": "ci", "scopes": ["job:write"]}
    made = one.with_token(calls)("POST", "/keys", asked).json()
    key = {"Authorization": f"Bearer {made['key']}"}

    def post() -> int:
        document = job_document({f"{name}.m": 1.0}, unit="mm")
        return other.client.post("/job", json=document, headers=key).status_code

    assert post() == 202
    assert one.with_token(calls)("DELETE", f"/keys/{made['id']}").status_code == 200
    wait_for(lambda: post() == 401, timeout_s=SOON_S)


def a_disabled_user(one: Replica, other: Replica, name: str) -> None:
    """A user whom one disables can neither post at the other nor log in there."""
    calls = other.as_user(name)
    assert other.post(calls, {f"{name}.m": 1.0}) == 202
    assert one.with_token(admin_of(one))("DELETE", f"/user/{name}").status_code == 200
    assert other.post(calls, {f"{name}.m": 1.0}) == 401
    credentials = {"username": name, "password": PASSWORD}
    assert other.client.post("/auth", json=credentials).status_code == 401


def another_role(one: Replica, other: Replica, name: str) -> None:
    """Whom one makes an admin is one at the other."""
    other.as_user(name)
    change = {"role": "admin"}
    assert one.with_token(admin_of(one))("PUT", f"/user/{name}", change).status_code == 200
    assert other.with_token(other.as_user(name))("GET", "/audit").status_code == 200


def another_password(one: Replica, other: Replica, name: str) -> None:
    """After a change at one, the other refuses the token, and the password that it remembers."""
    calls = other.as_user(name)
    one.site.accounts.set_password(name, f"{PASSWORD}, another")
    assert other.post(calls, {f"{name}.m": 1.0}) == 401
    credentials = {"username": name, "password": PASSWORD}
    assert other.client.post("/auth", json=credentials).status_code == 401
    credentials["password"] += ", another"
    assert other.client.post("/auth", json=credentials).status_code == 200


def an_ended_session(one: Replica, other: Replica, name: str) -> None:
    """A session that ends at one has ended at the other."""
    one.as_user(name)
    session = one.site.sessions.begin(one.site.accounts.get(name))
    seen = other.site.sessions.check(session)
    assert seen.account.name == name
    one.site.sessions.end(one.site.sessions.check(session))
    with pytest.raises(UnauthorizedError, match="Session has ended"):
        other.site.sessions.check(session)


def wrong_passwords(one: Replica, other: Replica, name: str) -> None:
    """Wrong passwords at both are counted together."""
    one.as_user(name)
    replies = [
        replica.client.post("/auth", json={"username": f"{name}x", "password": f"wrong {number}"})
        for number in range(WRONG)
        for replica in (one, other)
    ]
    assert {reply.status_code for reply in replies} == {401, 429}


def a_budget(one: Replica, other: Replica, name: str) -> None:
    """What a user has used up at one is used up at the other; what both bring counts once."""
    calls = one.as_user(name)
    tags = [f"{name}-{number}" for number in range(MOST + 1)]
    for tag in tags[:MOST]:
        assert one.post(calls, {f"{name}.m": 1.0}, instrument=tag) == 202
        assert other.post(calls, {f"{name}.m": 1.0}, instrument=tag) == 202
    assert other.post(calls, {f"{name}.m": 1.0}, instrument=tags[-1]) == 429
    assert one.post(calls, {f"{name}.m": 1.0}, instrument=tags[-1]) == 429


def the_audit_trail(one: Replica, other: Replica, name: str) -> None:
    """What is done at one is in the trail that the other shows."""
    one.as_user(name)
    shown = other.with_token(admin_of(other))("GET", "/audit", params={"action": "user"}).json()
    assert name in str(shown)


@pytest.mark.parametrize("is_swapped", [False, True])
@pytest.mark.parametrize(
    "check",
    [
        a_new_metric,
        a_new_specification,
        a_withdrawn_definition,
        a_learned_unit,
        a_job,
        a_deleted_job,
        the_same_job,
        a_revoked_key,
        a_disabled_user,
        another_role,
        another_password,
        an_ended_session,
        wrong_passwords,
        a_budget,
        the_audit_trail,
    ],
)
def test_what_is_changed_at_one_replica_counts_at_the_other(
    replicas: tuple[Replica, Replica],
    check: Callable[[Replica, Replica, str], None],
    name: str,
    *,
    is_swapped: bool,
) -> None:
    one, other = replicas[::-1] if is_swapped else replicas
    check(one, other, name)
