"""Writes, queries and deletions over InfluxDB's version 1 HTTP interface, which all versions have.

Nothing here waits and retries: the errors say whether that makes sense, by what to do next::

    InfluxError
    ├── InfluxUnavailableError    try again later, without end
    ├── InfluxRefusedError        pause: the credentials are wrong, or lack a permission
    ├── InfluxMisconfiguredError  pause: the URL or the server's configuration is wrong
    ├── DatabaseMissingError      create the database
    ├── BatchTooLargeError        send less at a time
    ├── BatchRejectedError        find the bad lines; the good ones may be stored already
    └── QueryRejectedError        the statement is wrong
        └── NotImplementedByItError   this version never does that
"""

import gzip
import json
import re
import time
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from typing import Any, ClassVar, Self

import httpx
import orjson

from squash_api.influx.servers import Kind, Server, server_of
from squash_api.schema.names import RESERVED_PACKAGE_PREFIX
from squash_api.settings import InfluxTarget

_PARTIAL = re.compile(
    # 2 puts words of its own before, 1.12 and 2 the place behind.
    r"(?:failure writing points to database: )?partial write: (.*) dropped=([0-9]+)"
    r"(?: for (?:database|retention policy): .*)?",
    re.DOTALL,
)
_UNPARSED = re.compile(r"^(?:partial write: )?unable to parse '(.*)': [^']*$", re.MULTILINE)
# 1.12: "points beyond retention policy or outside ..."; later "dropped 3 points outside retention".
_BEYOND_RETENTION = re.compile(
    r"points beyond retention policy|dropped [0-9]+ points outside retention policy "
)
# 3 has other words for it where a statement is planned.
_DATABASE_MISSING = re.compile(r"database not found|Database .* not found\Z")
_POLICY_MISSING = "retention policy not found"
_MAPPING_MISSING = ("no dbrp mapping", "default retention policy not set for")
_NOT_IMPLEMENTED = re.compile(r"\bnot implemented: ")
_TOO_MANY_FILES = "exceeding the file limit"
_ABOUT_THE_REQUEST = (
    "database is required",
    "missing db",
    "Adding a new database would exceed",
    "cannot write to soft-deleted database",
    "invalid character in database",
    "db name ",
    "database name ",
    "namespace name ",
)
"""How refusals begin that are of no line: 1.x, 2, and the rest 3."""


class InfluxError(Exception):
    """A failure of InfluxDB; `reason` is what it said, or what happened on the way to it.

    `runbook` is the entry of the runbook on what holds up delivery then.
    """

    runbook: ClassVar[str] = "delivery-misconfigured"

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


class InfluxUnavailableError(InfluxError):
    """No connection, no answer in time, 429, 5xx, or an answer that is not from InfluxDB."""

    runbook = "delivery-unavailable"


class InfluxRefusedError(InfluxError):
    """401 or 403."""

    runbook = "delivery-refused"


class InfluxMisconfiguredError(InfluxError):
    """There is no InfluxDB at this URL, or the retention policy does not exist."""


class DatabaseMissingError(InfluxError):
    """The database does not exist."""


class BatchTooLargeError(InfluxError):
    """413."""


class BatchRejectedError(InfluxError):
    """At least one line is permanently refused.

    Attributes
    ----------
    partial
        Whether InfluxDB says that it has stored the other lines.
    beyond_retention
        How many lines are older than the retention policy allows, if that is the reason, else 0.
        InfluxDB counts these exactly.
    by_line
        The reasons by the place of each refused line, from 0, where InfluxDB says that exactly: 3
        does. It has stored the others.
    """

    def __init__(self, reason: str, by_line: Mapping[int, str] | None = None) -> None:
        super().__init__(reason)
        self.by_line = dict(by_line or {})
        match = _PARTIAL.fullmatch(reason)
        self.partial = match is not None or bool(self.by_line)
        is_old = match is not None and _BEYOND_RETENTION.match(match[1])
        self.beyond_retention = int(match[2]) if match is not None and is_old else 0

    def unparsed_lines(self) -> set[str]:
        """Return the lines that InfluxDB says it cannot parse."""
        return set(_UNPARSED.findall(self.reason))


class QueryRejectedError(InfluxError):
    """InfluxDB does not accept the statement, or could not carry it out.

    `is_cut` if it gives only a part of the result, because the whole is beyond its limit.
    """

    is_cut = False


class NotImplementedByItError(QueryRejectedError):
    """No server of this version carries out such a statement."""


def write_error(
    status: int, words: str | None, by_line: Mapping[int, str] | None = None
) -> InfluxError:
    """Return the error for a reply to a write that was not 204.

    `words` is InfluxDB's explanation; None if there is none, because something else replied.
    `by_line` is that of each refused line, see `BatchRejectedError`.
    """
    if status == 413:
        return BatchTooLargeError(_reason(status, words))
    if status in {400, 422} and words and not words.startswith(_ABOUT_THE_REQUEST):
        return BatchRejectedError(words, by_line)
    return _reply_error(status, words)


def query_error(status: int, words: str | None) -> InfluxError:
    """Return the error for a reply to a query that was not 200."""
    if status == 400 and words:
        return statement_error(words)
    return _reply_error(status, words)


def statement_error(words: str) -> InfluxError:
    """Return the error for a statement that failed although the status was 200."""
    if _DATABASE_MISSING.match(words):
        return DatabaseMissingError(words)
    if words.startswith((_POLICY_MISSING, *_MAPPING_MISSING)):
        return _misconfigured(words)
    if "not authorized" in words or words == "insufficient permissions":
        return InfluxRefusedError(words)
    if _NOT_IMPLEMENTED.search(words):
        return NotImplementedByItError(words)
    error = QueryRejectedError(words)
    error.is_cut = _TOO_MANY_FILES in words
    return error


def _misconfigured(words: str) -> InfluxMisconfiguredError:
    """Say what to do about it, where InfluxDB's words do not."""
    if words.startswith(_MAPPING_MISSING):
        words += ": no bucket is mapped to the database of this target, see docs/influxdb.md"
    return InfluxMisconfiguredError(words)


def _reason(status: int, words: str | None) -> str:
    return words or f"HTTP {status} without an explanation by InfluxDB"


def _reply_error(status: int, words: str | None) -> InfluxError:
    reason = _reason(status, words)
    # Refused lines are quoted in the reply, so only its beginning can be trusted.
    if status in {401, 403}:
        return InfluxRefusedError(reason)
    if status == 404 and _DATABASE_MISSING.match(reason):
        return DatabaseMissingError(reason)
    if status >= 500 and reason.startswith(_POLICY_MISSING):
        return InfluxMisconfiguredError(reason)
    # A 400 without words is from a proxy, a success other than 204 from any other server.
    if status < 300 or status in {408, 425, 429} or status >= 500 or (status == 400 and not words):
        return InfluxUnavailableError(reason)
    return _misconfigured(reason)


CONNECT_TIMEOUT_S = 5.0
READ_TIMEOUT_S = 30.0
LONGEST_REPLY_S = 120.0
"""A reply that takes longer, though a byte comes now and then, is no reply."""
# Statements in one request, which must be done before it times out.
_DELETES = 10
_MOST_PLAIN = 300
_OF_THE_WAY = frozenset({"content-encoding", "content-length", "transfer-encoding"})
_LOOPBACK = frozenset({"127.0.0.1", "::1", "localhost"})


class InfluxClient:
    """One database of an InfluxDB, over connections that stay open. Safe to use from many threads.

    Every method raises only `InfluxError` when the server is unavailable or refuses. `server` is
    which one has replied to the last ping; None before the first reply.

    Parameters
    ----------
    transport
        Replaces the network in tests.
    timeout_s
        Longest wait for the next byte of an answer, by default `READ_TIMEOUT_S`; for a connection
        it is at most 5 s.
    """

    def __init__(
        self,
        target: InfluxTarget,
        *,
        transport: httpx.BaseTransport | None = None,
        timeout_s: float | None = None,
    ) -> None:
        timeout_s = READ_TIMEOUT_S if timeout_s is None else timeout_s
        self.target = target
        self.server: Server | None = None
        self._write_to = {"db": target.database, "precision": "ns"}
        # On the same machine, compressing costs more than it saves.
        self._is_near = httpx.URL(target.url).host in _LOOPBACK
        self._http = httpx.Client(
            base_url=target.url,
            auth=_auth(target),
            headers={"Accept": "application/json", "User-Agent": "squash-api"},
            timeout=httpx.Timeout(timeout_s, connect=min(timeout_s, CONNECT_TIMEOUT_S)),
            follow_redirects=False,
            trust_env=False,
            transport=transport,
        )

    @property
    def kind(self) -> Kind | None:
        """The kind of server that has replied to the last ping; None if it is not known."""
        return None if self.server is None else self.server.kind

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the connections."""
        self._http.close()

    def write(self, lines: Sequence[str]) -> None:
        """Write lines of line protocol, with times in ns, in one request; it succeeds with a 204.

        Raises
        ------
        BatchRejectedError
            At least one line is refused; the others may be stored. `deliver` finds out which.
        BatchTooLargeError
            The server does not accept so much at a time.
        DatabaseMissingError
            The database must be created first.
        """
        content = "\n".join(lines).encode()
        headers = {"Content-Type": "text/plain; charset=utf-8"}
        if not self._is_near:
            content = gzip.compress(content, compresslevel=1, mtime=0)
            headers["Content-Encoding"] = "gzip"
        reply = self._request(
            "POST",
            "/write",
            params=self._write_to,
            content=content,
            headers=headers,
        )
        if reply.status_code != 204:
            words, by_line = self._words(reply), _refused_lines(reply)
            raise write_error(reply.status_code, words, by_line)

    def query(
        self, influxql: str, *, params: Mapping[str, Any] | None = None, database: bool = True
    ) -> list[dict[str, Any]]:
        """Run InfluxQL statements, separated by semicolons.

        Parameters
        ----------
        params
            Values for `$name` in the statements.
        database
            Whether the statements are about the target's database.

        Returns
        -------
        list
            Series of all statements in order, each with `name`, `columns`, `values` and, if the
            query groups by tags, `tags`. Times are in ns; whole numbers are int.

        Raises
        ------
        QueryRejectedError
            A statement is wrong or failed, or its result was cut at the server's limit of rows.
        DatabaseMissingError
            The database does not exist.
        """
        form = {"q": influxql}
        if params:
            form["params"] = json.dumps(dict(params))
        about = {"db": self.target.database} if database else {}
        reply = self._request("POST", "/query", params={"epoch": "ns", **about}, data=form)
        if reply.status_code != 200:
            raise query_error(reply.status_code, self._words(reply))
        return _series(reply)

    def create_database(self) -> None:
        """Create the database unless it exists.

        Raises
        ------
        InfluxMisconfiguredError
            If that is not done by a statement there.
        """
        name = quote_identifier(self.target.database)
        try:
            self.query(f"CREATE DATABASE {name}", database=False)
        except NotImplementedByItError as refusal:
            raise InfluxMisconfiguredError(f"there is no database {name}: {refusal}") from refusal

    def ping(self) -> Mapping[str, str]:
        """Ask InfluxDB whether it is there, and which; return the headers of its reply."""
        reply = self._request("GET", "/ping")
        if reply.status_code not in {200, 204}:
            raise query_error(reply.status_code, self._words(reply))
        if not reply.headers.get("X-Influxdb-Version"):
            raise InfluxMisconfiguredError("the server at this URL is not an InfluxDB")
        self.server = server_of(reply.headers)
        return reply.headers

    def try_to_write(self) -> None:
        """Ask to write no points: it raises what a write would, if nothing may be written."""
        # One that wants points has let it pass so far.
        with suppress(BatchRejectedError):
            self.write(["# squash check"])

    def is_empty(self) -> bool:
        """Return whether the database has no jobs, or does not exist.

        The service's own points do not count: they are written every minute.
        """
        try:
            # The service itself has fewer.
            shown = self.query("SHOW MEASUREMENTS LIMIT 20")
            names = [str(row[0]) for series in shown for row in series["values"]]
            return all(name.startswith(RESERVED_PACKAGE_PREFIX) for name in names)
        except DatabaseMissingError:
            return True

    def retention_ns(self) -> int | None:
        """Return for how long the database keeps points by default, in ns; None: for ever.

        Raises
        ------
        InfluxMisconfiguredError
            If it has no default.
        QueryRejectedError
            If the server does not tell.
        """
        if self.kind is not None and self.kind.retention.value == "bucket":
            return self._retention_of_bucket_ns()
        shown = self.query(f"SHOW RETENTION POLICIES ON {quote_identifier(self.target.database)}")
        for series in shown:
            for row in series["values"]:
                policy = dict(zip(series["columns"], row, strict=True))
                if policy.get("default"):
                    return _duration_ns(str(policy["duration"]))
        raise InfluxMisconfiguredError("the database has no default retention policy")

    def _retention_of_bucket_ns(self) -> int | None:
        """Ask for the bucket that is mapped to the database by its name, as InfluxDB 2 maps it."""
        for name in (self.target.database, f"{self.target.database}/autogen"):
            reply = self._request("GET", "/api/v2/buckets", params={"name": name})
            found = _buckets(reply) if reply.status_code == 200 else []
            rules = [bucket.get("retentionRules") for bucket in found if bucket.get("name") == name]
            if len(rules) == 1 and isinstance(rules[0], list):
                kept_s = [rule.get("everySeconds") for rule in rules[0] if isinstance(rule, dict)]
                return next((int(item) * 10**9 for item in kept_s if item), None)
        raise QueryRejectedError(
            f"no bucket is called {self.target.database}, or its token may not read what it is like"
        )

    def has_point(self, measurement: str, time_ns: int) -> bool:
        """Return whether there is a point of a measurement with exactly this time."""
        name = quote_identifier(measurement)
        with suppress(DatabaseMissingError):
            return bool(
                self.query(f"SELECT * FROM {name} WHERE time = {time_ns:d} LIMIT 1")  # noqa: S608 - is quoted
            )
        return False

    def delete_points(self, points: Iterable[tuple[str, int]]) -> None:
        """Delete points, if they exist: those of a measurement with exactly a time (ns)."""
        statements = [deletion(name, time_ns) for name, time_ns in points]
        for start in range(0, len(statements), _DELETES):
            self._delete(statements[start : start + _DELETES])

    def _delete(self, statements: Sequence[str]) -> None:
        if len(statements) > 1:
            # Of several, InfluxDB does not always say why they were not carried out.
            with suppress(QueryRejectedError):
                self.query("; ".join(statements))
                return
        with suppress(DatabaseMissingError):
            for statement in statements:
                self.query(statement)

    def _words(self, reply: httpx.Response) -> str | None:
        """Return the server's explanation, whose key depends on the version, or None."""
        body = _json_of(reply)
        if body is None:
            return _plain_words(reply)
        words = body.get("error") or body.get("message")
        return words if isinstance(words, str) else None

    def _request(self, method: str, path: str, **content: Any) -> httpx.Response:
        ends_s = time.monotonic() + LONGEST_REPLY_S
        chunks = []
        try:
            with self._http.stream(method, path, **content) as reply:
                for chunk in reply.iter_bytes():
                    chunks.append(chunk)
                    if time.monotonic() > ends_s:
                        raise InfluxUnavailableError(f"no whole reply in {LONGEST_REPLY_S:g} s")
        except httpx.HTTPError as error:
            raise InfluxUnavailableError(f"{type(error).__name__}: {error}") from error
        # They are decompressed now.
        headers = [item for item in reply.headers.multi_items() if item[0] not in _OF_THE_WAY]
        return httpx.Response(reply.status_code, headers=headers, content=b"".join(chunks))


def _json_of(reply: httpx.Response) -> dict[str, Any] | None:
    try:
        body = orjson.loads(reply.content)
    except orjson.JSONDecodeError:
        return None
    return body if isinstance(body, dict) else None


def _plain_words(reply: httpx.Response) -> str | None:
    """Return what InfluxDB 3 says in plain text and without its type, as no proxy does.

    Of what it refuses like this, none is about a line.
    """
    if "Content-Type" in reply.headers or reply.status_code in {400, 422}:
        return None
    words = reply.text[:_MOST_PLAIN].strip()
    # A page is another server's.
    return None if words.startswith("<") else words or None


def _refused_lines(reply: httpx.Response) -> dict[int, str]:
    """Return what InfluxDB 3 says of each line that it refuses, by its place from 0."""
    body = _json_of(reply) or {}
    given = body.get("data")
    found = {}
    for item in given if isinstance(given, list) else [given]:
        if isinstance(item, dict) and isinstance(item.get("line_number"), int):
            found[item["line_number"] - 1] = str(item.get("error_message") or body.get("error"))
    return found


def _buckets(reply: httpx.Response) -> list[dict[str, Any]]:
    found = (_json_of(reply) or {}).get("buckets")
    return [item for item in found if isinstance(item, dict)] if isinstance(found, list) else []


def quote_identifier(name: str) -> str:
    """Quote the name of a database, measurement, tag or field for InfluxQL."""
    escaped = name.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
    return f'"{escaped}"'


def deletion(measurement: str, time_ns: int) -> str:
    """Make the statement that deletes the points of a measurement with exactly this time."""
    return f"DELETE FROM {quote_identifier(measurement)} WHERE time = {time_ns:d}"  # noqa: S608 - is quoted


def _duration_ns(text: str) -> int | None:
    """Read a duration as Go writes it, such as 168h0m0s; None for 0s, which means for ever."""
    factors = {"h": 3600, "m": 60, "s": 1}
    parts = re.findall(r"([0-9]+)([hms])", text)
    return sum(int(number) * factors[unit] for number, unit in parts) * 10**9 or None


def _auth(target: InfluxTarget) -> Any:
    if target.token is not None:
        header = f"Token {target.token.get_secret_value()}"

        def authorize(request: httpx.Request) -> httpx.Request:
            request.headers["Authorization"] = header
            return request

        return authorize
    if target.user is not None:
        password = target.password.get_secret_value() if target.password else ""
        return httpx.BasicAuth(target.user, password)
    return None


def _series(reply: httpx.Response) -> list[dict[str, Any]]:
    try:
        body = orjson.loads(reply.content)
        results = [body, *body.get("results", ())]
        for result in results:
            if "error" in result:
                raise statement_error(str(result["error"]))
        series = [one for result in results for one in result.get("series", ())]
        cut = any(one.get("partial") for one in series)
    except (orjson.JSONDecodeError, AttributeError, TypeError) as error:
        raise InfluxUnavailableError("the reply to a query is not from an InfluxDB") from error
    if cut:
        cut_result = QueryRejectedError("the server's max-row-limit cut the result of a query")
        cut_result.is_cut = True
        raise cut_result
    return series
