"""Chronograf's dashboards and connections, from specifications. Pure."""
