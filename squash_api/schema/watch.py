"""The names in InfluxDB of what the watch writes about the service's own state."""

# Measurements. FRESHNESS has a point per expected series, with the tag SPECIFICATION and those of
# `per`; STANDING one per metric and combination of STANDING_TAGS, with the tag METRIC; HEARTBEAT
# one without tags.
FRESHNESS = "squash_freshness"
STANDING = "squash_standing"
HEARTBEAT = "squash_heartbeat"
METRIC = "metric"
SPECIFICATION = "specification"
# Fields of FRESHNESS: seconds beyond `every` + `grace`, negative while in time; seconds since the
# last value, or since the specification was loaded; the time of that, in words; and which of the
# named ones are late, in words, where `expect.each` names them and some are.
LATE_S = "late_s"
AGE_S = "age_s"
SINCE = "since"
MISSING = "missing"
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
# What the service itself raises. For Kapacitor alone: a point whenever a group of alerts changes,
# with the tags METRIC, BRANCH and GROUP (which service tells of it, and a number that groups of a
# branch have in turn) and those that its alerts have in common; with the fields SEVERITY (0 to 3),
# TEXT (the whole message, for Slack) and TOPIC (of Kapacitor, to which it goes). For InfluxDB, if
# Grafana tells people: a point each minute for each series in which a limit is raised that only the
# service can raise, with the tags METRIC, BRANCH and those of the series, and the fields SEVERITY,
# VALUE and ALERT (its number); and one of severity 0 for each such branch, without other tags.
VERDICT = "squash_verdict"
ALERT = "alert"
BRANCH = "branch"
GROUP = "squash_group"
TEXT = "text"
TOPIC = "topic"

# The only field of HEARTBEAT; also of DELIVERY.
UP = "up"

# Of the service itself. SERVICE has a point per process each minute, with the tags PROCESS (`serve`
# or `deliver`) and INSTANCE; DELIVERY one per target, with the tag TARGET. What every process knows
# of the record has the same tags and time in all of them, so it is there once.
SERVICE = "squash_service"
DELIVERY = "squash_delivery"
PROCESS = "process"
INSTANCE = "instance"
TARGET = "target"
# The page with what to do (text), in both; and the version of the program, in SERVICE.
RUNBOOK = "runbook_url"
VERSION = "version"
# Fields of DELIVERY: jobs that wait, seconds since the oldest did, lines in quarantine, those of
# the last hour among them, 1 unless delivery is held up, and what holds it up, in words.
WAITING = "waiting"
OLDEST_S = "oldest_s"
QUARANTINED = "quarantined"
REFUSED_LATELY = "refused_lately"
# Also of SERVICE, there of the record: why it cannot be written.
REASON = "reason"
# Fields of SERVICE: jobs accepted in a second; in the last ten minutes the replies of 500 and
# above, those from 400 on but 429, of these the ones to jobs but 401, those of 429, and connections
# that were ended because of their clients.
JOBS_PER_S = "jobs_per_s"
FAILED = "failed"
REFUSED = "refused"
REFUSED_JOBS = "refused_jobs"
LIMITED = "limited"
REFUSED_CONNECTIONS = "refused_connections"
# Connections of clients, and how much of the most that is; processes that read, and for how long
# one has been missing; reads that are made and that wait, answers that are being sent.
CONNECTIONS = "connections"
CONNECTIONS_PERCENT = "connections_percent"
READERS = "readers"
READERS_MISSING_S = "readers_missing_s"
READS_RUNNING = "reads_running"
READS_WAITING = "reads_waiting"
STREAMS = "streams"
# The longest that the event loop was late in the last minute, in s; memory, in 10^6 bytes.
LOOP_LAG_S = "loop_lag_s"
MEMORY_MB = "memory_mb"
# Of the record: 1 unless it cannot be written, free disk in 10^9 bytes (if it is a file),
# connections to it in use and how much of the most that is; for how long the oldest job waits to be
# derived, in s.
RECORD_UP = "record_up"
DISK_FREE_GB = "disk_free_gb"
POOL = "pool"
POOL_PERCENT = "pool_percent"
DERIVING_S = "deriving_s"
