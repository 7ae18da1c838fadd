"""Metrics packages with any number of specifications, as people write them."""

from pathlib import Path

METRICS_OF_A_PACKAGE = 31
LEVELS = {"minimum": 30.0, "design": 20.0, "stretch": 10.0}
FILTERS = ("r", "i")
SPECS_OF_A_METRIC = 5

_PARTIALS = "".join(
    f"---\nid: {level}\nthreshold: {{value: {value}}}\ntags: [{level}]\n\n"
    for level, value in LEVELS.items()
)


def make_specs(folder: Path, specifications: int) -> None:
    """Write a directory of packages with this number of specifications, five for each metric."""
    metrics, rest = divmod(specifications, SPECS_OF_A_METRIC)
    assert not rest, f"not a multiple of {SPECS_OF_A_METRIC}"
    (folder / "metrics").mkdir(parents=True)
    for first in range(0, metrics, METRICS_OF_A_PACKAGE):
        package = f"bench_{first // METRICS_OF_A_PACKAGE}"
        names = [
            f"metric_{index}" for index in range(first, min(first + METRICS_OF_A_PACKAGE, metrics))
        ]
        (folder / "specs" / package).mkdir(parents=True)
        (folder / "metrics" / f"{package}.yaml").write_text("\n".join(map(_metric, names)))
        (folder / "specs" / package / "levels.yaml").write_text(_PARTIALS)
        (folder / "specs" / package / "limits.yaml").write_text("".join(map(_limits, names)))


def _metric(name: str) -> str:
    return (
        f"{name}:\n  description: Made up, for the benchmarks.\n  unit: mmag\n"
        "  tags: [bench]\n  reference: {doc: LPM-17, page: 26}\n"
    )


def _limits(metric: str) -> str:
    """Return a partial, and what is based on it: the three levels, and one for each filter."""
    partial = (
        f"---\nid: {metric}\nmetric: {metric}\n"
        "threshold: {operator: '<=', unit: mmag}\ntags: [bench]\n\n"
    )
    levels = [f"---\nname: {level}\nbase: ['#{metric}', 'levels#{level}']\n\n" for level in LEVELS]
    filters = [
        f"---\nname: design_{filter_}\nbase: ['#{metric}', 'levels#design']\n"
        f"threshold: {{value: 15.0}}\nmetadata_query: {{filter_name: {filter_}}}\n\n"
        for filter_ in FILTERS
    ]
    return "".join([partial, *levels, *filters])
