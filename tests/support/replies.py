"""What a service answers to the requests of its OpenAPI document: the examples in that document.

`python -m tests.support.replies` asks everything, and writes `squash_api/routes/examples.json`.
Every request with a body is sent with the example of the document.
"""

import json
import math
import re
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import astropy.units as u

from squash_api.accounts.keys import PREFIX as KEY_PREFIX
from squash_api.app import create_app
from squash_api.client import Job, Measurement
from squash_api.record.deliveries import Quarantined, mark_sent
from squash_api.record.record import Connection
from squash_api.routes.replies import FORM
from squash_api.site import Site
from tests.support.builders import make_settings, with_record
from tests.support.calls import Calls, log_in
from tests.support.in_process import serving
from tests.support.made_alerts import open_alerts
from tests.support.notebook_runs import post_notebook

EXAMPLES = Path(__file__).parents[2] / "squash_api" / "routes" / "examples.json"
_ROOT = "https://squash.example.org"
_METRIC = "validate_drp.PA1"
_MOST_ENTRIES = 2
_PATHS = {
    "job_id": "1",
    "silence_id": "1",
    "name": "camera.Pressure",
    "pipeline": "nightly",
    "run_id": "1042",
    "ci_id": "1042",
    "package": "validate_drp",
    "identifier": "1f",
    "cluster_id": "squash",
    "topic": "lsst.dm.stellarAstrometricRepeatability1",
}
# Of what has a name, but is no metric.
_NAMES = {"/user": "grace", "/webhooks": "night log", "/spec": "camera.Pressure.minimum"}
_QUERIES = {"/search": "?q=PA1", "/report": "?since=30d", "/measurements": f"?metric={_METRIC}"}
_SECRETS = {"access_token": "eyJ...", "secret": "whsec_..."}
_TIME = "%Y-%m-%dT%H:%M:%SZ"
# When all was asked for, in the examples.
_MOMENT = datetime(2026, 11, 28, 3, 12, tzinfo=UTC)
_NOT_ASKED = {
    # A stream that does not end.
    "get_events",
}


@dataclass
class Asked:
    """What was answered: by operation and status; and what was refused, with the words."""

    replies: dict[str, dict[str, Any]] = field(default_factory=dict)
    refused: dict[str, str] = field(default_factory=dict)


@contextmanager
def a_service(folder: Path) -> Iterator[tuple[Site, Calls, dict[str, Any]]]:
    """Run a service with something of everything, as an admin sees it; give its document too."""
    settings = make_settings(folder, url=_ROOT, influx_url="http://influxdb.example.org:8086")
    app = create_app(with_record(settings))
    site: Site = app.state.site
    site.background._readers.clear()
    site.background._threads.clear()
    with serving(app) as client:
        site.accounts.add("ada", "a password of tests", role="admin")
        calls = log_in(client, "ada")
        _fill(site, calls)
        yield site, calls, app.openapi()


def _fill(site: Site, calls: Calls) -> None:
    limit = {"threshold": {"operator": "<=", "value": 8, "unit": "mmag"}, "tags": ["minimum"]}
    made = {"metrics": [{"name": _METRIC, "description": "Repeatability.", "unit": "mmag"}]}
    specs = {"specs": [{"name": f"{_METRIC}.minimum", **limit}]}
    for path, body in (("/metrics", made), ("/specs", specs)):
        assert calls("POST", path, body).status_code == 201
    for number in (1041, 1042):
        meta: dict[str, Any] = {
            "env": {
                "env_name": "jenkins",
                "ci_id": f"{number}",
                "ci_name": "nightly",
            },
            "pipeline": "nightly",
            "dataset": "cfht",
            "filter_name": "r",
            "instrument": "MegaCam",
            "date": (datetime.now(UTC) - timedelta(days=1043 - number)).strftime(_TIME),
        }
        job = Job([Measurement(_METRIC, 9.5 * u.mmag, identifier=f"{number:032}")], meta=meta)
        job.link("map", f"https://plots.example.org/{number}.png", type="image/png")
        document = job.to_json()
        document["blobs"] = [{"identifier": "1f", "name": "stars", "data": {"mag": [17.5, 18.25]}}]
        assert calls("POST", "/job", document).status_code == 202
    post_notebook(calls, release="w_2026_50")
    site.reader.catch_up()

    def refuse(connection: Connection) -> None:
        rows = [
            Quarantined(job_id, "validate_drp", "validate_drp PA1=9.5 1", "type conflict")
            for job_id in (1, 2)
        ]
        about: Any = {"redelivered": [], "quarantined": rows, "now_ns": time.time_ns()}
        mark_sent(connection, "default", through=None, **about)

    site.record.write(refuse)
    for tags in ({"filter": "r"}, {"filter": "g"}):
        open_alerts(site.record, tags, metric=_METRIC)
    # One that has no value any more.
    open_alerts(site.record, {"detector": "42"}, metric="validate_drp.AM1")


def ask_everything(folder: Path) -> Asked:
    """Ask for every operation of the document, with its examples."""
    asked = Asked()
    with a_service(folder) as (_, calls, document):
        operations = [
            (path, method, operation)
            for path, methods in document["paths"].items()
            for method, operation in methods.items()
            if operation["operationId"] not in _NOT_ASKED
        ]
        # First what makes, then what reads, then what changes and removes.
        order = {"post": 0, "get": 1, "put": 2, "delete": 3}
        for path, method, operation in sorted(operations, key=lambda item: order[item[1]]):
            _ask(asked, calls, path, method, operation)
    return asked


def _ask(asked: Asked, calls: Calls, path: str, method: str, operation: dict[str, Any]) -> None:
    name = operation["operationId"]
    place = path.replace("/notebook/{job_id}", "/notebook/3")
    key_id = asked.replies.get("post_key", {}).get("201", {}).get("id", "")
    alert_id = "3" if path.endswith("/resolve") else "1"
    for key, value in {**_PATHS, "key_id": key_id, "alert_id": alert_id}.items():
        noun = f"/{path.split('/')[1]}"
        place = place.replace(f"{{{key}}}", _NAMES.get(noun, value) if key == "name" else value)
    place += _QUERIES.get(path, "") if method == "get" else ""
    bodies = operation.get("requestBody", {}).get("content", {})
    for kind, body in (bodies or {None: {}}).items():
        options: dict[str, Any] = {}
        if kind is not None:
            encode: Any = urlencode if kind == FORM else json.dumps
            options = {"content": encode(body["example"]), "headers": {"Content-Type": kind}}
        reply = calls(method.upper(), place, **options)
        if not reply.is_success:
            words = f"{method.upper()} {place} as {kind}: {reply.status_code} {reply.text[:300]}"
            asked.refused[name] = words
        elif "json" in reply.headers["content-type"] and kind != FORM:
            asked.replies[name] = {f"{reply.status_code}": shortened(reply.json())}


def closed(document: dict[str, Any]) -> dict[str, Any]:
    """Copy a document so that answers may have what is described and nothing else."""
    made: dict[str, Any] = json.loads(json.dumps(document))
    _close(made["components"]["schemas"])
    return made


def _close(node: Any) -> None:
    if isinstance(node, dict):
        if isinstance(node.get("properties"), dict):
            node.setdefault("additionalProperties", False)
        node = list(node.values())
    if isinstance(node, list):
        for item in node:
            _close(item)


def shortened(answer: Any) -> Any:
    """Leave out all but the first entries of lists, and secrets."""
    if isinstance(answer, dict):
        return {key: _SECRETS.get(key, shortened(value)) for key, value in answer.items()}
    if isinstance(answer, str) and answer.startswith(KEY_PREFIX):
        return f"{KEY_PREFIX}..."
    if isinstance(answer, list):
        return [shortened(item) for item in answer[:_MOST_ENTRIES]]
    return answer


def shape(answer: Any) -> Any:
    """Return what an answer is made of: keys and kinds of values, whatever the values are."""
    if isinstance(answer, dict):
        return {key: shape(value) for key, value in answer.items()}
    if isinstance(answer, list):
        return [shape(item) for item in answer]
    return "number" if isinstance(answer, int | float) else type(answer).__name__


def steady(text: str, *, began: datetime) -> str:
    """Write answers as if all had been asked for at one moment, so that they stay as they are.

    Times are moved, those of one minute to the same; what names keys is always the same.
    """

    def moved(found: re.Match[str]) -> str:
        text = found[0]
        if text.isdigit():
            when = datetime.fromtimestamp(int(text) // 10**9, UTC)
            return f"{int(_moved(when, began).timestamp()) * 10**9}"
        when = datetime.fromisoformat(f"{text[:10]}T{text[11:16]}:{text[17:19] or '00'}+00:00")
        return _moved(when, began).strftime(f"%Y-%m-%d{text[10]}%H:%M:%S")[: len(text)]

    text = re.sub(r"2\d{3}-\d\d-\d\d[T ]\d\d:\d\d(:\d\d)?|\b1\d{18}\b", moved, text)
    return re.sub(r"\b[0-9a-f]{12}\b(?=[\"`])", "0a1b2c3d4e5f", text)


def _moved(when: datetime, began: datetime) -> datetime:
    # What took a moment took none.
    minutes = math.floor((when - began).total_seconds() / 60)
    return _MOMENT + timedelta(minutes=minutes)


if __name__ == "__main__":
    at_first = datetime.now(UTC) - timedelta(seconds=5)
    with tempfile.TemporaryDirectory() as name:
        found = ask_everything(Path(name))
    for words in found.refused.values():
        print(words)  # noqa: T201  a command of developers
    ordered = dict(sorted(found.replies.items()))
    written = json.dumps(ordered, indent=1, ensure_ascii=False)
    EXAMPLES.write_text(f"{steady(written, began=at_first)}\n", encoding="utf-8")
