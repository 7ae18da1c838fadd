"""The kind `compound`: of several specifications, not too many may be broken at once."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, ClassVar, Literal, Self, get_args

from squash_api.judging.kinds.criterion import Bound, Criterion, mapping_at
from squash_api.schema.answers import Shown
from squash_api.verify.metrics import Fault

Over = Literal["job", "run"]
OVERS: tuple[Over, ...] = get_args(Over)
"""Where the members are looked at: in one job, or in all jobs of its run."""

_COMPOUND = "compound"
_FEWER = "fewer broken than"
_HINT = "write compound: {at_least: 2, of: [PA1.minimum, AM1.design, AF1.design]}, or any: or all:"
_LISTS = ("any", "all", "of")
_MOST = 100


@dataclass(frozen=True, slots=True)
class Compound(Criterion):
    """It is broken if at least `at_least` of the specifications `members` are.

    They are looked at `over` one job, or over the jobs of one run, where one is broken if it is in
    any job.
    """

    at_least: int
    members: tuple[str, ...]
    over: str = "job"
    unit: str = ""

    TYPE: ClassVar[str] = _COMPOUND
    SCHEMA: ClassVar[Mapping[str, Any]] = MappingProxyType(
        {
            _COMPOUND: {
                "type": "object",
                "properties": {
                    **{key: {"type": "array", "items": {"type": "string"}} for key in _LISTS},
                    "at_least": {"type": "integer", "minimum": 1, "maximum": _MOST},
                    "over": {"type": "string", "enum": [*OVERS]},
                },
            }
        }
    )
    UNIT_PATH: ClassVar[tuple[str, ...]] = (_COMPOUND,)
    IS_TICK: ClassVar[bool] = False

    @classmethod
    def parse(cls, document: Mapping[Any, Any], faults: list[Fault]) -> Self | None:
        """Read the key `compound`, which must have one list of names."""
        written = mapping_at(document, _COMPOUND, _HINT, faults)
        if written is None:
            return None
        before = len(faults)
        key, names = _parse_names(written, faults)
        over = _parse_over(written, faults)
        if key is None:
            return None
        needed = {"any": 1, "all": len(names)}.get(key)
        if needed is None:
            needed = _parse_count(written, names, faults)
        return None if len(faults) > before else cls(needed, names, over)

    @classmethod
    def check(cls, document: Mapping[Any, Any], faults: list[Fault]) -> None:
        """Check the parts of a compound that are present; lists may grow."""
        written = document.get(_COMPOUND)
        if isinstance(written, dict):
            _parse_over(written, faults)

    @classmethod
    def from_shown(cls, shown: Mapping[str, Any], unit: str) -> Self | None:
        """Read `shown` back, without the names."""
        if shown.get("operator") != _FEWER:
            return None
        needed, count = map(int, shown["threshold"])
        return cls(needed, ("",) * count, unit=unit)

    def to_json(self) -> dict[str, Any]:
        """Return the key `compound`."""
        names = list(self.members)
        asked: dict[str, Any] = {"at_least": self.at_least, "of": names}
        if self.at_least == 1:
            asked = {"any": names}
        elif self.at_least == len(names):
            asked = {"all": names}
        return {_COMPOUND: {**asked, "over": self.over}}

    def shown(self) -> Shown:
        """Return the word, how many it takes, and of how many."""
        return {"operator": _FEWER, "threshold": [self.at_least, len(self.members)]}

    @property
    def needs_record(self) -> bool:
        """Whether the other jobs of a run count."""
        return self.over == "run"

    def placed(self, specification: str) -> Self:
        """Return it with full names: short ones are of the same package, or the same metric."""
        metric = specification.rpartition(".")[0]
        above = {0: f"{metric}.", 1: f"{metric.partition('.')[0]}."}
        names = (f"{above.get(name.count('.'), '')}{name}" for name in self.members)
        return type(self)(self.at_least, tuple(names), self.over, self.unit)

    @property
    def number_paths(self) -> tuple[tuple[str, ...], ...]:
        """No path: it has no numbers in a unit."""
        return ()

    @property
    def numbers(self) -> tuple[float, ...]:
        """None."""
        return ()

    def with_numbers(self, numbers: tuple[float, ...], unit: str) -> Self:
        """Return it unchanged."""
        del numbers, unit
        return self

    def misfit(self, unit: str) -> str | None:
        """Return None: it has no unit."""
        del unit
        return None

    def in_unit(self, unit: str) -> Self:
        """Return it unchanged."""
        del unit
        return self

    @property
    def holds(self) -> Callable[[float], bool]:
        """Always true: it does not judge values."""
        return lambda _value: True

    def is_met(self, broken: int, unknown: int = 0) -> bool | None:
        """Tell whether it is met if so many are broken; None if the `unknown` ones decide that."""
        if broken >= self.at_least:
            return False
        return True if broken + unknown < self.at_least else None

    def margin(self, value: float) -> float | None:
        """Return None: a count has no margin."""
        del value
        return None

    @property
    def bounds(self) -> tuple[Bound, ...]:
        """No lines."""
        return ()

    def pattern(self, *, is_ascii: bool = False) -> str:
        """Return the condition in words; it has no numbers of its own."""
        del is_ascii
        where = " in the run" if self.over == "run" else ""
        total = len(self.members)
        if self.at_least == 1:
            return f"none of {total} broken{where}"
        if self.at_least == total:
            return f"not all {total} broken{where}"
        return f"fewer than {self.at_least} of {total} broken{where}"

    def value_text(self, value: float | None) -> str:
        """Return how many are broken."""
        return "\u2013" if value is None else f"{value:.0f} of {len(self.members)}"


def _parse_names(
    written: Mapping[Any, Any], faults: list[Fault]
) -> tuple[str | None, tuple[str, ...]]:
    """Return the key of the list, and its names; None for the key if that is wrong."""
    keys = [key for key in _LISTS if key in written]
    if len(keys) != 1:
        said = f"both {keys[0]} and {keys[1]}" if keys else "no list of specifications"
        faults.append(Fault((_COMPOUND,), f"the compound has {said}: {_HINT}"))
        return None, ()
    (key,) = keys
    names = written[key]
    loc = (_COMPOUND, key)
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        message = f"'{key}' is not a list of specifications: write [PA1.minimum, AM1.design]"
        faults.append(Fault(loc, message))
        return None, ()
    twice = next((name for name in names if names.count(name) > 1), None)
    if twice is not None:
        faults.append(Fault(loc, f"'{twice}' is in the list twice: delete one"))
    elif not 2 <= len(names) <= _MOST:
        message = f"the list has {len(names)} specifications: name from 2 to {_MOST}"
        faults.append(Fault(loc, message))
    if key != "of" and "at_least" in written:
        message = f"at_least has no effect beside {key}: write at_least: and of:"
        faults.append(Fault((_COMPOUND, "at_least"), message))
    return key, tuple(names)


def _parse_count(written: Mapping[Any, Any], names: tuple[str, ...], faults: list[Fault]) -> int:
    number = written.get("at_least")
    if isinstance(number, int) and not isinstance(number, bool) and 1 <= number <= len(names):
        return number
    said = f"at_least is {number!r}" if "at_least" in written else "the compound has no at_least"
    message = f"{said}: write a whole number from 1 to {len(names)}"
    faults.append(Fault((_COMPOUND, "at_least"), message))
    return 0


def _parse_over(written: Mapping[Any, Any], faults: list[Fault]) -> str:
    over = written.get("over", "job")
    if over in OVERS:
        return str(over)
    faults.append(Fault((_COMPOUND, "over"), f"{over!r} is not {' or '.join(OVERS)}: write one"))
    return "job"
