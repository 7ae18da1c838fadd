"""`squash dispatch`: send what pipelines left on disk to a service.

A job that does not say where it ran is given that here, under `env`.
"""

import getpass
import os
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import partial
from typing import Annotated, Any, Literal

import typer

from squash_api.client import Reply, Squash, SquashClientError
from squash_api.commands.data_id import AllowOthers, FilesArgument, with_data_id
from squash_api.commands.terminal import AsJson, fail, print_error, print_json, tracked
from squash_api.judging.wording import counted
from squash_api.verify.measurement import DocumentError
from squash_api.wires.data_id import DataId
from squash_api.wires.files import File, find_files, read_file

_Url = Annotated[str, typer.Option(envvar="SQUASH_URL", help="Root of the service.")]
_User = Annotated[
    str | None,
    typer.Option(envvar="SQUASH_USER", help="Name of the user; not needed with a key."),
]
_Strict = Annotated[
    bool, typer.Option("--strict", help="Refuse a job if any of its values would be left out.")
]
_Environment = Annotated[
    Literal["jenkins", "ldf", "local"] | None,
    typer.Option("--env", help="Where the job ran; fills in its environment from here."),
]
_IgnoreBlobs = Annotated[
    bool, typer.Option("--ignore-blobs", help="Send measurements without their blobs.")
]
_DateCreated = Annotated[
    str | None, typer.Option(metavar="ISO8601", help="The jobs' time; UTC if it has no time zone.")
]
_Wait = Annotated[bool, typer.Option("--wait", help="Wait until the jobs are in InfluxDB.")]
_WaitSeconds = Annotated[float, typer.Option(min=0.0, help="How long to wait for each job.")]
_Retries = Annotated[
    int, typer.Option(min=0, help="How many times to retry while the service is unavailable.")
]
_Change = Callable[[Mapping[str, Any]], dict[str, Any]]


@dataclass(slots=True)
class Outcome:
    """What became of a job: a reply, and the final status if we waited for it, or an error.

    `file` is its file, with the place in it if there are several. `is_bystander` says that it is no
    job, and only lies in a folder.
    """

    file: str
    is_bystander: bool = False
    reply: Reply | None = None
    status: dict[str, Any] | None = None
    error: Exception | None = None
    notes: list[str] = field(default_factory=list)

    @property
    def is_good(self) -> bool:
        """Whether the job was accepted and, if we waited for that, delivered."""
        delivered = self.status is None or self.status.get("status") == "SUCCESS"
        return self.error is None and delivered


@with_data_id
def dispatch(
    *,
    data_id: DataId,
    files: FilesArgument,
    url: _Url,
    user: _User = None,
    strict: _Strict = False,
    environment: _Environment = None,
    ignore_blobs: _IgnoreBlobs = False,
    date_created: _DateCreated = None,
    wait: _Wait = False,
    wait_seconds: _WaitSeconds = 300.0,
    retries: _Retries = 5,
    allow_others: AllowOthers = False,
    as_json: AsJson = False,
) -> None:
    """Send what pipelines left on disk to the service.

    Takes job files of lsst.verify, metric bundles of analysis_tools and single measurements, in
    JSON, YAML or .gz, or lists of them. Sending them again makes no second job. What is none of
    them is named, and the others go.

    Shows what the service left out. An API key is read from SQUASH_KEY; without one, the password
    is read from SQUASH_PASSWORD, or asked for. Outside CI, a job without an environment gets one:
    local, your name and, without --run, a run_id with the time of the oldest file.

    Exit code: 0 all accepted (and, with --wait, delivered), 1 some not, 2 wrong usage.
    """
    found = [file for path in files for file in find_files(path)]
    change = partial(
        with_changes,
        env=_environment(environment, found),
        default_env=None if is_ci(os.environ) else _environment("local", found),
        date=_utc_date(date_created),
        ignore_blobs=ignore_blobs,
    )
    key = os.environ.get("SQUASH_KEY", "").strip() or None
    password = _password(user) if key is None else None
    with Squash(url, user, password, key=key, retries=retries) as squash:
        outcomes = []
        for outcome in _send_all(squash, found, data_id, change=change, strict=strict):
            outcomes.append(outcome)
            if not (as_json or wait):
                _print_outcome(outcome)
        if wait:
            for outcome in tracked(outcomes, what="Waiting"):
                _wait(squash, outcome, timeout_s=wait_seconds)
                if not as_json:
                    _print_outcome(outcome)
    _print_end(outcomes, files, as_json=as_json)
    are_good = [outcome.is_good or (allow_others and outcome.is_bystander) for outcome in outcomes]
    raise typer.Exit(0 if outcomes and all(are_good) else 1)


def _environment(name: str | None, files: Sequence[File]) -> dict[str, Any] | None:
    """Make an environment; a local run began with its first file, also when it is sent again."""
    if name is None:
        return None
    written_s = [file.written_s for file in files]
    times_s = [time_s for time_s in written_s if time_s is not None]
    now = datetime.now(UTC)
    is_local = name == "local" and times_s
    began = datetime.fromtimestamp(min(times_s), UTC) if is_local else now
    return environment_of(name, os.environ, now=began)


def _utc_date(text: str | None) -> str | None:
    if text is None:
        return None
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        raise typer.BadParameter(
            f"{text!r} is not a date: write it like 2026-03-01T12:00:00Z",
            param_hint="--date-created",
        ) from None
    return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).astimezone(UTC).isoformat()


def with_changes(
    document: Mapping[str, Any],
    *,
    env: dict[str, Any] | None = None,
    default_env: dict[str, Any] | None = None,
    date: str | None = None,
    ignore_blobs: bool = False,
) -> dict[str, Any]:
    """Make a changed copy of a job document.

    `env` replaces the environment of the job, `default_env` is used if it has none. One that has
    only what a data id says is completed. `date` is the time of the job, ISO 8601.
    """
    meta = dict(document["meta"])
    own = meta.get("env")
    if not own or _is_of_data_id(own, meta):
        env = env or default_env
        if env is not None and not meta.keys().isdisjoint(("run_id", "ci_id")):
            env = {key: value for key, value in env.items() if key != "run_id"}
        env = {**(env or {}), **(own or {})} or None
    else:
        env = env or own
    if env is not None:
        meta["env"] = env
    if date is not None and isinstance(env, dict):
        meta["env"] = {**env, "date": date}
    elif date is not None:
        meta["date"] = date
    changed = {**document, "meta": meta}
    if ignore_blobs:
        changed["blobs"] = []
        changed["measurements"] = [
            {**item, "blob_refs": []} if isinstance(item, dict) else item
            for item in document["measurements"]
        ]
    return changed


def _is_of_data_id(env: Any, meta: Mapping[str, Any]) -> bool:
    """Tell whether an environment has only what `data_id_metadata` gives it."""
    is_small = isinstance(env, dict) and env.keys() <= {"date", "env_name"}
    return is_small and env.get("env_name") in (None, meta.get("namespace"))


def _password(user: str | None) -> str:
    """Return the password of a user; no option: everybody on the machine sees arguments."""
    if not user:
        raise typer.BadParameter(
            "set SQUASH_KEY to an API key, or give the name of a user", param_hint="--user"
        )
    password = os.environ.get("SQUASH_PASSWORD")
    if password is not None:
        return password
    if not sys.stdin.isatty():
        fail("there is no terminal to ask for the password at: set SQUASH_PASSWORD")
    asked: str = typer.prompt("Password", hide_input=True, err=True)
    return asked


def _send_all(
    squash: Squash, files: Sequence[File], data_id: DataId, *, change: _Change, strict: bool
) -> Iterator[Outcome]:
    """Send the jobs one by one; once the service is unreachable, the rest are not tried."""
    lost: SquashClientError | None = None
    try:
        squash.log_in()
    except SquashClientError as error:
        lost = error
    for file in tracked(files, what="Sending"):
        for found in read_file(file, data_id):
            outcome = Outcome(found.place, found.is_bystander, notes=list(found.notes))
            if found.document is None:
                outcome.error = DocumentError(f"{found.place}: {found.problem}")
            elif lost is None:
                try:
                    _send(squash, found.document, outcome, change=change, strict=strict)
                except SquashClientError as error:
                    outcome.error = error
                    lost = error if error.status_code is None else None
            else:
                outcome.error = SquashClientError(f"not sent: {lost.message}")
            yield outcome


def _send(
    squash: Squash, document: dict[str, Any], outcome: Outcome, *, change: _Change, strict: bool
) -> None:
    changed = change(document)
    if not changed["meta"].get("env"):
        outcome.notes.append("the job has no environment; --env gives it one")
    outcome.reply = squash.send(changed, strict=strict)


def _wait(squash: Squash, outcome: Outcome, *, timeout_s: float) -> None:
    if outcome.reply is None:
        return
    try:
        outcome.status = squash.wait(outcome.reply, timeout_s=timeout_s)
    except SquashClientError as error:
        outcome.error = error


def _print_outcome(outcome: Outcome) -> None:
    reply = outcome.reply
    if reply is not None:
        repeat = ", which the service already had" if reply.is_repeat else ""
        typer.echo(f"{outcome.file}: job {reply.job_id}{repeat}, {reply.status_url}")
        if reply.absent:
            typer.echo(f"  absent (null, NaN or infinite): {', '.join(reply.absent)}")
        for skip in reply.skipped:
            typer.echo(f"  skipped {skip.get('metric')}: {skip.get('reason')}")
        if reply.undeclared:
            typer.echo(f"  undeclared, but stored: {', '.join(reply.undeclared)}")
        for note in (*outcome.notes, *reply.notes):
            typer.echo(f"  note: {note}")
    if outcome.status is not None:
        said = outcome.status.get("message")
        typer.echo(f"  {outcome.status.get('status')}{f': {said}' if said else ''}")
    if outcome.error is not None:
        text = str(outcome.error)
        is_named = text.startswith(f"{outcome.file}:")
        print_error(text if is_named else f"{outcome.file}: {text}")


def _print_end(outcomes: Sequence[Outcome], files: Sequence[str], *, as_json: bool) -> None:
    if as_json:
        print_json([_as_json(outcome) for outcome in outcomes])
    elif len(outcomes) > 1:
        typer.echo(_summary(outcomes))
    if not outcomes:
        print_error(f"{', '.join(files)}: no job, bundle or measurement is there")


def _summary(outcomes: Sequence[Outcome]) -> str:
    replies = [outcome.reply for outcome in outcomes if outcome.reply is not None]
    repeats = sum(reply.is_repeat for reply in replies)
    parts = [f"{counted(len(replies), 'job')} sent"]
    if repeats:
        parts.append(f"{repeats} of them the service already had")
    if len(replies) < len(outcomes):
        parts.append(f"{len(outcomes) - len(replies)} not sent")
    return ", ".join(parts)


def _as_json(outcome: Outcome) -> dict[str, Any]:
    reply = outcome.reply
    return {
        "file": outcome.file,
        "id": reply and reply.job_id,
        "status_url": reply and reply.status_url,
        "is_repeat": bool(reply and reply.is_repeat),
        "absent": reply.absent if reply else [],
        "skipped": reply.skipped if reply else [],
        "undeclared": reply.undeclared if reply else [],
        "notes": [*outcome.notes, *(reply.notes if reply else [])],
        "status": outcome.status and outcome.status.get("status"),
        "message": outcome.status and outcome.status.get("message"),
        "error": outcome.error and getattr(outcome.error, "message", str(outcome.error)),
        "detail": getattr(outcome.error, "detail", []),
    }


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
_VARIABLES = {
    "ldf": {
        "dataset": "DATASET",
        "dataset_repo_url": "DATASET_REPO_URL",
        "run_id": "RUN_ID",
        "run_id_url": "RUN_ID_URL",
        "version_tag": "VERSION_TAG",
    },
    "jenkins": {
        "ci_id": "BUILD_ID",
        "ci_name": "PRODUCT",
        "ci_dataset": "dataset",
        "ci_label": "label",
        "ci_refs": "refs",
        "ci_url": "BUILD_URL",
    },
}
"""By environment, the variable that each key is read from."""


def is_ci(variables: Mapping[str, str]) -> bool:
    """Whether the environment variables are those of a continuous-integration run."""
    return any(variables.get(name, "").lower() not in ("", "0", "false") for name in _SIGNS_OF_CI)


def environment_of(name: str, variables: Mapping[str, str], *, now: datetime) -> dict[str, Any]:
    """Make the environment of a job from the variables of the process.

    Source: the environments of lsst.verify's `dispatch_verify.py`; `local` is our own.
    """
    if name == "local":
        person = _person()
        return {"env_name": name, "user": person, "run_id": f"{person}-{now:%Y%m%dT%H%MZ}"}
    found: dict[str, Any] = {
        key: variables.get(variable, "https://example.com" if key.endswith("_url") else "unknown")
        for key, variable in _VARIABLES[name].items()
    }
    if name == "jenkins":
        found["status"] = 0
    return {"env_name": name, **found, "date": now.isoformat()}


def _person() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # a container whose user has no name
        return f"uid{os.getuid()}"
