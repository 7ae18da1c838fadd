"""Writes the plots without data that pages fill in: `python -m tests.support.plots`.

To be run after a change of `squash_api/pages/plots.py`, and with another release of Bokeh.
"""

from importlib.metadata import version
from itertools import product
from typing import Any

import orjson

from squash_api.pages.plots import KEPT, PALETTES, key_of, make_empty_plot


def made_plots() -> dict[str, Any]:
    """Make all of them; the ids are those of a process that has made nothing else."""
    plots = {
        key_of(theme, is_time=is_time, has_steps=has_steps): orjson.loads(
            make_empty_plot(theme, is_time=is_time, has_steps=has_steps)
        )
        for theme, is_time, has_steps in product(PALETTES, (True, False), (True, False))
    }
    return {"bokeh": version("bokeh"), "plots": plots}


if __name__ == "__main__":
    KEPT.write_bytes(orjson.dumps(made_plots()) + b"\n")
