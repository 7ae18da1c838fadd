"""Late series, as the engine of alerts sees them: by values of its own reading of the index."""

from collections.abc import Iterable, Mapping
from datetime import date

from squash_api.alerts.evaluating import Key, Present, Speaking
from squash_api.alerts.freshness import ExpectedSeries, Freshness
from squash_api.definitions.in_force import DefinitionsInForce
from squash_api.index.latest import LatestValues
from squash_api.index.reader import Reader
from squash_api.judging.alert_plan import Expectation, expectations
from squash_api.judging.alert_texts import LATE
from squash_api.judging.alerts import severity_of
from squash_api.judging.raised import unmuted_ns
from squash_api.record.alerts import AlertRow


class Lateness:
    """Finds which expected series are late. For one thread.

    Nothing is read as long as no specification expects anything.
    """

    def __init__(self, reader: Reader, definitions: DefinitionsInForce) -> None:
        self._reader = reader
        self._definitions = definitions
        self._latest = LatestValues(reader)
        self._freshness = Freshness(definitions, reader.metrics.schema, self._latest)

    def present(self, living: Mapping[Key, AlertRow], *, now_ns: int) -> list[Present]:
        """Return the series that are late, and those of these living alerts that no longer are."""
        snapshot = self._definitions.at(None)
        specifications = [item.content for item in snapshot.specifications.values()]
        expected = {
            item.specification: item
            for item in expectations(specifications, self._reader.metrics.schema)
        }
        late: dict[Key, Present] = {}
        if expected:
            self._latest.prepare(now_ns=now_ns, days=self._freshness.days())
            with self._reader.view() as view:
                self._latest.follow(view, now_ns=now_ns)
                found = self._freshness.series(view, now_ns=now_ns)
            for item in found:
                expectation = expected[item.specification]
                if item.late_s > 0 and not _is_muted(expectation.muted_through, now_ns):
                    present = _late(item, expectation)
                    late[present.key] = present
        return [*late.values(), *_ended(living.keys() - late.keys(), expected)]


def _is_muted(muted_through: date | None, now_ns: int) -> bool:
    return muted_through is not None and now_ns < unmuted_ns(muted_through)


def _late(item: ExpectedSeries, expected: Expectation) -> Present:
    key = Key(expected.metric, LATE + item.specification, tuple(sorted(item.tags)))
    return Present(
        key,
        group=expected.group,
        channel=expected.channel,
        is_trial=expected.is_trial,
        severity=severity_of(item.level),
        # Not its run: what is late together is told together, whichever run was the last.
        speaking=Speaking(item.job_id, None if item.job_id is None else item.since_ns),
        broken=[{"missing": item.missing}] if item.missing else [],
        may_open=True,
    )


def _ended(keys: Iterable[Key], expected: Mapping[str, Expectation]) -> list[Present]:
    """Return that series are no longer late, or that nothing expects them."""
    return [
        Present(key, why="well" if key.branch.removeprefix(LATE) in expected else "undefined")
        for key in keys
    ]
