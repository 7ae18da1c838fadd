"""A small client of SQuaSH, for people without the LSST stack; it needs only httpx and astropy."""

from squash_api.client.notebook import record
from squash_api.client.squash import Job, Reply, Squash
from squash_api.client.wire import SquashClientError
from squash_api.schema.alert_answers import (
    Alert,
    AlertDetails,
    ChangedAlert,
    NewSilence,
    Silence,
)
from squash_api.schema.answers import (
    Artifact,
    Run,
    RunDetails,
    Standing,
    StoredJob,
    StoredMeasurement,
    Verdict,
)
from squash_api.verify.measurement import Blob, Datum, DocumentError, Measurement

__all__ = [
    "Alert",
    "AlertDetails",
    "Artifact",
    "Blob",
    "ChangedAlert",
    "Datum",
    "DocumentError",
    "Job",
    "Measurement",
    "NewSilence",
    "Reply",
    "Run",
    "RunDetails",
    "Silence",
    "Squash",
    "SquashClientError",
    "Standing",
    "StoredJob",
    "StoredMeasurement",
    "Verdict",
    "record",
]
