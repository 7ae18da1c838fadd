"""Alembic's entry: runs on the connection that `open_database` hands over."""

from alembic import context

from squash_api.record.tables import metadata

context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=metadata,
    render_as_batch=True,
)
context.run_migrations()
