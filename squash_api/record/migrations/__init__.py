"""Alembic migrations of the record; `open_database` applies them."""
