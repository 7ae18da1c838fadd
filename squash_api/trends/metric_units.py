"""The metrics there are, those that are asked for, and their values in another unit."""

from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from math import isfinite

from squash_api.errors import Detail, InvalidInputError
from squash_api.record.metrics import KnownMetrics, MetricRow
from squash_api.schema.names import split_metric_name
from squash_api.verify.units import UnitError, canonical_unit, converter


@dataclass(frozen=True, slots=True)
class _Metric:
    row: MetricRow
    unit: str | None
    convert: Callable[[float], float] | None


class MetricUnits:
    """Metrics whose values are shown in one unit, or each in its own.

    Parameters
    ----------
    unit
        The unit that is asked for; None means each metric's own.
    """

    def __init__(self, unit: str | None) -> None:
        self._unit = unit
        self._known: KnownMetrics | None = None
        self._metrics: dict[int, _Metric] = {}

    def take(self, known: KnownMetrics) -> None:
        """Take in the metrics of the state of the record that values are read from."""
        if known is not self._known:
            self._known = known
            self._metrics = {number: self._with_unit(row) for number, row in known.by_id.items()}

    def shown(self, metric_id: int, value: float | None) -> tuple[str, str | None, float | None]:
        """Return the name of a metric, the unit, and a value of it in the unit.

        The value is None if it has no equivalent: a logarithm of what is not positive.
        """
        metric = self._metrics[metric_id]
        if metric.convert is not None and value is not None:
            converted = metric.convert(value)
            value = converted if isfinite(converted) else None
        return metric.row.name, metric.unit, value

    def choose(self, names: Collection[str], packages: Collection[str]) -> list[MetricRow]:
        """Return the metrics of these names and packages by name, or all if there are none.

        Raises
        ------
        InvalidInputError
            If there is no such metric or package, or one does not convert to the unit.
        """
        rows = {item.row.name: item.row for item in self._metrics.values()}
        _refuse_unknown("metric", names, rows)
        _refuse_unknown("package", packages, {split_metric_name(name)[0] for name in rows})
        chosen = [
            row
            for name, row in sorted(rows.items())
            if not (names or packages) or name in names or split_metric_name(name)[0] in packages
        ]
        self._refuse_unit(chosen)
        return chosen

    def _with_unit(self, row: MetricRow) -> _Metric:
        if self._unit is not None and row.unit is not None:
            try:
                convert = converter(row.unit, self._unit)
            except UnitError:
                convert = None
            if convert is not None:
                return _Metric(row, canonical_unit(self._unit), convert)
        return _Metric(row, row.unit, None)

    def _refuse_unit(self, chosen: Sequence[MetricRow]) -> None:
        if self._unit is None:
            return
        try:
            canonical_unit(self._unit)
        except UnitError as error:
            raise _refusal("unit", [str(error)]) from None
        problems = [
            f"The metric {row.name} is in '{row.unit}', which does not convert to '{self._unit}'"
            if row.unit is not None
            else f"The metric {row.name} has no unit yet"
            for row in chosen
            if self._metrics[row.metric_id].convert is None
        ]
        if problems:
            raise _refusal("unit", problems)


def _refuse_unknown(noun: str, asked: Iterable[str], known: Collection[str]) -> None:
    problems = []
    for name in sorted(set(asked) - set(known)):
        near = get_close_matches(name, known, n=1)
        hint = f"; did you mean {near[0]}?" if near else ""
        problems.append(f"There is no {noun} {name[:200]}{hint}")
    if problems:
        raise _refusal(noun, problems)


def _refusal(parameter: str, problems: Sequence[str]) -> InvalidInputError:
    end = "" if problems[0].endswith("?") else "."
    return InvalidInputError(
        f"{problems[0]}{end}",
        detail=[Detail(("query", parameter), problem) for problem in problems[:100]],
    )
