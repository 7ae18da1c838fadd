"""The tables of the record. Times are integers, ns since 1970 UTC; text never contains NUL.

What was promised to clients is in `job` (the bytes as received) and `definition` (append-only).
`job_run`, `package_set`, `measurement`, `job_context` and `tag_set` are derived from `job`, by
`index/`, and can be derived again.
"""

import re
from typing import Any

from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    Connection,
    Float,
    ForeignKey,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    String,
    Table,
    Text,
    event,
    false,
    text,
)

# SQLite generates ids only for INTEGER keys.
_Id = BigInteger().with_variant(Integer, "sqlite")

metadata = MetaData(
    naming_convention={
        "ix": "ix_%(table_name)s_%(column_0_N_name)s",
        "uq": "uq_%(table_name)s_%(column_0_N_name)s",
        "fk": "fk_%(table_name)s_%(column_0_N_name)s",
        "pk": "pk_%(table_name)s",
    }
)

user = Table(
    "user_account",
    metadata,
    Column("id", _Id, primary_key=True),
    Column("name", String(128), nullable=False, unique=True),
    # What the name looks like; null if it looked like an older one when this column was added.
    Column("skeleton", String(512)),
    Column("password_hash", Text, nullable=False),
    Column("role", String(16), nullable=False),
    # Grows with every change that must end the tokens issued before.
    Column("epoch", Integer, nullable=False, default=1),
    Column("is_disabled", Boolean, nullable=False, default=False),
    Column("created_ns", BigInteger, nullable=False),
    Index(None, "skeleton", unique=True),
    sqlite_autoincrement=True,
)

definition = Table(
    "definition",
    metadata,
    Column("revision", _Id, primary_key=True),
    Column("kind", String(16), nullable=False),
    Column("name", Text, nullable=False),
    # JSON; null is a tombstone.
    Column("document", Text),
    # "api" or "yaml"; for YAML, `source` is file and line.
    Column("origin", String(16), nullable=False),
    Column("source", Text),
    Column("user_id", _Id, ForeignKey("user_account.id")),
    Column("created_ns", BigInteger, nullable=False),
    Index(None, "kind", "name", "revision"),
    sqlite_autoincrement=True,
)

metric = Table(
    "metric",
    metadata,
    Column("id", _Id, primary_key=True),
    Column("name", Text, nullable=False, unique=True),
    # Canonical; null until a value of an undeclared metric has one.
    Column("unit", Text),
    Column("is_declared", Boolean, nullable=False),
    # Whose value or definition brought the unit; null if it binds everybody.
    Column("unit_by", _Id),
    # No job, definition or specification has it any more; readers hear of it by the row.
    Column("is_gone", Boolean, nullable=False, default=False),
    # Grows with every change of any row, so that a reader can ask for what is new.
    Column("version", BigInteger, nullable=False, index=True),
    sqlite_autoincrement=True,
)

own_unit = Table(
    "own_unit",
    metadata,
    # The unit of the values of a user that do not convert to that of the metric, set by another.
    Column("metric_id", _Id, primary_key=True, autoincrement=False),
    Column("user_id", _Id, primary_key=True, autoincrement=False),
    Column("unit", Text, nullable=False),
    sqlite_with_rowid=False,
)

job = Table(
    "job",
    metadata,
    Column("id", _Id, primary_key=True),
    Column("user_id", _Id, ForeignKey("user_account.id"), nullable=False),
    Column("received_ns", BigInteger, nullable=False),
    # The time that the job asked for; `time_ns` is the next free one.
    Column("asked_ns", BigInteger, nullable=False),
    Column("time_ns", BigInteger, nullable=False, unique=True),
    # Definitions in force at receipt: those up to this revision.
    Column("revision", BigInteger, nullable=False),
    # Null until another job has the same identifiers.
    Column("digest", LargeBinary(16)),
    Column("identifiers_digest", LargeBinary(16)),
    Column("is_deliverable", Boolean, nullable=False),
    Column("size", Integer, nullable=False),
    # The bytes as received; null once deleted.
    Column("body", LargeBinary),
    Column("deleted_ns", BigInteger),
    Column("deleted_by", _Id, ForeignKey("user_account.id")),
    # The form that the body has, null if it is lsst.verify's; and what the URL said beside it.
    Column("wire", Text),
    Column("address", Text),
    Index(None, "asked_ns", "time_ns"),
    Index(None, "identifiers_digest"),
    sqlite_autoincrement=True,
)

added_measurement = Table(
    "added_measurement",
    metadata,
    Column("id", _Id, primary_key=True),
    Column("job_id", _Id, ForeignKey("job.id"), nullable=False, index=True),
    Column("document", Text, nullable=False),
    Column("user_id", _Id, ForeignKey("user_account.id"), nullable=False),
    Column("created_ns", BigInteger, nullable=False),
    sqlite_autoincrement=True,
)

package_set = Table(
    "package_set",
    metadata,
    Column("id", _Id, primary_key=True),
    Column("digest", LargeBinary(16), nullable=False, unique=True),
    # JSON list of {name, git_sha, git_url, git_branch, eups_version}, by name.
    Column("document", Text, nullable=False),
)

# Derived rows have no foreign keys: they are inserted by the hundred, from what they refer to.
job_run = Table(
    "job_run",
    metadata,
    Column("job_id", _Id, primary_key=True, autoincrement=False),
    Column("env_name", Text),
    Column("pipeline", Text),
    Column("run_id", Text),
    Column("dataset", Text),
    Column("package_set_id", _Id),
    # Any job of the previous run of this pipeline.
    Column("previous_job_id", _Id),
    Column("measurement_count", Integer, nullable=False),
    Index(None, "pipeline", "run_id", "job_id"),
    Index(None, "pipeline", "job_id"),
    Index(None, "run_id", "job_id"),
    Index(None, "dataset"),
)

measurement = Table(
    "measurement",
    metadata,
    Column("metric_id", _Id, primary_key=True, autoincrement=False),
    Column("job_id", _Id, primary_key=True, autoincrement=False),
    # In the metric's unit; null if absent or skipped.
    Column("value", Float(53)),
    sqlite_with_rowid=False,
)

tag_set = Table(
    "tag_set",
    metadata,
    Column("id", _Id, primary_key=True),
    Column("digest", LargeBinary(16), nullable=False, unique=True),
    # JSON object: the tags of a job's points, by name.
    Column("document", Text, nullable=False),
)

# Narrow, so that a metric of many jobs is read together with the times and tags of the jobs.
job_context = Table(
    "job_context",
    metadata,
    Column("job_id", _Id, primary_key=True, autoincrement=False),
    # Grows with every change of any row, so that a reader can ask for what is new.
    Column("version", BigInteger, nullable=False),
    Column("time_ns", BigInteger, nullable=False),
    Column("received_ns", BigInteger, nullable=False),
    # Null once the job is deleted, as all below: the row stays for the readers of changes.
    Column("tag_set_id", _Id),
    Column("run_id", Text),
    Column("run_url", Text),
    Column("version_tag", Text),
    # JSON object: the other fields of the job's points that come from its metadata.
    Column("fields", Text),
    # Of a deleted job: its `tag_set_id` before. Null if an older release has deleted it.
    Column("deleted_tag_set_id", _Id),
    Index(None, "version"),
    Index(None, "time_ns"),
    Index(None, "received_ns"),
    Index(None, "tag_set_id", "time_ns"),
)

rederivation = Table(
    "rederivation",
    metadata,
    # A job whose measurements are to be derived again: a metric's unit has changed.
    Column("job_id", _Id, ForeignKey("job.id"), primary_key=True, autoincrement=False),
)

target = Table(
    "target",
    metadata,
    Column("name", String(64), primary_key=True),
    # Every job up to this one was sent, or is in `quarantine` or `redelivery`.
    Column("sent_through", BigInteger, nullable=False, default=0),
    # Sending has begun for every job up to this one.
    Column("taken_through", BigInteger, nullable=False, default=0),
    Column("lease_owner", String(64)),
    Column("lease_until_ns", BigInteger, nullable=False, default=0),
    # Why nothing can be sent at the moment; null if all is well.
    Column("trouble", Text),
    Column("trouble_since_ns", BigInteger),
    # Whether its database has taken points of jobs since it was last found missing or empty.
    Column("has_points", Boolean, nullable=False, server_default=false()),
    # Jobs up to this one are sent once more, because the database had lost its points; null if not.
    Column("refill_through", BigInteger),
    Column("refill_since_ns", BigInteger),
)

redelivery = Table(
    "redelivery",
    metadata,
    Column("target", String(64), ForeignKey("target.name"), primary_key=True),
    Column("job_id", _Id, ForeignKey("job.id"), primary_key=True, autoincrement=False),
    # Tells requests apart: a new one that arrives while the job is being sent stays.
    Column("request", BigInteger, nullable=False),
)

erasure = Table(
    "erasure",
    metadata,
    Column("target", String(64), ForeignKey("target.name"), primary_key=True),
    Column("job_id", _Id, ForeignKey("job.id"), primary_key=True, autoincrement=False),
    Column("time_ns", BigInteger, nullable=False),
    # JSON list of InfluxDB measurements.
    Column("measurements", Text, nullable=False),
    # JSON: the metrics of the job, and its tags; null for jobs deleted before version 0003.
    Column("metrics", Text),
    Column("tags", Text),
    # How often InfluxDB has refused to delete the points, and when it is asked again.
    Column("refusals", Integer, nullable=False, server_default="0"),
    Column("again_ns", BigInteger, nullable=False, server_default="0"),
)

quarantine = Table(
    "quarantine",
    metadata,
    Column("id", _Id, primary_key=True),
    Column("target", String(64), ForeignKey("target.name"), nullable=False),
    Column("job_id", _Id, ForeignKey("job.id"), nullable=False),
    Column("measurement", Text, nullable=False),
    # A line of line protocol, or the statement that deletes points.
    Column("line", Text, nullable=False),
    # As InfluxDB gave it.
    Column("reason", Text, nullable=False),
    Column("created_ns", BigInteger, nullable=False),
    Column("is_deletion", Boolean, nullable=False, server_default=false()),
    # Somebody has given it up: it is no longer counted, but the job's status still tells of it.
    Column("dropped_ns", BigInteger),
    Index(None, "job_id", "target"),
    sqlite_autoincrement=True,
)

state = Table(
    "state",
    metadata,
    Column("key", String(64), primary_key=True),
    Column("value", Text, nullable=False),
)

api_key = Table(
    "api_key",
    metadata,
    Column("id", _Id, primary_key=True),
    Column("user_id", _Id, ForeignKey("user_account.id"), nullable=False, index=True),
    # What its owner calls it.
    Column("name", String(128), nullable=False),
    # The part of the key that is no secret, by which it is found.
    Column("public_id", String(16), nullable=False, unique=True),
    # SHA-256 of the secret, 32 random bytes, which need no slow hash.
    Column("secret_digest", LargeBinary(32), nullable=False),
    # JSON lists; null: all namespaces.
    Column("scopes", Text, nullable=False),
    Column("namespaces", Text),
    Column("created_ns", BigInteger, nullable=False),
    Column("expires_ns", BigInteger),
    Column("revoked_ns", BigInteger),
    # To the minute: not every request writes.
    Column("last_used_ns", BigInteger),
    sqlite_autoincrement=True,
)

audit = Table(
    "audit",
    metadata,
    # Rows are only ever added.
    Column("id", _Id, primary_key=True),
    Column("time_ns", BigInteger, nullable=False),
    # Who did it; null: a command on the machine of the record, or somebody unknown. Triggers refuse
    # to change and to delete rows: see the migration 0004.
    Column("user_id", _Id, ForeignKey("user_account.id"), index=True),
    Column("api_key_id", _Id, ForeignKey("api_key.id")),
    Column("address", Text),
    # The command, and who ran it.
    Column("command", Text),
    Column("action", String(64), nullable=False),
    # What it was done to, such as a user's name.
    Column("subject", Text, nullable=False),
    # JSON object.
    Column("detail", Text),
    Index(None, "action", "id"),
    Index(None, "time_ns"),
    sqlite_autoincrement=True,
)

attempt = Table(
    "attempt",
    metadata,
    # Whose failures these are: an account, an address, or one at the other, and for what.
    Column("owner", String(200), primary_key=True),
    Column("failures", Integer, nullable=False),
    Column("last_ns", BigInteger, nullable=False),
    # Whether this address has once given the right password of this account.
    Column("is_proven", Boolean, nullable=False),
    # When the row can be deleted.
    Column("expires_ns", BigInteger, nullable=False, index=True),
)

ended_session = Table(
    "ended_session",
    metadata,
    # Of a session on the pages that was logged out of before its time.
    Column("session", String(64), primary_key=True),
    # The row is of no use after this.
    Column("expires_ns", BigInteger, nullable=False, index=True),
)

usage = Table(
    "usage",
    metadata,
    # A user, such as "user:7".
    Column("owner", String(64), primary_key=True),
    # The UTC hour or day that is counted, by its beginning.
    Column("from_ns", BigInteger, primary_key=True),
    # What is counted, such as jobs, bytes or new values of tags.
    Column("kind", Text, primary_key=True),
    Column("count", BigInteger, nullable=False),
    sqlite_with_rowid=False,
)

known_name = Table(
    "known_name",
    metadata,
    # "tag:" and a tag for its values, "metadata" for names of fields, or "series".
    Column("kind", Text, primary_key=True),
    # That of a series is made from its tags.
    Column("name", Text, primary_key=True),
    sqlite_with_rowid=False,
)

alert_group = Table(
    "alert_group",
    metadata,
    # What is told as one: alerts of a metric and a run that open soon after each other.
    Column("id", _Id, primary_key=True),
    # Grows with every change of it or of its alerts, so that an outlet can ask for what is new.
    Column("version", BigInteger, nullable=False),
    Column("metric", Text, nullable=False),
    # The branch of the alert plan, or "expect:" and a specification whose values are late.
    Column("branch", Text, nullable=False),
    # What the alerts have in common beside these: the run, and the tags that are not grouped, JSON.
    Column("key", Text, nullable=False),
    Column("opened_ns", BigInteger, nullable=False),
    # When the last alert joined it; null once it is told and nothing joins it any more.
    Column("joined_ns", BigInteger),
    Index(None, "version"),
    Index(None, "joined_ns"),
    sqlite_autoincrement=True,
)

alert = Table(
    "alert",
    metadata,
    Column("id", _Id, primary_key=True),
    Column("version", BigInteger, nullable=False),
    Column("group_id", _Id, ForeignKey("alert_group.id"), nullable=False, index=True),
    Column("metric", Text, nullable=False),
    Column("branch", Text, nullable=False),
    # JSON object: the tags of `per` that have a value, in the order of their names.
    Column("tags", Text, nullable=False),
    # "open", "acknowledged" or "resolved".
    Column("state", String(16), nullable=False),
    Column("is_trial", Boolean, nullable=False, server_default=false()),
    # 1 for INFO to 3 for CRITICAL: now, and at its worst; 0 once resolved.
    Column("severity", Integer, nullable=False),
    Column("worst", Integer, nullable=False),
    Column("opened_ns", BigInteger, nullable=False),
    # The job whose value opened it, and the one whose value speaks for the series now.
    Column("opened_job_id", _Id, index=True),
    Column("job_id", _Id, index=True),
    Column("time_ns", BigInteger),
    Column("value", Float(53)),
    Column("unit", Text),
    # JSON list: the limits that were broken last, as verdicts show them.
    Column("broken", Text, nullable=False),
    Column("resolved_ns", BigInteger),
    # Who has it: the person, what they wrote, and the severity that they saw; null if nobody has.
    Column("acknowledged_by", _Id, ForeignKey("user_account.id")),
    Column("acknowledged_ns", BigInteger),
    Column("acknowledged_severity", Integer),
    Column("acknowledged_until_ns", BigInteger),
    Column("note", Text),
    Column("link", Text),
    # The silence because of which nobody is told of it now; null if there is none.
    Column("silence_id", _Id),
    Index(None, "version"),
    Index(None, "state", "id"),
    Index(None, "metric", "branch", "id"),
    # A series has one alert at a time.
    Index(
        "uq_alert_of_series",
        "metric",
        "branch",
        "tags",
        unique=True,
        sqlite_where=text("state <> 'resolved'"),
        postgresql_where=text("state <> 'resolved'"),
    ),
    sqlite_autoincrement=True,
)

alert_event = Table(
    "alert_event",
    metadata,
    # Rows are only ever added: the history of each alert, and what webhooks and outlets read.
    Column("id", _Id, primary_key=True),
    Column("alert_id", _Id, ForeignKey("alert.id"), nullable=False, index=True),
    Column("time_ns", BigInteger, nullable=False),
    # Such as "opened", "worsened", "eased", "acknowledged", "released", "resolved".
    Column("kind", String(32), nullable=False),
    Column("severity", Integer, nullable=False),
    Column("job_id", _Id),
    Column("user_id", _Id, ForeignKey("user_account.id")),
    # JSON object, such as the value, the note, or why it ended.
    Column("detail", Text),
    sqlite_autoincrement=True,
)

silence = Table(
    "silence",
    metadata,
    Column("id", _Id, primary_key=True),
    # Null: every metric; a package, such as "validate_drp", or a metric.
    Column("metric", Text),
    # JSON object: the tags that a series must have.
    Column("tags", Text, nullable=False),
    Column("why", Text, nullable=False),
    Column("user_id", _Id, ForeignKey("user_account.id")),
    Column("created_ns", BigInteger, nullable=False),
    Column("from_ns", BigInteger, nullable=False),
    Column("until_ns", BigInteger, nullable=False, index=True),
    # Ended by somebody before its time.
    Column("ended_ns", BigInteger),
    Column("ended_by", _Id, ForeignKey("user_account.id")),
    sqlite_autoincrement=True,
)

webhook = Table(
    "webhook",
    metadata,
    Column("id", _Id, primary_key=True),
    # "webhook", or "slack" and "github": the service's own, whose address is in the settings.
    Column("kind", String(16), nullable=False),
    Column("name", String(128), nullable=False),
    Column("url", Text, nullable=False),
    # It signs what is sent, so it is kept as it is; shown once.
    Column("secret", Text, nullable=False),
    # JSON: the list of events, and an object of what they must match.
    Column("events", Text, nullable=False),
    Column("filters", Text, nullable=False),
    Column("user_id", _Id, ForeignKey("user_account.id")),
    Column("created_ns", BigInteger, nullable=False),
    Column("removed_ns", BigInteger),
    # JSON object: how far it has read each kind of event, and what it was told of open groups.
    Column("cursor", Text, nullable=False),
    # Nobody sends to it before this: a process does that now, or it has just failed.
    Column("again_ns", BigInteger, nullable=False, server_default="0"),
    # How often sending has failed since it last went well, why, and since when; null if it has not.
    Column("failures", Integer, nullable=False, server_default="0"),
    Column("trouble", Text),
    Column("trouble_since_ns", BigInteger),
    sqlite_autoincrement=True,
)

webhook_delivery = Table(
    "webhook_delivery",
    metadata,
    Column("id", _Id, primary_key=True),
    Column("webhook_id", _Id, ForeignKey("webhook.id"), nullable=False),
    Column("event", String(32), nullable=False),
    # The body as it is sent, JSON.
    Column("body", Text, nullable=False),
    Column("created_ns", BigInteger, nullable=False),
    Column("attempts", Integer, nullable=False, server_default="0"),
    # When it is sent next; null once it is delivered or given up.
    Column("next_ns", BigInteger, index=True),
    Column("delivered_ns", BigInteger),
    # When it was tried last, and what the receiver answered, such as "204" or "no connection".
    Column("tried_ns", BigInteger),
    Column("answer", Text),
    Index(None, "webhook_id", "id"),
    sqlite_autoincrement=True,
)

# Text is in the order of its code points, as in SQLite, not in that of a language.
for _table in metadata.tables.values():
    for _column in _table.columns:
        if isinstance(_column.type, String):
            _sorted = type(_column.type)(_column.type.length, collation="C")
            _column.type = _column.type.with_variant(_sorted, "postgresql")


@event.listens_for(metadata, "after_create")
def _make_triggers(_metadata: MetaData, connection: Connection, **_: Any) -> None:
    for statement in _TRIGGERS[connection.dialect.name]:
        connection.exec_driver_sql(statement)


def triggers_of(engine: str) -> set[str]:
    """Return the names of the triggers that a record has in a database of this kind."""
    return {found[1] for text in _TRIGGERS[engine] if (found := _TRIGGER.match(text))}


_TRIGGER = re.compile(r"CREATE TRIGGER (\w+)")
# The audit trail is append-only. Whoever owns the database can drop the triggers; what the service
# does by mistake they stop. And PostgreSQL tells all processes of new jobs, when they can be seen.
_REFUSAL = "the audit trail is append-only"
_TRIGGERS = {
    "sqlite": [
        f"""CREATE TRIGGER audit_no_{verb} BEFORE {verb} ON audit
        BEGIN SELECT RAISE(ABORT, '{_REFUSAL}'); END"""
        for verb in ("update", "delete")
    ],
    "postgresql": [
        f"""CREATE FUNCTION squash_refuse() RETURNS trigger LANGUAGE plpgsql
        AS $$BEGIN RAISE integrity_constraint_violation USING MESSAGE = '{_REFUSAL}'; END$$""",
        """CREATE TRIGGER audit_no_change BEFORE UPDATE OR DELETE OR TRUNCATE ON audit
        EXECUTE FUNCTION squash_refuse()""",
        """CREATE FUNCTION squash_tell() RETURNS trigger LANGUAGE plpgsql
        AS $$BEGIN PERFORM pg_notify('squash_job', ''); RETURN NULL; END$$""",
        """CREATE TRIGGER job_tell AFTER INSERT ON job EXECUTE FUNCTION squash_tell()""",
    ],
}
