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
# Fields of STANDING, of the last value: its smallest margin, the specification that this is of
# (LIMIT), the worst level that it breaks (0 none, 1 INFO, 2 WARNING, 3 CRITICAL), and the
# specifications that it breaks.
VALUE = "value"
MARGIN = "margin"
LIMIT = "limit"
SEVERITY = "severity"
BROKEN = "broken"
# For people: the state in a word (LEVEL), the margin of the limit that it is about, the worst that
# is broken or else the nearest (LEVEL_MARGIN), the value and that limit in words (SUMMARY), and a
# number that sorts standings worst first, then by that margin (ORDER). Points of versions before
# 2.0 lack them.
LEVEL = "level"
LEVEL_MARGIN = "level_margin"
SUMMARY = "summary"
ORDER = "order"
# The only field of HEARTBEAT.
UP = "up"
