"""A small client of SQuaSH, for people without the LSST stack; it needs only httpx and astropy.

    >>> import astropy.units as u
    >>> from squash_api.client import Job, Measurement
    >>> job = Job([Measurement("camera.Temperature", 11.5 * u.deg_C)], meta={"filter": "r"})
    >>> job.dispatch(api_url="https://squash.example.org", api_key="sq_...")
    >>> table = Squash("https://squash.example.org").measurements("camera.Temperature", since="7d")

Source of the format: the job document of lsst.verify, and the requests that its
`Job.dispatch` makes. astropy is imported only where a quantity is asked for.
"""

import json
import re
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any, Self

import httpx

from squash_api.client.asking import Asking
from squash_api.client.reading import Texts, as_data_frame, as_table, parameters, read_columns
from squash_api.client.wire import SquashClientError, checked
from squash_api.verify.job_file import identified, job_parts, read_job_file
from squash_api.verify.measurement import Blob, DocumentError, Measurement, plain

_FIRST_POLL_S = 0.2
_LONGEST_POLL_S = 5.0
_JOB_ID = re.compile(r"`(\d+)`")


@dataclass(frozen=True, slots=True)
class Reply:
    """The service's answer to a job that it has stored.

    `absent` names the metrics measured as null, NaN or infinite; `skipped` has `{metric, reason}`
    for each value left out; `undeclared` metrics are stored like the others. `is_repeat` means that
    the service already had this job. `job_id` is None only if the service gives no id.
    """

    job_id: int | None
    status_url: str
    message: str
    absent: list[str] = field(default_factory=list)
    skipped: list[dict[str, str]] = field(default_factory=list)
    undeclared: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    is_repeat: bool = False


class Job:
    """Measurements and metadata that belong together, as lsst.verify defines them.

    `measurements` is a dictionary by metric: a new measurement of a metric replaces the previous.
    """

    def __init__(
        self, measurements: Iterable[Measurement] = (), *, meta: Mapping[str, Any] | None = None
    ) -> None:
        self.measurements: dict[str, Measurement] = {}
        self.meta = dict(meta or {})
        for measurement in measurements:
            self.add(measurement)

    def add(self, measurement: Measurement) -> None:
        """Add a measurement; it replaces one of the same metric."""
        self.measurements[measurement.metric] = measurement

    def link(
        self,
        key: str,
        url: str,
        *,
        type: str | None = None,  # noqa: A002  the name of the field
        description: str | None = None,
    ) -> None:
        """Name a file, page or picture that was made with the job, as an artifact of its metadata.

        `url` is where it is, by http or https; `type` a media type such as `image/png`, which a
        page may show; `description` what people read.
        """
        more = {"type": type, "description": description}
        self.meta[key] = {"url": url, **{k: text for k, text in more.items() if text is not None}}

    def to_json(self) -> dict[str, Any]:
        """Make the document to send: `measurements`, `blobs` and `meta`, for JSON.

        Raises
        ------
        TypeError
            If the metadata, a note or a datum has something that JSON cannot hold.
        """
        measurements = list(self.measurements.values())
        blobs = {blob.identifier: blob for item in measurements for blob in item.linked_blobs()}
        notes = {
            f"{item.metric}.{key}": note
            for item in measurements
            for key, note in item.notes.items()
        }
        return {
            "measurements": [item.to_json() for item in measurements],
            "blobs": [blob.to_json() for blob in blobs.values()],
            "meta": plain({**self.meta, **notes}, "meta"),
        }

    @classmethod
    def from_json(cls, document: Any) -> Self:
        """Read a job document; its `metrics` and `specs` are ignored.

        Raises
        ------
        ValueError
            If it is not a job.
        """
        parts = job_parts(document)
        blobs = {blob.identifier: blob for blob in map(Blob.from_json, parts["blobs"])}
        job = cls([Measurement.from_json(item, blobs) for item in parts["measurements"]])
        for key, value in parts["meta"].items():
            package, _, rest = key.partition(".")
            metric, _, note = rest.partition(".")
            measurement = job.measurements.get(f"{package}.{metric}")
            if measurement is not None and note:
                measurement.notes[note] = value
            else:
                job.meta[key] = value
        return job

    @classmethod
    def read(cls, path: str | Path) -> Self:
        """Read a file from `write` or lsst.verify; a bare NaN in it is read as null.

        Raises
        ------
        ValueError
            If it cannot be read or is not a job; the message names the file.
        """
        document, _ = read_job_file(path)
        try:
            return cls.from_json(document)
        except DocumentError as error:
            raise DocumentError(f"{path}: {error}") from None

    def write(self, path: str | Path) -> None:
        """Write the job to a file that lsst.verify can read too."""
        # lsst.verify does not read a file without these two.
        document = {**self.to_json(), "metrics": [], "specs": []}
        text = json.dumps(document, indent=2, sort_keys=True, allow_nan=False)
        Path(path).write_text(text + "\n", encoding="ascii")

    def dispatch(
        self,
        *,
        api_user: str | None = None,
        api_password: str | None = None,
        api_url: str,
        api_key: str | None = None,
        timeout: float = 900.0,
        strict: bool = False,
        retries: int = 5,
    ) -> Reply:
        """Send the job with `Squash.send`; sending it again is safe.

        It takes a user and a password, or a key.

        Raises
        ------
        SquashClientError
            If the service refuses it or cannot be reached.
        """
        with Squash(
            api_url, api_user, api_password, key=api_key, timeout=timeout, retries=retries
        ) as squash:
            return squash.send(self, strict=strict)


class Squash(Asking):
    """A SQuaSH service and a user of it: `Connection` has the parameters, `Asking` what to ask.

    >>> with Squash("https://squash.example.org", key="sq_...") as squash:
    ...     reply = squash.send(job)
    ...     for alert in squash.alerts(state="open"):
    ...         squash.acknowledge(alert["id"], alert["severity"], "I look at the flats")
    """

    def send(self, job: Job | Mapping[str, Any], *, strict: bool = False) -> Reply:
        """Send a job, or the document of one; measurements without identifier get one.

        With `strict` the service refuses a job if it would leave out a value that is not absent.
        Sending a job again is safe: the service recognizes it by its identifiers.

        Raises
        ------
        SquashClientError
            If the service refuses it or cannot be reached.
        ValueError, TypeError
            If it is not a job, or has something that JSON cannot hold.
        """
        document = job.to_json() if isinstance(job, Job) else identified(job)
        body = json.dumps(document, allow_nan=False).encode()
        url = httpx.URL(self._endpoint("job"))
        if strict:
            url = url.copy_merge_params({"strict": "true"})
        if not self._token:
            self.log_in()
        response = self._request("POST", url, body=body)
        return _to_reply(checked(response), is_repeat=response.status_code == 200)

    def wait(self, reply: Reply, timeout_s: float = 300.0) -> dict[str, Any]:
        """Wait until a job's status is SUCCESS or FAILURE, or the time is over.

        The last answer is returned: `status`, `message`, `targets` and more.
        """
        deadline = time.monotonic() + timeout_s
        pause_s = _FIRST_POLL_S
        while True:
            answer = self._object("GET", reply.status_url)
            left_s = deadline - time.monotonic()
            if answer.get("status") in ("SUCCESS", "FAILURE") or left_s <= 0:
                return answer
            self._wire.sleep(min(pause_s, left_s))
            pause_s = min(pause_s * 1.5, _LONGEST_POLL_S)

    def measurements(
        self,
        metric: Texts = (),
        *,
        as_pandas: bool = False,
        since: str | datetime | None = None,
        until: str | datetime | None = None,
        unit: str | None = None,
        fields: Texts = (),
        points: int | None = None,
        meta: Mapping[str, Any] | None = None,
        **terms: Any,
    ) -> Any:
        """Fetch values of metrics, sorted by time, with the metadata of their jobs.

            >>> squash.measurements("validate_drp.AM1", filter="r", since="90d", unit="arcsec")

        Every number is exactly the one that the service has. A list means any of its entries.
        Without arguments everything is returned.

        Parameters
        ----------
        since, until
            A date, in UTC if it names no zone, or how long ago (`90d`).
        unit
            Convert the values to this unit. Default: the units of their metrics.
        fields
            Metadata that get a column, for instance `meta.airmass`; `*` for all.
        points
            At most this many values of each metric and set of tags; the extremes stay.
        meta
            Only jobs with this metadata; `{"airmass": "1..1.5"}` gives a range.
        terms
            `package`, `run`, `job`, `version_tag`, `absent`, `limit`, or any tag.

        Returns
        -------
        QTable or DataFrame
            `time` (UTC), `job`, `metric`, `value`, `unit`, `run_id`, `run_url`, `version_tag`, all
            tags, and `fields`. In a QTable, `value` is a quantity if all values share a unit. An
            absent number is NaN, an absent text is empty.

        Raises
        ------
        SquashClientError
            If the service refuses the question, or cannot be reached.
        ImportError
            If pandas is not installed and `as_pandas` is given.
        """
        given = {"metric": metric, "since": since, "until": until, "unit": unit, "fields": fields}
        query = parameters({**given, "points": points, **terms}, meta or {})
        url = httpx.URL(self._endpoint("measurements")).copy_merge_params(query)
        make = as_data_frame() if as_pandas else as_table
        try:
            return self._read(url, make)
        except SquashClientError as error:
            if error.status_code != 401 or not self._may_log_in:
                raise
        self.log_in()
        return self._read(url, make)

    def _read(self, url: httpx.URL, make: Callable[..., Any]) -> Any:
        with self._wire.stream(url, token=self._token) as chunks:
            return make(read_columns(chunks))


def _to_reply(answer: Any, *, is_repeat: bool) -> Reply:
    said: dict[str, Any] = answer if isinstance(answer, dict) else {}
    message = str(said.get("message", ""))
    found = _JOB_ID.search(message)
    lists = {name: said.get(name) or [] for name in ("absent", "skipped", "undeclared", "notes")}
    return Reply(
        job_id=said.get("id") or (int(found[1]) if found else None),
        status_url=str(said.get("status", "")),
        message=message,
        is_repeat=is_repeat,
        **lists,
    )
