"""What a service knows beside values, and what can be done about alerts: a method for each."""

from collections.abc import Iterator, Mapping
from datetime import datetime
from typing import Any, cast
from urllib.parse import quote

from squash_api.client.connection import Connection
from squash_api.client.reading import Texts, text_of
from squash_api.client.wire import SquashClientError, checked
from squash_api.schema.alert_answers import (
    Alert,
    AlertDetails,
    ChangedAlert,
    NewSilence,
    Silence,
)
from squash_api.schema.answers import (
    Artifact,
    Run,
    RunDetails,
    Standing,
    StoredJob,
    StoredMeasurement,
    Verdict,
)
from squash_api.verify.measurement import Measurement

Moment = str | datetime
"""A date, in UTC if it names no zone, or how long ago (`90d`) or from now (`8h`)."""


class Asking(Connection):
    """Reads alerts, silences, runs, standings, jobs and reports; acts on alerts.

    Lists are iterators, which ask for their next page when it is needed; `list(...)` reads all.
    All methods raise `SquashClientError`, with the service's message, if it refuses or cannot be
    reached.
    """

    def alerts(
        self,
        *,
        state: Texts = (),
        severity: Texts = (),
        metric: str | None = None,
        package: str | None = None,
        tags: Mapping[str, Any] | None = None,
        since: Moment | None = None,
        until: Moment | None = None,
        trial: bool | None = None,
        silenced: bool | None = None,
        acknowledged_by: str | None = None,
        group: int | None = None,
    ) -> Iterator[Alert]:
        """Read alerts, the newest first.

            >>> for alert in squash.alerts(state=["open", "acknowledged"], severity="CRITICAL"):
            ...     print(alert["text"], alert["url"])

        Parameters
        ----------
        state
            `open`, `acknowledged` or `resolved`; a list means any of them.
        severity
            `INFO`, `WARNING` or `CRITICAL`: the level now, or the worst once it is resolved.
        tags
            Those that its series has, all of them: `{"detector": 42}`.
        since, until
            Those that there were in this time.
        trial, silenced
            Only those that are, or only the others.
        """
        query = {
            "state": state,
            "severity": severity,
            "metric": metric,
            "package": package,
            "tag": [f"{name}={text_of(value)}" for name, value in (tags or {}).items()],
            "since": since,
            "until": until,
            "trial": trial,
            "silenced": silenced,
            "acknowledged_by": acknowledged_by,
            "group": group,
        }
        return self._entries(self._endpoint("alerts"), "alerts", query)

    def alert(self, alert_id: int) -> AlertDetails:
        """Read all that there is to know of an alert."""
        return cast("AlertDetails", self._object("GET", self._place("alert", alert_id)))

    def acknowledge(
        self,
        alert_id: int,
        severity: str,
        note: str,
        *,
        link: str | None = None,
        until: Moment | None = None,
        group: bool = False,
    ) -> ChangedAlert:
        """Say that you have an alert, or with `group` all of its group.

        `severity` is the level that you saw: if it has risen since, this is refused (409).
        """
        body = _given(severity=severity, note=note, link=link, until=_moment(until))
        body["group"] = group
        return cast(
            "ChangedAlert", self._change("POST", self._place("alert", alert_id, "ack"), body)
        )

    def release(self, alert_id: int, *, group: bool = False) -> ChangedAlert:
        """Take an acknowledgement back, or with `group` those of all its group."""
        url = self._place("alert", alert_id, "ack")
        return cast("ChangedAlert", self._change("DELETE", url, query={"group": group}))

    def resolve(self, alert_id: int, note: str | None = None) -> ChangedAlert:
        """Resolve the alert of a series that reports no more."""
        url = self._place("alert", alert_id, "resolve")
        answer = self._change("POST", url, _given(note=note), is_repeatable=False)
        return cast("ChangedAlert", answer)

    def silences(self, *, state: str | None = None) -> Iterator[Silence]:
        """Read silences, the newest first; `state` is `planned`, `active` or `over`."""
        return self._entries(self._endpoint("silences"), "silences", {"state": state})

    def silence(
        self,
        until: Moment,
        why: str,
        *,
        metric: str | None = None,
        tags: Mapping[str, Any] | None = None,
        since: Moment | None = None,
    ) -> NewSilence:
        """Let nobody be told of some alerts until a time, and say why.

        `metric` is a metric or a package, by default all; `tags` are those that a series must have;
        `since` is when it begins, by default now. `alerts` in the answer is how many live now.
        """
        body = _given(until=_moment(until), why=why, metric=metric, tags=tags and dict(tags))
        body |= _given(**{"from": _moment(since)})
        # Sent twice, it would be two.
        answer = self._change("POST", self._endpoint("silences"), body, is_repeatable=False)
        return cast("NewSilence", answer)

    def end_silence(self, silence_id: int) -> Silence:
        """End a silence now."""
        return cast("Silence", self._change("DELETE", self._place("silence", silence_id)))

    def runs(
        self,
        *,
        pipeline: Texts = (),
        dataset: Texts = (),
        filter: Texts = (),  # noqa: A002  the tag's name
        specs: str | None = None,
    ) -> Iterator[Run]:
        """Read runs and how they stand, those with the newest jobs first.

        With `specs="now"` they are judged by today's specifications, else by those of their day.
        """
        query = {"pipeline": pipeline, "dataset": dataset, "filter": filter, "specs": specs}
        return self._entries(self._endpoint("runs"), "runs", query)

    def run(self, pipeline: str | None, run_id: str, *, specs: str | None = None) -> RunDetails:
        """Read a run: its state, its faults, all its jobs, and what software changed before it."""
        parts = [_run_part(pipeline), _run_part(run_id)]
        url = "/".join([self._endpoint("runs").rstrip("/"), *parts])
        first, *others = self._pages(url, "jobs", {"specs": specs})
        jobs = [job for page in (first, *others) for job in page["jobs"]]
        return cast("RunDetails", {**first, "jobs": jobs, "next": None})

    def standings(
        self,
        *,
        package: Texts = (),
        dataset: Texts = (),
        filter: Texts = (),  # noqa: A002  the tag's name
        instrument: Texts = (),
        tag: Texts = (),
        state: Texts = (),
        q: str | None = None,
    ) -> Iterator[Standing]:
        """Read how every metric stands now, the worst first."""
        query = {
            "package": package,
            "dataset": dataset,
            "filter": filter,
            "instrument": instrument,
            "tag": tag,
            "state": state,
            "q": q,
        }
        return self._entries(self._endpoint("standings"), "standings", query)

    def jobs(self, *, after: int | None = None) -> Iterator[int]:
        """Read the ids of all jobs, ascending; only those after one, if it is given."""
        return self._entries(self._endpoint("jobs"), "ids", {"after": after})

    def job(self, job_id: int) -> StoredJob:
        """Read a job: its time, measurements and metadata."""
        return cast("StoredJob", self._object("GET", self._place("job", job_id)))

    def report(self, job_id: int) -> list[Verdict]:
        """Read the verdicts on a job."""
        url = self._place("job", job_id, "report")
        verdicts = checked(self._request("GET", url))
        if not isinstance(verdicts, list):
            raise SquashClientError(f"GET {url}: the answer is not a list of verdicts")
        return cast("list[Verdict]", verdicts)

    def report_on(
        self,
        *,
        run: Texts = (),
        version_tag: Texts = (),
        since: Moment | None = None,
        until: Moment | None = None,
        **terms: Any,
    ) -> dict[str, Any]:
        """Read a report on a run, a release or a period; by default on the last seven days.

            >>> report = squash.report_on(version_tag="w_2026_50", package="validate_drp")
            >>> report["summary"]["headline"]

        Parameters
        ----------
        terms
            `pipeline`, `package`, `metric`, `dataset`, `filter`, `instrument`, `tag`, `level`,
            `changepoints`, and `compare_run` and the like: what to compare it with.
        """
        query = {"run": run, "version_tag": version_tag, "since": since, "until": until, **terms}
        return self._asked(self._endpoint("report"), {**query, "format": "json"})

    def artifacts(self, job_id: int) -> list[Artifact]:
        """Read what a job's metadata link to: `key`, `url`, `type` and `description` of each."""
        return list(self._entries(self._place("job", job_id, "artifacts"), "artifacts", {}))

    def add(self, job_id: int, measurement: Measurement) -> StoredMeasurement:
        """Add a measurement to a job, or replace the one of its metric; only its owner may."""
        document = measurement.to_json()
        body = {name: document[name] for name in ("metric", "identifier", "value", "unit")}
        answer = self._change("POST", self._place("measurement", job_id), body)
        return cast("StoredMeasurement", answer)


def _given(**fields: Any) -> dict[str, Any]:
    """Leave out what is None."""
    return {name: value for name, value in fields.items() if value is not None}


def _moment(value: Moment | None) -> str | None:
    return None if value is None else text_of(value)


def _run_part(name: str | None) -> str:
    """Write a name of a run as its addresses have it; source: docs/http-api.md."""
    if name is None:
        return "-"
    is_taken = name.startswith("-") or name in {".", ".."}
    return quote(f"-{name}" if is_taken else name, safe="")
