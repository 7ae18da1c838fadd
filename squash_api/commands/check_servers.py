"""What `squash check` asks of servers: Kapacitor, Chronograf, Grafana, the service.

A check is a function that yields what it finds, and a line in a table below. It changes nothing.
"""

import re
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any, Protocol

import httpx

from squash_api.commands.check_here import (
    MOST_LISTED,
    Check,
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
from squash_api.judging.wording import counted
from squash_api.settings import KapacitorTarget, Settings

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


@dataclass(frozen=True, slots=True)
class Heard:
    """What a server said of itself: the headers of its reply, and when that came (s since 1970)."""

    headers: Mapping[str, str]
    at_s: float
    took_s: float


class Answering(Protocol):
    """A server that has said something."""

    @property
    def heard(self) -> Heard:
        """What it has said."""


def heard_of(headers: Mapping[str, str], began_s: float) -> Heard:
    """Note what a server has said to what it was asked at a time (s since 1970)."""
    now_s = time.time()
    return Heard(headers, now_s, now_s - began_s)


def clock(it: Answering) -> Iterator[Finding]:
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


def known_good(what: str, text: str) -> Iterator[Finding]:
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
        server = server_of(output)(
            url,
            token=here.settings.token_of(output.name),
            variables=here.settings.file_variables,
            timeout_s=TIMEOUT_S,
        )
    except ServerError as problem:
        setting = output.setting
        if place.target is not None and place.target in here.settings.kapacitor_targets:
            setting = "kapacitor_targets"
        advice = f"is it running, and SQUASH_{setting.upper()} right?"
        yield error(hanging(str(problem)), advice, runbook="delivery-unavailable")
        return
    with server:
        heard = heard_of(server.greeting, began_s)
        yield OpenServer(here, output, server, heard, place.target)


def _server_version(it: OpenServer) -> Iterator[Finding]:
    what = it.server.what
    version_text = str(it.heard.headers.get(f"X-{what}-Version", ""))
    if version_text:
        yield from known_good(what, version_text)
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
        right = found.generated.get(item.key)
        is_missed = right is not None and not right.is_idle
        # Without it nobody is told.
        make = error if is_missed and item.server in ("missing", "stopped") else warning
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
            words = hanging(str(problem) or type(problem).__name__)
            what = f"nothing answers at {public(here.settings.url)}: {words}"
            advice = "start it if it should run; if it does, look at SQUASH_URL and the proxy"
            yield warning(what, advice, runbook="url-unreachable")
            return
        yield OpenService(here, http, reply, heard_of(reply.headers, began_s))


def _service_state(it: OpenService) -> Iterator[Finding]:
    said = _json_of(it.reply)
    state, place = said.get("status"), public(it.here.settings.url)
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


def hanging(reason: str) -> str:
    """Say what a timeout means."""
    if "timed out" not in reason and "Timeout" not in reason:
        return reason
    return f"{reason}: it hangs, or a firewall drops what we send"


def public(url: str) -> str:
    """Return a URL without user and password."""
    return str(httpx.URL(url).copy_with(userinfo=b""))


SERVER: tuple[Check, ...] = (_server_version, clock, _server_notes, _slack, _server_things)
SERVICE: tuple[Check, ...] = (_service_state, _service_version, clock)
