"""Which page is at which address. Programs get the JSON of the API there."""

from collections.abc import Awaitable, Callable
from typing import Any

from squash_api.pages.front import front_page
from squash_api.pages.job import job_page
from squash_api.pages.metric import metric_page
from squash_api.pages.report import report_page
from squash_api.pages.runs import run_page, runs_page
from squash_api.pages.specs import specs_page

Page = Callable[..., Any] | Callable[..., Awaitable[Any]]

PAGES: tuple[tuple[str, Page], ...] = (
    ("/", front_page),
    ("/specs", specs_page),
    ("/job/{job_id}", job_page),
    ("/runs", runs_page),
    ("/runs/{pipeline:path}/{run_id:path}", run_page),
    ("/metric/{name:path}", metric_page),
    ("/report", report_page),
)
"""Addresses below the public root, and the functions that make the pages."""
