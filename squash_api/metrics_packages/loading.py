"""A metrics package: a directory of metric and specification definitions in YAML.

`metrics/<package>.yaml` maps metric names to definitions; files below `specs/<package>/` contain
specifications and partials. What lsst.verify loads means the same here; what it refuses, and what
would fail later, is a problem with a place. Specifications of kinds that lsst.verify does not know
are in files below `rules/<package>/`, which it does not read.
"""

import os
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

from squash_api.errors import SettingsError
from squash_api.judging.specifications import Specification, member_problem
from squash_api.judging.wording import counted
from squash_api.metrics_packages.documents import Document, read_documents
from squash_api.metrics_packages.drafts import Draft, read_draft
from squash_api.metrics_packages.resolution import Resolved, near_names, resolve
from squash_api.schema.names import Schema, split_metric_name
from squash_api.verify.metrics import (
    DERIVATION_KEYS,
    LEGAL_NAME,
    Metric,
    Source,
    aggregate_misfit,
    metric_name_problem,
    parse_metric,
)

RULES = "rules"
"""The directory of the specifications that lsst.verify cannot load."""

_ENDINGS = (".yaml", ".yml")
_METRIC_KEYS = (*DERIVATION_KEYS, "description", "unit", "tags", "reference", "name")


@dataclass(frozen=True, slots=True)
class Problem:
    """A problem in a metrics package: where it is, and what to do about it."""

    source: Source | None
    message: str

    def __str__(self) -> str:
        return self.message if self.source is None else f"{self.source}: {self.message}"


@dataclass(frozen=True, slots=True)
class MetricsPackage:
    """The definitions of a metrics package by name, and its problems."""

    directory: Path
    metrics: dict[str, Metric]
    specifications: dict[str, Specification]
    problems: tuple[Problem, ...]


def load_metrics_package(
    directory: Path, *, schema: Schema = Schema(), today: date | None = None
) -> MetricsPackage:
    """Load one metrics package; see `load_metrics_packages`."""
    return load_metrics_packages([directory], schema=schema, today=today)


def load_metrics_packages(
    directories: Sequence[Path], *, schema: Schema = Schema(), today: date | None = None
) -> MetricsPackage:
    """Load several metrics packages as one; bad content never raises, it becomes problems.

    Specifications may limit the metrics of any package; bases are of the same package. A name that
    two of them define is a problem. Sources are relative to the parent of each directory; the
    `directory` of the result is the nearest one above all. A mute that ended before `today` (by
    default the present day in UTC) is a problem.

    Raises
    ------
    SettingsError
        If a directory does not exist, or has no `metrics/` or no `specs/`.
    """
    loading = _Loading(schema, today or datetime.now(UTC).date())
    for directory in directories:
        if not directory.is_dir():
            what = "is not a directory" if directory.exists() else "does not exist"
            raise SettingsError(f"{directory} {what}: name the directory of a metrics package")
        for name in ("metrics", "specs"):
            if not (directory / name).is_dir():
                raise SettingsError(
                    f"{directory} is not a metrics package: it has no directory '{name}'"
                )
    for directory in directories:
        loading.read_metrics(directory)
    loading.check_aggregates()
    for directory in directories:
        loading.read_specifications(directory)
    loading.check_members()
    above = os.path.commonpath([path.absolute() for path in directories or [Path()]])
    problems = sorted(loading.problems, key=lambda found: (*place_of(found), found.message))
    return MetricsPackage(Path(above), loading.metrics, loading.specifications, tuple(problems))


def resolve_packages(
    directories: Sequence[Path], *, schema: Schema = Schema()
) -> dict[str, Resolved]:
    """Return the specifications of metrics packages by name, with the documents they come from.

    Problems are left out; `load_metrics_packages` has them.
    """
    loading = _Loading(schema, date.min)
    for directory in directories:
        loading.read_metrics(directory)
        loading.read_specifications(directory)
    return loading.resolved


def find_packages(directory: Path) -> list[Path]:
    """Return the metrics packages in a directory, sorted by name."""
    inside = sorted(directory.iterdir()) if directory.is_dir() else []
    return [path for path in inside if (path / "metrics").is_dir() and (path / "specs").is_dir()]


def place_of(problem: Problem) -> tuple[str, int]:
    """Return the file and line of a problem, to sort by."""
    return (problem.source.file, problem.source.line) if problem.source else ("", 0)


@dataclass(slots=True)
class _Loading:
    """The definitions and problems found so far."""

    schema: Schema
    today: date
    metrics: dict[str, Metric] = field(default_factory=dict)
    specifications: dict[str, Specification] = field(default_factory=dict)
    problems: dict[Problem, None] = field(default_factory=dict)
    declared: dict[str, Source] = field(default_factory=dict)
    guesses: dict[str, str] = field(default_factory=dict)
    resolved: dict[str, Resolved] = field(default_factory=dict)
    # Packages with a file that cannot be read, by kind: what is not found may be there.
    unread: dict[str, set[str]] = field(default_factory=lambda: {"metrics": set(), "specs": set()})
    undefined: dict[str, list[Source]] = field(default_factory=dict)
    # Where each metric says what it is made of, if it does.
    aggregates: dict[str, Source] = field(default_factory=dict)

    def report(self, source: Source, message: str) -> None:
        self.problems[Problem(source, message)] = None

    def read_metrics(self, directory: Path) -> None:
        for path in metrics_files(directory):
            file = source_file(directory, path)
            documents = self._read(path, file, self.unread["metrics"], (path.stem,))
            for document in documents[1:]:
                self.report(
                    document.source(), "a metrics file has only one document: delete the ---"
                )
            if documents:
                self._read_metrics_file(documents[0], path.stem)
            elif not any(
                problem.source and problem.source.file == file for problem in self.problems
            ):
                self.report(Source(file, 1), "the file is empty: define a metric, or delete it")

    def _read(
        self, path: Path, file: str, unread: set[str], names: Iterable[str]
    ) -> list[Document]:
        """Read a file, and note `names` if some of it cannot be read."""
        before = len(self.problems)
        documents = read_documents(path, file=file, report=self.report)
        if len(self.problems) > before:
            unread.update(names)
        return documents

    def _read_metrics_file(self, document: Document, package: str) -> None:
        if not isinstance(document.value, dict):
            self.report(document.source(), "not a mapping of metric names: write name: {unit: ...}")
            return
        for key, definition in document.value.items():
            source = document.source(key)
            name = f"{package}.{key}"
            if isinstance(key, str) and key.count(".") == 1:
                above, _, bare = key.partition(".")
                name = f"{package}.{bare}"
                if above != package:
                    whose = f"'{key}' is not in '{package}', the package of this file"
                    self.report(source, f"{whose}: move or rename it")
                    continue
            elif not isinstance(key, str):
                self.report(source, f"the name {key!r} is not text: put it in quotes")
                continue
            self._read_metric(document, key, name, definition)

    def _read_metric(self, document: Document, key: str, name: str, definition: Any) -> None:
        source = document.source(key)
        if name in self.declared:
            first = self.declared[name]
            self.report(source, f"'{name}' is defined at {first} already: rename or delete one")
            return
        self.declared[name] = source
        problem = metric_name_problem(name, self.schema)
        if problem is not None:
            self.report(source, problem)
        if not isinstance(definition, dict):
            self.report(source, "not a mapping: write description: and unit:")
            return
        sound = self._check_keys(document, key, definition)
        known = {inner: definition.get(inner) for inner in _METRIC_KEYS[:-1]}
        metric, faults = parse_metric(known, name=name, source=source)
        for fault in faults:
            self.report(document.source(key, *fault.loc), fault.message)
        if metric is not None and sound:
            self.metrics[name] = metric
            path = ("aggregate",) if "aggregate" in definition else ("reference", "aggregate")
            self.aggregates[name] = document.source(key, *path, "of")

    def check_aggregates(self) -> None:
        """Report aggregates that cannot be made of what they name."""
        for name, source in self.aggregates.items():
            made = self.metrics[name].derivation.aggregation
            if made is None or split_metric_name(made.of)[0] in self.unread["metrics"]:
                continue
            of = self.metrics.get(made.of)
            if of is not None:
                misfit = aggregate_misfit(self.metrics[name], of)
                if misfit is not None:
                    self.report(source, misfit)
            elif made.of not in self.declared:
                self.report(
                    source, f"the metric '{made.of}' is not defined: {self._guess(made.of)}"
                )

    def _check_keys(self, document: Document, key: str, definition: dict[Any, Any]) -> bool:
        """Report missing and unknown keys of a metric; return whether there are none."""
        before = len(self.problems)
        for missing in ("description", "unit"):
            if definition.get(missing) is None:
                what = "is null" if missing in definition else "is missing"
                remedy = "write '' for a dimensionless one" if missing == "unit" else "write one"
                self.report(document.source(key, missing), f"the {missing} {what}: {remedy}")
        for unknown in definition:
            if unknown not in _METRIC_KEYS:
                advice = "write it under reference:" if unknown == "display_name" else "delete it"
                message = f"lsst.verify refuses the key {unknown!r} in a metric: {advice}"
                self.report(document.source(key, unknown), message)
        return len(self.problems) == before

    def read_specifications(self, directory: Path) -> None:
        drafts: list[Draft] = []
        for root in specification_roots(directory):
            is_rule = root.name == RULES
            for path in sorted(root.iterdir()):
                if path.is_dir():
                    drafts.extend(self._read_package(directory, path, is_rule=is_rule))
                elif is_rule and path.suffix in _ENDINGS:
                    message = "the file is of no package: move it into a directory rules/<package>/"
                    self.report(Source(source_file(directory, path), 1), message)
        found = resolve(
            drafts,
            schema=self.schema,
            today=self.today,
            report=self.report,
            unread=self.unread["specs"],
        )
        for resolved in found:
            self._add(resolved)
        for name, places in self.undefined.items():
            others = counted(len(places) - 1, "other specification") if places[1:] else ""
            said = f"the metric '{name}' is not defined{f' ({others} too)' if others else ''}: "
            self.report(places[0], said + self._guess(name))
        self.undefined.clear()

    def _read_package(self, directory: Path, path: Path, *, is_rule: bool) -> Iterator[Draft]:
        files = list(specification_files(path))
        if files and (LEGAL_NAME.match(path.name) is None or "." in path.name):
            message = f"'{path.name}' is not a package name: use letters, digits, '_' and '-'"
            self.report(Source(source_file(directory, path), 1), message)
        for file in files:
            path_id = file.relative_to(path).with_suffix("").as_posix()
            names = (path.name, f"{path.name}:{path_id}")
            documents = self._read(file, source_file(directory, file), self.unread["specs"], names)
            for document in documents:
                draft = read_draft(
                    document,
                    package=path.name,
                    path=path_id,
                    report=self.report,
                    is_rule=is_rule,
                )
                if draft is not None:
                    yield draft

    def _add(self, resolved: Resolved) -> None:
        specification = resolved.specification
        self.resolved.setdefault(specification.name, resolved)
        first = self.specifications.setdefault(specification.name, specification)
        if first is not specification:
            message = f"'{specification.name}' is defined at {first.source} already: rename it"
            self.report(resolved.locate("name"), message)
        metric = self.metrics.get(specification.metric)
        if metric is None:
            name = specification.metric
            if (
                name not in self.declared
                and split_metric_name(name)[0] not in self.unread["metrics"]
            ):
                self.undefined.setdefault(name, []).append(resolved.locate("name"))
            return
        criterion = specification.criterion
        misfit = criterion.misfit(metric.unit)
        if misfit is not None:
            self.report(
                resolved.locate(*criterion.UNIT_PATH),
                f"the unit '{criterion.unit}' of {specification.name} {misfit}, the unit of its "
                f"metric: {criterion.remedy(metric.unit)}",
            )

    def check_members(self) -> None:
        """Report compounds of specifications that do not exist, or are compounds themselves."""
        criteria = {name: item.criterion for name, item in self.specifications.items()}
        for resolved in self.resolved.values():
            item = resolved.specification
            for name in item.criterion.members:
                problem = member_problem(name, item.name, criteria.get)
                package = split_metric_name(name)[0]
                if problem is None or (
                    name not in self.specifications and package in self.unread["specs"]
                ):
                    continue
                keys = item.criterion.SCHEMA["compound"]["properties"]
                said = next((key for key in keys if resolved.says("compound", key)), "of")
                if name not in self.specifications:
                    near = near_names(name, self.specifications, known=0)
                    problem += f": write {near}" if near else ": define it, or delete the name"
                self.report(resolved.locate("compound", said), problem)

    def _guess(self, name: str) -> str:
        if name not in self.guesses:
            near = near_names(name, self.declared, known=len(self.guesses))
            self.guesses[name] = f"write {near}" if near else "define it in metrics/"
        return self.guesses[name]


def metrics_files(directory: Path) -> list[Path]:
    """Return the files of metrics in a metrics package, in order."""
    found = sorted((directory / "metrics").glob("*.yaml"))
    return [path for path in found if not path.name.startswith(".") and not path.is_dir()]


def specification_roots(directory: Path) -> list[Path]:
    """Return the directories of a metrics package that have directories of specifications."""
    rules = directory / RULES
    return [directory / "specs", *([rules] if rules.is_dir() else [])]


def specification_files(directory: Path) -> Iterator[Path]:
    """Yield the files that lsst.verify reads below a package's directory, in order."""
    found = [
        Path(root, name)
        for root, _, names in os.walk(directory)
        for name in names
        if Path(name).suffix in _ENDINGS
    ]
    yield from sorted(found)


def source_file(directory: Path, path: Path) -> str:
    """Return the path of a file in sources: from the package's own name on."""
    return (Path(directory.name) / path.relative_to(directory)).as_posix()
