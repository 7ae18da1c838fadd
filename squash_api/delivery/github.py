"""GitHub, told of runs: the state of the commit that a run measured, and a comment in its request.

It is told how things are: what is to be said of each commit is made anew whenever something has
changed, and sent if it is not what was sent last. Text from jobs is shown as code, so that it is no
markup and names nobody.
"""

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from hashlib import sha256
from typing import Any

import orjson
import structlog
from pydantic import SecretStr

from squash_api.delivery.github_api import GitHub, NotTakenError, PullRequest, repository_of
from squash_api.delivery.sending import Sender
from squash_api.delivery.teller import Teller
from squash_api.delivery.telling import Seen, is_told, look
from squash_api.index.code_changes import PackageChange
from squash_api.index.contexts import JobContext
from squash_api.index.derived import derived_through
from squash_api.index.reader import Reader, View
from squash_api.index.runs import RunRow
from squash_api.judging.alert_texts import alert_line, alert_path, worst_first
from squash_api.judging.alerts import level_of
from squash_api.judging.wording import counted
from squash_api.record.alerts import (
    ACKNOWLEDGED,
    AlertRow,
    followed_through,
    gathering_groups,
    living_alerts,
)
from squash_api.record.record import Record
from squash_api.record.silences import active_silences
from squash_api.record.users import get_user
from squash_api.record.webhooks import GITHUB, Receiver
from squash_api.schema.names import META_PREFIX, TEXT_SUFFIX

FOLLOWED_NS = 14 * 86_400 * 10**9
"""For how long a run is followed after its last job, in ns."""

QUIET_S = 60.0
"""A run that has had no job for so long is judged; until then its commit is pending."""

_MOST_COMMITS, _MOST_JOBS, _MOST_OF_RUN, _MOST_RUNS = 200, 500, 1000, 100
_MOST_LISTED, _MOST_NAMED = 20, 10
# Half of what a claim lasts.
_LONGEST_NS = 30 * 10**9
_SHA = re.compile(r"[0-9a-f]{40}")
_STATES = {"pending": "\u23f3", "success": "\u2705", "failure": "\U0001f534"}

_log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Followed:
    """A commit that a run has measured. `told` is what GitHub was told last, in short.

    Without a run it is about the one job, `job_id`, which otherwise is the newest of the run.
    """

    repository: str
    sha: str
    pipeline: str | None
    run_id: str | None
    job_id: int
    received_ns: int
    told: str | None = None

    @property
    def key(self) -> str:
        """What is told as one: a newer run of a pipeline stands for the commit."""
        return f"{self.repository} {self.sha} {self.pipeline or ''}"


@dataclass(frozen=True, slots=True)
class Progress:
    """What GitHub was told of: jobs through `job`, the commits, and our comments by request."""

    job: int = 0
    commits: Mapping[str, Followed] = field(default_factory=dict)
    comments: Mapping[str, int] = field(default_factory=dict)

    @classmethod
    def read(cls, text: str) -> "Progress":
        """Read what `text` has made."""
        found = orjson.loads(text)
        commits = {key: Followed(**item) for key, item in found.get("commits", {}).items()}
        return cls(found.get("job", 0), commits, found.get("comments", {}))

    @property
    def text(self) -> str:
        """It as the record keeps it."""
        return orjson.dumps(asdict(self)).decode()


@dataclass(frozen=True, slots=True)
class Said:
    """What is to be said of a commit, by one pipeline: the state, in words, and its alerts."""

    state: str
    description: str
    section: str

    @property
    def short(self) -> str:
        """What tells it from what was said before."""
        whole = f"{self.state}\n{self.description}\n{self.section}"
        return sha256(whole.encode()).hexdigest()[:16]


@dataclass(frozen=True, slots=True)
class _Seen:
    """What decides on what is said: jobs in the index, those judged, and alerts."""

    through: int
    judged: int | None
    alerts: Seen


class GitHubTeller(Teller):
    """Tells GitHub of the runs that measured commits of some repositories.

    `repositories` are `owner/name` or `owner/*`, in small letters; others are never asked for.
    """

    kind = GITHUB

    def __init__(
        self,
        record: Record,
        reader: Reader,
        *,
        url: str,
        token: SecretStr,
        repositories: Sequence[str],
        squash_url: str,
        quiet_s: float = QUIET_S,
        **other: Any,
    ) -> None:
        super().__init__(record, reader, **other)
        self._url = url
        self._token = token
        self._repositories = frozenset(repositories)
        self._squash_url = squash_url
        self._quiet_ns = int(quiet_s * 10**9)
        self._seen: _Seen | None = None
        # When a run becomes quiet, which nothing in the record says.
        self._again_ns: int | None = None

    def first_cursor(self, view: View) -> Mapping[str, Any]:
        """Return the cursor after all jobs there are."""
        return {"job": view.ask(derived_through)}

    def has_news(self, receiver: Receiver) -> bool:
        """Tell whether jobs or alerts have changed, or a run has become quiet."""
        del receiver
        with self._reader.view() as view:
            seen = self._look(view)
        is_quiet = self._again_ns is not None and self._clock() >= self._again_ns
        return seen != self._seen or is_quiet

    async def tell(self, receiver: Receiver) -> None:
        """Follow new jobs, and say of each commit what has changed."""
        ends_ns = self._clock() + _LONGEST_NS
        progress = Progress.read(receiver.cursor)
        with self._reader.view() as view:
            seen = self._look(view)
            followed = self._follow(view, progress, seen.through)
            said = {key: self._said(view, item) for key, item in followed.commits.items()}
        if followed != progress:
            receiver, progress = self.move(receiver, followed.text), followed
        async with Sender() as sender:
            github = GitHub(sender, self._url, self._token, clock=self._clock)
            for key, item in followed.commits.items():
                if item.told == said[key].short:
                    continue
                if self.is_stopping() or self._clock() > ends_ns:
                    return
                progress = await self._say(github, progress, item, said)
                receiver = self.move(receiver, progress.text)
        waits = [
            item.received_ns + self._quiet_ns
            for key, item in followed.commits.items()
            if said[key].state == "pending"
        ]
        self._again_ns = min(waits, default=None)
        self._seen = seen if followed.job >= seen.through else None

    def _look(self, view: View) -> _Seen:
        return _Seen(
            view.ask(derived_through),
            view.ask(followed_through),
            look(view, now_ns=self._clock()),
        )

    def _follow(self, view: View, progress: Progress, through: int) -> Progress:
        """Add the commits of new jobs, and forget those of long ago."""
        last = min(progress.job + _MOST_JOBS, through)
        jobs = view.contexts.of(range(progress.job + 1, last + 1))
        commits = dict(progress.commits)
        runs = view.runs.of_jobs(jobs)
        for job_id, job in sorted(jobs.items()):
            run = runs.get(job_id)
            for repository, sha in self._commits_of(view, job, run):
                pipeline = None if run is None else run.pipeline
                run_id = None if run is None else run.run_id
                new = Followed(repository, sha, pipeline, run_id, job_id, job.received_ns)
                before = commits.get(new.key)
                told = before.told if before is not None and before.run_id == run_id else None
                commits[new.key] = replace(new, told=told)
        oldest_ns = self._clock() - FOLLOWED_NS
        newest = sorted(commits.items(), key=lambda pair: pair[1].received_ns)[-_MOST_COMMITS:]
        kept = {key: item for key, item in newest if item.received_ns > oldest_ns}
        return replace(progress, job=max(last, progress.job), commits=kept)

    def _commits_of(self, view: View, job: JobContext, run: RunRow | None) -> list[tuple[str, str]]:
        """Return the repositories and commits that a job is about."""
        fields = job.context.fields
        url, sha = _meta(fields, "git_url"), _meta(fields, "git_sha")
        if url is not None and sha is not None:
            found = self._commit(url, sha)
            return [] if found is None else [found]
        if run is None or run.package_set_id is None:
            return []
        changes = view.changes_since_previous_run([job.job_id]).get(job.job_id)
        if changes is None or changes.packages is None:
            return []
        named = (
            self._commit(item.git_url or "", item.after or "")
            for item in changes.packages
            if not item.is_gone
        )
        return [item for item in named if item is not None][:_MOST_NAMED]

    def _commit(self, git_url: str, sha: str) -> tuple[str, str] | None:
        repository = repository_of(git_url, self._url)
        if repository is None or _SHA.fullmatch(sha.lower()) is None:
            return None
        owner = repository.partition("/")[0]
        is_named = not self._repositories.isdisjoint({repository, f"{owner}/*"})
        return (repository, sha.lower()) if is_named else None

    def _said(self, view: View, item: Followed) -> Said:
        """Return what is to be said of a commit now."""
        jobs = {item.job_id}
        if item.run_id is not None:
            members = view.runs.newest_jobs(item.pipeline, item.run_id, limit=_MOST_OF_RUN)
            jobs |= {member.job_id for member in members}
        silences = view.ask(active_silences, now_ns=self._clock())
        alerts = [
            alert
            for alert in view.ask(living_alerts)
            if not jobs.isdisjoint({alert.opened_job_id, alert.job_id}) and is_told(alert, silences)
        ]
        open_ones = [alert for alert in alerts if alert.state != ACKNOWLEDGED]
        gathering = {group.group_id for group in view.ask(gathering_groups)}
        followed = view.ask(followed_through)
        is_judged = (followed is None or followed >= item.job_id) and gathering.isdisjoint(
            alert.group_id for alert in alerts
        )
        if not is_judged or self._clock() < item.received_ns + self._quiet_ns:
            state, words = "pending", "Jobs of this run are arriving"
        elif open_ones:
            state, words = "failure", _counts(open_ones)
        elif alerts:
            state, words = "success", f"{counted(len(alerts), 'alert')}, somebody has each of them"
        else:
            state, words = "success", "No alert is open"
        return Said(state, words, self._section(view, item, alerts, state, words))

    def _section(
        self, view: View, item: Followed, alerts: Sequence[AlertRow], state: str, words: str
    ) -> str:
        """Return the part of a comment that is about one pipeline."""
        root = self._squash_url
        run = f"run {item.run_id}" if item.run_id is not None else f"job {item.job_id}"
        title = f"{item.pipeline} " if item.pipeline else ""
        job = f"[job {item.job_id}]({root}/job/{item.job_id})"
        about = f"{_code(title + run)}, {job}, commit {item.sha[:7]}"
        lines = [f"{_STATES[state]} **{words}** \u2013 {about}"]
        if alerts:
            lines += ["", "| | alert | |", "|---|---|---|"]
        for alert in worst_first(alerts)[:_MOST_LISTED]:
            tags = " ".join(f"{name} {text}" for name, text in alert.tags.items())
            what = _code(f"{tags}: {alert_line(alert)}" if tags else alert_line(alert))
            link = f"[{level_of(alert.severity)}]({root}{alert_path(alert.alert_id)})"
            lines.append(f"| {link} | {what} | {_code(_holder(view, alert))} |")
        if len(alerts) > _MOST_LISTED:
            lines += ["", f"and {len(alerts) - _MOST_LISTED} more"]
        return "\n".join(lines)

    async def _say(
        self, github: GitHub, progress: Progress, item: Followed, said: Mapping[str, Said]
    ) -> Progress:
        """Tell what is to be said of a commit; return what GitHub was told of then."""
        what = said[item.key]
        try:
            await github.set_state(
                item.repository,
                item.sha,
                state=what.state,
                context=f"squash/{item.pipeline or 'job'}",
                description=what.description,
                url=f"{self._squash_url}/job/{item.job_id}",
            )
            if what.state != "pending":
                for request in await github.pull_requests(item.repository, item.sha):
                    progress = await self._comment(github, progress, item, request, said)
        except NotTakenError as error:
            _log.error(
                "GitHub does not take what is said of a commit",
                repository=item.repository,
                commit=item.sha,
                reason=str(error),
                runbook="github-commit",
            )
        told = {**progress.commits, item.key: replace(item, told=what.short)}
        return replace(progress, commits=told)

    async def _comment(
        self,
        github: GitHub,
        progress: Progress,
        item: Followed,
        request: PullRequest,
        said: Mapping[str, Said],
    ) -> Progress:
        """Write or edit the comment in a pull request, about all pipelines of its commit."""
        marker = f"<!-- squash {self._squash_url} -->"
        same = [
            other
            for other in progress.commits.values()
            if (other.repository, other.sha) == (item.repository, item.sha) and other.key in said
        ]
        with self._reader.view() as view:
            warnings = [self._warning(view, other, request) for other in same]
        sections = [
            f"{said[other.key].section}{warning}"
            for other, warning in zip(same, warnings, strict=True)
        ]
        body = "\n\n".join([f"{marker}\n### SQuaSH", *sections])
        place = f"{item.repository}#{request.number}"
        known = progress.comments.get(place)
        if known is None:
            known = await github.find_comment(item.repository, request.number, marker)
        if known is not None:
            try:
                await github.edit_comment(item.repository, known, body)
                return replace(progress, comments={**progress.comments, place: known})
            except NotTakenError:
                # Somebody has deleted it.
                pass
        made = await github.comment(item.repository, request.number, body)
        newest = dict(list({**progress.comments, place: made}.items())[-_MOST_COMMITS:])
        return replace(progress, comments=newest)

    def _warning(self, view: View, item: Followed, request: PullRequest) -> str:
        """Say that the base was measured with other packages, if it was; else nothing."""
        head = view.runs.of_jobs([item.job_id]).get(item.job_id)
        if head is None or head.pipeline is None or head.run_id is None:
            return ""
        base = self._run_of(view, item, request.base_sha)
        what = "when the base of this request was measured"
        if base is None:
            what = "in the run before; the base of this request was not measured"
            before = head.previous_job_id
            base = None if before is None else view.runs.of_jobs([before]).get(before)
        if base is None:
            return ""
        changes = view.changes_between(base, head).packages
        if changes is None:
            return "\n\n\u26a0 The packages are not known with which base and commit were measured."
        others = [
            change
            for change in changes
            if repository_of(change.repository or "", self._url) != item.repository
        ]
        if not others:
            return ""
        listed = ", ".join(map(_change, others[:_MOST_NAMED]))
        more = f" and {len(others) - _MOST_NAMED} more" if len(others) > _MOST_NAMED else ""
        return (
            f"\n\n\u26a0 {counted(len(others), 'other package')} differed {what}, so what changed "
            f"may not be of this commit: {listed}{more}"
        )

    def _run_of(self, view: View, item: Followed, sha: str) -> RunRow | None:
        """Return the newest run of a pipeline that measured a commit of the same repository."""
        for run_id in view.runs.recent(item.pipeline)[:_MOST_RUNS]:
            for member in view.runs.newest_jobs(item.pipeline, run_id, limit=1):
                row = view.runs.of_jobs([member.job_id]).get(member.job_id)
                context = view.contexts.of([member.job_id]).get(member.job_id)
                if row is None or context is None:
                    continue
                if _meta(context.context.fields, "git_sha") == sha:
                    return row
                if (item.repository, sha) in self._packages_of(view, row):
                    return row
        return None

    def _packages_of(self, view: View, row: RunRow) -> Iterator[tuple[str, str]]:
        """Yield the repositories and commits of the packages of a run."""
        if row.package_set_id is None:
            return
        for package in view.runs.package_sets([row.package_set_id])[row.package_set_id]:
            repository = repository_of(str(package.get("git_url") or ""), self._url)
            if repository is not None:
                yield repository, str(package.get("git_sha") or "")


def _meta(fields: Mapping[str, Any], name: str) -> str | None:
    found = fields.get(f"{META_PREFIX}{name}{TEXT_SUFFIX}")
    return found if isinstance(found, str) else None


def _counts(alerts: Iterable[AlertRow]) -> str:
    severities = [alert.severity for alert in alerts]
    return ", ".join(
        f"{severities.count(severity)} {level_of(severity)}"
        for severity in sorted(set(severities), reverse=True)
    )


def _holder(view: View, alert: AlertRow) -> str:
    """Say who has an alert, and what they wrote; nothing if nobody has it."""
    if alert.state != ACKNOWLEDGED or alert.acknowledged_by is None:
        return ""
    user = view.ask(get_user, alert.acknowledged_by)
    return f"{user.name if user else 'somebody'} has it: {alert.note or ''}".rstrip(": ")


def _change(change: PackageChange) -> str:
    before, after = (change.before or "none")[:7], (change.after or "none")[:7]
    return _code(f"{change.name} {before} to {after}")


def _code(text: str) -> str:
    """Return text as code in a cell of a table: no markup, and no names that GitHub would tell."""
    clean = " ".join(text.replace("`", "'").replace("|", "\u00a6").split())
    return f"`{clean[:300]}`" if clean else ""
