"""What a wire makes of a body: the parts of a job document."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True, slots=True)
class Parts:
    """The parts of a job document, as lsst.verify would have sent them.

    `places` are where in the body each measurement is, beginning with `body`; what is said of a
    measurement names its place. `bare_tokens` is how many `NaN` and `Infinity` in the body, which
    are not JSON, were read as null.
    """

    measurements: Sequence[Mapping[str, Any]] = ()
    meta: Mapping[str, Any] = field(default_factory=dict)
    blobs: Sequence[Mapping[str, Any]] = ()
    places: Sequence[tuple[str | int, ...]] = ()
    bare_tokens: int = 0
