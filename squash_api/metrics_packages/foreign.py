"""Metrics as other systems define them, written as a metrics package.

It takes the `metricInformation.yaml` of lsst/analysis_tools, and the metrics of the SQUASH
prototype and of DESI's Quick Look Framework. What a metrics package cannot say becomes comments.
"""

import re
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from squash_api.judging.foreign import FOREIGN_KEYS, ForeignLimit, foreign_limits
from squash_api.judging.specifications import LEVEL_TAGS
from squash_api.metrics_packages.export import yaml_text
from squash_api.schema.names import Schema
from squash_api.verify.metrics import metric_name_problem
from squash_api.verify.units import UnitError, canonical_unit

_LISTS = ("results", "metrics", "metric")
_NAMES = ("metric", "name")
_UNITS = ("unit", "units")
_TEXTS = ("description", "debugGroup", "tags", "display_name")
_SAID = frozenset({*_NAMES, *_UNITS, *_TEXTS, *FOREIGN_KEYS})
_ILLEGAL = re.compile(r"[^A-Za-z0-9_-]+")
_LONGEST_COMMENT = 300


@dataclass(frozen=True, slots=True)
class ForeignMetric:
    """A metric of another system.

    `name` is `package.metric` or, as most systems have it, without a package. `unit` is None if
    nothing says it. `remarks` become comments.
    """

    name: str
    description: str = ""
    unit: str | None = None
    tags: tuple[str, ...] = ()
    limits: tuple[ForeignLimit, ...] = ()
    remarks: tuple[str, ...] = ()


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
    found = [_metric(name, definition) for name, definition in _definitions(document, others)]
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


def _metric(name: str, definition: Mapping[Any, Any]) -> ForeignMetric:
    limits, remarks = foreign_limits(definition)
    unit: str | None = None
    written = next((definition[key] for key in _UNITS if definition.get(key) is not None), None)
    if written is not None:
        try:
            unit = canonical_unit(str(written))
        except UnitError as error:
            remarks.append(f"unit: {error}")
    remarks.extend(
        f"{key}: {str(value).lower() if isinstance(value, bool) else value}"
        for key, value in definition.items()
        if key not in _SAID and value not in ("", None)
    )
    group, tags = definition.get("debugGroup"), definition.get("tags")
    named = [group, *(tags if isinstance(tags, list) else [tags])]
    description = definition.get("description")
    return ForeignMetric(
        name=name.strip(),
        description=description.strip() if isinstance(description, str) else "",
        unit=unit,
        tags=tuple(dict.fromkeys(tag for tag in named if isinstance(tag, str) and tag)),
        limits=tuple(limits),
        remarks=tuple(remarks),
    )


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
            unit = metric.unit if metric.unit is not None else measured[name]
            found.append(replace(metric, name=name, unit=unit))
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
    defined: dict[str, ForeignMetric] = {}
    for metric in metrics:
        name, remarks = _legal_name(metric.name, package)
        problem = metric_name_problem(name, Schema())
        if name in defined:
            problem = f"'{name}' is defined twice: the first counts"
        if problem:
            left_out.append(f"{metric.name}: {problem}")
            continue
        defined[name] = replace(metric, name=name, remarks=(*remarks, *metric.remarks))
    parts: defaultdict[str, list[str]] = defaultdict(list)
    for name, metric in defined.items():
        inner, _, bare_name = name.partition(".")
        path = f"metrics/{inner}.yaml"
        parts[path].append(_metric_text(metric, bare_name))
        parts[f"specs/{inner}/{stem}.yaml"].extend(_limit_texts(metric, bare_name))
    begin = f"# From {_line(origin)}, by squash specs import.\n"
    files = {path: f"{begin}{''.join(texts)}" for path, texts in sorted(parts.items()) if texts}
    if left_out and files:
        first = next(path for path in files if path.startswith("metrics/"))
        files[first] += "\n" + "".join(_comment(f"left out: {text}") for text in left_out)
    if not any(path.startswith("specs/") for path in files):
        files["specs/README"] = "No specification was imported; the file keeps the directory.\n"
    limits = sum(len(metric.limits) for metric in defined.values())
    return Imported(files, len(defined), limits, left_out)


def _legal_name(name: str, package: str) -> tuple[str, list[str]]:
    """Return a name that a metric can have, and a remark if it is another."""
    inner, dot, metric = name.partition(".")
    if not dot:
        inner, metric = package, name
    legal = f"{_ILLEGAL.sub('_', inner)}.{_ILLEGAL.sub('_', metric)}"
    return legal, [] if legal in (name, f"{package}.{name}") else [f"its name was {name}"]


def _metric_text(metric: ForeignMetric, bare_name: str) -> str:
    remarks = list(metric.remarks)
    if metric.unit is None:
        remarks.append(
            "unit: not known, so it is dimensionless here: write the one that is measured"
        )
    document = {
        "description": metric.description or bare_name,
        "unit": metric.unit or "",
        **({"tags": list(metric.tags)} if metric.tags else {}),
    }
    text = yaml_text([{bare_name: document}], is_begin=False)
    return "\n" + "".join(map(_comment, remarks)) + text


def _limit_texts(metric: ForeignMetric, bare_name: str) -> Iterator[str]:
    for limit in metric.limits:
        document: dict[str, Any] = {
            "name": limit.name,
            "metric": bare_name,
            "threshold": {
                "operator": limit.operator,
                "value": limit.value,
                "unit": metric.unit or "",
            },
        }
        if limit.name in LEVEL_TAGS:
            document["tags"] = [limit.name]
        yield f"\n{yaml_text([document])}"


def _comment(text: str) -> str:
    return f"# {_line(text)}\n"


def _line(text: str) -> str:
    """Return a text as one line in which there is nothing that YAML refuses."""
    plain = "".join(letter if letter.isprintable() else " " for letter in text)
    plain = " ".join(plain.split())
    return plain if len(plain) <= _LONGEST_COMMENT else f"{plain[:_LONGEST_COMMENT]}..."
