"""Editions of the specifications, ready to judge jobs: those in force, those of a change."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path

from squash_api.definitions_in_force import DefinitionsInForce
from squash_api.record.record import Record
from squash_api.schema import Schema
from squash_api.verify.alert_plan import Limit, WatchedMetric, watched_metrics
from squash_api.verify.assessment import KnownMetric
from squash_api.verify.metrics import Metric
from squash_api.verify.metrics_package import MetricsPackage
from squash_api.verify.specifications import Specification
from squash_api.vocabulary import Vocabulary


@dataclass(frozen=True, slots=True)
class Edition:
    """Specifications that alert, with what is needed to judge by them.

    `known` are all metrics that jobs may have, with their units.
    """

    specifications: Mapping[str, Specification]
    watched: tuple[WatchedMetric, ...]
    known: Mapping[str, KnownMetric]

    @property
    def limits(self) -> dict[str, Limit]:
        """The limits by the specifications' names."""
        return {
            limit.specification: limit
            for item in self.watched
            for branch in item.branches
            for limit in branch.limits
        }

    def unit(self, metric: str) -> str:
        """Return the unit that a metric's values are in."""
        known = self.known.get(metric)
        return (known.unit or "") if known else ""


def edition_of(
    package: MetricsPackage,
    *,
    record: Record,
    schema: Schema,
    metrics: Collection[str] = (),
) -> Edition:
    """Return the edition that a metrics package would be.

    Parameters
    ----------
    package
        Without problems.
    record
        What knows the units of metrics that the package does not define.
    metrics
        Only specifications on these metrics or verification packages; empty: on all.
    """
    return _edition(
        package.specifications, package.metrics, Vocabulary(record, schema).metrics, schema, metrics
    )


def edition_in_force(record: Record, *, schema: Schema, metrics: Collection[str] = ()) -> Edition:
    """Return the specifications from YAML that the record has in force; the others never alert.

    Parameters
    ----------
    metrics
        Only specifications on these metrics or verification packages; empty: on all.
    """
    snapshot = DefinitionsInForce(record, schema).at(None)
    specifications = {
        name: defined.content
        for name, defined in snapshot.specifications.items()
        if defined.origin == "yaml"
    }
    return _edition(
        specifications, snapshot.declared, Vocabulary(record, schema).metrics, schema, metrics
    )


def _edition(
    specifications: Mapping[str, Specification],
    declared: Mapping[str, Metric],
    vocabulary: Mapping[str, KnownMetric],
    schema: Schema,
    wanted: Collection[str],
) -> Edition:
    # A stored metric that cannot be read any more is logged by who reads it.
    chosen = {
        name: item
        for name, item in specifications.items()
        if item.metric in declared
        and (not wanted or item.metric in wanted or item.metric.partition(".")[0] in wanted)
    }
    known = {
        **vocabulary,
        **{name: KnownMetric(item.unit, is_declared=True) for name, item in declared.items()},
    }
    package = MetricsPackage(Path(), dict(declared), chosen, ())
    return Edition(chosen, tuple(watched_metrics(package, schema)), known)
