"""Runs of notebooks as jobs, as `squash notebook run` makes them."""

from typing import Any

from squash_api.schema.notebooks import RUN_KEY, pipeline_of, run_text
from tests.support.calls import Calls

PAGE = "<!doctype html><html lang='en'><title>t</title><main><h1>a page</h1></main></html>"


def notebook_document(
    template: str = "nightly",
    *,
    failed: int = 0,
    release: str | None = None,
    run: str = "r1",
    page: str = PAGE,
    **parameters: Any,
) -> dict[str, Any]:
    """Make the document of a run, as `squash notebook run` does."""
    problem = "cell 2: ValueError: no values" if failed else None
    files = {"html": page, "ipynb": '{"cells": []}'}
    blob = {
        "identifier": f"b-{run}",
        "name": "notebook",
        "data": {key: {"value": text, "unit": ""} for key, text in files.items()},
    }
    measured = {"failed_cells": (failed, ""), "cells": (3, ""), "duration": (2.5, "s")}
    return {
        "measurements": [
            {"metric": f"notebook.{name}", "value": value, "unit": unit, "blob_refs": [f"b-{run}"]}
            for name, (value, unit) in measured.items()
        ],
        "blobs": [blob],
        "meta": {
            "notebook": template,
            RUN_KEY: run_text(template, parameters, problem),
            "version_tag": release,
            "env": {"env_name": "local", "run_id": run, "pipeline": pipeline_of(template)},
        },
    }


def post_notebook(calls: Calls, *args: Any, **changes: Any) -> int:
    """Post one, and return the id of its job."""
    reply = calls("POST", "/job", notebook_document(*args, **changes))
    assert reply.status_code == 202, reply.text
    job: int = reply.json()["id"]
    return job
