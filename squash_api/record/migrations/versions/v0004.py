"""API keys, the audit trail, failed attempts, used limits, and what user names look like.

Targets also know whether their database has lost its points, and which deletions it refuses.
"""

import json

import sqlalchemy as sa
from alembic import op

from squash_api.record.lookalikes import skeleton
from squash_api.record.usage import names_of_tags

revision = "0004"
down_revision = "0003"

_ID = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
_REFUSE = "RAISE(ABORT, 'the audit trail is append-only')"
# Whoever can write the file can drop these; what the service does by mistake they stop.
_APPEND_ONLY = {
    "sqlite": [
        f"CREATE TRIGGER audit_no_{verb} BEFORE {verb} ON audit BEGIN SELECT {_REFUSE}; END"
        for verb in ("update", "delete")
    ],
}


def upgrade() -> None:
    """Apply."""
    op.add_column("user_account", sa.Column("skeleton", sa.String(length=512), nullable=True))
    _fill_skeletons()
    op.create_index("ix_user_account_skeleton", "user_account", ["skeleton"], unique=True)
    op.create_table(
        "api_key",
        sa.Column("id", _ID, nullable=False),
        sa.Column("user_id", _ID, nullable=False),
        sa.Column("name", sa.String(length=128), nullable=False),
        sa.Column("public_id", sa.String(length=16), nullable=False),
        sa.Column("secret_digest", sa.LargeBinary(length=32), nullable=False),
        sa.Column("scopes", sa.Text(), nullable=False),
        sa.Column("namespaces", sa.Text(), nullable=True),
        sa.Column("created_ns", sa.BigInteger(), nullable=False),
        sa.Column("expires_ns", sa.BigInteger(), nullable=True),
        sa.Column("revoked_ns", sa.BigInteger(), nullable=True),
        sa.Column("last_used_ns", sa.BigInteger(), nullable=True),
        sa.ForeignKeyConstraint(
            ["user_id"], ["user_account.id"], name=op.f("fk_api_key_user_id_user_account")
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_api_key")),
        sa.UniqueConstraint("public_id", name=op.f("uq_api_key_public_id")),
        sqlite_autoincrement=True,
    )
    op.create_index("ix_api_key_user_id", "api_key", ["user_id"])
    op.create_table(
        "audit",
        sa.Column("id", _ID, nullable=False),
        sa.Column("time_ns", sa.BigInteger(), nullable=False),
        sa.Column("user_id", _ID, nullable=True),
        sa.Column("api_key_id", _ID, nullable=True),
        sa.Column("address", sa.Text(), nullable=True),
        sa.Column("command", sa.Text(), nullable=True),
        sa.Column("action", sa.String(length=64), nullable=False),
        sa.Column("subject", sa.Text(), nullable=False),
        sa.Column("detail", sa.Text(), nullable=True),
        sa.ForeignKeyConstraint(
            ["user_id"], ["user_account.id"], name=op.f("fk_audit_user_id_user_account")
        ),
        sa.ForeignKeyConstraint(
            ["api_key_id"], ["api_key.id"], name=op.f("fk_audit_api_key_id_api_key")
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_audit")),
        sqlite_autoincrement=True,
    )
    op.create_index("ix_audit_user_id", "audit", ["user_id"])
    op.create_index("ix_audit_action_id", "audit", ["action", "id"])
    op.create_index("ix_audit_time_ns", "audit", ["time_ns"])
    for statement in _APPEND_ONLY.get(op.get_bind().dialect.name, ()):
        op.execute(statement)
    op.create_table(
        "attempt",
        sa.Column("owner", sa.String(length=200), nullable=False),
        sa.Column("failures", sa.Integer(), nullable=False),
        sa.Column("last_ns", sa.BigInteger(), nullable=False),
        sa.Column("is_proven", sa.Boolean(), nullable=False),
        sa.Column("expires_ns", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("owner", name=op.f("pk_attempt")),
    )
    op.create_index("ix_attempt_expires_ns", "attempt", ["expires_ns"])
    op.create_table(
        "ended_session",
        sa.Column("session", sa.String(length=64), nullable=False),
        sa.Column("expires_ns", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("session", name=op.f("pk_ended_session")),
    )
    op.create_index("ix_ended_session_expires_ns", "ended_session", ["expires_ns"])
    op.create_table(
        "usage",
        sa.Column("owner", sa.String(length=64), nullable=False),
        sa.Column("from_ns", sa.BigInteger(), nullable=False),
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column("count", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("owner", "from_ns", "kind", name=op.f("pk_usage")),
        sqlite_with_rowid=False,
    )
    _note_losses_and_refusals()
    _note_known_names()
    op.add_column("metric", sa.Column("unit_by", _ID, nullable=True))
    op.add_column("metric", _flag("is_gone"))
    op.create_table(
        "own_unit",
        sa.Column("metric_id", _ID, nullable=False),
        sa.Column("user_id", _ID, nullable=False),
        sa.Column("unit", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("metric_id", "user_id", name=op.f("pk_own_unit")),
        sqlite_with_rowid=False,
    )


def _note_known_names() -> None:
    """Note what is in the record already: it counts against nobody's limits."""
    table = op.create_table(
        "known_name",
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("kind", "name", name=op.f("pk_known_name")),
        sqlite_with_rowid=False,
    )
    rows = op.get_bind().execute(sa.text("SELECT document FROM tag_set"))
    names = names_of_tags([json.loads(row[0]) for row in rows])
    op.bulk_insert(table, [{"kind": kind, "name": name} for kind, name in sorted(names)])


def _note_losses_and_refusals() -> None:
    op.add_column("target", _flag("has_points"))
    op.add_column("target", sa.Column("refill_through", sa.BigInteger(), nullable=True))
    op.add_column("target", sa.Column("refill_since_ns", sa.BigInteger(), nullable=True))
    # What was sent before may be lost from now on.
    op.execute("UPDATE target SET has_points = (sent_through > 0)")
    count = sa.Column("refusals", sa.Integer(), nullable=False, server_default="0")
    op.add_column("erasure", count)
    again = sa.Column("again_ns", sa.BigInteger(), nullable=False, server_default="0")
    op.add_column("erasure", again)
    op.add_column("quarantine", _flag("is_deletion"))
    op.add_column("quarantine", sa.Column("dropped_ns", sa.BigInteger(), nullable=True))


def _flag(name: str) -> "sa.Column[bool]":
    return sa.Column(name, sa.Boolean(), nullable=False, server_default=sa.false())


def _fill_skeletons() -> None:
    """Give each user a skeleton, but of those who look alike only the first."""
    connection = op.get_bind()
    users = sa.table("user_account", sa.column("id"), sa.column("name"), sa.column("skeleton"))
    taken = set()
    rows = connection.execute(sa.select(users.c.id, users.c.name).order_by(users.c.id)).all()
    for user_id, name in rows:
        looks_like = skeleton(name)
        if looks_like not in taken:
            taken.add(looks_like)
            connection.execute(
                sa.update(users).where(users.c.id == user_id).values(skeleton=looks_like)
            )
