"""Delivery: from the record to everything that waits for jobs, in order, at least once."""
