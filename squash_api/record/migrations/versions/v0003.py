"""The series that a deleted job was in, for outlets that are told what is newest in them now."""

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"


def upgrade() -> None:
    """Apply."""
    op.add_column("erasure", sa.Column("metrics", sa.Text(), nullable=True))
    op.add_column("erasure", sa.Column("tags", sa.Text(), nullable=True))
