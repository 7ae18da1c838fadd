"""`squash check`: what is wrong with an installation, and what to do about it."""

import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import asdict, dataclass
from functools import partial
from typing import Annotated, Any
from urllib.parse import urlsplit

import httpx
import typer
from pydantic import SecretStr

from squash_api.commands import check_here, check_influxdb, check_kafka, check_servers
from squash_api.commands.check_here import Check, EnoughError, Finding, Installation, error
from squash_api.commands.terminal import AsJson, print_json
from squash_api.errors import SettingsError, SquashError, runbook_path
from squash_api.generate.servers import ServerError
from squash_api.influx.client import InfluxError
from squash_api.judging.wording import counted
from squash_api.logs import words_of
from squash_api.settings import Settings, read_settings

PATIENCE_S = 15.0
"""What has not been looked at after this long, hangs."""

_LEAST_SECRET = 4
_ADVICE = "see the runbook"
_HIDDEN = "********"


@dataclass(frozen=True, slots=True)
class Subject:
    """Something to look at: its name, what opens it, and what is looked at then, in order.

    What `opened` gives may be a finding: then nothing more is looked at.
    """

    name: str
    opened: Callable[[], AbstractContextManager[Any]]
    checks: Sequence[Check]
    runbook: str


def check(
    *,
    strict: Annotated[
        bool, typer.Option("--strict", help="Exit with 1 also if there are warnings.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Look at the settings, the record and every server; say of each fault what to do.

    Nothing is changed, and the service may be running or not. Each line says what was looked at;
    below one that is not OK is what to do, and its entry in docs/runbook.md. A server has a few
    seconds to answer. No secret is shown.

    Exit code: 0 nothing is wrong, 1 something is an error, or with --strict a warning.
    """
    here = _installation()
    found = [*_findings(here)]
    hide = partial(_without, _secrets_of(here.settings))
    errors = sum(item.state == "error" for _, item in found)
    warnings = sum(item.state == "warning" for _, item in found)
    rows = [{"subject": name, **asdict(item)} for name, item in found]
    rows = [{key: hide(text) for key, text in row.items()} for row in rows]
    if as_json:
        print_json({"errors": errors, "warnings": warnings, "findings": rows})
    else:
        for row in rows:
            typer.echo(_line(row))
        typer.echo(f"{counted(errors, 'error')}, {counted(warnings, 'warning')}")
        if errors or warnings:
            place = f"{hide(here.settings.url)}{runbook_path('<entry>')}"
            typer.echo(f"runbook: docs/runbook.md, or {place} while the service runs")
    raise typer.Exit(1 if errors or (strict and warnings) else 0)


def _installation() -> Installation:
    try:
        return Installation(*read_settings())
    except SettingsError as problem:
        return Installation(Settings.model_construct(), [problem.message])


def _subjects(here: Installation) -> Iterator[Subject]:
    """List what there is to look at, from the settings."""
    settings, itself = here.settings, partial(nullcontext, here)
    yield Subject("settings", itself, check_here.SETTINGS, "settings")
    yield Subject("specifications", itself, check_here.SPECIFICATIONS, "specs")
    record = partial(check_here.open_record, here)
    yield Subject("record", record, check_here.RECORD, "record_unavailable")
    yield Subject("disk", itself, check_here.DISK, "record-full")
    for target in settings.targets:
        influxdb = partial(check_influxdb.open_influxdb, here, target)
        name = f"InfluxDB {target.name}"
        yield Subject(name, influxdb, check_influxdb.INFLUXDB, "delivery-unavailable")
    for place in check_servers.server_places(settings):
        server = partial(check_servers.open_server, here, place)
        yield Subject(place.label, server, check_servers.SERVER, "delivery-unavailable")
    if len(settings.kapacitors) > 1:
        yield Subject("alerts", itself, (check_servers.who_speaks,), "slack-twice")
    for brokers in settings.kafka:
        kafka = partial(check_kafka.open_kafka, brokers)
        yield Subject(brokers.label, kafka, check_kafka.KAFKA, "kafka-unavailable")
    service = partial(check_servers.open_service, here)
    yield Subject("service", service, check_servers.SERVICE, "url-unreachable")


def _findings(here: Installation) -> Iterator[tuple[str, Finding]]:
    """Look at everything at the same time, so that what hangs holds up nothing else."""
    looks = [_Look(subject) for subject in _subjects(here)]
    for look in looks:
        look.start()
    ends_s = time.monotonic() + PATIENCE_S
    for look in looks:
        look.join(max(0.0, ends_s - time.monotonic()))
        for item in look.seen():
            yield look.subject.name, item


class _Look(threading.Thread):
    """Looks at one subject; the command does not wait for one that hangs."""

    def __init__(self, subject: Subject) -> None:
        super().__init__(name=subject.name, daemon=True)
        self.subject = subject
        self._found: list[Finding] = []

    def run(self) -> None:
        """Do all checks of the subject, unless it cannot be opened."""
        try:
            with self.subject.opened() as opened:
                if isinstance(opened, Finding):
                    self._found.append(opened)
                    return
                for each in self.subject.checks:
                    self._look_by(each, opened)
        except EnoughError:
            return
        except Exception as problem:  # noqa: BLE001  whatever it is, the others are looked at
            self._found.append(_failed(problem, self.subject.runbook))

    def _look_by(self, each: Check, opened: Any) -> None:
        try:
            for item in each(opened):
                self._found.append(item)
        except EnoughError:
            raise
        except Exception as problem:  # noqa: BLE001  one check must not keep the others
            self._found.append(_failed(problem, self.subject.runbook))

    def seen(self) -> list[Finding]:
        """Return what has been found, and that it hangs if it has not ended."""
        found = list(self._found)
        if self.is_alive():
            what = f"does not answer: nothing more was heard for {PATIENCE_S:g} s"
            found.append(error(what, "it hangs: restart it", runbook=self.subject.runbook))
        return found


def _failed(problem: Exception, runbook: str) -> Finding:
    """Say what a check has raised, with the entry of what is known, in words without secrets."""
    if isinstance(problem, InfluxError):
        return error(str(problem), _ADVICE, runbook=problem.runbook)
    if isinstance(problem, SquashError):
        return error(problem.message, _ADVICE, runbook=problem.runbook)
    if isinstance(problem, ServerError | httpx.HTTPError):
        return error(str(problem) or words_of(problem), _ADVICE, runbook=runbook)
    return error(f"it cannot be looked at: {words_of(problem)}", _ADVICE, runbook=runbook)


def _line(row: dict[str, str]) -> str:
    state = {"ok": "OK"}.get(row["state"], row["state"])
    line = f"{state:<8} {row['subject']}: {row['what']}"
    if row["advice"]:
        line += f"\n         -> {row['advice']} (runbook: {row['runbook']})"
    return line


def _secrets_of(settings: Settings) -> list[str]:
    """Return whatever must not be shown, wherever it may come from."""
    given = [value for _, value in settings]
    given += [value for target in settings.outlets for _, value in target]
    secrets = [item.get_secret_value() for item in given if isinstance(item, SecretStr)]
    urls = [item for item in given if isinstance(item, str) and "@" in item]
    secrets += [password for url in urls if (password := urlsplit(url).password)]
    return sorted((item for item in secrets if len(item) >= _LEAST_SECRET), key=len, reverse=True)


def _without(secrets: Sequence[str], text: str) -> str:
    for secret in secrets:
        text = text.replace(secret, _HIDDEN)
    return text
