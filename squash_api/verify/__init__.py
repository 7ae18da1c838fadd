"""The vocabulary of lsst.verify: names, jobs, metrics, specifications, units and judging."""
