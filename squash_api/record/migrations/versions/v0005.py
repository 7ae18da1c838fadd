"""The wire by which a job was received, and what its URL said beside the body."""

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"


def upgrade() -> None:
    """Apply."""
    op.add_column("job", sa.Column("wire", sa.Text(), nullable=True))
    op.add_column("job", sa.Column("address", sa.Text(), nullable=True))
