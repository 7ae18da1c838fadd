"""Judging: specifications, levels, limits, verdicts and their words, and the alert plan. Pure."""
