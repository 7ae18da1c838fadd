"""What jobs and their users may bring: new names, jobs and bytes."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest

from squash_api.record.storing import JobStore
from squash_api.settings import Settings
from tests.support.builders import make_body, measured
from tests.support.calls import Calls, log_in
from tests.support.in_process import service
from tests.support.records import in_record

JSON = {"Content-Type": "application/json"}


@contextmanager
def limited(folder: Path, **limits: Any) -> Iterator[httpx.Client]:
    with service(folder, **limits) as client:
        yield client


def post(calls: Calls, *names: str, **meta: Any) -> Any:
    body = make_body(*(measured(name) for name in names), **meta)
    return calls("POST", "/job", content=body, headers=JSON)


def number_of_jobs(folder: Path) -> int:
    ((found,),) = in_record(folder, "SELECT count(*) FROM job")
    return int(found)


BUDGETS: dict[str, tuple[dict[str, int], Any, str]] = {
    "metrics": (
        {"new_metrics_per_day": 3},
        lambda number: ([f"p.m{number}"], {}),
        "new metrics",
    ),
    "tag values": (
        {"new_tag_values_per_day": 3},
        lambda number: (["p.a"], {"filter_name": f"f{number}"}),
        "new values of the tag `filter`",
    ),
    "metadata": (
        {"new_metadata_per_day": 3},
        lambda number: (["p.a"], {f"key{number}": 1}),
        "new metadata keys",
    ),
    "series": (
        {"new_series_per_day": 6},
        lambda number: (["p.a", "p.b"], {"detector": number}),
        "new series",
    ),
    "jobs": ({"jobs_per_hour": 3}, lambda _: (["p.a"], {}), "jobs"),
    "bytes": ({"bytes_per_day": 400}, lambda _: (["p.a"], {"note": "x" * 20}), "bytes of jobs"),
}


@pytest.mark.parametrize(("limits", "make", "words"), BUDGETS.values(), ids=BUDGETS)
def test_a_user_is_refused_by_name_beyond_a_limit_and_others_are_not(
    tmp_path: Path, limits: dict[str, int], make: Any, words: str
) -> None:
    with limited(tmp_path, **limits) as client:
        ada, bob = log_in(client, "ada"), log_in(client, "bob")
        for number in range(3):
            names, meta = make(number)
            assert post(ada, *names, **meta).status_code == 202
        names, meta = make(3)
        refused = post(ada, *names, **meta)
        assert (refused.status_code, refused.json()["code"]) == (429, "over_limit")
        assert f"Too many {words}" in refused.json()["message"]
        assert f"SQUASH_{next(iter(limits)).upper()}" in refused.json()["message"]
        assert 0 < int(refused.headers["Retry-After"]) <= 86_401
        assert number_of_jobs(tmp_path) == 3
        # What somebody else has used up counts for nobody else.
        assert post(bob, *names, **meta).status_code == 202


@pytest.mark.parametrize("kind", ["metrics", "tag values", "metadata", "series"])
def test_what_is_known_costs_nobody_anything(tmp_path: Path, kind: str) -> None:
    limits, make, _ = BUDGETS[kind]
    with limited(tmp_path, **limits) as client:
        ada = log_in(client, "ada")
        for number in (0, 1, 2, 0, 1, 2, 2, 1):
            names, meta = make(number)
            assert post(ada, *names, **meta).status_code == 202


@pytest.mark.parametrize("kind", BUDGETS)
def test_limits_are_counted_in_the_record_by_all_processes(tmp_path: Path, kind: str) -> None:
    limits, make, _ = BUDGETS[kind]
    for number in range(4):
        # Each time another process: nothing is left in memory.
        with limited(tmp_path, **limits) as client:
            names, meta = make(number)
            reply = post(log_in(client, "ada"), *names, **meta)
        assert reply.status_code == (202 if number < 3 else 429), reply.text


@pytest.mark.parametrize("kind", BUDGETS)
def test_a_refused_job_has_used_nothing(tmp_path: Path, kind: str) -> None:
    limits, make, _ = BUDGETS[kind]
    with limited(tmp_path, **limits) as client:
        ada = log_in(client, "ada")
        for number in range(3):
            # With it comes a second new name that is over the limit.
            assert ada("POST", "/job?strict=true", content=b"[]", headers=JSON).status_code == 422
            names, meta = make(number)
            assert post(ada, *names, **meta).status_code == 202


@pytest.mark.parametrize(
    ("limits", "names", "meta", "words"),
    [
        ({"new_metrics_per_job": 5}, [f"p.m{number}" for number in range(6)], {}, "6 metrics"),
        ({"metadata_per_job": 5}, ["p.a"], {f"k{number}": 1 for number in range(6)}, "5 metadata"),
        (
            {"metadata_per_job": 5},
            ["p.a"],
            {"a": {"b": {"c": {"d": {"e": {"f": 1}}}}}},
            "5 metadata",
        ),
    ],
)
def test_one_job_may_not_bring_too_much(
    tmp_path: Path, limits: dict[str, int], names: list[str], meta: dict[str, Any], words: str
) -> None:
    with limited(tmp_path, **limits) as client:
        reply = post(log_in(client, "ada"), *names, **meta)
        assert (reply.status_code, reply.json()["detail"][0]["type"]) == (422, "too_many")
        assert words in reply.json()["message"]
        assert number_of_jobs(tmp_path) == 0


def test_nine_hundred_thousand_metadata_keys_are_refused(tmp_path: Path) -> None:
    with service(tmp_path) as client:
        reply = post(log_in(client, "ada"), "p.a", **{f"k{number}": 1 for number in range(900_000)})
        assert reply.status_code == 422


def test_a_night_of_rubin_is_within_the_limits(tmp_path: Path) -> None:
    """189 detectors, 30 metrics and 1000 visits; after the first visits nothing is new."""
    metrics = [f"p.m{number}" for number in range(30)]
    defaults = Settings.model_fields
    series = 189 * len(metrics) * 6
    assert series < defaults["new_series_per_day"].default
    with service(tmp_path, jobs_per_hour=0) as client:
        ada = log_in(client, "ada")
        for visit in range(2):
            for detector in range(189):
                reply = post(
                    ada, *metrics, detector=detector, visit=visit, band="r", instrument="LSSTCam"
                )
                assert reply.status_code == 202, reply.text
    used: dict[str, int] = dict(in_record(tmp_path, "SELECT kind, count FROM usage"))
    assert used["series"] == 189 * 30
    assert used["tag:detector"] == 189
    assert used["metrics"] == 30


def test_the_first_job_of_a_combination_goes_the_whole_way_and_the_next_the_short_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = []
    inner = JobStore.whole

    def noted(self: JobStore, connection: Any, items: Any, /) -> Any:
        whole.append(len(items))
        return inner(self, connection, items)

    monkeypatch.setattr(JobStore, "whole", noted)
    with service(tmp_path) as client:
        ada = log_in(client, "ada")
        for number in range(4):
            post(ada, "p.a", detector=1, seeing=0.7 + number, note=f"n{number}", list=[number])
        assert len(whole) == 1
        post(ada, "p.a", detector=2, seeing=0.7)
        assert len(whole) == 2
