"""Delivery: from the record to everyone who waits for jobs, in order, at least once."""
