"""The one reader of the record and its index: pages, standings, trends and reports use it.

A `View` sees one state of the record. It is asked by subject, or any query of `record` and
`index`::

    with reader.view() as view:
        contexts = view.contexts.of(job_ids)
        revision = view.ask(current_revision)

Values of a metric whose unit has just changed wait to be derived again. Callers that must not see
the old ones read within `Reader.settled`.
"""

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from functools import cached_property
from typing import Concatenate, ParamSpec, TypeVar

from squash_api.errors import RecordUnavailableError
from squash_api.index.code_changes import CodeChangeReader, CodeChanges
from squash_api.index.contexts import Contexts, TagSets, TagValues
from squash_api.index.derived import waiting_for_rederivation
from squash_api.index.deriver import Deriver
from squash_api.index.runs import RunRow, Runs
from squash_api.index.values import Values
from squash_api.index.windows import Windows
from squash_api.record.metrics import KnownMetrics, Metrics
from squash_api.record.record import Connection, Record
from squash_api.schema.names import RUN_TAGS, Schema

_Found = TypeVar("_Found")
_Arguments = ParamSpec("_Arguments")

# Metrics may change again while their values are derived again.
_MOST_ATTEMPTS = 10
_MOST_CHANGES = 5000


class Reader:
    """Reads the record. Safe to use from many threads."""

    def __init__(self, record: Record, deriver: Deriver, metrics: Metrics) -> None:
        self.metrics = metrics
        self._record = record
        self._deriver = deriver
        self._tag_sets: TagSets = {}
        self._changes = CodeChangeReader(remembers=_MOST_CHANGES)
        self._run_tags = TagValues(RUN_TAGS)
        self._is_closed = False

    def close(self) -> None:
        """Let nobody open a view any more: who reads much in many of them then stops early."""
        self._is_closed = True

    def catch_up(self, *, may_lag: bool = True) -> None:
        """Derive every job that is in the record now, so that all are in the index.

        If the record cannot be written, as on a full disk, the newest jobs may be missing in what
        is read then: that helps more than nothing, and `Record.trouble` says so on every page. With
        `may_lag` false this raises instead.

        Raises
        ------
        RecordUnavailableError
            If the record cannot be read, or written.
        """
        if may_lag and self._record.trouble is not None:
            return
        try:
            self._deriver.catch_up()
        except RecordUnavailableError:
            if not may_lag or self._record.trouble is None:
                raise

    @contextmanager
    def view(self) -> Iterator["View"]:
        """Open a view of the record as it is now.

        Raises
        ------
        RecordUnavailableError
            If the record cannot be read, or `close` has been called.
        """
        if self._is_closed:
            raise RecordUnavailableError("The service is stopping.")
        with self._record.read() as connection:
            yield View(connection, self.metrics, self._tag_sets, self._changes)

    def run_tags(self) -> dict[str, list[str]]:
        """Return the values that the tags of runs have had, by tag."""
        with self._record.read() as connection:
            return self._run_tags.read(connection)

    def rederive(self, job_ids: Iterable[int]) -> None:
        """Derive again the values of jobs that may be in an old unit."""
        self._deriver.rederive(sorted(job_ids))

    def catch_up_with(self, job_id: int) -> None:
        """Derive a job again if it waits for that, as one that was just added to.

        If the record cannot be read or written now, it goes on waiting.
        """
        with suppress(RecordUnavailableError):
            with self.view() as view:
                waiting = view.ask(waiting_for_rederivation, [job_id])
            self.rederive(waiting)

    def settled(self, read: Callable[["View"], _Found]) -> _Found:
        """Return what `read` finds in a view that has no value in an old unit.

        Parameters
        ----------
        read
            Passes the jobs that it looks at to `View.require_settled`. It is called again when some
            of them had to be derived again.

        Raises
        ------
        RecordUnavailableError
            If metrics keep changing, or the record cannot be read.
        """
        for _ in range(_MOST_ATTEMPTS):
            try:
                with self.view() as view:
                    return read(view)
            except _UnsettledError as error:
                stale = error.job_ids
            self.rederive(stale)
        raise RecordUnavailableError("Metrics keep changing at the moment. Try again.")


class View:
    """One state of the record, while the `with` lasts. For one thread.

    It is asked by subject: `contexts`, `values`, `windows` and `runs`.
    """

    def __init__(
        self,
        connection: Connection,
        metrics: Metrics,
        tag_sets: TagSets,
        changes: CodeChangeReader,
    ) -> None:
        self._connection = connection
        self._metrics = metrics
        self._changes = changes
        self.contexts = Contexts(connection, tag_sets)
        self.values = Values(connection)
        self.windows = Windows(connection)
        self.runs = Runs(connection)

    @property
    def schema(self) -> Schema:
        """The names of tags and fields."""
        return self._metrics.schema

    @cached_property
    def metrics(self) -> KnownMetrics:
        """The metrics, in the units in which this view has their values."""
        return self._metrics.as_of(self._connection)

    def ask(
        self,
        query: Callable[Concatenate[Connection, _Arguments], _Found],
        *args: _Arguments.args,
        **kwargs: _Arguments.kwargs,
    ) -> _Found:
        """Return what a query of `record` or `index` finds in this view."""
        return query(self._connection, *args, **kwargs)

    def require_settled(self, job_ids: Iterable[int]) -> None:
        """Make `Reader.settled` start again if values of these jobs may be in an old unit."""
        waiting = waiting_for_rederivation(self._connection, job_ids)
        if waiting:
            raise _UnsettledError(waiting)

    def changes_since_previous_run(self, job_ids: Iterable[int]) -> dict[int, CodeChanges | None]:
        """Return what changed between each job's run and the previous one, by job.

        It is None where no previous run is known.
        """
        return self._changes.since_previous_run(self.runs, job_ids)

    def changes_between(self, before: RunRow, after: RunRow) -> CodeChanges:
        """Return what changed from the run of one job to that of another."""
        return self._changes.between(self.runs, before, after)


class _UnsettledError(Exception):
    """Jobs have values in an old unit."""

    def __init__(self, job_ids: Iterable[int]) -> None:
        super().__init__()
        self.job_ids = sorted(job_ids)
