"""API keys, the audit trail, failed attempts, and what accounts have used of their limits.

Targets also know whether their database has lost its points, and which deletions it refuses.
"""

import sqlalchemy as sa
from alembic import op

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
        sa.PrimaryKeyConstraint("owner", name=op.f("pk_attempt")),
    )
    op.create_index("ix_attempt_last_ns", "attempt", ["last_ns"])
    op.create_table(
        "ended_session",
        sa.Column("id", sa.String(length=64), nullable=False),
        sa.Column("expires_ns", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_ended_session")),
    )
    op.create_index("ix_ended_session_expires_ns", "ended_session", ["expires_ns"])
    op.create_table(
        "usage",
        sa.Column("owner", sa.String(length=64), nullable=False),
        sa.Column("from_ns", sa.BigInteger(), nullable=False),
        sa.Column("kind", sa.String(length=32), nullable=False),
        sa.Column("count", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("owner", "from_ns", "kind", name=op.f("pk_usage")),
        sqlite_with_rowid=False,
    )
    _note_losses_and_refusals()


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
