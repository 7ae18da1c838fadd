"""Stand-ins for InfluxDBs that are not to be had here: they answer as their documents say.

Where these are silent, as their sources do (2.x: http/legacy, v1/coordinator; 3.10:
influxdb3_server/src/http.rs, iox_v1_query_api). Use one as `httpx.MockTransport(stand_in)`, or
behind an `HttpServer`.
"""

import gzip
import json
import re
import time
from collections.abc import Iterator
from typing import Any
from urllib.parse import parse_qs

import httpx

from tests.support.told_kapacitor import parse_line

TOKEN = "the-token"
_SLOT_NS = 600 * 10**9
_QUOTED = r'"((?:\\.|[^"\\])*)"'
_AT = re.compile(rf"SELECT \* FROM {_QUOTED} WHERE time = (-?\d+) LIMIT 1")
_RANGE = re.compile(
    rf'SELECT (count\("squash_id"\)|\*) FROM {_QUOTED} WHERE time >= (-?\d+) AND time <= (-?\d+) '
)
_DELETION = re.compile(rf"DELETE FROM {_QUOTED} WHERE time = (-?\d+)")
Key = tuple[str, int, tuple[tuple[str, str], ...]]


class StatementError(Exception):
    """What the result of a statement says instead of series."""


class LineError(Exception):
    """Why a line is refused."""


class StandIn:
    """An InfluxDB 1.8: what the others are changed from.

    `databases` exist; `points` are by measurement, time and tags. `requests` are the method and
    path of each, with the statements of queries. `kept_s` is how long points are kept.
    """

    version, build = "1.8.10", "OSS"
    token: str | None = None

    def __init__(self, *databases: str) -> None:
        self.databases = set(databases or ("squash",))
        self.points: dict[Key, dict[str, Any]] = {}
        self.requests: list[str] = []
        self.kept_s: int | None = None

    def __call__(self, request: httpx.Request) -> httpx.Response:
        """Answer a request."""
        path = request.url.path
        asked = parse_qs(request.read().decode())["q"][0] if path == "/query" else ""
        self.requests.append(f"{request.method} {path} {asked}".rstrip())
        is_known = self.token is None or self.token in request.headers.get("Authorization", "")
        if not is_known and not (path == "/ping" and self.opens_ping):
            return self.unknown(path)
        if path == "/ping":
            return self.ping()
        if path == "/write":
            body = request.content
            if request.headers.get("Content-Encoding") == "gzip":
                body = gzip.decompress(body)
            return self.write(request.url.params["db"], body.decode().split("\n"))
        if path == "/query":
            return self.query(request.url.params.get("db"), asked)
        return self.other(request)

    opens_ping = True

    def ping(self) -> httpx.Response:
        return httpx.Response(204, headers=self.named())

    def named(self) -> dict[str, str]:
        return {"X-Influxdb-Version": self.version, "X-Influxdb-Build": self.build}

    def unknown(self, _path: str) -> httpx.Response:
        return httpx.Response(401, json={"error": "authorization failed"})

    def other(self, _request: httpx.Request) -> httpx.Response:
        return httpx.Response(404, text="404 page not found\n")

    # Writes

    def write(self, database: str, lines: list[str]) -> httpx.Response:
        if database not in self.databases:
            return httpx.Response(404, json={"error": f'database not found: "{database}"'})
        errors = self.store(lines)
        if errors:
            return httpx.Response(400, json={"error": self.partial(errors)})
        return httpx.Response(204)

    def partial(self, errors: dict[int, str]) -> str:
        reasons = list(errors.values())
        old = [reason for reason in reasons if reason == self.too_old()]
        reason = old[0] if old else reasons[0]
        return f"partial write: {reason} dropped={len(old or reasons)}"

    def too_old(self) -> str:
        return "points beyond retention policy"

    def store(self, lines: list[str]) -> dict[int, str]:
        """Store what can be stored; return why other lines are not, by their place."""
        errors = {}
        for place, line in enumerate(lines):
            if line and not line.startswith("#"):
                try:
                    self.store_line(line)
                except LineError as error:
                    errors[place] = str(error)
        return errors

    def store_line(self, line: str) -> None:
        name, tags, fields, time_ns = parse_line(line)
        for key, value in fields.items():
            known = self.kinds(name).get(key)
            if known is not None and known is not type(value):
                raise LineError(self.conflict(name, key))
        if self.kept_s is not None and time_ns < time.time_ns() - self.kept_s * 10**9:
            raise LineError(self.too_old())
        self.points.setdefault((name, time_ns, tuple(sorted(tags.items()))), {}).update(fields)

    def conflict(self, name: str, key: str) -> str:
        return f'field type conflict: input field "{key}" on measurement "{name}" is type string'

    def kinds(self, name: str) -> dict[str, type]:
        found = [item for (key, _, _), item in self.points.items() if key == name]
        return {key: type(value) for item in found for key, value in item.items()}

    def columns(self, name: str) -> set[str]:
        tags = {key for (of, _, pairs) in self.points if of == name for key, _ in pairs}
        return tags | self.kinds(name).keys()

    # Queries

    def query(self, database: str | None, statements: str) -> httpx.Response:
        results = []
        for number, statement in enumerate(statements.split("; ")):
            try:
                found = {"series": list(self.answer(database or "", statement))}
            except StatementError as error:
                results.append({"statement_id": number, "error": str(error)})
                break
            results.append({"statement_id": number, **found})
        return httpx.Response(200, content=json.dumps({"results": results}))

    def answer(self, database: str, statement: str) -> Iterator[dict[str, Any]]:
        """Yield the series of a statement."""
        word = " ".join(statement.split(" ", 2)[:2])
        made = re.fullmatch(rf"CREATE DATABASE {_QUOTED}", statement)
        if made is not None:
            self.create(made[1])
        elif word == "SHOW DATABASES":
            yield from _listed("databases", sorted(self.databases))
        elif word == "SHOW SUBSCRIPTIONS":
            self.show_subscriptions()
        elif statement.startswith("SHOW RETENTION POLICIES"):
            self.find(database)
            yield self.policies()
        elif word == "SHOW MEASUREMENTS":
            self.find(database)
            yield from _listed("measurements", sorted({key[0] for key in self.points}))
        elif word in {"SHOW TAG", "SHOW FIELD"}:
            yield from self.keys(is_tag=word == "SHOW TAG")
        elif (removal := _DELETION.fullmatch(statement)) is not None:
            self.find(database)
            self.delete(removal[1], int(removal[2]))
        else:
            self.find(database)
            yield from self.select(statement)

    def find(self, database: str) -> None:
        if database not in self.databases:
            raise StatementError(f"database not found: {database}")

    def create(self, name: str) -> None:
        self.databases.add(name)

    def show_subscriptions(self) -> None:
        """Nothing is subscribed."""

    def policies(self) -> dict[str, Any]:
        kept = "0s" if self.kept_s is None else f"{self.kept_s // 3600}h0m0s"
        columns = ["name", "duration", "shardGroupDuration", "replicaN", "default"]
        return {"columns": columns, "values": [["autogen", kept, "168h0m0s", 1, True]]}

    def keys(self, *, is_tag: bool) -> Iterator[dict[str, Any]]:
        for name in sorted({key[0] for key in self.points}):
            fields = self.kinds(name).keys()
            found = self.columns(name) - fields if is_tag else fields
            yield {"name": name, "columns": ["key"], "values": [[key] for key in sorted(found)]}

    def delete(self, name: str, time_ns: int) -> None:
        for key in [key for key in self.points if key[:2] == (name, time_ns)]:
            del self.points[key]

    def select(self, statement: str) -> Iterator[dict[str, Any]]:
        if (one := _AT.fullmatch(statement)) is not None:
            what, name, first, last = "*", one[1], int(one[2]), int(one[2])
        else:
            asked = _RANGE.match(statement)
            assert asked is not None, statement
            what, name, first, last = asked[1], asked[2], int(asked[3]), int(asked[4])
        found = {
            key: fields
            for key, fields in self.points.items()
            if key[0] == name and first <= key[1] <= last
        }
        self.read([key[1] for key in found])
        if what.startswith("count") and found:
            count = sum("squash_id" in fields for fields in found.values())
            yield {"name": name, "columns": ["time", "count"], "values": [[0, count]]}
            return
        for (_, time_ns, tags), fields in found.items():
            row = [time_ns, *fields.values()]
            yield {
                "name": name,
                "tags": dict(tags),
                "columns": ["time", *fields],
                "values": [row],
            }

    def read(self, times: list[int]) -> None:
        """Refuse to read too much."""


class Two(StandIn):
    """An InfluxDB 2.7 with buckets of these names, mapped as it maps them by itself."""

    version, build = "v2.7.12", "OSS"
    token = TOKEN

    def unknown(self, _path: str) -> httpx.Response:
        return _refused(401, "unauthorized", "unauthorized access")

    def write(self, database: str, lines: list[str]) -> httpx.Response:
        if database not in self.databases:
            return _refused(404, "not found", "no dbrp mapping found")
        errors = self.store(lines)
        if errors:
            words = f"failure writing points to database: {self.partial(errors)}"
            place = " for database: 0123456789abcdef for retention policy: autogen"
            return _refused(422, "unprocessable entity", words + place)
        return httpx.Response(204)

    def too_old(self) -> str:
        return "dropped 1 points outside retention policy of duration 1h0m0s - oldest, newest"

    def find(self, database: str) -> None:
        if database not in self.databases:
            raise StatementError(f"default retention policy not set for: {database}")

    def create(self, _name: str) -> None:
        raise StatementError("not implemented: CREATE DATABASE")

    def show_subscriptions(self) -> None:
        raise StatementError("not implemented: SHOW SUBSCRIPTIONS")

    def policies(self) -> dict[str, Any]:
        columns = ["name", "duration", "shardGroupDuration", "replicaN", "default"]
        return {"columns": columns, "values": [["autogen", "0s", "168h0m0s", 1, True]]}

    def other(self, request: httpx.Request) -> httpx.Response:
        if request.url.path != "/api/v2/buckets":
            return _refused(404, "not found", "path not found")
        name = request.url.params["name"]
        rules = [] if self.kept_s is None else [{"type": "expire", "everySeconds": self.kept_s}]
        bucket = {"id": "0123456789abcdef", "name": name, "retentionRules": rules}
        return httpx.Response(200, json={"buckets": [bucket] if name in self.databases else []})


class Core(StandIn):
    """An InfluxDB 3 Core 3.8 with these databases."""

    version, build = "3.8.0", "Core"
    token = TOKEN
    opens_ping = False
    most_columns, most_databases = 500, 5
    most_files: int | None = 432

    def ping(self) -> httpx.Response:
        body = {"product_name": f"InfluxDB 3 {self.build}", "version": self.version}
        return httpx.Response(200, headers=self.named(), json=body)

    def unknown(self, path: str) -> httpx.Response:
        if path == "/query":
            return httpx.Response(401, json={"error": "unauthorized access"})
        return httpx.Response(401)

    def write(self, database: str, lines: list[str]) -> httpx.Response:
        if re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9_-]*(/[A-Za-z0-9_-]+)?", database) is None:
            return _plain(400, {"error": "invalid character in database or rp name: must be ASCII"})
        if len(self.databases | {database}) > self.most_databases:
            words = f"Adding a new database would exceed limit of {self.most_databases} databases"
            return _plain(422, {"error": words})
        self.databases.add(database)
        errors = self.store(lines)
        if not errors:
            has_points = any(line and not line.startswith("#") for line in lines)
            return httpx.Response(204) if has_points else _plain(400, "incoming write was empty")
        data = [
            {"original_line": lines[place], "line_number": place + 1, "error_message": words}
            for place, words in errors.items()
        ]
        is_full = any(words.startswith("Update to schema") for words in errors.values())
        body = {"error": "partial write of line protocol occurred", "data": data}
        return _plain(422 if is_full else 400, body)

    def store_line(self, line: str) -> None:
        name, tags, fields, _ = parse_line(line)
        if len(self.columns(name) | tags.keys() | fields.keys()) > self.most_columns:
            raise LineError(
                "Update to schema would exceed number of columns per table limit of "
                f"{self.most_columns} columns"
            )
        super().store_line(line)

    def too_old(self) -> str:
        raise AssertionError("it takes them, and does not show them")

    def conflict(self, _name: str, key: str) -> str:
        return f"invalid column type for column '{key}', expected iox::column_type::field::float"

    def find(self, database: str) -> None:
        if database not in self.databases:
            raise StatementError(f"Database {database} not found")

    def create(self, _name: str) -> None:
        raise StatementError("datafusion error: This feature is not implemented: CREATE DATABASE")

    def delete(self, _name: str, _time_ns: int) -> None:
        raise StatementError("datafusion error: This feature is not implemented: DELETE")

    def query(self, database: str | None, statements: str) -> httpx.Response:
        if "SHOW SUBSCRIPTIONS" in statements:
            words = "error in InfluxQL statement: parsing error: invalid SHOW statement"
            return httpx.Response(400, json={"error": words})
        return super().query(database, statements)

    def policies(self) -> dict[str, Any]:
        kept = "0s" if self.kept_s is None else f"{self.kept_s // 3600}h0m0s"
        return {"columns": ["name", "duration", "default"], "values": [["squash", kept, True]]}

    def read(self, times: list[int]) -> None:
        files = {time_ns // _SLOT_NS for time_ns in times}
        if self.most_files is not None and len(files) > self.most_files:
            words = f"Query would scan {len(files)} Parquet files, exceeding the file limit."
            raise StatementError(f"datafusion error: External error: {words} InfluxDB 3 Core ...")


class Enterprise(Core):
    """An InfluxDB 3 Enterprise 3.11."""

    version, build = "3.11.0", "Enterprise"
    most_databases = 100
    most_files = None


class Serverless(Core):
    """InfluxDB Cloud Serverless, with buckets of these names, and a token that may make none."""

    version, build = "2.0.0", "cloud2"
    opens_ping = True
    most_columns = 200
    most_files = None

    def unknown(self, _path: str) -> httpx.Response:
        return _refused(401, "unauthorized", "unauthorized access")

    def write(self, database: str, lines: list[str]) -> httpx.Response:
        if database not in self.databases:
            return _refused(403, "forbidden", "insufficient permissions to create a bucket")
        errors = self.store(lines)
        if errors:
            return _refused(400, "invalid", next(iter(errors.values())))
        return httpx.Response(204)

    def store_line(self, line: str) -> None:
        try:
            super().store_line(line)
        except LineError as error:
            if not str(error).startswith("Update to schema"):
                raise
            name = parse_line(line)[0]
            raise LineError(
                f"couldn't create columns in table `{name}`; limit is {self.most_columns}"
            ) from error

    def other(self, request: httpx.Request) -> httpx.Response:
        name = request.url.params.get("name")
        return httpx.Response(200, json={"buckets": [{"name": name, "retentionRules": []}]})


VERSIONS: dict[str, type[StandIn]] = {
    "1": StandIn,
    "2": Two,
    "3 Core": Core,
    "3 Enterprise": Enterprise,
    "Cloud": Serverless,
}


def _refused(status: int, code: str, message: str) -> httpx.Response:
    return httpx.Response(status, json={"code": code, "message": message})


def _plain(status: int, body: Any) -> httpx.Response:
    """Answer without saying what type the body is of, as InfluxDB 3 does."""
    text = body if isinstance(body, str) else json.dumps(body)
    return httpx.Response(status, content=text.encode())


def _listed(name: str, values: list[str]) -> Iterator[dict[str, Any]]:
    if values:
        yield {"name": name, "columns": ["name"], "values": [[value] for value in values]}
