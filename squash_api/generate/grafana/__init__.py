"""Grafana's provisioning and dashboards, from the alert plan; and its running servers."""
