"""The readers, which run in threads of their own: the outlets, the deriver, events, the watch.

`OUTLETS` is the table of outlets; another one is a module like `delivery/influxdb.py` and a line.
"""

import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping

import structlog

from squash_api.accounts.links import Links
from squash_api.definitions.in_force import DefinitionsInForce
from squash_api.delivery.github import GitHubTeller
from squash_api.delivery.influxdb import InfluxOutlet
from squash_api.delivery.kafka import KafkaOutlet
from squash_api.delivery.kapacitor import KapacitorOutlet
from squash_api.delivery.outlet import Outlet
from squash_api.delivery.reader import NO_WAIT, BackOff, Loop, Wait
from squash_api.delivery.slack import SlackTeller
from squash_api.delivery.webhooks import Webhooks
from squash_api.index.deriver import Deriver
from squash_api.index.reader import Reader
from squash_api.record.engines.postgresql import News
from squash_api.record.record import Record
from squash_api.schema.names import Schema
from squash_api.setting_types import KafkaTarget
from squash_api.settings import InfluxTarget, KapacitorTarget, Settings

LONGEST_STOP_S = 8.0
"""How long a stop waits for servers that do not answer: containers get ten seconds."""

_POLL_S = 1.0
_PAUSE_S = 2.0
_HEARING_S = 0.25
_LONGEST_DEAF_S = 30.0

_log = structlog.get_logger(__name__)

# What sends to a target, by the class of its settings.
OUTLETS: Mapping[type, type[Outlet]] = {
    InfluxTarget: InfluxOutlet,
    KapacitorTarget: KapacitorOutlet,
    KafkaTarget: KafkaOutlet,
}


def tellers(
    settings: Settings,
    record: Record,
    reader: Reader,
    *,
    in_force: DefinitionsInForce,
    schema: Schema,
    links: Links,
) -> Iterator[Loop]:
    """Make what tells people and programs: webhooks, and those that the settings name."""
    url = settings.url
    yield Webhooks(record, reader, in_force, squash_url=url, networks=settings.webhook_networks)
    if settings.tells_slack and settings.slack_url is not None:
        yield SlackTeller(
            record, reader, in_force, schema, url=settings.slack_url, squash_url=url, links=links
        )
    if settings.tells_github and settings.github_token is not None:
        yield GitHubTeller(
            record,
            reader,
            url=settings.github_url,
            token=settings.github_token,
            repositories=settings.github_repositories,
            squash_url=url,
            quiet_s=settings.alert_quiet,
        )


class Deriving(Loop):
    """Derives jobs that nobody has asked for yet. Its cursor is in the index itself."""

    def __init__(self, deriver: Deriver) -> None:
        super().__init__(
            "deriver",
            BackOff(_POLL_S, _POLL_S),
            failure="deriving failed; it will be tried again",
        )
        self._deriver = deriver

    def step(self) -> Wait:
        """Derive until nothing is left, beginning a little after the first job."""
        self.pause(_POLL_S)
        while not self.is_stopping() and self._deriver.derive_some():
            # Nobody waits for this, since outlets and pages derive what they need. So it leaves
            # most of the processor to jobs while they arrive.
            if self.was_woken():
                self.pause(_PAUSE_S)
        return Wait(0.0, _POLL_S)


class Hearing(Loop):
    """Wakes the readers when a process, whichever it is, has stored jobs.

    They also look by themselves, so it only saves the time until they do.
    """

    waits_for_jobs = False

    def __init__(self, news: News, wake: Callable[[], None]) -> None:
        super().__init__(
            "news",
            BackOff(_POLL_S, _LONGEST_DEAF_S),
            failure="the database does not tell of new jobs; readers look for them",
        )
        self._news = news
        self._wake_readers = wake

    def step(self) -> Wait:
        """Wait for jobs, for as long as a stop may take."""
        if self._news.wait(_HEARING_S):
            self._wake_readers()
        return NO_WAIT

    def close(self) -> None:
        """Close the connection."""
        self._news.close()


class Following(Loop):
    """Notices when a record that is only read, since it is a replica, has become the record."""

    waits_for_jobs = False

    def __init__(self, record: Record, promoted: threading.Event) -> None:
        super().__init__(
            "following",
            BackOff(_POLL_S, _LONGEST_DEAF_S),
            failure="the database does not tell whether it is a replica; it will be asked again",
        )
        self._record = record
        self._promoted = promoted

    def step(self) -> Wait:
        """Ask the database, until it is no replica any more."""
        if not self._promoted.is_set() and self._record.replication() is None:
            _log.warning("the replica was promoted: it is the record now", runbook="only_reads")
            self._promoted.set()
        return Wait(_POLL_S, _POLL_S)


class Background:
    """Runs readers, each in its own thread. They start in order and stop in reverse.

    None stands for a reader that the settings leave out. `news` tells of jobs, if there is any.
    """

    def __init__(self, readers: Iterable[Loop | None], news: News | None = None) -> None:
        self._readers = [reader for reader in readers if reader is not None]
        if news is not None:
            self._readers.append(Hearing(news, self.wake))
        self._waiting_for_jobs = [reader for reader in self._readers if reader.waits_for_jobs]
        self._threads = [
            threading.Thread(target=reader.run, name=f"reader-{reader.name}", daemon=True)
            for reader in self._readers
        ]

    def start(self) -> None:
        """Start the threads."""
        for thread in self._threads:
            thread.start()

    def wake(self) -> None:
        """Wake the readers that wait for jobs. Called when a job has been stored."""
        for reader in self._waiting_for_jobs:
            reader.wake()

    def stop(self) -> None:
        """Stop the threads after their current rounds; abandon those that hang for too long.

        What an abandoned outlet was sending is sent again after the next start.
        """
        for reader in reversed(self._readers):
            reader.stop()
        ends_s = time.monotonic() + LONGEST_STOP_S
        for thread in self._threads:
            thread.join(max(ends_s - time.monotonic(), 0.0))
        # Not earlier: the watch writes through the connections of the outlets.
        for reader, thread in zip(self._readers, self._threads, strict=True):
            if thread.is_alive():
                _log.warning("abandoned in the middle of a round", reader=reader.name)
            else:
                reader.close()
