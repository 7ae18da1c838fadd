"""Kapacitor tasks and dashboards from specifications; comparison with servers."""
