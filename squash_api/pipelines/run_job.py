"""The job of a run: what running a command took, and the tail of its output.

What the command measured itself is sent with it, in the same run.
"""

import getpass
import os
import re
import shlex
import socket
import unicodedata
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import PurePath
from signal import Signals
from typing import Any
from uuid import uuid4

from squash_api.pipelines.running import Ended
from squash_api.schema.names import RUN_ID, RUN_URL, Schema
from squash_api.wires.data_id import data_id_metadata

LOG = "log"
"""The name of the blob with the tail of the output; the page of a job shows it as text."""

RUN_VARIABLE = "SQUASH_RUN_ID"
"""The variable by which a command learns its run; a run inside it is the same one."""

_MIB = 2**20
_CI: Mapping[str, tuple[str, tuple[str, ...], tuple[str, ...]]] = {
    "RUN_ID": ("ldf", ("RUN_ID_URL",), ("PIPELINE",)),
    "BUILDKITE_BUILD_ID": ("buildkite", ("BUILDKITE_BUILD_URL",), ("BUILDKITE_PIPELINE_SLUG",)),
    "CI_PIPELINE_ID": ("gitlab", ("CI_PIPELINE_URL",), ("CI_PROJECT_NAME",)),
    "CIRCLE_WORKFLOW_ID": ("circleci", ("CIRCLE_BUILD_URL",), ("CIRCLE_PROJECT_REPONAME",)),
    "GITHUB_RUN_ID": ("github", (), ("GITHUB_WORKFLOW",)),
    "TRAVIS_BUILD_ID": ("travis", ("TRAVIS_BUILD_WEB_URL",), ("TRAVIS_REPO_SLUG",)),
    "BUILD_BUILDID": ("azure", (), ("BUILD_DEFINITIONNAME",)),
    "BUILD_ID": ("jenkins", ("BUILD_URL",), ("PRODUCT", "JOB_NAME")),
    "BUILD_NUMBER": ("teamcity", (), ("TEAMCITY_BUILDCONF_NAME",)),
}
"""By the variable with the run of a CI: the CI, and the variables with its page and pipeline."""

# What starts another program, which then names the pipeline.
_STARTERS = re.compile(r"(python|pypy|perl|ruby|node|bash|dash|sh|zsh|ksh|env|nice|time)[\d.]*")
_NO_NAME = frozenset({"unknown", ""})
_ESCAPES = re.compile(
    r"\x1b(?:\[[0-?]*[ -/]*[@-~]|[\]PX^_].*?(?:\x07|\x1b\\)|[ -/]*[0-~])", re.DOTALL
)
_SECRET_NAMES = re.compile(r"KEY|TOKEN|SECRET|PASSW|CREDENTIAL", re.IGNORECASE)
_SECRET_OPTION = re.compile(
    r"(?i)(--?[\w-]*(?:password|passwd|secret|token|api-?key)(?:=|\s+)|"
    # Without the @ it is the port.
    r"://[^/\s:@]*:(?=[^\s'@]+@))([^\s'@]+)"
)
_SHORTEST_SECRET = 6
_HIDDEN = "***"
_MOST_LETTERS = 4000


def run_environment(
    words: Sequence[str],
    variables: Mapping[str, str],
    *,
    now: datetime,
    run_id: str | None = None,
    pipeline: str | None = None,
) -> dict[str, Any]:
    """Make the environment of a run's jobs: that of the CI, or else a local one of its own.

    `run_id` and `pipeline` are those that were asked for. The pipeline is else that of the CI, or
    the name of the command.
    """
    env: dict[str, Any] = {"env_name": "local", "user": _person()}
    found = next((name for name in _CI if variables.get(name, "") not in _NO_NAME), None)
    if run_id is None and RUN_VARIABLE in variables:
        env[RUN_ID] = variables[RUN_VARIABLE]
    elif run_id is None and found is not None:
        name, pages, names = _CI[found]
        env = {"env_name": name, RUN_ID: variables[found]}
        url = _first(variables, pages) or _page_at_github(name, variables)
        env |= {RUN_URL: url} if url else {}
        pipeline = pipeline or _first(variables, names)
    else:
        # Two runs may begin in one second.
        env[RUN_ID] = run_id or f"{env['user']}-{now:%Y%m%dT%H%M%SZ}-{uuid4().hex[:6]}"
    return {**env, "pipeline": pipeline or pipeline_of(words)}


def is_made_up(env: Mapping[str, Any], variables: Mapping[str, str]) -> bool:
    """Whether nothing gave the run its name, so that what it measured may."""
    return env["env_name"] == "local" and RUN_VARIABLE not in variables


def _first(variables: Mapping[str, str], names: Iterable[str]) -> str | None:
    return next((text for name in names if (text := variables.get(name, ""))), None)


def _page_at_github(name: str, variables: Mapping[str, str]) -> str | None:
    parts = [variables.get(f"GITHUB_{key}", "") for key in ("SERVER_URL", "REPOSITORY", "RUN_ID")]
    return "{}/{}/actions/runs/{}".format(*parts) if name == "github" and all(parts) else None


def _person() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # a container whose user has no name
        return f"uid{os.getuid()}"


def pipeline_of(words: Sequence[str]) -> str:
    """Name a pipeline after its command, or after the script that it runs."""
    names = [PurePath(word).name for word in words if not word.startswith("-")]
    for word, name in zip((word for word in words if not word.startswith("-")), names, strict=True):
        if name and not _STARTERS.fullmatch(name) and re.fullmatch(r"[\w./~+-]+", word):
            return name.removesuffix(".py").removesuffix(".sh") or name
    return names[0] if names and names[0] else "run"


def run_document(
    words: Sequence[str],
    ended: Ended,
    env: Mapping[str, Any],
    *,
    metadata: Mapping[str, str],
    variables: Mapping[str, str],
) -> dict[str, Any]:
    """Make the document of a run's own job, ready to be sent, also twice.

    `metadata` are further ones, by the names of a data id. What looks like a secret in the command
    or its output is left out: values of variables that are named so, and of such options.
    """
    log = without_secrets(log_text(ended.tail, total=ended.output_bytes), variables)
    blobs = [_log_blob(log, ended.output_bytes)] if log else []
    command = without_secrets(shlex.join(words), variables)
    meta = {
        **data_id_metadata({key: text for key, text in metadata.items() if key != "run"}),
        "command": _SECRET_OPTION.sub(rf"\1{_HIDDEN}", command)[:_MOST_LETTERS],
        "host": socket.gethostname(),
        "began": _iso(ended.began_ns),
        "ended": _iso(ended.ended_ns),
        **({"signal": Signals(ended.signal).name} if ended.signal else {}),
        **({"problem": ended.problem} if ended.problem else {}),
        "env": {**env, "date": _iso(ended.ended_ns)},
    }
    measurements = [
        {
            "metric": f"run.{name}",
            "identifier": uuid4().hex,
            "value": value,
            "unit": unit,
            "blob_refs": [blob["identifier"] for blob in blobs],
        }
        for name, (value, unit) in _values(ended).items()
        if value is not None
    ]
    return {"measurements": measurements, "blobs": blobs, "meta": meta}


def _values(ended: Ended) -> dict[str, tuple[float | None, str]]:
    """Return what the run took, with units, by the name of the metric."""
    return {
        "exit_status": (ended.status, ""),
        "wall_time": (ended.wall_s, "s"),
        "cpu_time": (ended.cpu_s, "s"),
        "peak_memory": (ended.peak_bytes and ended.peak_bytes / _MIB, "MiB"),
    }


def _log_blob(log: str, output_bytes: int) -> dict[str, Any]:
    tail = {
        "value": log,
        "unit": "",
        "label": "Tail of the output",
        "description": f"The last of {output_bytes} bytes that the command wrote.",
    }
    return {"identifier": uuid4().hex, "name": LOG, "data": {"tail": tail}}


def joined(document: Mapping[str, Any], env: Mapping[str, Any], *, date: str) -> dict[str, Any]:
    """Add to a document what it does not say itself: its run, its environment and its date."""
    meta = dict(document["meta"])
    own = meta.get("env") or {}
    if not isinstance(own, Mapping):
        return {**document, "meta": meta}  # which the service refuses, with a reason
    run_id, pipeline = named(document)
    added = dict(env) if own.keys() <= {"date"} else {}
    for key, is_said in ((RUN_ID, run_id), ("pipeline", pipeline)):
        added.pop(key, None)
        if not is_said:
            added[key] = env[key]
    if run_id or "run_url" not in env:
        added.pop(RUN_URL, None)
    else:
        added[RUN_URL] = env[RUN_URL]
    if "date" not in meta:
        added["date"] = date
    meta["env"] = {**added, **own}
    return {**document, "meta": meta}


def named(document: Mapping[str, Any]) -> tuple[str | None, str | None]:
    """Return the run and the pipeline that a document names."""
    context = Schema().context(document["meta"])
    run_id = context.fields.get(RUN_ID)
    return (run_id if isinstance(run_id, str) else None), context.tags.get("pipeline")


def adopted(env: Mapping[str, Any], documents: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Give a run whose name was made up the one that all its documents have, and the pipeline."""
    runs, pipelines = (
        {text for text in found if text is not None}
        for found in zip(*(named(document) for document in documents), strict=True)
    )
    changed = dict(env)
    if len(runs) == 1:
        changed[RUN_ID] = runs.pop()
    if len(pipelines) == 1:
        changed["pipeline"] = pipelines.pop()
    return changed


def log_text(tail: bytes, *, total: int) -> str:
    """Make text of the tail of an output, as a terminal would show it in the end.

    Colours are left out, and what a progress bar has overwritten. A first line of which the
    beginning is missing is left out too.
    """
    text = _ESCAPES.sub("", tail.decode("utf-8", "replace"))
    lines = [line.rstrip("\r").rpartition("\r")[2] for line in text.split("\n")]
    if total > len(tail):
        # A line that has no end is shown, although it has no beginning either.
        lines[: len(lines) > 1] = [f"[{total - len(tail)} bytes before are not kept]"]
    return "\n".join(
        "".join(c for c in line if c == "\t" or unicodedata.category(c) not in ("Cc", "Cs"))
        for line in lines
    ).rstrip("\n")


def without_secrets(text: str, variables: Mapping[str, str]) -> str:
    """Leave out the values of variables that are named like secrets."""
    secrets = {
        value.strip()
        for name, value in variables.items()
        if _SECRET_NAMES.search(name) and len(value.strip()) >= _SHORTEST_SECRET
    }
    # A longer one may begin like a shorter one.
    for secret in sorted(secrets, key=len, reverse=True):
        text = text.replace(secret, _HIDDEN)
    return text


def _iso(time_ns: int) -> str:
    return datetime.fromtimestamp(time_ns / 1e9, UTC).isoformat(timespec="milliseconds")
