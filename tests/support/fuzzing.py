"""How many examples the tests try that make up requests, and by whom they are sent."""

import os
import sys
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import httpx
from hypothesis import HealthCheck, Phase, settings

from tests.support.calls import PASSWORD
from tests.support.reliability import note

FACTOR = int(os.environ.get("SQUASH_TEST_FUZZ", "1"))
"""How many times as many examples are tried as in `make test`."""

MANY: Mapping[str, int] = {"registrations_per_address": 10**6, "registrations_per_hour": 10**6}
"""Settings with which nobody has to wait."""

Role = Mapping[str, str]
"""The headers by which somebody is known."""


def examples(number: int) -> settings:
    """Return how to try this many examples: always the same ones, but in the soak others too.

    What a service answers depends on what it has been sent before, so nothing is tried again.
    """
    return settings(
        max_examples=number * FACTOR,
        deadline=None,
        database=None,
        derandomize=FACTOR == 1,
        phases=[Phase.explicit, Phase.generate],
        suppress_health_check=list(HealthCheck),
    )


def roles(client: httpx.Client) -> dict[str, Role]:
    """Log in to a service on the record of 1.2.1, as everybody that a request may come from."""
    stranger = {"Authorization": "Bearer sq_0123456789ab_of_nobody"}
    found: dict[str, Role] = {"nobody": {}, "stranger": stranger}
    for role, name in (("user", "ada"), ("admin", "root")):
        reply = client.request("POST", "/auth", json={"username": name, "password": PASSWORD})
        assert reply.status_code == 200, reply.text
        found[role] = {"Authorization": f"JWT {reply.json()['access_token']}"}
    key = {"name": "of tests", "scopes": ["job:write"], "namespaces": ["p", "camera"]}
    reply = client.request("POST", "/keys", json=key, headers=found["user"])
    assert reply.status_code == 201, reply.text
    return found | {"key": {"Authorization": f"Bearer {reply.json()['key']}"}}


@contextmanager
def counted(subject: str) -> Iterator[Counter[int]]:
    """Count the statuses of answers, and note the counts for `docs/reliability.md`."""
    counts: Counter[int] = Counter()
    yield counts
    by_status = {f"{status}": count for status, count in sorted(counts.items())}
    sys.stdout.write(f"\n{subject}: {counts.total()} answers, {by_status}\n")
    note(subject, answers=counts.total(), by_status=by_status)
