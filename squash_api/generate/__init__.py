"""Kapacitor tasks and Chronograf dashboards from specifications; comparison with servers."""
