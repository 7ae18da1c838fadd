"""The names in InfluxDB of what the service says of itself, on a schedule.

They belong to `schema.py`, which is long enough.
"""

# What the service says of itself, on a schedule. One point per expected series, with the tags
# SPECIFICATION and those of `per`; one per metric and combination of SERIES_TAGS, with the tag
# METRIC; and one without tags.
FRESHNESS = "squash_freshness"
STANDING = "squash_standing"
HEARTBEAT = "squash_heartbeat"
METRIC = "metric"
SPECIFICATION = "specification"
# Fields of FRESHNESS: seconds beyond `every` + `grace`, negative while in time; seconds since the
# last value, or since the specification was loaded; and when that was, in words.
LATE_S = "late_s"
AGE_S = "age_s"
SINCE = "since"
# Fields of STANDING, of the last value: the smallest margin among the specifications that apply
# and which it is of (LIMIT), how bad the worst violation is (0 none, 1 INFO, 2 WARNING,
# 3 CRITICAL), and the specifications violated.
VALUE = "value"
MARGIN = "margin"
LIMIT = "limit"
SEVERITY = "severity"
BROKEN = "broken"
# The one field of HEARTBEAT.
UP = "up"
