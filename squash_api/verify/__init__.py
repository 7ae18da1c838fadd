"""The vocabulary of lsst.verify: metrics, units, measurements and the files of jobs. Pure."""
