"""Metrics packages: directories of metrics and specifications in YAML, with their bases. Pure."""
