"""What a wire makes of a body: the parts of a job document."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True, slots=True)
class Parts:
    """The parts of a job document, as lsst.verify would have sent them.

    `places` are where in the body each measurement is, beginning with `body`; what is said of a
    measurement names its place. `bare_tokens` is how many `NaN` and `Infinity` in the body, which
    are not JSON, were read as null. `unknown_keys` are those that have no meaning. `identity` is
    what a job has instead of identifiers if it has no measurements. `changing` are keys of `meta`
    that may change when a job is sent again, as `env.date` may. A value of a wire without
    `has_units` is in its metric's unit, if it has none. `date_key` is where the body
    has `env.date`.
    """

    measurements: Sequence[Mapping[str, Any]] = ()
    meta: Mapping[str, Any] = field(default_factory=dict)
    blobs: Sequence[Mapping[str, Any]] = ()
    places: Sequence[tuple[str | int, ...]] = ()
    bare_tokens: int = 0
    unknown_keys: Sequence[str] = ()
    identity: str | None = None
    changing: Collection[str] = ()
    has_units: bool = True
    date_key: str = "env.date"
