"""Accepting a job: decoding its document, assessing its values, and storing it."""
