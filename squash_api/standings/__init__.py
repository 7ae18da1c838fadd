"""How things stand now: metrics, jobs, runs, and what is late."""
