"""What `squash check` asks of each InfluxDB.

A check is a function that yields what it finds, and a line in the table at the end. It changes
nothing.
"""

import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from urllib.parse import urlsplit

from squash_api.commands import check_servers
from squash_api.commands.check_here import (
    Check,
    EnoughError,
    Finding,
    Installation,
    error,
    ok,
    warning,
)
from squash_api.commands.check_servers import Heard, clock, hanging, heard_of, known_good, public
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
from squash_api.settings import InfluxTarget

_NEARLY_FULL = 0.9
"""A table with so many of the columns that it may have is told of."""


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
    with InfluxClient(target, timeout_s=check_servers.TIMEOUT_S) as client:
        began_s = time.time()
        try:
            heard = heard_of(client.ping(), began_s)
        except InfluxError as problem:
            advice = "is it running, and its URL right? Jobs are kept, and sent when it is back"
            if isinstance(problem, InfluxRefusedError):
                advice = "correct its token, which must be allowed to ping InfluxDB 3 Enterprise"
            what = f"{public(target.url)}: {hanging(problem.reason)}"
            yield error(what, advice, runbook=problem.runbook)
            return
        yield OpenInfluxDB(here, client, heard)


def _version(it: OpenInfluxDB) -> Iterator[Finding]:
    server = it.client.server
    if server is None or server.kind in (None, ONE):
        yield from known_good("InfluxDB", str(it.heard.headers.get("X-Influxdb-Version", "")))
        return
    yield ok(f"{server.name}, through its interface of version 1")
    for lack in server.lacks(is_feeding=bool(it.here.settings.kapacitors)):
        advice = "docs/influxdb.md says what works on each version"
        yield warning(f"{server.name}: {lack}", advice, runbook="server-version")


def _database(it: OpenInfluxDB) -> Iterator[Finding]:
    """Look whether the database is there, and may be written."""
    # In others even a write of nothing may make the database.
    look = _writing if it.client.kind in (None, ONE, TWO) else _presence
    yield from look(it)


def _presence(it: OpenInfluxDB) -> Iterator[Finding]:
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


def _writing(it: OpenInfluxDB) -> Iterator[Finding]:
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


def _reading(it: OpenInfluxDB) -> Iterator[Finding]:
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


def _columns(it: OpenInfluxDB) -> Iterator[Finding]:
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


def _subscriptions(it: OpenInfluxDB) -> Iterator[Finding]:
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


INFLUXDB: tuple[Check, ...] = (
    _version,
    clock,
    _database,
    _reading,
    _columns,
    _subscriptions,
)
