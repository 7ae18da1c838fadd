"""SQuaSH: receives lsst.verify jobs, keeps every one, and serves what they measured."""
