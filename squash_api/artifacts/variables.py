"""The template variables of a dashboard: which values it shows. Pure.

Chronograf's lists of tag values have no choice for all, and a point may lack a tag. So one more
variable, `show`, says which of the others count; its values refer to them.
"""

from itertools import combinations
from typing import Any

from squash_api.artifacts.queries import Place, identifier

TAGS = ("dataset", "filter", "instrument")
"""The tags that values are chosen by."""

SHOWN = ":show:"
"""Stands in a query for the condition that the viewer has chosen."""

EVERYTHING = "everything"
# A regular expression that empty text satisfies is true of points without the tag, too.
_ANY = f"{identifier(TAGS[0])} =~ /.*/"


def template_variables(place: Place) -> list[dict[str, Any]]:
    """Return `show` and a list of the values of each tag; everything is shown at first."""
    choices = {EVERYTHING: _ANY}
    for count in range(1, len(TAGS) + 1):
        for tags in combinations(TAGS, count):
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
    return [show, *(_tag_values(tag, place) for tag in TAGS)]


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
            "influxql": "SHOW TAG VALUES ON :database: FROM :measurement: WITH KEY=:tagKey:",
            "db": place.database,
            "rp": place.retention_policy,
            "measurement": place.measurement,
            "tagKey": tag,
            "fieldKey": "",
        },
    }
