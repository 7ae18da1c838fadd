"""What can go wrong with an InfluxDB, sorted by what the one who writes should do next.

::

    InfluxError
    ├── InfluxUnavailableError    try again later, for ever
    ├── InfluxRefusedError        pause: the credentials are wrong, or lack a right
    ├── InfluxMisconfiguredError  pause: the address or the server's set-up is wrong
    ├── DatabaseMissingError      create the database
    ├── BatchTooLargeError        send less at a time
    ├── BatchRejectedError        find the bad lines; the good ones may be stored already
    └── QueryRejectedError        the statement is wrong
"""

import re

_PARTIAL = re.compile(r"partial write: (.*) dropped=([0-9]+)", re.DOTALL)
_UNPARSED = re.compile(r"^(?:partial write: )?unable to parse '(.*)': [^']*$", re.MULTILINE)
_BEYOND_RETENTION = "points beyond retention policy"
_DATABASE_MISSING = "database not found"
_POLICY_MISSING = "retention policy not found"


class InfluxError(Exception):
    """A failure at InfluxDB; `reason` is what it said, or what happened on the way to it."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


class InfluxUnavailableError(InfluxError):
    """No connection, no answer in time, 429, 5xx, or an answer that is not InfluxDB's."""


class InfluxRefusedError(InfluxError):
    """401 or 403."""


class InfluxMisconfiguredError(InfluxError):
    """Nothing of InfluxDB at this address, or a retention policy that does not exist."""


class DatabaseMissingError(InfluxError):
    """The database does not exist."""


class BatchTooLargeError(InfluxError):
    """413."""


class BatchRejectedError(InfluxError):
    """At least one line is refused for good.

    Attributes
    ----------
    partial
        Whether InfluxDB says that it has stored the other lines.
    beyond_retention
        How many lines are older than the retention policy allows, if that is the reason, else 0.
        InfluxDB counts these exactly: unlike other reasons, this one has nothing to do with what
        the line says.
    """

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        match = _PARTIAL.fullmatch(reason)
        self.partial = match is not None
        self.beyond_retention = (
            int(match[2]) if match is not None and match[1] == _BEYOND_RETENTION else 0
        )

    def unparsed_lines(self) -> set[str]:
        """Return the lines that InfluxDB quotes as not being line protocol."""
        return set(_UNPARSED.findall(self.reason))


class QueryRejectedError(InfluxError):
    """InfluxDB does not accept the statement, or could not carry it out."""


def write_error(status: int, words: str | None) -> InfluxError:
    """Return the error for a reply to a write that was not 204.

    Parameters
    ----------
    status
        HTTP status.
    words
        InfluxDB's explanation, or None if the body held none: then something else replied.
    """
    reason = words or f"HTTP {status} without an explanation by InfluxDB"
    if status == 413:
        return BatchTooLargeError(reason)
    # Refused lines are quoted in the reply, so only its beginning can be trusted.
    if status in {400, 422} and words and words != "database is required":
        return BatchRejectedError(reason)
    return _reply_error(status, words, reason)


def query_error(status: int, words: str | None) -> InfluxError:
    """Return the error for a reply to a query that was not 200."""
    if status == 400 and words:
        return QueryRejectedError(words)
    return _reply_error(status, words, words or f"HTTP {status} without an explanation by InfluxDB")


def statement_error(words: str) -> InfluxError:
    """Return the error for a statement that failed within a reply of status 200."""
    if words.startswith(_DATABASE_MISSING):
        return DatabaseMissingError(words)
    if words.startswith(_POLICY_MISSING):
        return InfluxMisconfiguredError(words)
    if "not authorized" in words:
        return InfluxRefusedError(words)
    return QueryRejectedError(words)


def _reply_error(status: int, words: str | None, reason: str) -> InfluxError:
    if status in {401, 403}:
        return InfluxRefusedError(reason)
    if status == 404 and reason.startswith(_DATABASE_MISSING):
        return DatabaseMissingError(reason)
    if status >= 500 and reason.startswith(_POLICY_MISSING):
        return InfluxMisconfiguredError(reason)
    # A 400 without words comes from a proxy, a success other than 204 from anything at all.
    if status < 300 or status in {408, 425, 429} or status >= 500 or (status == 400 and not words):
        return InfluxUnavailableError(reason)
    return InfluxMisconfiguredError(reason)
