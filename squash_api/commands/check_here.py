"""What `squash check` looks at on this machine: settings, metrics packages, the record.

A check is a function that yields what it finds, and a line in a table below. It changes nothing.
"""

import os
import shutil
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, date, datetime
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

from squash_api.definitions.from_yaml import problem_with_withdrawal
from squash_api.errors import SettingsError, split_runbook
from squash_api.index.derived import problem_with_tags
from squash_api.judging.wording import counted
from squash_api.metrics_packages.loading import MetricsPackage, load_metrics_packages
from squash_api.record.database import Seen, file_at, look_at, place_of
from squash_api.record.deliveries import backlogs, target_names
from squash_api.record.installation import problem_with_mark
from squash_api.record.jobs import last_job_id, newest_received_ns
from squash_api.record.record import Record
from squash_api.record.versions import VERSION
from squash_api.record.webhooks import receivers_health
from squash_api.routes.health import health_of
from squash_api.schema.names import Schema
from squash_api.settings import Settings, previous_secret, require_secret

MOST_LISTED = 20
"""Of many alike, such as problems of YAML, so many are listed."""

# Of the disk of the record: what may be left.
_LITTLE_BYTES, _LITTLE_PART = 2 * 10**9, 0.1
_LEAST_BYTES, _LEAST_PART = 200 * 10**6, 0.02
_AHEAD_NS = 5 * 10**9

State = Literal["ok", "warning", "error"]


@dataclass(frozen=True, slots=True)
class Finding:
    """What a check saw; if it is not well, what to do, and the entry of the runbook on that."""

    state: State
    what: str
    advice: str = ""
    runbook: str = ""


Check = Callable[[Any], Iterator[Finding]]


class EnoughError(Exception):
    """What was found makes the other checks of this subject pointless."""


def ok(what: str) -> Finding:
    """Make a finding that something is well."""
    return Finding("ok", what)


def warning(what: str, advice: str, *, runbook: str) -> Finding:
    """Make a finding that keeps nothing from working, as far as it goes."""
    return Finding("warning", what, advice, runbook)


def error(what: str, advice: str, *, runbook: str) -> Finding:
    """Make a finding that keeps the service, or what depends on it, from working."""
    return Finding("error", what, advice, runbook)


class Installation:
    """The settings as far as they are right, and what is wrong with the others."""

    def __init__(self, settings: Settings, problems: list[str]) -> None:
        self.settings = settings
        self.problems = problems

    @property
    def schema(self) -> Schema:
        """The names in InfluxDB; those without SQUASH_TAGS if these are wrong."""
        try:
            return Schema(self.settings.tags)
        except SettingsError:
            return Schema()

    @cached_property
    def package(self) -> MetricsPackage | None:
        """The metrics packages of SQUASH_SPECS as one; None if one is missing, or there is none."""
        if not self.settings.specs:
            return None
        try:
            return load_metrics_packages(self.settings.specs, schema=self.schema, today=date.min)
        except SettingsError:
            return None


# Settings


def _settings(here: Installation) -> Iterator[Finding]:
    where = "correct it in the environment of the service, or in .env"
    for problem in here.problems:
        yield error(problem, where, runbook="settings")
    if not here.problems:
        yield ok(
            f"{counted(len(here.settings.model_fields_set), 'setting')} given, none of them wrong"
        )


def _secrets(here: Installation) -> Iterator[Finding]:
    for read in (require_secret, previous_secret):
        try:
            read(here.settings)
        except SettingsError as problem:
            yield error(problem.message, "the service does not start", runbook="settings")


def _tags(here: Installation) -> Iterator[Finding]:
    try:
        Schema(here.settings.tags)
    except SettingsError as problem:
        yield error(problem.message, "correct SQUASH_TAGS", runbook="settings")


def _url(here: Installation) -> Iterator[Finding]:
    problem = here.settings.url_problem()
    if problem is not None:
        yield warning(problem, "set SQUASH_URL to what clients use", runbook="settings")


# What is given, and means nothing without what is not.
_IDLE: Mapping[str, tuple[str, Callable[[Settings], bool]]] = {
    "influx_database": ("INFLUX_URL", lambda s: not (s.influx_url or s.kapacitor_url)),
    "influx_user": ("INFLUX_URL", lambda s: s.influx_url is None),
    "influx_password": ("INFLUX_USER", lambda s: s.influx_user is None),
    "influx_token": ("INFLUX_URL", lambda s: s.influx_url is None),
    "kapacitor_retention_policy": ("KAPACITOR_URL", lambda s: s.kapacitor_url is None),
    **{
        f"kafka_{name}": ("KAFKA_BROKERS", lambda s: not s.kafka_brokers)
        for name in ("send", "prefix", "namespace", "points", "user", "tls", "ca", "registry")
    },
    "slack": ("SLACK_URL", lambda s: s.slack == "on" and s.slack_url is None),
    "github_token": ("GITHUB_REPOSITORIES", lambda s: not s.github_repositories),
    "github_repositories": ("GITHUB_TOKEN", lambda s: s.github_token is None),
    "registration_key": ("REGISTRATION=key", lambda s: s.registration != "key"),
}


def _idle(here: Installation) -> Iterator[Finding]:
    given = here.settings.model_fields_set
    for name, (needed, is_missing) in _IDLE.items():
        if name in given and is_missing(here.settings):
            what = f"SQUASH_{name.upper()} is set, and does nothing without SQUASH_{needed}"
            yield warning(what, "set both, or remove it", runbook="settings")
    for target in here.settings.targets:
        if target.user is not None and target.password is None and target.token is None:
            what = f"the target {target.name} has a user and no password"
            yield warning(what, "set its password too", runbook="settings")


def _destinations(here: Installation) -> Iterator[Finding]:
    if not here.settings.targets:
        yield ok("no InfluxDB is configured: jobs are kept in the record alone")
    if not here.settings.kapacitors:
        yield ok("SQUASH_KAPACITOR_URL is not set: the service tells no Kapacitor anything")
    for target in here.settings.kafka:
        place = ", ".join(target.brokers)
        yield ok(f"Kafka at {place} is sent {', '.join(target.sends)}")
    if here.settings.tells_slack:
        yield ok("the service itself tells Slack of alerts")
    elif here.settings.slack_url is not None:
        yield ok("the service tells Slack nothing, although it has its address: Kapacitor does")
    if here.settings.tells_github:
        yield ok(f"GitHub is told of {', '.join(here.settings.github_repositories)}")


# Metrics packages


def _packages(here: Installation) -> Iterator[Finding]:
    directories = here.settings.specs
    if not directories:
        yield ok("SQUASH_SPECS is not set: no definitions come from YAML")
        return
    try:
        package = load_metrics_packages(directories, schema=here.schema, today=date.min)
    except SettingsError as problem:
        yield error(problem.message, "correct SQUASH_SPECS", runbook="specs")
        return
    advice = "run squash specs check, and correct the file"
    for found in package.problems[:MOST_LISTED]:
        yield error(str(found), advice, runbook="specs")
    if len(package.problems) > MOST_LISTED:
        yield error(f"and {len(package.problems) - MOST_LISTED} more", advice, runbook="specs")
    if not package.problems:
        counts = (
            counted(len(package.metrics), "metric"),
            counted(len(package.specifications), "specification"),
        )
        yield ok(" and ".join(counts))


# The record


@dataclass(frozen=True, slots=True)
class OpenRecord:
    """A record of this release, open for reading, as it was seen before."""

    here: Installation
    seen: Seen
    record: Record


@contextmanager
def open_record(here: Installation) -> Iterator[OpenRecord | Finding]:
    """Open the record for reading; yield a finding if that should not be done."""
    url = here.settings.database_url
    place, seen = place_of(url), look_at(url)
    if seen is None:
        advice = "make one with squash record init, or start the service; or name the one you mean"
        yield warning(f"there is no record yet at {place}", advice, runbook="settings")
    elif seen.damage is not None:
        advice = "stop the service, then see the runbook before anything is changed"
        yield error(f"{place} is damaged: {seen.damage}", advice, runbook="record-damaged")
    elif seen.tables.present < VERSION:
        what = f"{place} is of an earlier release ({seen.tables.present}; this one has {VERSION})"
        advice = "back it up first: the next start of the service upgrades it"
        yield warning(what, advice, runbook="record-version")
    elif seen.tables.needed > VERSION:
        what = f"{place} is of a later release ({seen.tables.needed}; this one has {VERSION})"
        advice = "start that release again, or restore the backup of before the upgrade"
        yield error(what, advice, runbook="record-version")
    else:
        record = Record.open(url)
        try:
            yield OpenRecord(here, seen, record)
        finally:
            record.close()


def _record(it: OpenRecord) -> Iterator[Finding]:
    with it.record.read() as connection:
        last = last_job_id(connection)
    place = place_of(it.here.settings.database_url)
    yield ok(f"{place}: no damage in a first look, and its last job is {last}")


def _mark(it: OpenRecord) -> Iterator[Finding]:
    if it.record.file is None:
        return
    with it.record.read() as connection:
        problem = problem_with_mark(connection, it.record.file.path)
    advice = "put the newest record back with its -wal and .mark, or restore the newest backup"
    if problem is not None:
        yield error(problem, advice, runbook="record-mark")


def _place(it: OpenRecord) -> Iterator[Finding]:
    if it.seen.advice is not None:
        yield warning(it.seen.advice, "put it where it is safe", runbook="record-unsafe")


def _rights(it: OpenRecord) -> Iterator[Finding]:
    if it.record.file is None:
        return
    path = it.record.file.path
    for place in (path, path.parent):
        if not os.access(place, os.W_OK):
            what = f"{place} cannot be written by this user"
            advice = "if the service runs as this user, correct owner and rights"
            yield error(what, advice, runbook="record-read-only")


def _disk(here: Installation) -> Iterator[Finding]:
    try:
        path = file_at(here.settings.database_url)
    except SettingsError:
        # The record says what is wrong.
        return
    if path is not None:
        yield disk_finding(path.parent)


def disk_finding(folder: Path) -> Finding:
    """Say how full a disk is."""
    usage = shutil.disk_usage(folder)
    part = usage.free / usage.total
    what = f"{usage.free / 1e9:.1f} GB ({part:.0%}) are free on the disk of {folder}"
    advice = "free space, or enlarge the disk: jobs are refused when it is full"
    # A part of a large disk is enough for long, and so is much of a small one.
    if usage.free < _LEAST_BYTES or (part < _LEAST_PART and usage.free < _LITTLE_BYTES):
        return error(f"only {what}", advice, runbook="record-full")
    if usage.free < _LITTLE_BYTES and part < _LITTLE_PART:
        return warning(f"only {what}", advice, runbook="record-full")
    return ok(what)


def _tags_of_points(it: OpenRecord) -> Iterator[Finding]:
    with it.record.read() as connection:
        problem = problem_with_tags(connection, it.here.schema)
    if problem is not None:
        yield error(problem, "set it back: the service does not start", runbook="tags")


def _withdrawal(it: OpenRecord) -> Iterator[Finding]:
    package = it.here.package
    if package is not None and package.problems:
        return
    if package is None and it.here.settings.specs:
        return
    with it.record.read() as connection:
        problem = problem_with_withdrawal(connection, it.here.settings.specs, it.here.schema)
    if problem is not None:
        yield error(problem, "the service does not start", runbook="specs")


def _newest_job(it: OpenRecord) -> Iterator[Finding]:
    with it.record.read() as connection:
        newest_ns = newest_received_ns(connection)
    ahead_ns = (newest_ns or 0) - time.time_ns()
    if ahead_ns > _AHEAD_NS:
        when = datetime.fromtimestamp((newest_ns or 0) // 10**9, UTC).isoformat()
        what = (
            f"the newest job was received at {when}, {ahead_ns / 1e9:.0f} s ahead of the clock of "
            "this machine"
        )
        yield warning(what, "find out which clock is wrong, this one or that", runbook="clock")


def _delivery(it: OpenRecord) -> Iterator[Finding]:
    with it.record.read() as connection:
        # The others get all jobs from the next start on.
        known = set(target_names(connection))
        targets = [item for item in it.here.settings.outlets if item.name in known]
        waiting = backlogs(connection, targets=[item.name for item in targets])
        states = [*health_of(lambda query, *given: query(connection, *given), targets)]
    for health, backlog in zip(states, waiting, strict=True):
        count = counted(backlog.waiting, "job")
        problem = health.trouble or health.note
        if problem is not None:
            what = f"{health.label}: {problem}; {count} wait"
            advice = "jobs are kept, and sent when that is over"
            yield error(what, advice, runbook=health.runbook or "delivery-unavailable")
        else:
            yield ok(f"{health.label}: {count} wait to be sent")
        if backlog.quarantined:
            what = f"{health.label} has refused {counted(backlog.quarantined, 'line')} for good"
            yield warning(what, "see squash quarantine list", runbook="quarantine")


def _receivers(it: OpenRecord) -> Iterator[Finding]:
    with it.record.read() as connection:
        found = receivers_health(connection, it.here.settings.receivers)
    for item in found:
        name = item.kind if item.kind == item.name else f"{item.kind} {item.name}"
        if item.trouble is not None:
            reason, entry = split_runbook(item.trouble)
            what = f"{name} cannot be told: {reason}"
            advice = "it is tried again by itself; see docs/outlets.md"
            yield warning(what, advice, runbook=entry or "receiver-failing")
        if item.given_up:
            what = f"{name}: {item.given_up} deliveries were given up"
            advice = f"see squash webhook deliveries {item.name}, and squash webhook retry"
            yield warning(what, advice, runbook="webhook-given-up")


SETTINGS: tuple[Check, ...] = (_settings, _secrets, _tags, _url, _idle, _destinations)
DISK: tuple[Check, ...] = (_disk,)
SPECIFICATIONS: tuple[Check, ...] = (_packages,)
RECORD: tuple[Check, ...] = (
    _record,
    _mark,
    _place,
    _rights,
    _tags_of_points,
    _withdrawal,
    _newest_job,
    _delivery,
    _receivers,
)
