"""Jobs at the limits of specifications, made from the specifications themselves."""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import cycle, product
from pathlib import Path
from typing import Any

import yaml

from squash_api.judging.alerts import severity_of
from squash_api.judging.kinds.threshold import OPERATORS
from squash_api.judging.limits import judge_job
from squash_api.judging.specifications import Specification
from squash_api.metrics_packages.loading import MetricsPackage, load_metrics_packages
from squash_api.schema.names import Schema
from tests.support.metrics_packages import ROOT, shared

SCHEMA = Schema()
HARD = (8.0, 7.499999999999999, 3e-7, -5.5, 0.0, 1e22, 0.1)
"""Limits that are not easily written."""

QUERIES: tuple[dict[str, Any], ...] = (
    {},
    {"filter_name": "r", "ci_dataset": "HSC RC2"},
    {"visit": 903334, "airmass": 1.1},
    {"note": """it's "so" {{ .ID }} \\' <!channel> & Ω""", "instrument": "'\\\\x"},
    {"is_deep": True, "chips": [1, 2.0, "a b"]},
    {"detector": 7.0, "run_id": "w_2026_50"},
    {"filter_name": {"in": ["r", "it's"]}, "moon": {">=": 0.1, "<": 0.3}, "lamp": {"in": [1, 2]}},
)
"""Terms on tags and on fields, of texts, numbers, booleans and lists, and conditions."""


@dataclass(frozen=True)
class Job:
    """Metadata and values of a job; None is a value that is absent."""

    name: str
    meta: dict[str, Any]
    values: dict[str, float | None] = field(default_factory=dict)


def own_package() -> MetricsPackage:
    """Return the packages of this repository."""
    return _loaded(*sorted((ROOT / "specs").iterdir()))


def sample_package() -> MetricsPackage:
    """Return the 436 specifications of the shared data, or skip the test without them."""
    return _loaded(shared("verify_metrics_sample"))


def made_package(directory: Path) -> MetricsPackage:
    """Write and return a package with every operator, hard numbers, ranges and all terms."""
    metrics = {f"m{number}": {"description": "Made.", "unit": "s"} for number in range(len(HARD))}
    (directory / "metrics").mkdir(parents=True)
    (directory / "metrics" / "made.yaml").write_text(yaml.safe_dump(metrics), encoding="utf-8")
    levels = cycle(["minimum", "design", "stretch"])
    documents = [
        {
            "name": f"m{number}.{word}_{place}",
            "threshold": {"value": value, "unit": "s", "operator": sign},
            "tags": [next(levels)],
            "metadata_query": query,
        }
        for place, query in enumerate(QUERIES)
        for number, value in enumerate(HARD)
        for word, sign in zip(("lt", "le", "gt", "ge", "eq", "ne"), OPERATORS, strict=True)
    ]
    ends = [(-5.5, 0.0), (0.1, None), (None, 3e-7), (8.0, 1e22)]
    rules = [
        {
            "name": f"m{number}.range_{place}",
            "type": "range",
            "range": {"low": low, "high": high, "unit": "s"},
            "tags": [next(levels)],
            "metadata_query": query,
        }
        for place, query in enumerate(QUERIES)
        for number, (low, high) in enumerate(ends)
    ]
    (directory / "rules" / "made").mkdir(parents=True)
    (directory / "rules" / "made" / "all.yaml").write_text(
        yaml.safe_dump_all(rules), encoding="utf-8"
    )
    (directory / "specs" / "made").mkdir(parents=True)
    (directory / "specs" / "made" / "all.yaml").write_text(
        yaml.safe_dump_all(documents), encoding="utf-8"
    )
    return _loaded(directory)


def numbers_in(specification: Specification, unit: str) -> tuple[float, ...]:
    """Return the numbers of a limit in another unit."""
    converted = specification.criterion.in_unit(unit)
    assert converted is not None
    return converted.numbers


def metas_of(query: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return metadata that meet a query, and around each number of its conditions."""
    values: dict[str, list[Any]] = {key: [wanted] for key, wanted in query.items()}
    for key, wanted in query.items():
        if isinstance(wanted, dict) and "in" in wanted:
            values[key] = wanted["in"]
        elif isinstance(wanted, dict):
            ends = sorted(wanted.values())
            inner = sum(ends) / len(ends) if len(ends) > 1 else ends[0]
            values[key] = [inner, *(value for end in ends for value in around(end))]
    return [dict(zip(values, chosen, strict=True)) for chosen in product(*values.values())]


def around(limit: float) -> tuple[float, float, float]:
    """Return the floats next to a limit: below, at and above it."""
    return math.nextafter(limit, -math.inf), limit, math.nextafter(limit, math.inf)


def jobs_of_one_specification(
    package: MetricsPackage, specification: Specification
) -> Iterator[Job]:
    """Yield jobs for which a specification decides: at its limit, without a value, elsewhere."""
    metric = package.metrics[specification.metric]
    query = metas_of(specification.metadata_query)[0]
    places = [
        pair
        for number in numbers_in(specification, metric.unit)
        for pair in zip(("below", "at", "above"), around(number), strict=True)
    ]
    for where, value in places:
        yield Job(where, query, {metric.name: value})
        for key in query:
            other = {**query, key: "elsewhere"}
            yield Job(f"{where}, other {key}", other, {metric.name: value})
            without = {name: wanted for name, wanted in query.items() if name != key}
            yield Job(f"{where}, no {key}", without, {metric.name: value})
    yield Job("absent", query, {metric.name: None})
    yield Job("not measured", query, {f"{metric.package}.another_metric": 1.0})


def jobs_of_all(package: MetricsPackage) -> list[Job]:
    """Return jobs with all metrics at once, at every limit of every specification.

    For each query there are jobs below, at and above each limit, one without any value, and those
    of another dataset or filter.
    """
    jobs: list[Job] = []
    for query in _queries(package):
        values: dict[str, list[float]] = {}
        for item in package.specifications.values():
            if item.metadata_query == query:
                unit = package.metrics[item.metric].unit
                for limit in numbers_in(item, unit):
                    values.setdefault(item.metric, []).extend(around(limit))
        metas = metas_of(query)
        most = max(len(metas), *map(len, values.values()))
        chosen = [
            {name: found[number % len(found)] for name, found in values.items()}
            for number in range(most)
        ]
        jobs += [
            Job("at limits", metas[number % len(metas)], {**made})
            for number, made in enumerate(chosen)
        ]
        # Where all values break a limit, each of the metadata decides.
        jobs += [Job("at conditions", meta, {**chosen[-1]}) for meta in metas[1:]]
        jobs.append(Job("absent", metas[0], dict.fromkeys(values)))
        for key in query:
            jobs.append(Job(f"other {key}", {**metas[0], key: "elsewhere"}, {**chosen[-1]}))
    return jobs


def verdict_levels(
    package: MetricsPackage, job: Job, branches: Mapping[str, Any]
) -> dict[Any, tuple[str, list[str]]]:
    """Return what our judge says: by branch the worst level violated, and what is of that level.

    `branches` tells to which branch a specification belongs.
    """
    verdicts = judge_job(
        job.values,
        {name: metric.unit for name, metric in package.metrics.items()},
        package.specifications.values(),
        SCHEMA.context(job.meta),
        SCHEMA,
    )
    failed = [(verdict.name, verdict.level) for verdict in verdicts if verdict.status == "failed"]
    return worst_of(failed, branches)


def worst_of(
    failed: Sequence[tuple[str, str]], branches: Mapping[str, Any]
) -> dict[Any, tuple[str, list[str]]]:
    """Return by branch the worst level among violated specifications, and those of that level."""
    found: dict[Any, tuple[str, list[str]]] = {}
    for name, level in sorted(failed, key=lambda item: (-severity_of(item[1]), item[0])):
        worst, names = found.setdefault(branches[name], (level, []))
        if level == worst:
            names.append(name)
    return found


def _queries(package: MetricsPackage) -> list[dict[str, Any]]:
    queries: list[dict[str, Any]] = []
    for item in package.specifications.values():
        if item.metadata_query not in queries:
            queries.append(item.metadata_query)
    return queries


def _loaded(*directories: Path) -> MetricsPackage:
    package = load_metrics_packages(directories)
    assert package.problems == ()
    return package
