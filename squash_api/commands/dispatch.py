"""`squash dispatch`: send job files to a service, each as a job of its own.

A job that does not say where it ran is told so here, under `env`.
"""

import getpass
import os
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from squash_api.client import Reply, Squash, SquashClientError
from squash_api.commands.terminal import fail, print_error, print_json, tracked
from squash_api.verify.job_file import read_job_file
from squash_api.verify.measurement import DocumentError

_Files = Annotated[
    list[Path],
    typer.Argument(metavar="FILE", help="Job files as lsst.verify writes them; each is a job."),
]
_Url = Annotated[str, typer.Option(envvar="SQUASH_URL", help="Root of the service.")]
_User = Annotated[str, typer.Option(envvar="SQUASH_USER", help="Name of the user.")]
_Strict = Annotated[
    bool, typer.Option("--strict", help="Refuse a job of which a value would be left out.")
]
_Environment = Annotated[
    Literal["jenkins", "ldf", "local"] | None,
    typer.Option("--env", help="Where the job ran; its environment is filled in from here."),
]
_IgnoreBlobs = Annotated[
    bool, typer.Option("--ignore-blobs", help="Send measurements without their blobs.")
]
_DateCreated = Annotated[
    str | None, typer.Option(metavar="ISO8601", help="The jobs' time; UTC if it names no zone.")
]
_Wait = Annotated[bool, typer.Option("--wait", help="Wait until the jobs are in InfluxDB.")]
_WaitSeconds = Annotated[float, typer.Option(min=0.0, help="How long to wait for each job.")]
_Retries = Annotated[
    int, typer.Option(min=0, help="How often to try again while the service is away.")
]
_AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON list.")]


@dataclass(slots=True)
class Outcome:
    """What became of a file: a reply, and the final status if it was waited for, or an error."""

    file: str
    reply: Reply | None = None
    status: dict[str, Any] | None = None
    error: Exception | None = None
    notes: list[str] = field(default_factory=list)

    @property
    def is_good(self) -> bool:
        """Whether the job was accepted and, if it was waited for, delivered."""
        delivered = self.status is None or self.status.get("status") == "SUCCESS"
        return self.error is None and delivered


@dataclass(frozen=True, slots=True)
class Changes:
    """What is changed in a document before it is sent.

    `env` replaces the job's environment, `default_env` stands in for one that is missing. `date`
    is the job's time, ISO 8601.
    """

    env: dict[str, Any] | None = None
    default_env: dict[str, Any] | None = None
    date: str | None = None
    ignore_blobs: bool = False

    def apply(self, document: Mapping[str, Any]) -> dict[str, Any]:
        """Return a job document with the changes; the one given stays as it is."""
        meta = dict(document["meta"])
        env = self.env or meta.get("env") or self.default_env
        if env is not None:
            meta["env"] = env
        if self.date is not None and isinstance(env, dict):
            meta["env"] = {**env, "date": self.date}
        elif self.date is not None:
            meta["date"] = self.date
        changed = {**document, "meta": meta}
        if self.ignore_blobs:
            changed["blobs"] = []
            changed["measurements"] = [
                {**item, "blob_refs": []} if isinstance(item, dict) else item
                for item in document["measurements"]
            ]
        return changed


def dispatch(
    files: _Files,
    *,
    url: _Url,
    user: _User,
    strict: _Strict = False,
    environment: _Environment = None,
    ignore_blobs: _IgnoreBlobs = False,
    date_created: _DateCreated = None,
    wait: _Wait = False,
    wait_seconds: _WaitSeconds = 300.0,
    retries: _Retries = 5,
    as_json: _AsJson = False,
) -> None:
    """Send job files to the service and show what was left out of them.

    The password is read from SQUASH_PASSWORD, or asked for. Outside CI a job without environment
    gets one: local, your name, and a run_id of this call.

    Exit code: 0 all accepted (and, with --wait, delivered), 1 some not, 2 wrong usage.
    """
    now = datetime.now(UTC)
    changes = Changes(
        env=environment_of(environment, os.environ, now=now) if environment else None,
        default_env=None if is_ci(os.environ) else environment_of("local", os.environ, now=now),
        date=_utc_date(date_created),
        ignore_blobs=ignore_blobs,
    )
    with Squash(url, user, _password(), retries=retries) as squash:
        outcomes = []
        for outcome in _send_all(squash, files, changes=changes, strict=strict):
            outcomes.append(outcome)
            if not (as_json or wait):
                _print_outcome(outcome)
        if wait:
            for outcome in tracked(outcomes, what="Waiting"):
                _wait(squash, outcome, timeout_s=wait_seconds)
                if not as_json:
                    _print_outcome(outcome)
    if as_json:
        print_json([_as_json(outcome) for outcome in outcomes])
    raise typer.Exit(0 if all(outcome.is_good for outcome in outcomes) else 1)


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
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=UTC)
    return moment.astimezone(UTC).isoformat()


def _password() -> str:
    password = os.environ.get("SQUASH_PASSWORD")
    if password is not None:
        return password
    if not sys.stdin.isatty():
        fail("there is no terminal to ask for the password at: set SQUASH_PASSWORD")
    asked: str = typer.prompt("Password", hide_input=True, err=True)
    return asked


def _send_all(
    squash: Squash, files: Sequence[Path], *, changes: Changes, strict: bool
) -> Iterator[Outcome]:
    """Send the files one by one; when the service is gone for good, the rest are not tried."""
    gone: SquashClientError | None = None
    try:
        squash.log_in()
    except SquashClientError as error:
        gone = error
    for path in tracked(files, what="Sending"):
        outcome = Outcome(str(path))
        if gone is None:
            try:
                _send(squash, path, outcome, changes=changes, strict=strict)
            except SquashClientError as error:
                outcome.error = error
                gone = error if error.status_code is None else None
        else:
            outcome.error = SquashClientError(f"not sent: {gone.message}")
        yield outcome


def _send(squash: Squash, path: Path, outcome: Outcome, *, changes: Changes, strict: bool) -> None:
    try:
        document, nulls = read_job_file(path)
    except DocumentError as error:
        outcome.error = error
        return
    if nulls:
        outcome.notes.append(f"{nulls} NaN or infinite numbers were sent as null")
    changed = changes.apply(document)
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
        repeat = ", which the service had already" if reply.is_repeat else ""
        typer.echo(f"{outcome.file}: job {reply.job_id}{repeat}, {reply.status_url}")
        if reply.absent:
            typer.echo(f"  absent (null, NaN or infinite): {', '.join(reply.absent)}")
        for skip in reply.skipped:
            typer.echo(f"  skipped {skip.get('metric')}: {skip.get('reason')}")
        if reply.undeclared:
            typer.echo(f"  undeclared, stored all the same: {', '.join(reply.undeclared)}")
        for note in (*outcome.notes, *reply.notes):
            typer.echo(f"  note: {note}")
    if outcome.status is not None:
        said = outcome.status.get("message")
        typer.echo(f"  {outcome.status.get('status')}{f': {said}' if said else ''}")
    if outcome.error is not None:
        text = str(outcome.error)
        is_named = text.startswith(f"{outcome.file}:")
        print_error(text if is_named else f"{outcome.file}: {text}")


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
