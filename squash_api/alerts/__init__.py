"""The alerts of the record: opened, grouped, acknowledged, silenced, resolved."""
