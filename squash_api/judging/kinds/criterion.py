"""What every kind of specification can be asked: to judge values, to be told, drawn and watched."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from typing import Any, ClassVar, NamedTuple, Self

from squash_api.judging.wording import number_text
from squash_api.verify.metrics import Fault
from squash_api.verify.units import converter


class Bound(NamedTuple):
    """A number at which a line can be drawn, and how values must stand to it.

    `is_upper` tells that they must be below it. Bounds are in the order of their numbers.
    """

    number: float
    operator: str
    sign: str
    is_upper: bool

    def words(self, number: Callable[[float], str]) -> str:
        """Return what must hold, such as `≤ 5`; `number` writes the number."""
        return f"{self.sign} {number(self.number)}"


class Criterion(ABC):
    """What a value must meet: the part of a specification that its kind decides.

    It has a unit: the one it is written in, or with `in_unit` that of the metric, in which values
    are compared. Two are equal when they ask for the same, in the same unit.
    """

    __slots__ = ()

    TYPE: ClassVar[str]
    """What the key `type` of a document says."""

    SCHEMA: ClassVar[Mapping[str, Any]]
    """The JSON schemas of the keys of a document that are this kind's own."""

    UNIT_PATH: ClassVar[tuple[str, ...]]
    """The path of keys to the unit in a document."""

    NUMBER_PATHS: ClassVar[tuple[tuple[str, ...], ...]]
    """The paths to the numbers."""

    unit: str

    @classmethod
    @abstractmethod
    def parse(cls, document: Mapping[Any, Any], faults: list[Fault]) -> Self | None:
        """Read a whole document; what is wrong becomes a fault, and the criterion None."""

    @classmethod
    @abstractmethod
    def check(cls, document: Mapping[Any, Any], faults: list[Fault]) -> None:
        """Check the keys of a document that may lack some, as the base of others may."""

    @classmethod
    @abstractmethod
    def from_shown(cls, shown: Mapping[str, Any], unit: str) -> Self | None:
        """Read what `shown` returned back; None if it is not of this kind."""

    @abstractmethod
    def to_json(self) -> dict[str, Any]:
        """Return the keys of a document."""

    @abstractmethod
    def shown(self) -> dict[str, Any]:
        """Return what verdicts and reports show of it next to the unit: `operator`, `threshold`.

        `operator` is a sign or a word that no other kind has; `threshold` is a number, or a list of
        numbers.
        """

    @property
    @abstractmethod
    def numbers(self) -> tuple[float, ...]:
        """The numbers that it names, in the order of `NUMBER_PATHS`."""

    @abstractmethod
    def with_numbers(self, numbers: tuple[float, ...], unit: str) -> Self:
        """Return the same with other numbers, in a unit."""

    @property
    @abstractmethod
    def holds(self) -> Callable[[float], bool]:
        """What tells whether a value meets it: take it once, where it is called many times."""

    @abstractmethod
    def margin(self, value: float) -> float | None:
        """Return the distance of a value as a part of the limit, negative beyond it.

        It is None where there is no such thing.
        """

    @property
    @abstractmethod
    def bounds(self) -> tuple[Bound, ...]:
        """The lines that it can be drawn as."""

    @abstractmethod
    def pattern(self, *, is_ascii: bool = False) -> str:
        """Return what must hold, with `{}` for each number."""

    @abstractmethod
    def broken_in_tick(self, field: str) -> str:
        """Return the lambda expression of TICKscript that holds where a field does not meet it."""

    @abstractmethod
    def broken_in_go(self, variable: str) -> str:
        """Return the condition of a Go template that holds where a variable does not meet it."""

    def words(self, number: Callable[[float], str], *, is_ascii: bool = False) -> str:
        """Return what must hold, such as `≤ 5`; `number` writes the numbers."""
        return self.pattern(is_ascii=is_ascii).format(*map(number, self.numbers))

    def words_beside(self, value: float | None, *, is_ascii: bool = False) -> str:
        """Return what must hold, with so many digits that it can be told from a value."""
        return self.words(lambda number: number_text(number, value), is_ascii=is_ascii)

    def value_text(self, value: float | None) -> str:
        """Return a value with so many digits that it can be told from the limit."""
        return number_text(value, *self.numbers)

    def in_unit(self, unit: str) -> Self | None:
        """Return the same in another unit, or None if its own does not convert to that."""
        convert = converter(self.unit, unit)
        if convert is None:
            return None
        return self.with_numbers(tuple(map(convert, self.numbers)), unit)
