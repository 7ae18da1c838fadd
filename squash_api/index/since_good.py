"""What has changed in the code since the last good run of a series, in words for a message."""

from collections.abc import Callable, Iterable, Sequence
from itertools import islice

from squash_api.index.contexts import JobContext
from squash_api.index.history import Entry, history_of
from squash_api.index.newest import TagSets, combination_of
from squash_api.index.reader import View
from squash_api.judging.limits import Limit
from squash_api.judging.metadata_query import applies
from squash_api.schema.names import Context

MOST_ENTRIES = 200
"""So many jobs of a series are looked at to find a good one."""

_MOST_SETS = 30
_MOST_NAMED = 6


def since_last_good(
    view: View,
    limits: Iterable[Limit],
    job: JobContext,
    *,
    value: float | None = None,
    sets: TagSets | None = None,
) -> str:
    """Say what has changed in the code since a series broke none of its limits.

    Parameters
    ----------
    limits
        Of one metric; those count that apply to the job and judge a value by itself.
    job
        A job of the series.
    value
        Its value, so that only limits count that this breaks. Without it, all do.
    sets
        Knows the sets of tags of series, if the caller has it at hand.

    Returns
    -------
    str
        As `changes_since_good` says it; empty also if no limit counts.
    """
    broken = [
        limit
        for limit in limits
        if limit.is_alone
        and not limit.problem
        and (value is None or not limit.holds(value))
        and applies(limit.terms, job.context)
    ]
    metric = view.metrics.by_name.get(broken[0].specification.metric) if broken else None
    if metric is None:
        return ""
    per, terms, tags = broken[0].specification.per, broken[0].terms, job.context.tags
    if sets is None:
        sets = TagSets()
        sets.follow(view, [per])
    return changes_since_good(
        view,
        metric.metric_id,
        sets.of(view, per, combination_of(tags, per)),
        job_id=job.job_id,
        time_ns=job.time_ns,
        is_good=lambda number: all(limit.holds(number) for limit in broken),
        suits=None if not terms else lambda context: applies(terms, context),
    )


def changes_since_good(
    view: View,
    metric_id: int,
    tag_sets: Sequence[int],
    *,
    job_id: int,
    time_ns: int,
    is_good: Callable[[float], bool],
    suits: Callable[[Context], bool] | None = None,
) -> str:
    """Say what has changed in the code since the last good run of a series.

    Parameters
    ----------
    tag_sets, suits
        The jobs of the series, as for `history_of`.
    job_id, time_ns
        The job whose value is not good.
    is_good
        Whether a value is.

    Returns
    -------
    str
        Such as `afw 3 commits, ip_isr`, or `nothing`; empty if it is not known. Commits are counted
        that runs of the series have used since.
    """
    entries = history_of(view, metric_id, tag_sets, through_ns=time_ns - 1, suits=suits)
    seen: list[Entry] = []
    for entry in islice(entries, MOST_ENTRIES):
        if entry.value is not None and is_good(entry.value):
            return _changes(view, entry.job_id, [job_id, *(item.job_id for item in seen)])
        seen.append(entry)
    return ""


def changes_words(names: Iterable[tuple[str, int]]) -> str:
    """Name packages with the number of their commits, if that is more than one."""
    found = list(names)
    texts = [name if count < 2 else f"{name} {count} commits" for name, count in found]
    more = len(found) - _MOST_NAMED
    return ", ".join(texts[:_MOST_NAMED]) + (f" and {more} more" if more > 0 else "")


def _changes(view: View, good: int, later: Sequence[int]) -> str:
    """Say what has changed from the run of a good job to that of the first of the later ones."""
    runs = view.runs.of_jobs([good, *later])
    if good not in runs or later[0] not in runs:
        return ""
    before, after = runs[good], runs[later[0]]
    packages = view.changes_between(before, after).packages
    if packages is None:
        return ""
    if not packages:
        return "nothing"
    sets = {runs[number].package_set_id: None for number in later if number in runs}
    wanted = [number for number in sets if number is not None][:_MOST_SETS]
    commits: dict[str, set[str]] = {}
    for some in view.runs.package_sets(wanted).values():
        for item in some:
            if item.get("git_sha"):
                commits.setdefault(item["name"], set()).add(item["git_sha"])
    return changes_words(
        (
            f"-{item.name}" if item.is_gone else item.name,
            len(commits.get(item.name, set()) - {item.before}),
        )
        for item in packages
    )
