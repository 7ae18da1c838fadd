"""`/report`: the page, and the one file of it that can be mailed or kept."""

import re
from functools import lru_cache
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

from fastapi import Request, Response

from squash_api.pages.rendering import HEADERS, environment, render
from squash_api.pages.report_tables import package_tables
from squash_api.reporting import words as report_words
from squash_api.reporting.document import Report
from squash_api.reporting.scope import PARAMETERS
from squash_api.routes.dependencies import Parts
from squash_api.routes.reports import make_report
from squash_api.verify.specifications import LEVELS

# The file has its style in itself, and nothing else is ever loaded by it.
_FILE_POLICY = "default-src 'none'; style-src 'unsafe-inline'; form-action 'none'; base-uri 'none'"
_STYLES = ("squash.css", "report.css")
_BETWEEN_RULES = re.compile(r"/\*.*?\*/|^\s+|\n", re.MULTILINE | re.DOTALL)


def report_page(request: Request) -> Response:
    """Return the page of a report, or with `format=html` the report as one file."""
    asked = request.query_params.multi_items()
    parts: Parts = request.app.state.parts
    report = make_report(parts, asked)
    if request.query_params.get("format") == "html":
        return Response(
            report_file(report),
            headers={
                **HEADERS,
                "Content-Security-Policy": _FILE_POLICY,
                "Content-Disposition": 'inline; filename="squash-report.html"',
            },
            media_type="text/html; charset=utf-8",
        )
    return render(
        request,
        "report.html",
        here="/report",
        **_values(report, base=parts.settings.url_path),
        levels=LEVELS,
        hints=PARAMETERS,
    )


def report_file(report: Report) -> str:
    """Return a report as one HTML file: its style is inside, and its links are absolute."""
    template = environment().get_template("report_file.html")
    return template.render(**_values(report, base=report.url), policy=_FILE_POLICY, style=_style())


def _values(report: Report, *, base: str) -> dict[str, Any]:
    return {
        "report": report,
        "tables": package_tables(report),
        "words": report_words,
        "base": base,
        "query": urlencode([(name, text) for name, item in report.asked.items() for text in item]),
    }


@lru_cache(maxsize=1)
def _style() -> str:
    folder = Path(__file__).parent / "static"
    return "".join(
        _BETWEEN_RULES.sub("", (folder / name).read_text(encoding="utf-8")) for name in _STYLES
    )
