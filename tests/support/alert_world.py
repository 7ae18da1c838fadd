"""Random histories of jobs, for what Kapacitor is told of them, and what it should know then."""

import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from typing import Any

import httpx

from squash_api.delivery.kapacitor import KapacitorOutlet
from squash_api.delivery.outlet import GATHER
from squash_api.delivery.reader import NO_WAIT
from squash_api.generate.kapacitor.tasks import kapacitor_files
from squash_api.index.derived import requeue_metrics
from squash_api.index.jobs import delete_job, post_measurement
from squash_api.judging.alert_plan import Branch, watched_metrics
from squash_api.judging.alerts import level_of
from squash_api.judging.metadata_query import applies
from squash_api.metrics_packages.loading import load_metrics_package
from squash_api.record.alerts import living_alerts
from squash_api.record.jobs import current_revision
from squash_api.record.metrics import declare_metrics
from squash_api.schema.names import Context, Schema
from squash_api.site import Site
from tests.support.builders import (
    add_test_user,
    make_body,
    make_settings,
    measured,
    store_job,
    with_record,
)
from tests.support.definitions import ADA
from tests.support.metrics_packages import write_metrics_package
from tests.support.raised import bring_up_to_date, make_engine

SCHEMA = Schema()
METRICS = """
plain: {description: Three levels., unit: mmag}
bands: {description: A limit for each band., unit: mmag}
split: {description: Branches with series of their own., unit: mmag}
visits: {description: Terms on metadata., unit: mmag}
ages: {description: News and history., unit: mmag}
units: {description: Its unit changes., unit: mmag}
free: {description: It has no limit., unit: mmag}
"""
SPECS = """
---
name: plain.minimum
threshold: {operator: "<=", unit: mmag, value: 8}
tags: [minimum]
---
name: plain.design
threshold: {operator: "<=", unit: mmag, value: 5}
tags: [design]
---
name: plain.stretch
threshold: {operator: "<=", unit: mmag, value: 2}
tags: [stretch]
---
name: bands.r
threshold: {operator: "<=", unit: mmag, value: 7}
metadata_query: {filter_name: r}
tags: [minimum]
---
name: bands.g
threshold: {operator: "<=", unit: mmag, value: 4}
metadata_query: {filter_name: g}
---
name: split.fine
threshold: {operator: "<=", unit: mmag, value: 6}
---
name: split.coarse
threshold: {operator: "<=", unit: mmag, value: 4}
alert: {per: [instrument, dataset], level: critical}
---
name: split.band
threshold: {operator: ">=", unit: mmag, value: 3}
metadata_query: {filter_name: r}
alert: {per: [instrument]}
---
name: visits.seven
threshold: {operator: "<=", unit: mmag, value: 5}
metadata_query: {visit: 7}
tags: [minimum]
---
name: visits.named
threshold: {operator: "<=", unit: mmag, value: 4}
metadata_query: {note: yes really, env_name: night}
---
name: visits.all
threshold: {operator: "<=", unit: mmag, value: 8}
---
name: ages.hour
threshold: {operator: "<=", unit: mmag, value: 5}
alert: {max_age: 1h, level: critical}
---
name: ages.month
threshold: {operator: "<=", unit: mmag, value: 5}
alert: {max_age: 30d}
---
name: units.limit
threshold: {operator: "<=", unit: mmag, value: 5}
tags: [minimum]
"""
NAMES = ("plain", "bands", "split", "visits", "ages", "units", "free")
_MINUTE_NS = 60 * 10**9
_HOUR_NS = 60 * _MINUTE_NS
_DAY_NS = 24 * _HOUR_NS


@dataclass
class Past:
    """A job as the test remembers it: its values in mmag, by metric."""

    job_id: int
    time_ns: int
    meta: Mapping[str, Any]
    values: dict[str, float | None] = field(default_factory=dict)
    is_deleted: bool = False
    context: Context = field(init=False)

    def __post_init__(self) -> None:
        self.context = SCHEMA.context(self.meta)


class World:
    """A record, and the outlet to Kapacitor, which works only when it is told to.

    `instrument` tells its alerts from those of other worlds at the same Kapacitor.
    """

    def __init__(
        self,
        folder: Path,
        *,
        url: str = "http://kapacitor.invalid",
        transport: httpx.BaseTransport | None = None,
        instrument: str = "HSC",
        seed: int = 0,
        quiet_s: float = 0.0,
        metrics: str = METRICS,
        specs: str = SPECS,
    ) -> None:
        self.folder = folder
        self.instrument = instrument
        self.quiet_s = quiet_s
        self.random = Random(seed)
        self.now_ns = time.time_ns()
        self.jobs: list[Past] = []
        self.is_away = False
        self._url = url
        self._transport = transport
        folder.mkdir(parents=True, exist_ok=True)
        self.package_folder = write_metrics_package(folder, metrics=metrics, specs=specs)
        self.package = load_metrics_package(self.package_folder)
        assert self.package.problems == ()
        self.watched = watched_metrics(
            self.package.specifications.values(), self.package.metrics, SCHEMA
        )
        self.start()
        add_test_user(self.site.record)

    def files(self) -> dict[str, str]:
        """Return the files for Kapacitor."""
        return kapacitor_files(
            self.package, schema=SCHEMA, database="squash", retention_policy="autogen"
        )

    def start(self) -> None:
        """Start the service, without its threads."""
        settings = make_settings(self.folder, kapacitor_url=self._url, specs=(self.package_folder,))
        self.site = Site(with_record(settings), is_made=True, influx_transport=self._transport)
        self.site.definitions.sync_yaml(settings.specs)
        (outlet,) = self.site.outlets(settings.outlets)
        assert isinstance(outlet, KapacitorOutlet)
        self.outlet = outlet
        self.engine = make_engine(self.site, quiet_s=self.quiet_s, clock=lambda: self.now_ns)

    def stop(self) -> None:
        """Stop the service."""
        self.outlet.forget()
        self.outlet._lease._over.set()
        self.site.record.write(
            lambda connection: connection.exec_driver_sql(
                "UPDATE target SET lease_owner = NULL, lease_until_ns = 0"
            )
        )
        self.outlet.close()
        self.site.close()

    def restart(self) -> None:
        """Stop the service and start it again."""
        self.stop()
        self.start()

    def raise_alerts(self) -> None:
        """Bring the alerts of the record up to date, and complete their groups."""
        bring_up_to_date(self.site, self.engine)

    @property
    def sender(self) -> str:
        """What tells its groups from those of other services, in Kapacitor."""
        with self.site.reader.view() as view:
            return self.outlet._told(view).sender

    def raised_groups(self) -> list[tuple[str, str]]:
        """Return the metric and the worst level of each group that Kapacitor should know."""
        with self.site.record.read() as connection:
            living = living_alerts(connection)
        plan = self.outlet._follow_definitions().plan
        worst: dict[tuple[str, int], int] = {}
        for item in living:
            branch = plan.branch(item.metric, item.branch)
            if branch is not None and (branch.is_served or branch.gathers(item.tags)):
                key = item.metric, item.group_id
                worst[key] = max(worst.get(key, 0), item.severity)
        return sorted((metric, level_of(found)) for (metric, _), found in worst.items())

    def drain(self) -> None:
        """Let the outlet work until it has nothing to do, or cannot."""
        # It would look only now and then.
        self.outlet._look_at_s = self.outlet._process_at_s = 0.0
        while self.outlet.round() in (NO_WAIT, GATHER):
            pass

    def add(self, values: Mapping[str, float | None], *, ago_ns: int, **meta: Any) -> Past:
        """Store a job of so long ago."""
        whole = {"instrument": self.instrument, **meta}
        body = make_body(
            *(measured(f"validate.{name}", value) for name, value in values.items()), **whole
        )
        with self.site.record.read() as connection:
            revision = current_revision(connection)
        job_id = store_job(
            self.site.record,
            received_ns=self.now_ns,
            asked_ns=self.now_ns - ago_ns,
            body=body,
            revision=revision,
        )
        with self.site.record.read() as connection:
            row = connection.exec_driver_sql(f"SELECT time_ns FROM job WHERE id = {job_id}")
            time_ns = int(row.scalar_one())
        past = Past(job_id, time_ns, whole, dict(values))
        self.jobs.append(past)
        return past

    def put(self, past: Past, name: str, value: float | None) -> None:
        """Add a measurement to a job, or replace or withdraw one."""
        post_measurement(
            self.site.record,
            self.site.metrics,
            job_id=past.job_id,
            document=measured(f"validate.{name}", value),
            account=ADA,
        )
        past.values[name] = value

    def delete(self, past: Past) -> None:
        """Delete a job."""
        delete_job(self.site.record, past.job_id, account=ADA)
        past.is_deleted = True

    def move_unit(self) -> None:
        """Give a metric a unit that its values do not convert to, or its own again."""
        self.is_away = not self.is_away
        unit = "m" if self.is_away else "mmag"
        self._requests = getattr(self, "_requests", 10**6) + 1

        def work(connection: Any) -> None:
            declare_metrics(connection, {"validate.units": unit})
            requeue_metrics(connection, ["validate.units"], request=self._requests)

        self.site.record.write(work)
        self.site.metrics.refresh()

    def send_again(self, past: Past) -> None:
        """Request that a job is sent again, as `squash replay` does."""
        if not past.is_deleted:
            self.put(past, "free", 1.0)

    def expected(self, *, are_alone: bool = False) -> dict[str, str]:
        """Return the alerts that should not be OK: by the newest values that are young enough.

        If they `are_alone`, only those of series that are not told together with others.
        """
        found: dict[str, str] = {}
        for item in self.watched:
            name = item.metric.name.partition(".")[2]
            for branch in item.branches:
                newest = self._newest(name, branch, are_alone=are_alone)
                for group, value in newest.items():
                    broken = [limit for limit in branch.limits if not limit.holds(value)]
                    if broken:
                        found[f"{item.metric.name}/{branch.key}/{group}"] = broken[0].level
        return found

    def _newest(self, name: str, branch: Branch, *, are_alone: bool) -> dict[str, float]:
        """Return the newest value of each series of a branch, by Kapacitor's group."""
        newest: dict[str, float] = {}
        if name == "units" and self.is_away:
            return newest
        for past in sorted(self.jobs, key=lambda past: past.time_ns):
            value = past.values.get(name)
            is_young = past.time_ns > self.now_ns - branch.max_age_s * 10**9
            if past.is_deleted or value is None or not is_young:
                continue
            if are_alone and branch.gathers(past.context.tags):
                continue
            if applies(branch.terms, past.context):
                group = ",".join(
                    f"{tag}={past.context.tags.get(tag, '')}" for tag in sorted(branch.per)
                )
                newest[group] = value
        return newest

    def severities(self) -> dict[tuple[str, tuple[tuple[str, str], ...]], int]:
        """Return what the standings say of the metrics whose alerts have their combinations.

        A metric that the newest job has not measured stands so; its alert stays as it was.
        """
        self.site.reader.catch_up()
        self.site.standings.refresh(now_ns=self.now_ns)
        return {
            (item.metric, item.tags): item.severity
            for item in self.site.standings.present()
            if item.metric in ("validate.plain", "validate.bands", "validate.units")
            and item.value is not None
            and item.time_ns > self.now_ns - 7 * _DAY_NS
        }

    # Random histories

    def values(self) -> dict[str, float | None]:
        """Return random values of random metrics."""
        chosen = [name for name in NAMES if self.random.random() < 0.7]
        if self.is_away:
            chosen = [name for name in chosen if name != "units"]
        return {name: self.value() for name in chosen or ["plain"]}

    def value(self) -> float | None:
        """Return a random value."""
        return None if self.random.random() < 0.1 else float(self.random.randint(0, 10))

    def ago_ns(self) -> int:
        """Return a random age of a job: minutes, hours, weeks or more."""
        random = self.random
        return int(
            random.choice(
                [
                    random.uniform(1, 20) * _MINUTE_NS,
                    random.uniform(2, 100) * _HOUR_NS,
                    random.uniform(2, 100) * _HOUR_NS,
                    random.uniform(9, 20) * _DAY_NS,
                    random.uniform(40, 50) * _DAY_NS,
                ]
            )
        )

    def meta(self) -> dict[str, Any]:
        """Return random metadata."""
        random = self.random
        meta: dict[str, Any] = {
            "ci_dataset": random.choice("xy"),
            "filter_name": random.choice("rg"),
            "visit": random.choice([7, 8]),
            "env_name": random.choice(["night", "day"]),
        }
        if random.random() < 0.3:
            meta["detector"] = random.choice([1, 2])
        if random.random() < 0.5:
            meta["note"] = "yes really"
        return meta

    def history(self, jobs: int) -> Iterator[str]:
        """Do what a history of so many jobs consists of, step by step; yield what was done."""
        steps = ["add"] * jobs
        for name, share in (
            ("put", 0.4),
            ("delete", 0.3),
            ("again", 0.2),
            ("unit", 0.08),
            ("restart", 0.06),
        ):
            steps += [name] * int(jobs * share)
        self.random.shuffle(steps)
        for step in steps:
            yield from self._do(step)

    def _do(self, step: str) -> Iterator[str]:
        left = [past for past in self.jobs if not past.is_deleted]
        if step == "add" or not left:
            past = self.add(self.values(), ago_ns=self.ago_ns(), **self.meta())
            yield f"job {past.job_id}: {past.values}"
            return
        # Mostly the newest, since nothing else is told.
        past = self.random.choice(sorted(left, key=lambda past: past.time_ns)[-8:])
        if self.random.random() < 0.3:
            past = self.random.choice(left)
        if step == "put":
            name = self.random.choice(
                [name for name in NAMES if not (self.is_away and name == "units")]
            )
            value = None if self.random.random() < 0.4 else self.value()
            self.put(past, name, value)
            yield f"job {past.job_id}: {name} is now {value}"
        elif step == "delete":
            self.delete(past)
            yield f"job {past.job_id} is deleted"
        elif step == "again":
            self.send_again(past)
            yield f"job {past.job_id} is sent again"
        elif step == "unit":
            self.move_unit()
            yield "the unit changes"
        else:
            self.restart()
            yield "the service restarts"
