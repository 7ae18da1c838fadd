"""Kapacitor's tasks and handlers, from specifications. Pure."""
