"""Reports on a run, a period or a release: what holds, what is broken, what is missing."""
