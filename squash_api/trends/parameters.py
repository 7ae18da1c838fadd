"""The table of parameters, from which everything that asks or reads questions is made. Pure.

It reads the query of a URL, describes it in OpenAPI, and gives commands their options; a test holds
the client to it. A new parameter is a row here, its name in `ASKED` and `OPTIONS`, and the part of
`Question` that it gives. The table of formats is here too: their modules, which need questions, are
imported when first used.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import Any, Literal

from squash_api.schema.names import HEADLINE_TAGS, TAGS, VALUE_TAGS
from squash_api.trends.downsampling import FEWEST_POINTS, MOST_POINTS

Place = Literal["measurements", "report"]
"""Where questions are asked: at the URL of this name, and by its command."""

Kind = Literal[
    "texts",
    "names",
    "ids",
    "time",
    "unit",
    "truth",
    "count",
    "choice",
    "fields",
    "cursor",
    "level",
]
"""How a parameter is read. `names` are texts as the record keeps those of jobs."""


@dataclass(frozen=True, slots=True)
class Format:
    """A format in which measurements are given.

    Parameters
    ----------
    name
        In questions and on the command line, and the ending of its files.
    title
        In messages.
    writer
        The module and the function that yields the bytes, a `Writer`; imported when first used.
    is_table
        Whether all its columns must be known before the first row; JSON has none.
    is_binary
        Whether a screen cannot show it.
    needs
        A library that may not be installed; `squash-api[<name>]` installs it.
    """

    name: str
    title: str
    media_type: str
    writer: str
    is_table: bool = True
    is_binary: bool = False
    needs: str = ""


FORMATS: Mapping[str, Format] = MappingProxyType(
    {
        row.name: row
        for row in (
            Format(
                "json",
                "JSON",
                "application/json",
                "squash_api.trends.formats.json:json_chunks",
                is_table=False,
            ),
            Format(
                "csv",
                "CSV",
                "text/csv; charset=utf-8; header=present",
                "squash_api.trends.formats.csv:csv_chunks",
            ),
            Format(
                "parquet",
                "Parquet",
                "application/vnd.apache.parquet",
                "squash_api.trends.formats.parquet:parquet_chunks",
                is_binary=True,
                needs="pyarrow",
            ),
        )
    }
)
"""The formats by name; the first is the default, and only JSON has pages."""

REPORT_FORMATS = ("json", "html", "md", "xml")
"""The formats of a report; the page at the same URL makes HTML."""

COMPARED = "compare_"
"""Starts the parameters that say what a report is compared with."""

MOST_JSON = 1000
"""At most this many values are on a page."""

_REPEATED: tuple[Kind, ...] = ("texts", "names", "ids", "fields")


@dataclass(frozen=True, slots=True)
class Parameter:
    """A parameter, how it is read, and which part of a `Question` it gives.

    `option` is the help of the command's option, with `{ago}` for an example of how long ago.
    `measurements` and `report` describe it in OpenAPI at those URLs; if empty, `option` does.
    """

    name: str
    kind: Kind
    gives: str
    option: str
    measurements: str = ""
    report: str = ""
    least: int = 1
    most: int | None = None
    choices: tuple[str, ...] = ()

    @property
    def is_repeated(self) -> bool:
        """Whether it may be given more than once."""
        return self.kind in _REPEATED

    def description(self, place: Place) -> str:
        """Describe it for OpenAPI."""
        if place == "measurements":
            return self.measurements or self.option
        again = "; may be repeated." if self.is_repeated else "."
        return self.report or self.option.removesuffix(".") + again

    def schema(self) -> dict[str, Any]:
        """Describe its values for OpenAPI."""
        if self.kind in {"texts", "names", "ids"}:
            return {
                "type": "array",
                "items": {"type": "integer" if self.kind == "ids" else "string"},
            }
        if self.kind == "truth":
            return {"type": "boolean"}
        if self.kind == "count":
            most = {} if self.most is None else {"maximum": self.most}
            return {"type": "integer", "minimum": self.least, **most}
        return {"type": "string", **({"enum": list(self.choices)} if self.choices else {})}


_ROWS = (
    Parameter("metric", "texts", "metrics", "Only this metric.", "Only values of this metric."),
    Parameter(
        "package",
        "texts",
        "packages",
        "Only metrics of this package.",
        report="Only metrics of this verification package; may be repeated.",
    ),
    Parameter("run", "names", "runs", "Only jobs of this run."),
    Parameter("version_tag", "names", "version_tags", "Only jobs of this release."),
    Parameter("job", "ids", "jobs", "Only this job, by its id.", "Only this job."),
    *(
        Parameter(
            tag,
            "names",
            "tags",
            f"Only jobs of this {tag}.",
            "Only jobs with this value of the tag.",
        )
        for tag in HEADLINE_TAGS
    ),
    Parameter(
        "since",
        "time",
        "since_ns",
        "Only jobs of this time or later: a date in UTC, or how long ago ({ago}).",
        "Only jobs of this time (ISO 8601, UTC) or later, or how long ago: `90d`.",
        "Only jobs of this time (ISO 8601, UTC) or later, or how long ago: `24h`, `7d`.",
    ),
    Parameter(
        "until",
        "time",
        "until_ns",
        "Only jobs of this time or earlier, written in the same ways; a day means until its end.",
    ),
    Parameter("unit", "unit", "unit", "Convert the values to this unit."),
    Parameter(
        "fields",
        "fields",
        "fields",
        "Metadata to include, separated by commas, such as meta.airmass; * for all.",
        "Metadata to include, separated by commas, such as `meta.airmass`; `*` for all.",
    ),
    Parameter(
        "absent",
        "truth",
        "has_absent",
        "Include absent values.",
        "Include absent values, as null.",
    ),
    Parameter(
        "points",
        "count",
        "points",
        "At most this many values per metric and set of tags, including the extremes.",
        least=FEWEST_POINTS,
        most=MOST_POINTS,
    ),
    Parameter(
        "format",
        "choice",
        "format",
        "The format of the reply.",
        report="JSON, one self-contained HTML file, Markdown, or JUnit XML.",
        choices=tuple(FORMATS),
    ),
    Parameter(
        "limit",
        "count",
        "limit",
        "Return at most this many values.",
        f"Return at most this many values. JSON: 100 by default, {MOST_JSON} at most.",
    ),
    Parameter("after", "cursor", "after", "Where the previous page ended; `next` has it."),
    Parameter(
        "tag",
        "texts",
        "labels",
        "Only metrics and specifications with this tag; if repeated, with all of them.",
        report="Only metrics and specifications with this tag; if repeated, with all of them.",
    ),
    Parameter(
        "level",
        "level",
        "level",
        "Judge by specifications of this level or worse: INFO, WARNING or CRITICAL.",
    ),
    Parameter(
        "changepoints",
        "truth",
        "has_steps",
        "Also look for change points, where the level of a series changed; it needs the extra "
        "changepoints.",
        report="Also look for change points: where the level of a series changed, and what "
        "changed in the code then.",
    ),
    Parameter(f"{COMPARED}run", "names", "runs", "Compare with this run."),
    Parameter(f"{COMPARED}version_tag", "names", "version_tags", "Compare with this release."),
    *(
        Parameter(
            f"{COMPARED}{name}",
            "time",
            f"{name}_ns",
            f"Compare with this time or {side}.",
            report=f"Compare with jobs of this time or {side}.",
        )
        for name, side in (("since", "later"), ("until", "earlier"))
    ),
)

PARAMETERS: Mapping[str, Parameter] = {row.name: row for row in _ROWS}
"""All parameters by name."""

ASKED: Mapping[Place, tuple[str, ...]] = {
    "measurements": (
        *("metric", "package", "run", "version_tag", "job", "since", "until", "unit", "fields"),
        *("absent", "points", "format", "limit", "after"),
    ),
    "report": (
        *("run", "pipeline", "version_tag", "since", "until", "package", "metric", *VALUE_TAGS),
        *("tag", "level", "changepoints"),
        *(name for name in PARAMETERS if name.startswith(COMPARED)),
    ),
}
"""The parameters of each place; measurements also accept any tag and `meta.<key>`."""

OPTIONS: Mapping[Place, tuple[str, ...]] = {
    "measurements": (
        *("metric", "package", *VALUE_TAGS, "run", "version_tag", "job", "since", "until", "unit"),
        *("fields", "absent", "points"),
    ),
    # In the command, `--level` is the mildest level that makes it fail.
    "report": tuple(name for name in ASKED["report"] if name != "level"),
}
"""The options of the command of each place."""

AGO: Mapping[Place, str] = {"measurements": "90d", "report": "24h"}
"""An example of how long ago."""


def openapi_parameters(place: Place) -> list[dict[str, Any]]:
    """Describe the parameters of a place for OpenAPI."""
    rows = [PARAMETERS[name] for name in ASKED[place]]
    if place == "measurements":
        rows += [replace(PARAMETERS[HEADLINE_TAGS[0]], name=tag) for tag in TAGS]
    else:
        rows.append(replace(PARAMETERS["format"], choices=REPORT_FORMATS))
    return [
        {
            "in": "query",
            "name": row.name,
            "required": False,
            "schema": row.schema(),
            "description": row.description(place),
        }
        for row in rows
    ]
