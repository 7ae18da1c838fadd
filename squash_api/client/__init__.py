"""A small client of SQuaSH, for people without the LSST stack; it needs only httpx and astropy."""

from squash_api.client.answers import (
    Alert,
    AlertDetails,
    ChangedAlert,
    NewSilence,
    Run,
    Silence,
    Standing,
)
from squash_api.client.notebook import record
from squash_api.client.squash import Job, Reply, Squash
from squash_api.client.wire import SquashClientError
from squash_api.verify.measurement import Blob, Datum, DocumentError, Measurement

__all__ = [
    "Alert",
    "AlertDetails",
    "Blob",
    "ChangedAlert",
    "Datum",
    "DocumentError",
    "Job",
    "Measurement",
    "NewSilence",
    "Reply",
    "Run",
    "Silence",
    "Squash",
    "SquashClientError",
    "Standing",
    "record",
]
