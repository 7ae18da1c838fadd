"""Definitions written as a metrics package, which lsst.verify can load too."""

import re
from collections import defaultdict
from collections.abc import Iterable
from hashlib import blake2b
from typing import Any

import yaml

from squash_api.judging.kinds.registry import THRESHOLD
from squash_api.judging.specifications import Specification
from squash_api.metrics_packages.loading import RULES
from squash_api.verify.metrics import Metric

# PyYAML writes these line breaks of Unicode into quotes that fold them.
_FOLDED = re.compile("[\x85\u2028\u2029]")
_LONGEST_FILE = 150
_KEPT_DIRECTORY = "Nothing is defined here; the file keeps the directory.\n"


def metrics_package_to_files(
    metrics: Iterable[Metric], specifications: Iterable[Specification]
) -> dict[str, str]:
    """Return definitions as YAML by path: without bases, a file for each metric's specifications.

    `load_metrics_package` reads equal definitions from these files. Kinds that lsst.verify does not
    know are in files below `rules/`.
    """
    packages: defaultdict[str, dict[str, Any]] = defaultdict(dict)
    for metric in sorted(metrics, key=lambda metric: metric.name):
        bare_name = metric.name.removeprefix(f"{metric.package}.")
        packages[metric.package][bare_name] = _metric_document(metric, bare_name)
    limits: defaultdict[str, list[dict[str, Any]]] = defaultdict(list)
    for specification in sorted(specifications, key=lambda specification: specification.name):
        package, _, metric_name = specification.metric.partition(".")
        document = _specification_document(specification, metric_name)
        root = "specs" if isinstance(specification.criterion, THRESHOLD) else RULES
        limits[f"{root}/{package}/{_file_name(metric_name)}.yaml"].append(document)
    files = {f"metrics/{package}.yaml": _yaml([document]) for package, document in packages.items()}
    files.update({path: _yaml(documents) for path, documents in limits.items()})
    for directory in ("metrics", "specs"):
        if not any(path.startswith(f"{directory}/") for path in files):
            files[f"{directory}/README"] = _KEPT_DIRECTORY
    return files


def metric_text(metric: Metric) -> str:
    """Write a metric as an entry of its package's file, without what is empty."""
    bare_name = metric.name.removeprefix(f"{metric.package}.")
    return _yaml([{bare_name: _filled(_metric_document(metric, bare_name))}], is_begin=False)


def specification_text(specification: Specification) -> str:
    """Write a specification as a document of a file of its package, without what is empty."""
    metric_name = specification.metric.partition(".")[2]
    return _yaml([_filled(_specification_document(specification, metric_name))])


def _filled(document: dict[str, Any]) -> dict[str, Any]:
    return {key: part for key, part in document.items() if part not in ({}, [])}


def _file_name(metric: str) -> str:
    """Return a file name for the limits of a metric; names may be longer than those of files."""
    if len(metric) <= _LONGEST_FILE:
        return metric
    return f"{metric[:_LONGEST_FILE]}-{blake2b(metric.encode(), digest_size=8).hexdigest()}"


def _metric_document(metric: Metric, bare_name: str) -> dict[str, Any]:
    reference = {key: value for key, value in metric.reference.items() if value is not None}
    if metric.display_name != bare_name:
        reference["display_name"] = metric.display_name
    reference |= metric.derivation.to_json()
    return {
        "description": metric.description,
        "unit": metric.unit,
        "tags": list(metric.tags),
        "reference": reference,
    }


def _specification_document(specification: Specification, metric_name: str) -> dict[str, Any]:
    written = specification.to_json()
    kind = written.pop("type")
    del written["name"]
    named = {} if kind == THRESHOLD.TYPE else {"type": kind}
    name = specification.name.rpartition(".")[2]
    return {"name": name, "metric": metric_name, **named, **written}


class _Dumper(yaml.SafeDumper):
    """A dumper whose text is read back unchanged."""


def _represent_text(dumper: _Dumper, text: str) -> yaml.ScalarNode:
    style = '"' if _FOLDED.search(text) else None
    return dumper.represent_scalar("tag:yaml.org,2002:str", text, style=style)


_Dumper.add_representer(str, _represent_text)


def _yaml(documents: list[dict[str, Any]], *, is_begin: bool = True) -> str:
    text: str = yaml.dump_all(
        documents,
        Dumper=_Dumper,
        sort_keys=False,
        allow_unicode=True,
        width=100,
        explicit_start=is_begin,
    )
    return text
