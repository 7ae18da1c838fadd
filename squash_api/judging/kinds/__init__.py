"""The kinds of specification, one module for each `type`."""
