"""Metrics as other systems define them, written as a metrics package.

It takes the `metricInformation.yaml` of lsst/analysis_tools, and the metrics of the SQUASH
prototype and of DESI's Quick Look Framework. What a metrics package cannot say becomes comments.
"""

import re
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from math import isfinite
from typing import Any

from squash_api.errors import InvalidInputError
from squash_api.judging.simple_metric import KEYS, LIMIT_KEYS, read_simple_metric
from squash_api.judging.specifications import Specification, specification_from_json
from squash_api.metrics_packages.export import metric_text, specification_text
from squash_api.schema.names import Schema
from squash_api.verify.metrics import (
    Metric,
    is_unicode,
    metric_from_json,
    metric_name_problem,
)

_LISTS = ("results", "metrics", "metric")
_NAMES = ("metric", "name")
_UNITS = ("unit", "units")
_TWO_SIDES = (("low", "lowThreshold", ">="), ("high", "highThreshold", "<="))
"""By analysis_tools: the name of each limit here, its key there, and what values must be."""

_TAGS = ("debugGroup", "tags")
_SAID = frozenset({*KEYS, *_TAGS, *(key for _, key, _ in _TWO_SIDES)})
_ILLEGAL = re.compile(r"[^A-Za-z0-9_-]+")
_LONGEST_COMMENT = 300


@dataclass(frozen=True, slots=True)
class ForeignMetric:
    """A metric of another system, as it is written there, under its name.

    `remarks` become comments.
    """

    name: str
    definition: Mapping[str, Any]
    remarks: tuple[str, ...] = ()

    @property
    def has_unit(self) -> bool:
        """Whether it says a unit."""
        return any(self.definition.get(key) is not None for key in _UNITS)


@dataclass(frozen=True, slots=True)
class Imported:
    """Files of a metrics package by path, and what was left out of them, with why."""

    files: Mapping[str, str]
    metrics: int
    specifications: int
    left_out: list[str] = field(default_factory=list)


def foreign_metrics(document: Any) -> tuple[list[ForeignMetric], list[str]]:
    """Read metrics of another system: one, a list, or a mapping by name.

    Returns
    -------
    tuple
        The metrics, and what beside them is none.

    Raises
    ------
    ValueError
        If there is no metric in it.
    """
    others: list[str] = []
    found = [
        ForeignMetric(name.strip(), {str(key): value for key, value in definition.items()})
        for name, definition in _definitions(document, others)
    ]
    if not found:
        raise ValueError(
            "there are no metrics in it: write them by name, as in metricInformation.yaml, or as "
            "objects with metric or name, and description"
        )
    return found, others


def _definitions(document: Any, others: list[str]) -> Iterator[tuple[str, Mapping[Any, Any]]]:
    """Yield the definitions of metrics in a document, with their names; note what else there is."""
    if isinstance(document, list):
        for item in document:
            yield from _definitions(item, others)
        return
    if not isinstance(document, Mapping):
        others.append(f"{_line(repr(document))}: not a metric")
        return
    for key in _LISTS:
        if isinstance(document.get(key), list):
            yield from _definitions(document[key], others)
            return
    name = next((document[key] for key in _NAMES if isinstance(document.get(key), str)), None)
    if name:
        yield name, document
        return
    for key, inner in document.items():
        if isinstance(inner, Mapping) and any(word in inner for word in _SAID):
            yield str(key), inner
        else:
            others.append(f"{_line(str(key))}: not a metric")


def as_measured(
    metrics: Iterable[ForeignMetric], measured: Mapping[str, str | None]
) -> list[ForeignMetric]:
    """Give metrics the packages and units with which they are measured.

    analysis_tools names the values of an action `<action>_<metric>`, and its package here is the
    action. Those that are not measured, or in several packages, stay as they are.

    Parameters
    ----------
    measured
        Units by full name of metrics in jobs.
    """
    known: defaultdict[str, set[str]] = defaultdict(set)
    for name in measured:
        known[name].add(name)
        known[name.partition(".")[2]].add(name)
        known[name.replace(".", "_", 1)].add(name)
    found = []
    for metric in metrics:
        names = known[metric.name]
        if not names:
            names = {name for name in measured if _ends_like(name, metric.name)}
        if len(names) == 1:
            name = next(iter(names))
            unit = {} if metric.has_unit else {"unit": measured[name]}
            found.append(replace(metric, name=name, definition={**metric.definition, **unit}))
            continue
        what = f"measured as {', '.join(sorted(names))}" if names else "not measured in these jobs"
        found.append(replace(metric, remarks=(*metric.remarks, what)))
    return found


def _ends_like(full_name: str, name: str) -> bool:
    """Tell whether a package has a prefix before the action, as `metricNamePrefix` gives it one."""
    return full_name.replace(".", "_", 1).endswith(f"_{name}")


def foreign_to_files(
    metrics: Iterable[ForeignMetric],
    *,
    package: str,
    origin: str,
    stem: str,
    others: Iterable[str] = (),
) -> Imported:
    """Write metrics of other systems as a metrics package that `squash specs check` accepts.

    Parameters
    ----------
    package
        The package of metrics that name none.
    origin, stem
        What they come from, for a comment, and the name of the files of specifications.
    others
        What is left out already, and why.
    """
    left_out = list(others)
    defined: set[str] = set()
    count = 0
    parts: defaultdict[str, list[str]] = defaultdict(list)
    for metric in metrics:
        name, remarks = _legal_name(metric.name, package)
        problem = metric_name_problem(name, Schema())
        if name in defined:
            problem = f"'{name}' is defined twice: the first counts"
        if problem:
            left_out.append(f"{metric.name}: {problem}")
            continue
        defined.add(name)
        content, limits, more = _converted(name, metric)
        inner = name.partition(".")[0]
        comments = "".join(map(_comment, (*remarks, *metric.remarks, *more)))
        parts[f"metrics/{inner}.yaml"].append(f"\n{comments}{metric_text(content)}")
        parts[f"specs/{inner}/{stem}.yaml"].extend(f"\n{specification_text(x)}" for x in limits)
        count += len(limits)
    begin = f"# From {_line(origin)}, by squash specs import.\n"
    files = {path: f"{begin}{''.join(texts)}" for path, texts in sorted(parts.items()) if texts}
    if left_out and files:
        first = next(path for path in files if path.startswith("metrics/"))
        files[first] += "\n" + "".join(_comment(f"left out: {text}") for text in left_out)
    if not any(path.startswith("specs/") for path in files):
        files["specs/README"] = "No specification was imported; the file keeps the directory.\n"
    return Imported(files, len(defined), count, left_out)


def _converted(name: str, metric: ForeignMetric) -> tuple[Metric, list[Specification], list[str]]:
    """Return a metric, its specifications, and remarks on what they do not say."""
    given = dict(metric.definition)
    remarks = [
        f"{key}: {str(value).lower() if isinstance(value, bool) else value}"
        for key, value in given.items()
        if key not in _SAID and value not in ("", None)
    ]
    document = {key: given.get(key) for key in KEYS if key not in _NAMES} | {"name": name}
    described = document["description"]
    if not isinstance(described, str) or not described.strip() or not is_unicode(described):
        document["description"] = name.partition(".")[2]
    while True:
        try:
            simple = read_simple_metric(
                document, package="", schema=Schema(), metrics={}, specifications={}
            )
            break
        except InvalidInputError as error:
            # What is wrong is left out, and said.
            for item in error.detail:
                key = str(item.loc[0])
                key = (
                    "threshold" if key == "condition" and document.get("condition") is None else key
                )
                remarks.append(f"{key}: {_shown(document.get(key))}: {item.msg}")
                document[key] = None
    unit = simple.metric["unit"]
    if all(document[key] is None for key in _UNITS):
        remarks.append(
            "unit: not known, so it is dimensionless here: write the one that is measured"
        )
    limits = [*simple.limits.values(), *_two_sides(name, given, unit, remarks)]
    if any(document[key] is not None for key in LIMIT_KEYS):
        # What follows is for those who post it.
        remarks.extend(note.partition(": send ")[0] for note in simple.notes)
    content = metric_from_json({**simple.metric, "tags": _tags(given)})
    return content, [specification_from_json(limit) for limit in limits], remarks


def _two_sides(
    name: str, given: Mapping[str, Any], unit: str, remarks: list[str]
) -> Iterator[dict[str, Any]]:
    """Yield the specifications for the thresholds of analysis_tools."""
    found = []
    for limit, key, sign in _TWO_SIDES:
        value = given.get(key)
        if value is None:
            continue
        if isinstance(value, bool) or not isinstance(value, int | float) or not isfinite(value):
            remarks.append(f"{key}: {_shown(value)} is not a finite number, so it is no limit here")
            continue
        threshold = {"value": float(value), "unit": unit, "operator": sign}
        found.append(float(value))
        yield {"name": f"{name}.{limit}", "threshold": threshold}
    if found != sorted(found):
        (_, low, _), (_, high, _) = _TWO_SIDES
        remarks.append(f"{low} is above {high}, so no value meets both")


def _tags(given: Mapping[str, Any]) -> list[str]:
    group, tags = (given.get(key) for key in _TAGS)
    named = [group, *(tags if isinstance(tags, list) else [tags])]
    texts = [tag for tag in named if isinstance(tag, str) and tag and is_unicode(tag)]
    return list(dict.fromkeys(texts))


def _shown(value: Any) -> str:
    return value if isinstance(value, str) else repr(value)


def _legal_name(name: str, package: str) -> tuple[str, list[str]]:
    """Return a name that a metric can have, and a remark if it is another."""
    inner, dot, metric = name.partition(".")
    if not dot:
        inner, metric = package, name
    legal = f"{_ILLEGAL.sub('_', inner)}.{_ILLEGAL.sub('_', metric)}"
    return legal, [] if legal in (name, f"{package}.{name}") else [f"its name was {name}"]


def _comment(text: str) -> str:
    return f"# {_line(text)}\n"


def _line(text: str) -> str:
    """Return a text as one line in which there is nothing that YAML refuses."""
    plain = "".join(letter if letter.isprintable() else " " for letter in text)
    plain = " ".join(plain.split())
    return plain if len(plain) <= _LONGEST_COMMENT else f"{plain[:_LONGEST_COMMENT]}..."
