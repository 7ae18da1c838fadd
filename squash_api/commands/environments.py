"""Where a job ran, as its metadata tell it under `env`."""

import getpass
import os
from collections.abc import Mapping
from datetime import datetime
from typing import Any

_SIGNS_OF_CI = (
    "CI",
    "JENKINS_URL",
    "BUILD_ID",
    "GITHUB_ACTIONS",
    "GITLAB_CI",
    "BUILDKITE",
    "CIRCLECI",
    "TEAMCITY_VERSION",
    "TF_BUILD",
    "TRAVIS",
)
_UNKNOWN_URL = "https://example.com"


def is_ci(variables: Mapping[str, str]) -> bool:
    """Tell whether the environment variables are those of a continuous-integration run."""
    return any(variables.get(name, "").lower() not in ("", "0", "false") for name in _SIGNS_OF_CI)


def environment_of(name: str, variables: Mapping[str, str], *, now: datetime) -> dict[str, Any]:
    """Return the environment that a job carries, from the variables of the process.

    Source: the environments of lsst.verify's `dispatch_verify.py`; `local` is our own.
    """

    def either(variable: str, default: str = "unknown") -> str:
        return variables.get(variable, default)

    if name == "local":
        person = _person()
        return {"env_name": name, "user": person, "run_id": f"{person}-{now:%Y%m%dT%H%MZ}"}
    if name == "ldf":
        return {
            "env_name": name,
            "dataset": either("DATASET"),
            "dataset_repo_url": either("DATASET_REPO_URL", _UNKNOWN_URL),
            "run_id": either("RUN_ID"),
            "run_id_url": either("RUN_ID_URL", _UNKNOWN_URL),
            "version_tag": either("VERSION_TAG"),
            "date": now.isoformat(),
        }
    return {
        "env_name": name,
        "ci_id": either("BUILD_ID"),
        "ci_name": either("PRODUCT"),
        "ci_dataset": either("dataset"),
        "ci_label": either("label"),
        "ci_refs": either("refs"),
        "ci_url": either("BUILD_URL", _UNKNOWN_URL),
        "status": 0,
        "date": now.isoformat(),
    }


def _person() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # a container whose user has no name
        return f"uid{os.getuid()}"
