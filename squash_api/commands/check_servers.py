"""What `squash check` asks of servers: InfluxDB, Kapacitor, Chronograf, Grafana, the service.

A check is a function that yields what it finds, and a line in a table below. It changes nothing.
"""

import re
import time
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx

from squash_api.commands.check_here import (
    MOST_LISTED,
    Check,
    EnoughError,
    Finding,
    Installation,
    error,
    ok,
    warning,
)
from squash_api.errors import InvalidInputError, SettingsError
from squash_api.generate.comparison import compare, server_of
from squash_api.generate.files import FilesError, make_files
from squash_api.generate.kapacitor.server import Kapacitor
from squash_api.generate.output import Output
from squash_api.generate.outputs import SERVED
from squash_api.generate.servers import Server, ServerError
from squash_api.influx.client import (
    DatabaseMissingError,
    InfluxClient,
    InfluxError,
    InfluxMisconfiguredError,
    InfluxRefusedError,
    QueryRejectedError,
)
from squash_api.influx.reading import columns, subscriptions
from squash_api.influx.servers import ONE, TWO
from squash_api.judging.wording import counted
from squash_api.settings import InfluxTarget, KapacitorTarget, Settings

TIMEOUT_S = 3.0
"""The longest wait for a connection, and for each byte of an answer."""

# The header Date has whole seconds.
_CLOCK_DIFFERS_S, _CLOCK_WRONG_S = 5.0, 60.0
_GOOD: Mapping[str, tuple[tuple[int, int], tuple[int, int]]] = {
    "InfluxDB": ((1, 6), (1, 12)),
    "Kapacitor": ((1, 5), (1, 8)),
    "Chronograf": ((1, 7), (1, 11)),
    # By its documents.
    "Grafana": ((11, 0), (11, 6)),
}
"""The first and the last version, each with its patches, of which it is known that they work."""

_NEARLY_FULL = 0.9
"""A table with so many of the columns that it may have is told of."""


@dataclass(frozen=True, slots=True)
class Heard:
    """What a server said of itself: the headers of its reply, and when that came (s since 1970)."""

    headers: Mapping[str, str]
    at_s: float
    took_s: float


def _heard(headers: Mapping[str, str], began_s: float) -> Heard:
    now_s = time.time()
    return Heard(headers, now_s, now_s - began_s)


def _clock(it: "OpenInfluxDB | OpenServer | OpenService") -> Iterator[Finding]:
    """Compare the clock of a server with ours, as far as its replies tell the time."""
    heard = it.heard
    try:
        there_s = parsedate_to_datetime(heard.headers.get("Date", "")).timestamp()
    except (TypeError, ValueError):
        return
    # It was said at some time since we asked, and without the fraction of the second.
    ahead_s = there_s - heard.at_s
    least_s = max(ahead_s, -(ahead_s + heard.took_s + 1), 0.0)
    if least_s < _CLOCK_DIFFERS_S:
        yield ok("its clock is like ours")
        return
    what = f"its clock is {least_s:.0f} s {'ahead of' if ahead_s > 0 else 'behind'} ours"
    make = error if least_s >= _CLOCK_WRONG_S else warning
    yield make(what, "let NTP correct the one that is wrong", runbook="clock")


def _known_good(what: str, text: str) -> Iterator[Finding]:
    """Say whether a version of a server is one that is known to work."""
    numbers = [int(number) for number in re.findall(r"\d+", text)[:2]]
    found = (numbers[0], numbers[1]) if len(numbers) == 2 else (0, 0)
    first, last = _GOOD[what]
    span = f"{first[0]}.{first[1]} to {last[0]}.{last[1]}"
    if first <= found <= last:
        yield ok(f"version {text}")
    else:
        said = f"version {text} is not known to work: {span} are"
        advice = "if something does not work, take one of these"
        make = error if found < first else warning
        yield make(said, advice, runbook="server-version")


# InfluxDB


@dataclass(frozen=True, slots=True)
class OpenInfluxDB:
    """An InfluxDB that answers."""

    here: Installation
    client: InfluxClient
    heard: Heard

    @property
    def target(self) -> InfluxTarget:
        """Its settings."""
        return self.client.target


@contextmanager
def open_influxdb(here: Installation, target: InfluxTarget) -> Iterator[OpenInfluxDB | Finding]:
    """Ask an InfluxDB whether it is there; yield a finding if it is not."""
    with InfluxClient(target, timeout_s=TIMEOUT_S) as client:
        began_s = time.time()
        try:
            heard = _heard(client.ping(), began_s)
        except InfluxError as problem:
            yield error(
                f"{_public(target.url)}: {_hanging(problem.reason)}",
                "is it running, and its URL right? Jobs are kept, and sent when it is back",
                runbook=problem.runbook,
            )
            return
        yield OpenInfluxDB(here, client, heard)


def _influxdb_version(it: OpenInfluxDB) -> Iterator[Finding]:
    server = it.client.server
    if server is None or server.kind in (None, ONE):
        yield from _known_good("InfluxDB", str(it.heard.headers.get("X-Influxdb-Version", "")))
        return
    yield ok(f"{server.name}, through its interface of version 1")
    for lack in server.lacks(is_feeding=it.here.settings.kapacitor_url is not None):
        advice = "docs/influxdb.md says what works on each version"
        yield warning(f"{server.name}: {lack}", advice, runbook="server-version")


def _influxdb_database(it: OpenInfluxDB) -> Iterator[Finding]:
    """Look whether the database is there, and may be written."""
    # In others even a write of nothing may make the database.
    look = _influxdb_writing if it.client.kind in (None, ONE, TWO) else _influxdb_presence
    yield from look(it)


def _influxdb_presence(it: OpenInfluxDB) -> Iterator[Finding]:
    name = it.target.database
    try:
        it.client.query("SHOW MEASUREMENTS LIMIT 1")
    except DatabaseMissingError as missing:
        what, advice = f"there is no database {name} yet", "the first job makes it"
        yield warning(what, advice, runbook="delivery-misconfigured")
        raise EnoughError from missing
    except InfluxRefusedError as refusal:
        yield error(f"it refuses us: {refusal}", "correct its token", runbook="delivery-refused")
        raise EnoughError from refusal
    yield ok(f"the database {name} is there")


def _influxdb_writing(it: OpenInfluxDB) -> Iterator[Finding]:
    name = it.target.database
    try:
        it.client.try_to_write()
    except DatabaseMissingError as missing:
        if _may(it, "SHOW SUBSCRIPTIONS"):
            what = f"there is no database {name} yet"
            advice = f'the service makes it with the first job, or you: CREATE DATABASE "{name}"'
            yield warning(what, advice, runbook="delivery-misconfigured")
        else:
            what = f"there is no database {name}, and its user is no admin and may not make it"
            advice = f'as an admin: CREATE DATABASE "{name}", then GRANT ALL ON "{name}" TO ...'
            yield error(what, advice, runbook="delivery-misconfigured")
        raise EnoughError from missing
    except InfluxRefusedError as refusal:
        if not _may(it, "SHOW DATABASES"):
            advice = "correct its user and password, or its token"
            yield error(f"it refuses us: {refusal}", advice, runbook="delivery-refused")
            raise EnoughError from refusal
        what = f"nothing may be written to the database {name}: {refusal}"
        advice = f'as an admin: GRANT ALL ON "{name}" TO ...'
        yield error(what, advice, runbook="delivery-refused")
    except InfluxMisconfiguredError as problem:
        yield error(str(problem), "see docs/influxdb.md", runbook="delivery-misconfigured")
        raise EnoughError from problem
    else:
        yield ok(f"the database {name} is there, and may be written")


def _may(it: OpenInfluxDB, statement: str) -> bool:
    """Tell whether a statement is allowed; in 1.x anybody may see databases, admins the rest."""
    try:
        it.client.query(statement, database=False)
    except InfluxRefusedError:
        return False
    except QueryRejectedError:
        # Of a later version, which does not know it.
        return True
    return True


def _influxdb_reading(it: OpenInfluxDB) -> Iterator[Finding]:
    name = it.target.database
    advice = f'grant it, so that a loss is noticed: GRANT ALL ON "{name}" TO ...'
    try:
        kept_ns = it.client.retention_ns()
    except InfluxRefusedError as refusal:
        what = f"nothing may be read of the database {name}: {refusal}"
        yield warning(what, advice, runbook="delivery-refused")
    except InfluxMisconfiguredError as problem:
        what = f"{problem}: there is nowhere to write to"
        advice = (
            f'make one: CREATE RETENTION POLICY "autogen" ON "{name}" DURATION INF REPLICATION 1 '
            "DEFAULT"
        )
        yield error(what, advice, runbook="delivery-misconfigured")
    except QueryRejectedError as problem:
        what = f"it does not tell how long it keeps points: {problem}"
        yield warning(what, "a loss of points is not noticed there", runbook="server-version")
    else:
        days = "for ever" if kept_ns is None else f"for {kept_ns / 86400e9:g} days"
        yield ok(f"the database {name} may be read, and keeps points {days}")


def _influxdb_columns(it: OpenInfluxDB) -> Iterator[Finding]:
    """Compare how wide tables are, and may become, with what the server takes."""
    most = None if it.client.kind is None else it.client.kind.most_columns.value
    if most is None:
        return
    advice = "what is beyond is in quarantine: see docs/influxdb.md, Wide tables"
    package = it.here.package
    planned = Counter(metric.package for metric in package.metrics.values()) if package else {}
    for name, count in sorted(planned.items()):
        if count > most * _NEARLY_FULL:
            what = (
                f"the metrics package {name} has {counted(count, 'metric')}: a job that measures "
                f"them all does not fit into a table, which has at most {most} columns"
            )
            yield warning(what, advice, runbook="wide-table")
    try:
        widths = columns(it.client)
    except (DatabaseMissingError, QueryRejectedError):
        return
    full = {name: width for name, width in widths.items() if width >= most * _NEARLY_FULL}
    for name, width in sorted(full.items()):
        what = f"the table {name} has {width} of at most {most} columns"
        yield warning(what, advice, runbook="wide-table")
    if widths and not full:
        name = max(widths, key=lambda item: widths[item])
        yield ok(f"the widest table, {name}, has {widths[name]} of at most {most} columns")


def _influxdb_subscriptions(it: OpenInfluxDB) -> Iterator[Finding]:
    told_too = [item.url for item in it.here.settings.kapacitors]
    try:
        found = subscriptions(it.client)
    except InfluxRefusedError:
        if told_too:
            what = "its user may not see whether it sends its points to Kapacitor too"
            advice = "ask an admin of it: SHOW SUBSCRIPTIONS must show none"
            yield warning(what, advice, runbook="subscription")
        return
    except QueryRejectedError:
        # Only 1.x has them.
        return
    if not told_too:
        told = ", ".join(place for item in found for place in item.destinations)
        yield ok(f"sends its points to {told}" if told else "sends its points to no Kapacitor")
        return
    for item in found:
        is_same = any(_is_of(place, url) for place in item.destinations for url in told_too)
        what = (
            f"sends every point to {', '.join(item.destinations)} too (subscription {item.name}), "
            "beside what the service tells Kapacitor: old values raise alerts, and each comes twice"
        )
        advice = f"turn subscriptions off in Kapacitor, restart it, then run here: {item.removal}"
        make = error if is_same or item.name.startswith("kapacitor-") else warning
        yield make(what, advice, runbook="subscription")
    if not found:
        yield ok("no subscription beside what the service tells Kapacitor")


def _is_of(place: str, url: str) -> bool:
    """Tell whether two addresses are surely of one server; names may differ for it."""
    one, other = urlsplit(place), urlsplit(url)
    return (one.hostname, one.port) == (other.hostname, other.port)


# Kapacitor, Chronograf and Grafana


@dataclass(frozen=True, slots=True)
class OpenServer:
    """One of these that answers."""

    here: Installation
    output: Output
    server: Server
    heard: Heard
    place: KapacitorTarget | None = None


@dataclass(frozen=True, slots=True)
class ServerPlace:
    """Where a server is that files are generated for; `target` if it is told of values."""

    label: str
    output: Output
    url: str
    target: KapacitorTarget | None = None


def server_places(settings: Settings) -> Iterator[ServerPlace]:
    """List the servers that the settings name; of Kapacitors there may be several."""
    for output in SERVED:
        if output.name == "kapacitor":
            for item in settings.kapacitors:
                yield ServerPlace(item.label, output, item.url, item)
        elif (url := getattr(settings, output.setting)) is not None:
            yield ServerPlace(output.name.capitalize(), output, url)


@contextmanager
def open_server(here: Installation, place: ServerPlace) -> Iterator[OpenServer | Finding]:
    """Ask a server whether it is there; yield a finding if it is not."""
    output, url = place.output, place.url
    began_s = time.time()
    try:
        token = here.settings.token_of(output.name)
        server = server_of(output)(url, token=token, timeout_s=TIMEOUT_S)
    except ServerError as problem:
        setting = output.setting
        if place.target is not None and place.target in here.settings.kapacitor_targets:
            setting = "kapacitor_targets"
        advice = f"is it running, and SQUASH_{setting.upper()} right?"
        yield error(_hanging(str(problem)), advice, runbook="delivery-unavailable")
        return
    with server:
        heard = _heard(server.greeting, began_s)
        yield OpenServer(here, output, server, heard, place.target)


def _server_version(it: OpenServer) -> Iterator[Finding]:
    what = it.server.what
    version_text = str(it.heard.headers.get(f"X-{what}-Version", ""))
    if version_text:
        yield from _known_good(what, version_text)
    else:
        yield ok("it does not say its version")


def _server_notes(it: OpenServer) -> Iterator[Finding]:
    for note in it.server.notes():
        yield warning(note.what, note.advice, runbook=note.runbook)


def _slack(it: OpenServer) -> Iterator[Finding]:
    if not isinstance(it.server, Kapacitor):
        return
    if len(it.here.settings.kapacitors) > 1:
        # See `who_speaks`.
        return
    is_mute, speaks = it.server.is_mute(), it.here.settings.tells_slack
    if speaks and not is_mute:
        what = "Slack is enabled in it, and the service tells Slack too: each alert comes twice"
        advice = "turn Slack off in it, or set SQUASH_SLACK=auto, see docs/outlets.md"
        yield warning(what, advice, runbook="slack-twice")
    elif is_mute and not speaks and it.here.settings.alerts_by == "kapacitor":
        what = "Slack is not enabled in it: alerts reach nobody, but by handlers of your own"
        advice = "enable it, see docs/deployment.md, Slack"
        yield warning(what, advice, runbook="alerts-unsent")


def who_speaks(here: Installation) -> Iterator[Finding]:
    """Say which of several Kapacitors tells Slack: all of them are told the same."""
    speaking, is_known = [], True
    for place in server_places(here.settings):
        try:
            with server_of(place.output)(place.url, timeout_s=TIMEOUT_S) as server:
                if isinstance(server, Kapacitor) and not server.is_mute():
                    speaking.append(place.label)
        except ServerError:
            # What is the matter is said of itself.
            is_known = False
    if here.settings.tells_slack:
        speaking.append("the service")
    if len(speaking) > 1:
        what = f"{' and '.join(speaking)} tell Slack: each alert comes {len(speaking)} times"
        advice = "let one speak, or each its own channel, see docs/facilities.md, Who alerts"
        yield warning(what, advice, runbook="slack-twice")
    elif speaking:
        yield ok(f"of all Kapacitors, {speaking[0]} alone tells Slack")
    elif is_known:
        what = "Slack is enabled in no Kapacitor: alerts reach nobody, but by handlers of your own"
        yield warning(what, "enable it in one of them", runbook="alerts-unsent")


def _server_things(it: OpenServer) -> Iterator[Finding]:
    """Compare what a server has with what the specifications of the settings ask for."""
    settings, package = it.here.settings, it.here.package
    if package is None or package.problems:
        yield ok("not compared with the specifications: SQUASH_SPECS names none that are right")
        return
    place = {
        "database": it.place.database if it.place else settings.influx_database,
        "retention_policy": (
            it.place.retention_policy if it.place else settings.kapacitor_retention_policy
        ),
    }
    try:
        files = make_files(package, schema=it.here.schema, alerts_by=settings.alerts_by, **place)
        found = compare(files, Path(), it.server.things(), it.output.kinds)
    except (SettingsError, InvalidInputError, FilesError) as problem:
        yield warning(f"not compared: {problem}", "see squash generate", runbook="generated-files")
        return
    wrong = [item for item in found.differences if item.server not in ("same", "absent")]
    for item in wrong[:MOST_LISTED]:
        words = f": {item.remark}" if item.remark else ""
        what = f"the {item.kind} {item.name} is {item.server}{words}"
        # Without it nobody is told.
        make = error if item.server in ("missing", "stopped") else warning
        yield make(what, "see squash live diff, and squash live push", runbook="generated-files")
    if len(wrong) > MOST_LISTED:
        what = f"and {len(wrong) - MOST_LISTED} more differ"
        yield warning(what, "see squash live diff", runbook="generated-files")
    if not wrong:
        yield ok(f"{counted(len(found.generated), 'object')}, all as the specifications ask for")


# The service itself


@dataclass(frozen=True, slots=True)
class OpenService:
    """What answers at SQUASH_URL."""

    here: Installation
    http: httpx.Client
    reply: httpx.Response
    heard: Heard


@contextmanager
def open_service(here: Installation) -> Iterator[OpenService | Finding]:
    """Ask the service whether it is there; yield a finding if it is not."""
    with httpx.Client(
        base_url=here.settings.url,
        headers={"Accept": "application/json", "User-Agent": "squash-api"},
        timeout=TIMEOUT_S,
        trust_env=False,
    ) as http:
        began_s = time.time()
        try:
            reply = http.get("/readyz")
        except (httpx.HTTPError, httpx.InvalidURL) as problem:
            words = _hanging(str(problem) or type(problem).__name__)
            what = f"nothing answers at {_public(here.settings.url)}: {words}"
            advice = "start it if it should run; if it does, look at SQUASH_URL and the proxy"
            yield warning(what, advice, runbook="url-unreachable")
            return
        yield OpenService(here, http, reply, _heard(reply.headers, began_s))


def _service_state(it: OpenService) -> Iterator[Finding]:
    said = _json_of(it.reply)
    state, place = said.get("status"), _public(it.here.settings.url)
    if state not in {"ok", "degraded", "down", "read-only"}:
        what = f"what answers at {place} ({it.reply.status_code}) is not this service"
        advice = "correct SQUASH_URL, or what the proxy does with its path"
        yield error(what, advice, runbook="url-unreachable")
    elif state == "down":
        record = said.get("record") or {}
        what = f"{place} accepts no jobs: {record.get('reason')}"
        entry = str(record.get("runbook") or "").rpartition("#")[2]
        yield error(what, "see the runbook at once", runbook=entry or "record_unavailable")
    elif state == "ok":
        yield ok(f"{place} is ok")
    elif state == "read-only":
        record = said.get("record") or {}
        if record.get("is_linked") is False:
            what = f"{place} reads a replica whose link to the primary is broken"
            yield warning(what, "it catches up when the link is back", runbook="only_reads")
        else:
            yield ok(f"{place} only reads, as of {record.get('as_of') or 'now'}")
    else:
        targets = said.get("targets") or {}
        held = [f"{name}: {item['reason']}" for name, item in targets.items() if "reason" in item]
        entries = [str(item.get("runbook")) for item in targets.values() if "runbook" in item]
        what = f"{place} is degraded" + (f": {'; '.join(held)}" if held else "")
        entry = entries[0].rpartition("#")[2] if entries else "delivery-unavailable"
        yield warning(what, "jobs are kept, and sent when that is over", runbook=entry)


def _service_version(it: OpenService) -> Iterator[Finding]:
    there, own = _json_of(it.http.get("/version")).get("release"), version("squash-api")
    if there is not None and there != own:
        what = f"the service runs {there}, and this command is of {own}"
        yield warning(what, "use the command of the same release", runbook="server-version")


def _json_of(reply: httpx.Response) -> dict[str, Any]:
    try:
        found = reply.json()
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}


def _hanging(reason: str) -> str:
    """Say what a timeout means."""
    if "timed out" not in reason and "Timeout" not in reason:
        return reason
    return f"{reason}: it hangs, or a firewall drops what we send"


def _public(url: str) -> str:
    """Return a URL without user and password."""
    return str(httpx.URL(url).copy_with(userinfo=b""))


INFLUXDB: tuple[Check, ...] = (
    _influxdb_version,
    _clock,
    _influxdb_database,
    _influxdb_reading,
    _influxdb_columns,
    _influxdb_subscriptions,
)
SERVER: tuple[Check, ...] = (_server_version, _clock, _server_notes, _slack, _server_things)
SERVICE: tuple[Check, ...] = (_service_state, _service_version, _clock)
