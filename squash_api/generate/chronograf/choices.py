"""What the viewer of Chronograf chooses: its dialect, and the template variables. Pure.

Because Chronograf's lists of tag values have no choice for all, and a point may lack a tag, the
variable `show` selects which of the others apply; its values refer to them.
"""

from itertools import combinations
from typing import Any

from squash_api.generate.influxql import Dialect, Place, identifier
from squash_api.generate.metric_graph import MAX_LINES
from squash_api.schema import names as schema

SHOWN = ":show:"
"""Stands in queries for the condition that the viewer chose."""

EVERYTHING = "everything"
# A regular expression that matches empty text is true for points without the tag, too.
_ANY = f"{identifier(schema.VALUE_TAGS[0])} =~ /.*/"

LAST_DAYS = 30
"""Tiles show the last values of so many days before the end of the range: Chronograf opens with 15
minutes, too short for a nightly run."""

CHRONOGRAF = Dialect(
    times="time > :dashboardTime: AND time < :upperDashboardTime:",
    last_times=f"time > :upperDashboardTime: - {LAST_DAYS}d AND time < :upperDashboardTime:",
    last_words=f"in {LAST_DAYS} days",
    interval=":interval:",
    shown=SHOWN,
    # Chronograf accepts only the ranges of its own menu in a URL.
    range_url="?lower=now()%20-%20{}",
    about_limits=(
        f"Limits are lines, at most {MAX_LINES}: `•••` CRITICAL, red; `••` WARNING, yellow; `•` "
        "INFO, blue."
    ),
    about_choices="**Variables** (top right): `show` selects which of the other lists apply.",
)


def template_variables(place: Place) -> list[dict[str, Any]]:
    """Return `show`, and a list of the values of each tag; at first everything is shown."""
    choices = {EVERYTHING: _ANY}
    for count in range(1, len(schema.VALUE_TAGS) + 1):
        for tags in combinations(schema.VALUE_TAGS, count):
            choices["only " + " + ".join(tags)] = " AND ".join(
                f"{identifier(tag)} = :{tag}:" for tag in tags
            )
    show = {
        "id": "show",
        "tempVar": SHOWN,
        "type": "map",
        "label": "",
        "values": [
            {"type": "map", "key": key, "value": value, "selected": key == EVERYTHING}
            for key, value in choices.items()
        ],
    }
    return [show, *(_tag_values(tag, place) for tag in schema.VALUE_TAGS)]


def _tag_values(tag: str, place: Place) -> dict[str, Any]:
    return {
        "id": tag,
        "tempVar": f":{tag}:",
        "type": "tagValues",
        "label": "",
        # Chronograf fills the list when the dashboard is opened.
        "values": [],
        "sourceID": "dynamic",
        "query": {
            # Chronograf puts a value between single quotes as it is: one of these letters in it
            # would break all queries.
            "influxql": "SHOW TAG VALUES ON :database: FROM :measurement: WITH KEY=:tagKey: "
            rf"WHERE {identifier(tag)} !~ /['\\]/",
            "db": place.database,
            "rp": place.retention_policy,
            "measurement": place.measurement,
            "tagKey": tag,
            "fieldKey": "",
        },
    }
