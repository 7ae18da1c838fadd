"""The names in InfluxDB of what the watch writes about the service's own state."""

# Measurements. FRESHNESS has a point per expected series, with the tag SPECIFICATION and those of
# `per`; STANDING one per metric and combination of SERIES_TAGS, with the tag METRIC; HEARTBEAT one
# without tags.
FRESHNESS = "squash_freshness"
STANDING = "squash_standing"
HEARTBEAT = "squash_heartbeat"
METRIC = "metric"
SPECIFICATION = "specification"
# Fields of FRESHNESS: seconds beyond `every` + `grace`, negative while in time; seconds since the
# last value, or since the specification was loaded; and the time of that, in words.
LATE_S = "late_s"
AGE_S = "age_s"
SINCE = "since"
# Fields of STANDING, of the newest value: its state, and a number that sorts standings worst first
# (RANK: the place of the state in the list of states, plus a fraction that grows with
# LEVEL_MARGIN); its smallest margin, the specification that this is of (LIMIT), the worst level
# that it breaks (0 none, 1 INFO, 2 WARNING, 3 CRITICAL), and the specifications that it breaks. For
# people: the value next to the worst limit that is broken, or else the nearest (SUMMARY), and the
# margin of that (LEVEL_MARGIN). Points of versions before 2.0 lack STATE, RANK and these two.
STATE = "state"
RANK = "rank"
VALUE = "value"
MARGIN = "margin"
LIMIT = "limit"
SEVERITY = "severity"
BROKEN = "broken"
LEVEL_MARGIN = "level_margin"
SUMMARY = "summary"
# The only field of HEARTBEAT.
UP = "up"
