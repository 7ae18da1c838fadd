"""The interface of all kinds of specification: judging, wording, drawing, alerting."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from math import isfinite
from typing import Any, ClassVar, NamedTuple, Self

from squash_api.judging.wording import number_text, plain_number
from squash_api.schema.answers import Shown
from squash_api.schema.text import finite
from squash_api.verify.metrics import Fault, parse_unit
from squash_api.verify.units import UnitError, converter, quantity_value

UNORDERED = ("==", "!=")
"""The comparisons that mean the same whichever way a scale runs."""


class Bound(NamedTuple):
    """A number at which a line is drawn, and how values must compare with it.

    `is_upper` means that they must be below it. Bounds sort by number.
    """

    number: float
    operator: str
    sign: str
    is_upper: bool

    def words(self, number: Callable[[float], str]) -> str:
        """Return the condition, such as `≤ 5`; `number` formats the number."""
        return f"{self.sign} {number(self.number)}"


class Criterion(ABC):
    """The condition that values must meet: the part of a specification that depends on its kind.

    Its unit is the one it is written in, or after `in_unit` that of the metric, in which values are
    compared. Two are equal if they demand the same in the same unit.

    A kind with `history` judges a value by earlier ones: `settled` gives the criterion that it is
    for one value, of a kind without history. There is none while the past is too short, and then
    there is no verdict. One with `members` judges no value, but counts those of them that are
    broken. Neither breaks anything by itself: its `holds` is always true.
    """

    __slots__ = ()

    TYPE: ClassVar[str]
    """The word for it in the key `type` of a document."""

    SCHEMA: ClassVar[Mapping[str, Any]]
    """The JSON schemas of the keys that only documents of this kind have."""

    UNIT_PATH: ClassVar[tuple[str, ...]]
    """The path of keys to the unit."""

    IS_TICK: ClassVar[bool] = True
    """Whether TICKscript can say it: then it has `broken_in_tick`, `_in_go` and `_in_math`."""

    unit: str

    @classmethod
    @abstractmethod
    def parse(cls, document: Mapping[Any, Any], faults: list[Fault]) -> Self | None:
        """Read a complete document; problems become faults, and the result None."""

    @classmethod
    @abstractmethod
    def check(cls, document: Mapping[Any, Any], faults: list[Fault]) -> None:
        """Check a document that may be incomplete, such as the base of others."""

    @classmethod
    @abstractmethod
    def from_shown(cls, shown: Mapping[str, Any], unit: str) -> Self | None:
        """Read what `shown` returned back; None if it is not of this kind."""

    @abstractmethod
    def to_json(self) -> dict[str, Any]:
        """Return the keys of a document."""

    @abstractmethod
    def shown(self) -> Shown:
        """Return what verdicts and reports show of it next to the unit: `operator`, `threshold`.

        `operator` is a sign or a word that no other kind has; `threshold` is a number, or a list of
        numbers.
        """

    @property
    def history(self) -> int:
        """How many earlier values of the series it looks at, at most; 0 for most kinds."""
        return 0

    def settled(self, past: Sequence[float]) -> "Criterion | None":
        """Return what it demands of one value, given those before it; None if they are too few.

        Parameters
        ----------
        past
            The finite values of the series before the one to judge, newest first, in its own unit:
            one for each run, and none for those that were not measured. More than `history` do no
            harm.
        """
        del past
        return self

    @property
    def members(self) -> tuple[str, ...]:
        """The names of the specifications that it counts; none for the kinds that judge values."""
        return ()

    @property
    def is_alone(self) -> bool:
        """Whether it judges a value by itself."""
        return not self.history and not self.members

    @property
    def needs_record(self) -> bool:
        """Whether one job does not suffice to judge it."""
        return self.history > 0

    def placed(self, specification: str) -> Self:
        """Return the same as part of a specification, whose full name short ones are read by."""
        del specification
        return self

    @property
    @abstractmethod
    def number_paths(self) -> tuple[tuple[str, ...], ...]:
        """The paths of keys to the numbers."""

    @property
    @abstractmethod
    def numbers(self) -> tuple[float, ...]:
        """Its numbers, in the order of `number_paths`."""

    @abstractmethod
    def with_numbers(self, numbers: tuple[float, ...], unit: str) -> Self:
        """Return the same condition with other numbers, in a unit."""

    @property
    @abstractmethod
    def holds(self) -> Callable[[float], bool]:
        """The test whether a value meets it; get it once, call it often."""

    @abstractmethod
    def margin(self, value: float) -> float | None:
        """Return the distance of a value as a fraction of the limit, negative if it is broken.

        Returns None where that means nothing.
        """

    @property
    @abstractmethod
    def bounds(self) -> tuple[Bound, ...]:
        """The lines by which graphs show it."""

    @abstractmethod
    def pattern(self, *, is_ascii: bool = False) -> str:
        """Return the condition in words, with `{}` for each number."""

    def broken_in_tick(self, field: str) -> str:
        """Return the lambda expression of TICKscript that is true where a field breaks it."""
        raise NotImplementedError(f"{self.TYPE} of {field}")

    def broken_in_go(self, variable: str) -> str:
        """Return the condition of a Go template that is true where a variable breaks it."""
        raise NotImplementedError(f"{self.TYPE} of {variable}")

    def broken_in_math(self, variable: str) -> str:
        """Return the expression of Grafana's math that is true where a variable breaks it."""
        raise NotImplementedError(f"{self.TYPE} of {variable}")

    def words(self, number: Callable[[float], str], *, is_ascii: bool = False) -> str:
        """Return the condition, such as `≤ 5`; `number` formats the numbers."""
        return self.pattern(is_ascii=is_ascii).format(*map(number, self.numbers))

    def words_against(self, value: float | None, *, is_ascii: bool = False) -> str:
        """Return the condition, with enough digits to distinguish it from a value."""
        return self.words(lambda number: number_text(number, value), is_ascii=is_ascii)

    def value_text(self, value: float | None) -> str:
        """Return a value, with enough digits to distinguish it from the limit."""
        return number_text(value, *self.numbers)

    def in_unit(self, unit: str) -> Self | None:
        """Return the same condition in another unit; None if it has a `misfit`."""
        convert = converter(self.unit, unit)
        if convert is None or self.misfit(unit) is not None:
            return None
        return self.with_numbers(self.converted(convert), unit)

    def converted(self, convert: Callable[[float], float]) -> tuple[float, ...]:
        """Return its numbers after a conversion of its unit."""
        return tuple(map(convert, self.numbers))

    @property
    def is_ordered(self) -> bool:
        """Whether it matters to it which of two values is the larger."""
        return any(bound.operator not in UNORDERED for bound in self.bounds)

    def misfit(self, unit: str) -> str | None:
        """Return why it cannot be judged in another unit, to follow its own; None if it can.

        lsst.verify compares in the unit of the measurement. Where one unit falls while the other
        rises (magnitudes and fluxes), "at most" in one is "at least" in the other, and its answer
        depends on the unit that a job happens to be in. Neither answer is taken for the right one.
        """
        convert = converter(self.unit, unit)
        if convert is None:
            return f"does not convert to '{unit}'"
        if self.is_ordered and convert(2.0) < convert(1.0):
            return f"falls where values rise in '{unit}'"
        pairs = zip(self.numbers, self.converted(convert), strict=True)
        lost = next((number for number, other in pairs if not isfinite(other)), None)
        return None if lost is None else f"has no number for {number_text(lost)} in '{unit}'"

    def remedy(self, unit: str) -> str:
        """Return what to do about a `misfit` with the unit of a metric."""
        if is_logarithmic(unit):
            return f"no limit can be in '{unit}': {logarithmic_remedy(unit)}"
        return "write the limit in that unit"


def demand_of_past(criterion: Criterion, value: float | None, *, is_ascii: bool = False) -> str:
    """Return what follows for a value from those before it, in words.

    The numbers are computed, so they are as long as is needed to tell them apart.
    """
    others = criterion.numbers

    def text(number: float) -> str:
        return plain_number(float(number_text(number, value, *others)))

    return f"like the runs before: {criterion.words(text, is_ascii=is_ascii)}"


def read_unit(key: str, written: Any, faults: list[Fault]) -> str | None:
    """Read the unit in the mapping `key` of a document."""
    loc = (key, "unit")
    if written is None:
        message = f"the {key}'s unit is null: write '' for a dimensionless one"
        faults.append(Fault(loc, message))
        return None
    unit = parse_unit(written, loc, faults)
    if unit is not None and is_logarithmic(unit):
        remedy = logarithmic_remedy(unit)
        message = f"'{unit}': lsst.verify cannot compare in this unit: {remedy}"
        faults.append(Fault(loc, message))
        return None
    return unit


def read_number(
    key: str, name: str, written: Any, unit: str | None, faults: list[Fault]
) -> float | None:
    """Read the number `name` in the mapping `key` of a document: a finite one, or one as text."""
    try:
        number = quantity_value(written, unit or "")
        # astropy takes true for 1; whoever wrote `no` or `on` meant something else.
        if isfinite(number) and not isinstance(written, bool):
            return number
        what = "not a number" if isinstance(written, bool) else "not finite"
        reason = f"{written!r} is {what}: write a finite number"
    except UnitError as error:
        reason = str(error)
    faults.append(Fault((key, name), f"the {key}'s {name} {reason}"))
    return None


def part_of(distance: float, size: float) -> float | None:
    """Return a distance as a fraction of a size, as margins are; None of a size of 0."""
    if size == 0 or not isfinite(size):
        return None
    # Never -0.0, however small the distance.
    return finite(distance / abs(size) + 0.0)


def mapping_at(
    document: Mapping[Any, Any], key: str, hint: str, faults: list[Fault]
) -> Mapping[Any, Any] | None:
    """Return the mapping that a kind has its keys in; without one that is a fault, and None."""
    written = document.get(key)
    if isinstance(written, dict):
        return written
    what = "is not a mapping" if key in document else "is missing"
    faults.append(Fault((key,), f"the {key} {what}: {hint}"))
    return None


def is_logarithmic(unit: str) -> bool:
    """Tell whether lsst.verify cannot compare in a unit, such as `mag(AB)`."""
    return unit.startswith(("mag(", "dex(", "dB("))


def logarithmic_remedy(unit: str) -> str:
    """Return what to do where a limit is wanted for values in a logarithmic unit.

    Magnitudes fall where their fluxes rise, so a limit in flux does not fit them; others rise.
    """
    function, _, physical = unit.removesuffix(")").partition("(")
    if function != "mag":
        return f"write the limit in '{physical}', as a positive number"
    linear = "nJy" if physical == "AB" else physical
    return (
        f"declare the metric, and write the limit, in a linear unit such as '{linear}' or "
        f"'{function}'"
    )
