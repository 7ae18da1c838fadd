"""One installation: its settings, and the parts opened from them; each once, when it is needed.

The service, the commands and the tests use it. A part is imported where it is opened, so that no
command waits for imports that only others need.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Collection, Sequence
from contextlib import ExitStack
from dataclasses import fields
from functools import cached_property, partial
from socket import gethostname
from threading import Event, RLock
from typing import TYPE_CHECKING, Literal, Self, TypeVar, overload

import structlog

from squash_api.errors import OnlyReadsError, SettingsError
from squash_api.record.database import PATIENCE_S, file_at, make_database, place_of
from squash_api.record.definitions import has_yaml
from squash_api.record.deliveries import ensure_targets, target_names
from squash_api.record.installation import claim, skip_ids
from squash_api.record.metrics import Metrics
from squash_api.record.record import Record
from squash_api.record.usage import Limits
from squash_api.schema.names import Schema
from squash_api.settings import Settings, Target, previous_secret, require_secret

if TYPE_CHECKING:
    import httpx

    from squash_api.accounts.accounts import Accounts
    from squash_api.accounts.anonymous import Anonymous
    from squash_api.accounts.key_ring import KeyRing
    from squash_api.accounts.links import Links
    from squash_api.accounts.sessions import Sessions
    from squash_api.alerts.acting import Acting
    from squash_api.alerts.raising import Raising
    from squash_api.alerts.reading import Alerts
    from squash_api.definitions.definitions import Definitions
    from squash_api.definitions.from_yaml import SpecificationSources
    from squash_api.delivery.background import Background
    from squash_api.delivery.events import JobEvents
    from squash_api.delivery.outlet import Outlet
    from squash_api.delivery.reader import Loop
    from squash_api.delivery.subscriptions import Subscriptions
    from squash_api.index.deriver import Deriver
    from squash_api.index.reader import Reader
    from squash_api.ingest.ingest import Ingested
    from squash_api.judging.limits import Verdict
    from squash_api.reports.report import PeriodReports
    from squash_api.standings.board import Board
    from squash_api.standings.evidence import Evidence
    from squash_api.standings.figures import Figures
    from squash_api.standings.itself import OwnWatch
    from squash_api.standings.job_states import JobStates
    from squash_api.standings.pruning import Retention
    from squash_api.standings.standing import Standings
    from squash_api.standings.watch import TakesLines, Watch
    from squash_api.trends.trends import Trends

# What a job is accepted with. The rest takes as long to import as everything before the service
# listens (`benchmarks/`, R9).
_OF_JOBS = ("accounts", "anonymous", "figures", "ingest", "keys", "links", "metrics", "sessions")
_log = structlog.get_logger(__name__)
_Made_co = TypeVar("_Made_co", covariant=True)


class _part(cached_property[_Made_co]):  # noqa: N801  a decorator
    """A part of a site: whoever asks first makes it, and others who ask meanwhile wait for it."""

    @overload
    def __get__(self, instance: None, owner: type | None = None) -> Self: ...

    @overload
    def __get__(self, instance: object, owner: type | None = None) -> _Made_co: ...

    def __get__(self, instance: object | None, owner: type | None = None) -> Self | _Made_co:
        """Return the part."""
        if not isinstance(instance, Site):
            return self
        with instance.making:
            return super().__get__(instance, owner)


class Site:
    """The open parts of an installation; as a context manager it closes them at the end.

    A part is made when it is first used, by any thread. The parts themselves are thread-safe.

    Parameters
    ----------
    is_made
        Whether to make an empty record if there is none: only for those whom people expect it of.
    tags_of
        Where the list of tags comes from. Commands that only read use that of the `record`, with
        which the points were written: the settings of a shell may differ from the service's.
    influx_transport
        Replaces the network to InfluxDB and Kapacitor.
    beside
        Makes what delivers and derives in processes of their own; None: this process does.
    """

    def __init__(
        self,
        settings: Settings,
        *,
        is_made: bool = False,
        tags_of: Literal["settings", "record"] = "settings",
        influx_transport: httpx.BaseTransport | None = None,
        beside: Callable[[Settings, Record], Sequence[Loop]] | None = None,
    ) -> None:
        self._beside = beside
        self.settings = settings
        self._is_made = is_made
        self._tags_of = tags_of
        self._influx_transport = influx_transport
        self._opened = ExitStack()
        self.making = RLock()  # Held while a part is made.
        self.promoted = Event()
        """Set when the record was a replica, and is not any more."""
        self.is_stopping = Event()
        self.has_failed = Event()
        """Set when the service could not start what runs beside it: it must not go on."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the open parts, the last first."""
        self._opened.close()

    def start(self, *, may_withdraw: bool = False, was_replica: bool = False) -> None:
        """Update the record from the settings, and open what jobs need; on failure close it.

        Whatever may be wrong with the settings is found here. `open_all` opens the other parts.
        A record that is only read is not updated. One that was a replica until now gives no id that
        its primary may have given.

        Raises
        ------
        SettingsError
            If a setting is missing or wrong, or the record does not fit the settings; unless
            `may_withdraw`, also if YAML no longer has a whole package, or any specification of one.
        """
        names = [target.name for target in self.settings.outlets]
        with ExitStack() as on_failure:
            on_failure.callback(self.close)
            require_secret(self.settings)
            previous_secret(self.settings)
            # The schema before the record: wrong tags must not make one.
            _ = self.schema
            # Other replicas may start at the same time.
            with self.record.patient(PATIENCE_S):
                if self.record.only_reads is None:
                    if self.settings.kafka and self.settings.deliver == "inline":
                        from squash_api.delivery.kafka_client import require_kafka

                        for target in self.settings.kafka:
                            require_kafka(target)
                    self.check_record()
                    if was_replica:
                        skip_ids(self.record)
                    self.record.write(lambda connection: ensure_targets(connection, names))
                    with self.record.read() as connection:
                        is_from_yaml = bool(self.settings.specs) or has_yaml(connection)
                    if is_from_yaml:
                        self.definitions.sync_yaml(self.settings.specs, may_withdraw=may_withdraw)
                for name in _OF_JOBS:
                    getattr(self, name)
            on_failure.pop_all()

    def start_reading(self) -> None:
        """Open what requests read from, on a record that another process serves.

        Raises
        ------
        SettingsError
            If there is no record, or it cannot be opened.
        """
        with ExitStack() as on_failure:
            on_failure.callback(self.close)
            _ = self.reader
            on_failure.pop_all()

    def open_all(self, *, but: Collection[str] = ()) -> None:
        """Open all parts that have not been opened."""
        # Other threads may add to a class or a module, such as its annotations. Only `copy` lets
        # none of them in: a list of pairs may search for cycles while it is made.
        for name, part in vars(Site).copy().items():
            if isinstance(part, cached_property) and name not in but:
                getattr(self, name)

    def check_record(self) -> None:
        """Raise `SettingsError` if the record is not the newest, or as `check_tags` does.

        For whoever accepts or sends jobs.
        """
        # The schema first: wrong tags must not make a record.
        _ = self.schema
        try:
            self.record.require_written_here()
        except OnlyReadsError as error:
            raise SettingsError(
                f"SQUASH_DATABASE_URL: {error.reason}", runbook=error.code
            ) from None
        claim(self.record)
        self.check_tags()
        from squash_api.index.derived import check_reading

        check_reading(self.record)

    def check_tags(self) -> None:
        """Raise `SettingsError` if the points in InfluxDB have other tags than the settings."""
        from squash_api.index.derived import check_tags

        # The schema first: wrong tags must not make a record.
        schema = self.schema
        check_tags(self.record, schema)

    @_part
    def schema(self) -> Schema:
        """The names in InfluxDB."""
        schema = Schema(self.settings.tags)
        # Only a server may have a replica: a record in a file is not opened for this.
        is_server = file_at(self.settings.database_url) is None
        may_only_read = is_server or self.settings.read_only == "on"
        only_reads = may_only_read and self.record.only_reads is not None
        if self._tags_of == "settings" and not only_reads:
            return schema
        from squash_api.index.derived import schema_of

        return schema_of(self.record, schema)

    @_part
    def record(self) -> Record:
        """The record."""
        url = self.settings.database_url
        makes = self._is_made and self.settings.read_only == "auto"
        if makes and make_database(url):
            _log.info("an empty record was made", place=place_of(url))
        # Clients of the service do not wait: they are told, and try again.
        record = Record.open(
            url,
            is_checked=self._is_made,
            patience_s=0.0 if self._is_made else PATIENCE_S,
            is_read_only=self.settings.read_only == "on",
            write_url=self.settings.write_url,
        )
        self._opened.callback(record.close)
        return record

    @_part
    def accounts(self) -> Accounts:
        """Users, and what they may do."""
        from squash_api.accounts.accounts import Accounts

        secret = require_secret(self.settings)
        previous = previous_secret(self.settings)
        accounts = Accounts(self.record, self.settings, secret=secret, previous=previous)
        self._opened.callback(accounts.close)
        return accounts

    @_part
    def anonymous(self) -> Anonymous:
        """Who sends records without an account."""
        from squash_api.accounts.anonymous import Anonymous

        return Anonymous(self.record, self.settings.anonymous_namespaces)

    @_part
    def keys(self) -> KeyRing:
        """The API keys of users."""
        from squash_api.accounts.key_ring import KeyRing

        return KeyRing(self.record)

    @_part
    def sessions(self) -> Sessions:
        """The sessions of people on the pages."""
        from squash_api.accounts.sessions import Sessions

        return Sessions(
            self.record,
            self.accounts,
            secret=require_secret(self.settings),
            previous=previous_secret(self.settings),
            hours=self.settings.session_hours,
        )

    @_part
    def links(self) -> Links:
        """Links in messages that need no login."""
        from squash_api.accounts.links import Links

        return Links(self.settings)

    @_part
    def metrics(self) -> Metrics:
        """The known metrics, and their units."""
        return Metrics(self.record, self.schema)

    @_part
    def limits(self) -> Limits:
        """What jobs and their users may bring."""
        names = (each.name for each in fields(Limits))
        return Limits(**{name: getattr(self.settings, name) for name in names})

    @_part
    def ingest(self) -> Callable[..., Awaitable[Ingested]]:
        """Accept a job, as `ingest_job` does: given what was received, whose it is and when."""
        from squash_api.ingest.ingest import Budget, ingest_job

        return partial(
            ingest_job,
            record=self.record,
            metrics=self.metrics,
            budget=Budget(self.limits),
        )

    @_part
    def deriver(self) -> Deriver:
        """Makes the index of measurements."""
        from squash_api.index.deriver import Deriver, NoDeriver

        kind = Deriver if self.record.only_reads is None else NoDeriver
        return kind(self.record, self.metrics)

    @_part
    def reader(self) -> Reader:
        """Reads the record and its index."""
        from squash_api.index.reader import Reader

        return Reader(self.record, self.deriver, self.metrics)

    @_part
    def definitions(self) -> Definitions:
        """Metrics and specifications: those in force, and changes to them."""
        from squash_api.definitions.definitions import Definitions

        return Definitions(
            self.record,
            self.schema,
            self.metrics,
            catch_up=self.deriver.catch_up,
            limits=self.limits,
        )

    @_part
    def sources(self) -> SpecificationSources:
        """Where the specifications in force come from."""
        from squash_api.definitions.from_yaml import SpecificationSources

        return SpecificationSources(self.record, self.settings.specs, self.schema)

    @_part
    def alerts(self) -> Alerts:
        """The alerts of the record."""
        from squash_api.alerts.reading import Alerts

        return Alerts(self.reader, self.definitions.in_force)

    @_part
    def acting(self) -> Acting:
        """What people do about alerts."""
        from squash_api.alerts.acting import Acting

        return Acting(self.record, self.definitions.in_force, self.metrics)

    @_part
    def trends(self) -> Trends:
        """Values over time."""
        from squash_api.trends.trends import Trends

        return Trends(self.reader, self.definitions.in_force, self.evidence)

    @_part
    def standings(self) -> Standings:
        """The standings of series."""
        from squash_api.standings.standing import Standings

        return Standings(self.reader, self.definitions.in_force)

    @_part
    def board(self) -> Board:
        """The state of every metric."""
        from squash_api.standings.board import Board

        return Board(self.standings)

    @_part
    def evidence(self) -> Evidence:
        """What limits need to know beside a value."""
        from squash_api.standings.evidence import Evidence

        return Evidence(self.reader)

    @_part
    def states(self) -> JobStates:
        """The states of jobs."""
        from squash_api.standings.job_states import JobStates

        return JobStates(self.reader, self.definitions.in_force)

    @_part
    def reports(self) -> PeriodReports:
        """Reports on runs, periods and releases."""
        from squash_api.reports.report import PeriodReports

        in_force, url = self.definitions.in_force, self.settings.url
        return PeriodReports(self.reader, in_force, url=url, evidence=self.evidence)

    @_part
    def figures(self) -> Figures:
        """The figures of this process."""
        from squash_api.standings.figures import Figures, observe_record

        figures = Figures()
        observe_record(figures, self.record)
        return figures

    @_part
    def events(self) -> JobEvents:
        """Accepted jobs, for event streams."""
        from squash_api.delivery.events import JobEvents

        return JobEvents(self.record, self.deriver)

    @_part
    def subscriptions(self) -> Subscriptions:
        """The webhooks."""
        from squash_api.delivery.subscriptions import Subscriptions

        return Subscriptions(
            self.record,
            self.reader,
            self.schema,
            squash_url=self.settings.url,
            networks=self.settings.webhook_networks,
        )

    def tellers(self) -> list[Loop]:
        """Make what tells people and programs: webhooks, and those that the settings name."""
        from squash_api.delivery.background import tellers

        found = tellers(
            self.settings,
            self.record,
            self.reader,
            in_force=self.definitions.in_force,
            schema=self.schema,
            links=self.links,
        )
        return [*found]

    @_part
    def background(self) -> Background:
        """The threads of the service that serve no requests."""
        from squash_api.delivery.background import Background, Deriving, Following

        if self.record.only_reads is not None:
            # By the setting it is only read, whatever becomes of it.
            follows = self.settings.read_only == "auto"
            return Background([self.events, *[Following(self.record, self.promoted)] * follows])
        outlets: list[Outlet] = []
        work: list[Loop | None] = [Deriving(self.deriver)]
        if self.settings.deliver == "inline" and self._beside is not None:
            work = [*self._beside(self.settings, self.record)]
        elif self.settings.deliver == "inline":
            work = self.delivering(outlets := self.outlets(self.settings.outlets))
        watches = self.own_watches(outlets, process="serve")
        return Background([*work, self.events, self.retention(), *watches], self.record.news)

    def delivering(self, outlets: Sequence[Outlet]) -> list[Loop | None]:
        """Make what delivers and derives, with these outlets; None is what the settings omit."""
        from squash_api.delivery.background import Deriving

        watch = self.watch([outlet for outlet in outlets if outlet.takes_lines])
        return [*outlets, *self.tellers(), Deriving(self.deriver), self.raising(), watch]

    def start_background(self) -> None:
        """Start the threads that serve no requests, unless it is to stop; `close` ends them."""
        if not self.is_stopping.is_set():
            self._opened.callback(self.background.stop)
            self.background.start()

    def wake(self) -> None:
        """Wake the threads that wait for jobs; those that have yet to start look by themselves."""
        if "background" in vars(self):
            self.background.wake()

    @property
    def delivered_to(self) -> tuple[Target, ...]:
        """All that the record is delivered to; if it is only read, what it knows of these."""
        if self.record.only_reads is None:
            return self.settings.outlets
        with self.record.read() as connection:
            known = {*target_names(connection)}
        return tuple(item for item in self.settings.outlets if item.name in known)

    def outlets(self, targets: Sequence[Target]) -> list[Outlet]:
        """Make an outlet for each target."""
        from squash_api.delivery.background import OUTLETS
        from squash_api.delivery.outlet import Sources

        sources = Sources(
            self.record,
            self.reader,
            self.deriver,
            self.definitions.in_force,
            squash_url=self.settings.url,
            links=self.links,
            judge=self.verdicts,
        )
        return [
            OUTLETS[type(target)].of(target, sources, transport=self._influx_transport)
            for target in targets
        ]

    def verdicts(self, job_id: int) -> Sequence[Verdict]:
        """Judge a job by the specifications in force when it was received; none if it is gone."""
        from squash_api.standings.job_states import verdicts_on

        return verdicts_on(job_id, self.reader, self.definitions, self.evidence)

    def raising(self) -> Raising:
        """Make what opens, changes and ends the alerts of the record."""
        from squash_api.alerts.raising import Raising

        return Raising(
            self.record,
            self.reader,
            self.definitions.in_force,
            quiet_s=self.settings.alert_quiet,
        )

    def watch(self, outlets: Sequence[TakesLines]) -> Watch | None:
        """Make a watch; None if the settings turn it off, or there is nowhere to write."""
        from squash_api.standings.watch import Watch

        if self.settings.watch == "off" or not outlets:
            return None
        return Watch(
            self.standings,
            outlets,
            squash_url=self.settings.url,
            is_for_grafana=self.settings.alerts_by == "grafana",
        )

    def retention(self) -> Retention | None:
        """Make what deletes old jobs; None if jobs are kept for ever."""
        from squash_api.standings.pruning import Retention

        if self.settings.keep_days is None:
            return None
        return Retention(
            self.record,
            self.reader,
            self.states,
            keep_s=self.settings.keep_days * 86_400,
            releases=self.settings.keep_releases,
            targets=[target.name for target in self.settings.outlets],
        )

    def own_watches(
        self, outlets: Sequence[Outlet], *, process: Literal["serve", "deliver"]
    ) -> list[OwnWatch]:
        """Make what tells every target of this process; none if the settings turn the watch off.

        `outlets` are those that deliver from here. Others are made for the targets that another
        process delivers to: they deliver nothing.
        """
        from squash_api.standings.itself import OwnState, OwnWatch

        if self.settings.watch == "off":
            return []
        state = OwnState(
            self.record,
            self.reader,
            self.figures,
            targets=[target.name for target in self.settings.outlets],
            process=process,
            instance=self.settings.instance or self._instance(process),
            squash_url=self.settings.url,
        )
        kafka = {target.name for target in self.settings.kafka}
        known = kafka | {outlet.name for outlet in outlets}
        others = [target for target in self.settings.outlets if target.name not in known]
        return [
            *(OwnWatch(outlet, state) for outlet in outlets if outlet.takes_lines),
            *(OwnWatch(outlet, state, closes=outlet.close) for outlet in self.outlets(others)),
        ]

    def _instance(self, process: str) -> str:
        """Name this process so that it has the same name after a restart."""
        return f"{gethostname()}:{self.settings.port}" if process == "serve" else gethostname()
