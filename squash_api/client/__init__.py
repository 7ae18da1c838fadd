"""A small client of SQuaSH, for people without the LSST stack; it needs only httpx and astropy."""

from squash_api.client.notebook import record
from squash_api.client.squash import Job, Reply, Squash
from squash_api.client.wire import SquashClientError
from squash_api.verify.measurement import Blob, Datum, DocumentError, Measurement

__all__ = [
    "Blob",
    "Datum",
    "DocumentError",
    "Job",
    "Measurement",
    "Reply",
    "Squash",
    "SquashClientError",
    "record",
]
