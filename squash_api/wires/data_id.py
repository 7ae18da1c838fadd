"""What a job is about, as the butler says it: told by options, or by the path of the file."""

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class DataId:
    """What files do not say themselves: their run, instrument, visit, detector and the like.

    `values` are by the names that Sasquatch uses (`run`, `dataset_type`, `dataset_tag`,
    `instrument`, `visit`, ...); any other name is metadata too.
    """

    values: Mapping[str, str] = field(default_factory=dict)
