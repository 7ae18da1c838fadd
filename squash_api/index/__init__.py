"""What is derived from the jobs: runs, values, contexts, code changes; derived and read here."""
