"""Which series jobs may have changed, that have come, changed or been deleted.

Most jobs touch none: their values are well, and nothing is raised in their series. So what is read
of a job is the values of metrics with limits, and no more unless one of them may matter.
"""

from collections.abc import Mapping, Sequence
from collections.abc import Set as AbstractSet

from squash_api.alerts.compounds import jobs_of_run
from squash_api.alerts.evaluating import NS, Evaluator, Key, Series
from squash_api.index.contexts import ChangedJob, JobContext
from squash_api.index.reader import View
from squash_api.schema.names import RUN_ID

_Named = Mapping[int, float | None]
"""The metrics that a job names, by id, with their values."""


class Touched:
    """The series whose present is to be found again, in one state of the record.

    Parameters
    ----------
    living
        What there are living alerts of.
    through
        Jobs after this one are new: they have had no values before.

    Attributes
    ----------
    series
        The series that were touched.
    is_unknown
        Whether any series may have been: nobody knows what a deleted job was.
    """

    def __init__(
        self,
        view: View,
        evaluator: Evaluator,
        living: AbstractSet[Key],
        *,
        through: int,
        now_ns: int,
    ) -> None:
        self._view = view
        self._evaluator = evaluator
        self._plan = evaluator.plan
        self._living = living
        self._through = through
        self._now_ns = now_ns
        self.series: set[Series] = set()
        self.is_unknown = False

    def take(self, changed: Sequence[ChangedJob]) -> None:
        """Add the series that these jobs may have changed."""
        here = {item.job_id for item in changed if item.tag_set_id is not None}
        watched = {*self._plan.by_id, *self._plan.compounds.of_member}
        named: dict[int, dict[int, float | None]] = {}
        for metric_id, job_id, value in self._view.values.in_jobs(watched, here) if here else ():
            if job_id in here:
                named.setdefault(job_id, {})[metric_id] = value
        old = {job_id for job_id in here if job_id <= self._through} if watched else set()
        for job in self._view.contexts.of(named.keys() | old).values():
            found = named.get(job.job_id, {})
            self._take_values(job, found)
            if job.job_id in old:
                self._take_lost(job, found)
            if self._plan.compounds.of_member:
                self._take_run(job, found)
        self._take_deleted([item for item in changed if item.tag_set_id is None])

    def _take_values(self, job: JobContext, named: _Named) -> None:
        is_new = job.job_id > self._through
        for metric_id in named.keys() & self._plan.by_id.keys():
            for item in self._evaluator.series_of(metric_id, job.context.tags):
                is_young = job.time_ns > self._now_ns - item.grouping.max_age_s * NS
                if (is_young and not is_new) or self._may_matter(
                    item, named[metric_id], is_young=is_young
                ):
                    self.series.add(item)

    def _take_lost(self, job: JobContext, named: _Named) -> None:
        """Add the series of metrics that an old job may have named, and names no longer."""
        for metric_id in self._plan.by_id.keys() - named.keys():
            for item in self._evaluator.series_of(metric_id, job.context.tags):
                if self._may_matter(item, None, is_young=False):
                    self.series.add(item)

    def _take_run(self, job: JobContext, named: _Named) -> None:
        """Add the series of compounds that look at the run of a job, and at its metrics."""
        of_member = self._plan.compounds.of_member
        wanted = {found for metric_id in named for found in of_member.get(metric_id, ())}
        run_id = job.context.fields.get(RUN_ID)
        if not wanted or run_id is None:
            return
        jobs = jobs_of_run(self._view, job.context.tags.get("pipeline"), str(run_id))
        naming: dict[int, set[int]] = {}
        for metric_id, job_id, _ in self._view.values.in_jobs(wanted, jobs):
            naming.setdefault(job_id, set()).add(metric_id)
        for member in self._view.contexts.of(set(jobs) & naming.keys()).values():
            for metric_id in naming[member.job_id] & self._plan.by_id.keys():
                self.series.update(self._evaluator.series_of(metric_id, member.context.tags))

    def _take_deleted(self, deleted: Sequence[ChangedJob]) -> None:
        """Add the series that deleted jobs may have been in."""
        newest: dict[int, int] = {}
        for item in deleted:
            if item.deleted_tag_set_id is None:
                self.is_unknown = True
            else:
                before = newest.get(item.deleted_tag_set_id, item.time_ns)
                newest[item.deleted_tag_set_id] = max(before, item.time_ns)
        young_ns = self._now_ns - self._plan.longest_ns
        for number, tags in self._view.contexts.tags(newest).items():
            is_young = newest[number] > young_ns
            for metric_id in self._plan.by_id:
                for one in self._evaluator.series_of(metric_id, tags):
                    if is_young or self._may_matter(one, None, is_young=False):
                        self.series.add(one)
        # A compound over a run may have lost a member that had other tags.
        if max(newest.values(), default=young_ns) > young_ns:
            for compounds in self._plan.compounds.of_member.values():
                for metric_id in compounds & self._plan.by_id.keys():
                    found = self._evaluator.all_series(self._view, metric_id, now_ns=self._now_ns)
                    self.series.update(found)

    def _may_matter(self, item: Series, value: float | None, *, is_young: bool) -> bool:
        return self._evaluator.may_matter(item, value, self._living, is_young=is_young)
