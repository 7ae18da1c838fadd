"""What the viewer of Grafana chooses: its dialect, and the variables of dashboards. Pure."""

from typing import Any

from squash_api.generate.grafana.connections import SOURCE
from squash_api.generate.influxql import Dialect, Place, identifier, select
from squash_api.generate.metric_graph import MAX_LINES
from squash_api.schema import names as schema
from squash_api.schema import watch as watch_names

SERVICE = "${squash:raw}"
"""Where SQuaSH's own pages are, in links; the variable `squash` finds that out from the points."""

GRAFANA = Dialect(
    times="$timeFilter",
    last_times="$timeFilter",
    last_words="in the chosen time",
    interval="$__interval",
    shown=" AND ".join(f"{identifier(tag)} =~ /^${{{tag}:regex}}$/" for tag in schema.VALUE_TAGS),
    range_url="",
    about_limits=(
        "Limits of all values are dashed lines, with the values that break them on a shaded "
        f"ground; limits of some values are drawn where there are such, at most {MAX_LINES}: `•••` "
        "CRITICAL, red; `••` WARNING, yellow; `•` INFO, blue."
    ),
    about_choices="**Lists** (top left) choose values by their tags.",
)


def tag_variables(place: Place) -> list[dict[str, Any]]:
    """Return a list of the values of each tag; at first all are chosen, and points without it."""
    return [
        _variable(
            tag,
            f"SHOW TAG VALUES FROM {identifier(place.measurement)} WITH KEY = {identifier(tag)}",
            label=tag,
            hide=0,
            multi=True,
            includeAll=True,
            # A regular expression that matches empty text is true for points without the tag, too.
            allValue=".*",
            current={"selected": True, "text": ["All"], "value": ["$__all"]},
            sort=1,
        )
        for tag in schema.VALUE_TAGS
    ]


def service_variable(place: Place, *, times: str) -> dict[str, Any]:
    """Return the hidden variable with the address of SQuaSH, which its points name.

    So the files are the same for everybody.
    """
    is_own = place.measurement == watch_names.SERVICE
    column = watch_names.RUNBOOK if is_own else schema.SQUASH_URL
    return _variable(
        "squash",
        select([f"last({identifier(column)}) AS {identifier(column)}"], place, times),
        label="SQuaSH",
        hide=2,
        regex=r"/^(.*)\/docs\/runbook$/" if is_own else r"/^(.*)\/job\/[^\/]*$/",
    )


def _variable(name: str, query: str, **more: Any) -> dict[str, Any]:
    # Looked up again when the time changes.
    fixed = {"type": "query", "datasource": SOURCE, "refresh": 2, "options": []}
    return {"name": name, "query": query, **fixed, **more}
