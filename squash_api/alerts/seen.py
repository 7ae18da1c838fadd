"""An alert as people and programs see it: with its group, who has it, and what silences it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, cast

from squash_api.index.code_changes import CodeChanges
from squash_api.index.history import Entry
from squash_api.judging.alert_texts import LATE, alert_line, alert_path
from squash_api.judging.alerts import level_of, severity_of
from squash_api.judging.kinds.criterion import Criterion
from squash_api.judging.kinds.registry import shown_criterion
from squash_api.judging.states import State, state_of
from squash_api.judging.wording import date_text
from squash_api.record.alerts import (
    ACKNOWLEDGED,
    OPEN,
    RESOLVED,
    AlertRow,
    EventRow,
    GroupRow,
)
from squash_api.record.silences import SilenceRow
from squash_api.schema import alert_answers as answers
from squash_api.schema.artifacts import Artifact


@dataclass(frozen=True, slots=True)
class Seen:
    """An alert, its group, who has it, and the silence because of which nobody is told of it."""

    row: AlertRow
    group: GroupRow
    holder: str | None
    silence: SilenceRow | None

    @property
    def is_living(self) -> bool:
        """Whether it is not resolved."""
        return self.row.state != RESOLVED

    @property
    def needs_a_person(self) -> bool:
        """Whether somebody should look at it: nobody has it, and nobody has said to leave it."""
        return self.row.state == OPEN and not self.row.is_trial and self.silence is None

    @property
    def level(self) -> str:
        """Its level, at its worst if it is resolved."""
        return level_of(self.row.severity or self.row.worst)

    @property
    def state(self) -> str:
        """Its state in words, such as `open, silenced`."""
        words: list[str] = [self.row.state]
        words += ["silenced"] if self.silence is not None else []
        words += ["on trial"] if self.row.is_trial else []
        return ", ".join(words)

    @property
    def is_late(self) -> bool:
        """Whether it is about values that are late."""
        return self.row.branch.startswith(LATE)

    @property
    def worst_broken(self) -> Mapping[str, Any] | None:
        """The verdict on the worst limit that it broke last; None if it is about something else."""
        broken = self.row.broken
        return max(broken, key=lambda item: severity_of(item.get("level") or "INFO"), default=None)

    @property
    def criterion(self) -> Criterion | None:
        """The worst limit that it broke last; None if it is not a limit on a value."""
        worst = self.worst_broken
        return None if worst is None else shown_criterion(worst, worst.get("unit") or "")

    @property
    def runs(self) -> Mapping[str, int] | None:
        """How many runs break its worst limit, of how many; None if the newest value decides."""
        worst = self.worst_broken
        return worst.get("runs") if worst is not None and self.is_living else None

    @property
    def shown_value(self) -> float | None:
        """The value that breaks the worst limit; with several runs, the newest need not."""
        worst = self.worst_broken
        return self.row.value if worst is None or not self.runs else worst.get("value")

    @property
    def text(self) -> str:
        """Its value and its limit, or what is late, in one line."""
        return alert_line(self.row)

    @property
    def run(self) -> tuple[str | None, str] | None:
        """The pipeline and the id of the run that opened its group; None if there is none."""
        run = self.group.key.get("run")
        if not isinstance(run, list) or len(run) != 2 or not isinstance(run[1], str):
            return None
        return run[0], run[1]

    def to_json(self, url: str) -> answers.Alert:
        """Describe it for programs; `url` is the public root of the service."""
        row = self.row
        return {
            "id": row.alert_id,
            "state": row.state,
            "severity": level_of(row.severity) if row.severity else None,
            "worst": level_of(row.worst),
            "metric": row.metric,
            "tags": dict(row.tags),
            "group": row.group_id,
            "trial": row.is_trial,
            "silenced": self.silence is not None,
            "silence": None if self.silence is None else self.silence.silence_id,
            "text": self.text,
            "value": row.value,
            "unit": row.unit,
            "broken": cast("list[answers.Broken]", list(row.broken)),
            "date": _date(row.time_ns),
            "job": _job(url, row.job_id),
            "opened": date_text(row.opened_ns),
            "opened_by_job": _job(url, row.opened_job_id),
            "run": None if self.run is None else {"pipeline": self.run[0], "run_id": self.run[1]},
            "acknowledged": self._acknowledged(),
            "resolved": _date(row.resolved_ns),
            "url": f"{url}{alert_path(row.alert_id)}",
        }

    def _acknowledged(self) -> answers.Acknowledgement | None:
        row = self.row
        if row.state != ACKNOWLEDGED:
            return None
        seen = row.acknowledged_severity
        return {
            "by": self.holder,
            "since": _date(row.acknowledged_ns),
            "severity": level_of(seen) if seen else None,
            "until": _date(row.acknowledged_until_ns),
            "note": row.note,
            "link": row.link,
        }


@dataclass(frozen=True, slots=True)
class SeenGroup:
    """A group with those of its alerts that are looked at, worst first, and how many it has.

    `text` says what it is about, such as `PA1: 17 of 189 detectors`.
    """

    group: GroupRow
    alerts: Sequence[Seen]
    total: int
    text: str = ""

    @property
    def first(self) -> Seen:
        """The alert to show for it: the worst that needs a person, if one does."""
        return next((item for item in self.alerts if item.needs_a_person), self.alerts[0])

    @property
    def held(self) -> int:
        """How many of its alerts somebody has."""
        return sum(item.row.state == ACKNOWLEDGED for item in self.alerts)

    @property
    def rank(self) -> int:
        """0 if it needs a person, 1 if somebody has it, then what is silenced, on trial, over."""
        heard = [item for item in self.alerts if item.is_living and not item.row.is_trial]
        if any(item.needs_a_person for item in heard):
            return 0
        if any(item.silence is None for item in heard):
            return 1
        if heard:
            return 2
        return 3 if any(item.is_living for item in self.alerts) else 4

    @property
    def severity(self) -> int:
        """That of its worst alert; if all are resolved, of the worst that there was."""
        living = max((item.row.severity for item in self.alerts), default=0)
        return living or max(item.row.worst for item in self.alerts)

    @property
    def order(self) -> tuple[int, int, int]:
        """A key that sorts groups: what needs a person first, then by severity, then the newest."""
        return self.rank, -self.severity, -self.group.group_id


@dataclass(frozen=True, slots=True)
class RunValue:
    """The newest value of a run in a series, and how bad it was; None if it was not measured."""

    entry: Entry
    severity: int | None

    @property
    def state(self) -> State:
        """How it stood."""
        is_measured = self.severity is not None
        return state_of(self.severity or 0, is_limited=True, is_measured=is_measured)

    def to_json(self, url: str) -> answers.RunOfAlert:
        """Describe it for programs."""
        return {
            "job": _job(url, self.entry.job_id),
            "run_id": self.entry.run_id,
            "date": _date(self.entry.time_ns),
            "value": self.entry.value,
            "state": self.state,
        }


@dataclass(frozen=True, slots=True)
class Happened:
    """An event of the history of an alert, and the name of who brought it about."""

    event: EventRow
    user: str | None

    def to_json(self, url: str) -> answers.AlertEvent:
        """Describe it for programs."""
        event = self.event
        return {
            "date": _date(event.time_ns),
            "kind": event.kind,
            "severity": level_of(event.severity) if event.severity else None,
            "user": self.user,
            "job": _job(url, event.job_id),
            "detail": dict(event.detail),
        }


@dataclass(frozen=True, slots=True)
class Detail:
    """All that there is to know of an alert.

    Parameters
    ----------
    history
        Its events, oldest first.
    others
        The other alerts of its group.
    runs
        The newest runs of its series, oldest first; those that came after it opened too.
    last_good
        The newest run before it opened that broke none of its limits.
    changes
        What has changed in the code from there to the job that opened it.
    artifacts
        Of the job that opened it.
    similar
        Earlier alerts of the same metric and branch, the newest first.
    same_run
        What else the run has opened.
    """

    seen: Seen
    history: Sequence[Happened]
    others: Sequence[Seen]
    runs: Sequence[RunValue]
    last_good: RunValue | None
    changes: CodeChanges | None
    artifacts: Sequence[Artifact]
    similar: Sequence[Seen]
    same_run: Sequence[Seen]

    def to_json(self, url: str) -> answers.AlertStory:
        """Describe it for programs."""
        changes = self.changes
        packages = None if changes is None or changes.packages is None else changes.packages
        return {
            **self.seen.to_json(url),
            "runs": [item.to_json(url) for item in self.runs],
            "last_good": None if self.last_good is None else self.last_good.to_json(url),
            "changes": None
            if changes is None
            else {
                "since_run": changes.previous_run_id,
                "packages": None if packages is None else [item.to_json() for item in packages],
                "unknown": list(changes.unknown),
            },
            "artifacts": [
                {
                    "key": item.key,
                    "url": item.url,
                    "type": item.type,
                    "description": item.description,
                }
                for item in self.artifacts
            ],
            "history": [item.to_json(url) for item in self.history],
            "others": [_brief(item, url) for item in self.others],
            "similar": [_brief(item, url) for item in self.similar],
            "same_run": [_brief(item, url) for item in self.same_run],
        }


@dataclass(frozen=True, slots=True)
class Counts:
    """How many alerts live, without those on trial: each is counted once."""

    open: int = 0
    acknowledged: int = 0
    silenced: int = 0

    @property
    def any(self) -> bool:
        """Whether there is any."""
        return bool(self.open or self.acknowledged or self.silenced)


def _brief(seen: Seen, url: str) -> answers.BriefAlert:
    told = seen.to_json(url)
    return {
        "id": told["id"],
        "state": told["state"],
        "severity": told["severity"],
        "worst": told["worst"],
        "metric": told["metric"],
        "tags": told["tags"],
        "opened": told["opened"],
        "resolved": told["resolved"],
        "url": told["url"],
    }


def _date(time_ns: int | None) -> str | None:
    return None if time_ns is None else date_text(time_ns)


def _job(url: str, job_id: int | None) -> str | None:
    return None if job_id is None else f"{url}/job/{job_id}"
