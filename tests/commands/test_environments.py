from datetime import UTC, datetime

import pytest

from squash_api.commands.dispatch import environment_of, is_ci

NOW = datetime(2026, 11, 22, 12, 3, 4, 567890, tzinfo=UTC)


@pytest.mark.parametrize("name", ["CI", "JENKINS_URL", "BUILD_ID", "GITHUB_ACTIONS"])
def test_ci_is_told_by_its_variables(name: str) -> None:
    assert is_ci({name: "true"})


@pytest.mark.parametrize("variables", [{}, {"CI": ""}, {"CI": "false"}, {"HOME": "/root"}])
def test_a_shell_is_not_ci(variables: dict[str, str]) -> None:
    assert not is_ci(variables)


def test_a_local_run_carries_the_user_and_a_run_id(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LOGNAME", "vera")
    assert environment_of("local", {}, now=NOW) == {
        "env_name": "local",
        "user": "vera",
        "run_id": "vera-20261122T1203Z",
    }


def test_a_jenkins_run_carries_its_variables() -> None:
    variables = {
        "BUILD_ID": "904",
        "PRODUCT": "validate_drp",
        "dataset": "cfht",
        "label": "centos-7",
        "refs": "main w_2026_47",
        "BUILD_URL": "https://ci.example/904",
    }
    assert environment_of("jenkins", variables, now=NOW) == {
        "env_name": "jenkins",
        "ci_id": "904",
        "ci_name": "validate_drp",
        "ci_dataset": "cfht",
        "ci_label": "centos-7",
        "ci_refs": "main w_2026_47",
        "ci_url": "https://ci.example/904",
        "status": 0,
        "date": "2026-11-22T12:03:04.567890+00:00",
    }


def test_what_a_data_facility_does_not_say_is_unknown() -> None:
    assert environment_of("ldf", {"RUN_ID": "w_47"}, now=NOW) == {
        "env_name": "ldf",
        "dataset": "unknown",
        "dataset_repo_url": "https://example.com",
        "run_id": "w_47",
        "run_id_url": "https://example.com",
        "version_tag": "unknown",
        "date": "2026-11-22T12:03:04.567890+00:00",
    }
