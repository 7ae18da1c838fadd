"""The tags and other metadata of jobs, derived like their measurements."""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"


def upgrade() -> None:
    """Apply."""
    op.create_table(
        "tag_set",
        sa.Column("id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=False),
        sa.Column("digest", sa.LargeBinary(length=16), nullable=False),
        sa.Column("document", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_tag_set")),
        sa.UniqueConstraint("digest", name=op.f("uq_tag_set_digest")),
    )
    op.create_table(
        "job_context",
        sa.Column(
            "job_id",
            sa.BigInteger().with_variant(sa.Integer(), "sqlite"),
            autoincrement=False,
            nullable=False,
        ),
        sa.Column("version", sa.BigInteger(), nullable=False),
        sa.Column("time_ns", sa.BigInteger(), nullable=False),
        sa.Column("received_ns", sa.BigInteger(), nullable=False),
        sa.Column(
            "tag_set_id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=True
        ),
        sa.Column("run_id", sa.Text(), nullable=True),
        sa.Column("run_url", sa.Text(), nullable=True),
        sa.Column("version_tag", sa.Text(), nullable=True),
        sa.Column("fields", sa.Text(), nullable=True),
        sa.PrimaryKeyConstraint("job_id", name=op.f("pk_job_context")),
    )
    op.create_index("ix_job_context_version", "job_context", ["version"])
    op.create_index("ix_job_context_time_ns", "job_context", ["time_ns"])
    op.create_index("ix_job_context_received_ns", "job_context", ["received_ns"])
    op.create_index("ix_job_context_tag_set_id_time_ns", "job_context", ["tag_set_id", "time_ns"])
    # Jobs that are in the index already are derived again, in the background. What is there stays
    # in use until then, so that nobody waits.
    op.execute(
        "INSERT INTO rederivation (job_id) SELECT id FROM job WHERE deleted_ns IS NULL"
        " AND id <= (SELECT CAST(value AS BIGINT) FROM state WHERE key = 'derived_through')"
        " AND id NOT IN (SELECT job_id FROM rederivation)"
    )
