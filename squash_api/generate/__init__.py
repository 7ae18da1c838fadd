"""From specifications to files: Kapacitor tasks and Chronograf dashboards, kept and compared."""
