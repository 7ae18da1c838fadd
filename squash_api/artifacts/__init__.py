"""Kapacitor tasks and Chronograf dashboards: made from specifications, kept, compared."""
