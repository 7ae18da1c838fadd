"""Definitions of metrics and specifications: in force, changed through the API or from YAML."""
