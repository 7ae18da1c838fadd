"""What limits need to know beside the value of a job: earlier values, and the rest of its run."""

import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from itertools import islice

from squash_api.alerts.compounds import Compounds
from squash_api.definitions.in_force import Snapshot
from squash_api.index.contexts import JobContext
from squash_api.index.history import Entry, history_of
from squash_api.index.newest import TagSets, combination_of
from squash_api.index.reader import Reader, View
from squash_api.judging.alert_plan import BranchKey
from squash_api.judging.limits import Limit, Status
from squash_api.judging.metadata_query import applies
from squash_api.judging.raised import newest_of_runs
from squash_api.schema.names import RUN_ID, Context
from squash_api.verify.units import converter


class Evidence:
    """Finds it in the index. Safe to use from many threads."""

    def __init__(self, reader: Reader) -> None:
        self._reader = reader
        self._schema = reader.metrics.schema
        self._lock = threading.Lock()
        self._sets = TagSets()
        self._pers: set[tuple[str, ...]] = set()
        self._compounds: tuple[Snapshot, Compounds] | None = None

    @contextmanager
    def on(self, job_id: int, snapshot: Snapshot) -> Iterator["JobEvidence | None"]:
        """Give what is known about a job, in one state of the index; None if it is not there."""
        self._reader.catch_up()
        with self._reader.view() as view:
            job = view.contexts.of([job_id]).get(job_id)
            yield None if job is None else self.of(view, job, snapshot)

    def of(self, view: View, job: JobContext, snapshot: Snapshot) -> "JobEvidence":
        """Return what is known about a job in a state of the index."""
        return JobEvidence(self, view, job, snapshot)

    def sets_of(self, view: View, key: BranchKey, tags: Mapping[str, str]) -> list[int]:
        """Return the sets of tags of the series of a branch that a job with these tags is in."""
        grouping = key.grouping
        terms = [term for term in grouping.terms if term.is_tag]

        def suits(some: Mapping[str, str]) -> bool:
            return applies(terms, Context(dict(some)))

        with self._lock:
            self._pers.add(grouping.per)
            self._sets.follow(view, self._pers)
            combination = combination_of(tags, grouping.per)
            return list(self._sets.of(view, grouping.per, combination, suits if terms else None))

    def compounds(self, view: View, snapshot: Snapshot) -> Compounds:
        """Return the compounds of definitions; the last ones are kept."""
        known = self._compounds
        if known is None or known[0] is not snapshot:
            known = snapshot, Compounds(snapshot, view.metrics, self._schema)
            self._compounds = known
        return known[1]


class JobEvidence:
    """What is known about a job; see `judging.limits:Evidence`."""

    def __init__(self, evidence: Evidence, view: View, job: JobContext, snapshot: Snapshot) -> None:
        self._evidence = evidence
        self._view = view
        self._job = job
        self._snapshot = snapshot
        run_id = job.context.fields.get(RUN_ID)
        self._entry = Entry(
            job.job_id,
            job.time_ns,
            job.context.tags.get("pipeline"),
            run_id if isinstance(run_id, str) else None,
            None,
        )

    def past(self, limit: Limit) -> Sequence[float]:
        """Return the newest value of each earlier run of the series, newest first."""
        item = limit.specification
        metric = self._view.metrics.by_name.get(item.metric)
        convert = None if metric is None else converter(metric.unit or "", limit.unit)
        if metric is None or convert is None:
            return []
        key = BranchKey.of(item, limit.terms)
        is_of_tags = all(term.is_tag for term in key.grouping.terms)
        entries = history_of(
            self._view,
            metric.metric_id,
            self._evidence.sets_of(self._view, key, self._job.context.tags),
            through_ns=self._job.time_ns,
            suits=None if is_of_tags else partial(applies, key.grouping.terms),
        )
        others = (entry for entry in newest_of_runs(entries) if entry.run != self._entry.run)
        values = (entry.value for entry in islice(others, limit.history))
        return [convert(value) for value in values if value is not None]

    def in_run(self, limit: Limit) -> Mapping[str, Status]:
        """Return how the members of a compound stand in the jobs of the job's run."""
        compounds = self._evidence.compounds(self._view, self._snapshot)
        return compounds.statuses(self._view, limit, self._entry)
