"""The failures that reach a client: one class each, with a stable code and an HTTP status.

A route never builds an error body: the app turns these into the body that all failures share.
"""

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from itertools import islice
from typing import Any, ClassVar
from urllib.parse import quote

# Comparing a name with this many takes some 10 ms.
_MOST_NAMES = 2000
_LONGEST_NAME = 200
_MOST_HINTS = 5

_RUNBOOK = re.compile(r" \(runbook: ([a-z0-9_-]+)\)\Z")

_OF_URLS = ":/?#[]@!$&'()*+,;=%"

# Why the record is unavailable, as its engine and its file say it, and the entry on that.
_OF_THE_RECORD = {
    "The disk of the record is full": "record-full",
    "The record is locked": "record-locked",
    "The disk or the file of the record can only be read": "record-read-only",
    "The database of the record can only be read": "record-read-only",
    "The database of the record takes no more connections": "record-connections",
    "The database of the record cannot be reached": "record-unreachable",
    "The record is damaged": "record-damaged",
    "The replica had to go on": "record-replica",
    "The files of the record cannot be opened": "record-files",
    "The disk of the record fails": "record-disk",
    "The file of the record has been": "record-gone",
    "The write-ahead log of the record has been": "record-gone",
    "The database of the record refuses": "record-refused",
}

MOST_PLACES = 20
"""A reply names at most so many places that are wrong, and says how many more there are."""


def nearest(name: str, known: Iterable[str]) -> str:
    """Return `; did you mean `<name>`?` for the nearest known name, or nothing if none is near."""
    near = get_close_matches(name[:_LONGEST_NAME], list(islice(known, _MOST_NAMES)), n=1)
    return f"; did you mean `{near[0]}`?" if near else ""


def runbook_path(entry: str) -> str:
    """Return where the service shows an entry of `docs/runbook.md`, below its public root."""
    return f"/docs/runbook#{entry}"


def see(root: str, entry: str) -> str:
    """Point to an entry of the runbook, as a sentence to end a message with."""
    return f" See {root}{runbook_path(entry)}."


def help_link(root: str, entry: str) -> str:
    """Point to an entry of the runbook, as the header `Link` of a failure (RFC 8288)."""
    url = quote(f"{root}{runbook_path(entry)}", safe=_OF_URLS)
    return f'<{url}>; rel="help"'


def with_runbook(text: str, entry: str) -> str:
    """End a text that is kept, such as why a target is held up, with an entry of the runbook."""
    return f"{text} (runbook: {entry})"


def split_runbook(text: str) -> tuple[str, str | None]:
    """Split what `with_runbook` made; the entry is None in a text that has none."""
    found = _RUNBOOK.search(text)
    return (text, None) if found is None else (text[: found.start()], found[1])


def runbook_of_record(reason: str | None) -> str:
    """Return the entry of the runbook on why the record is unavailable."""
    entries = (entry for words, entry in _OF_THE_RECORD.items() if (reason or "").startswith(words))
    return next(entries, RecordUnavailableError.code)


class Hints:
    """Suggests the nearest names for the first few wrong names of a request.

    Each suggestion compares with every known name, and a request has room for thousands.
    """

    def __init__(self) -> None:
        self._left = _MOST_HINTS

    def of(self, name: str, known: Iterable[str]) -> str:
        """Return what `nearest` does, or nothing after the first few."""
        self._left -= 1
        return nearest(name, known) if self._left >= 0 else ""


def sentence(text: str) -> str:
    """End a text with a full stop, unless it ends with a question."""
    return text if text.endswith("?") else f"{text}."


# Pydantic's kinds of errors, and what we say instead.
_WORDS = {
    "bool_parsing": "must be true or false",
    "float_parsing": "must be a number",
    "greater_than": "must be above {gt}",
    "greater_than_equal": "must be at least {ge}",
    "int_parsing": "must be a whole number",
    "int_parsing_size": "must be a whole number of at most 18 digits",
    "less_than": "must be below {lt}",
    "less_than_equal": "must be at most {le}",
    "literal_error": "must be {expected}",
    "string_too_long": "must have at most {max_length} characters",
    "string_too_short": "must have at least {min_length} characters",
}


def plain_words(error: Mapping[str, Any]) -> str:
    """Say in our words what an error of pydantic says."""
    words = _WORDS.get(error["type"])
    return str(error["msg"]) if words is None else words.format(**error.get("ctx", {}))


@dataclass(frozen=True, slots=True)
class Detail:
    """A place in the input, such as `("body", "measurements", 3, "metric")`, and the problem."""

    loc: tuple[str | int, ...]
    msg: str
    type: str = "value_error"


class SquashError(Exception):
    """A failure, with a message for people and a code for programs.

    Parameters
    ----------
    detail
        The places that are wrong; a reply lists the first `MOST_PLACES`.
    more
        How many more there are, which were counted only: a body has room for millions.
    """

    code: ClassVar[str] = "internal_error"
    status_code: ClassVar[int] = 500

    def __init__(self, message: str, *, detail: Sequence[Detail] = (), more: int = 0) -> None:
        super().__init__(message)
        self.message = message
        self.detail = tuple(detail)
        self.more = more

    @property
    def runbook(self) -> str:
        """The entry of the runbook on this failure: it has one for every code."""
        return self.code


class InvalidInputError(SquashError):
    """The input is wrong; `detail` names the places."""

    code = "invalid_input"
    status_code = 422


class MalformedJsonError(InvalidInputError):
    """The body is not JSON."""

    code = "malformed_json"
    status_code = 400


class MalformedEncodingError(InvalidInputError):
    """The body is declared as gzip, and is not."""

    code = "malformed_encoding"
    status_code = 400


class MalformedRequestError(SquashError):
    """What arrived is not an HTTP request, or has a part that is too long."""

    code = "malformed_request"
    status_code = 400


class TooSlowError(SquashError):
    """The client sent its request, or reads the reply, too slowly."""

    code = "too_slow"
    status_code = 408


class UrlTooLongError(SquashError):
    """The URL is too long."""

    code = "url_too_long"
    status_code = 414


class HeadersTooLargeError(SquashError):
    """The headers are too long, or too many."""

    code = "headers_too_large"
    status_code = 431


class MissingFieldError(InvalidInputError):
    """A required parameter is missing."""

    code = "missing_parameter"
    status_code = 400


class TooLargeError(SquashError):
    """The body is larger than `SQUASH_MAX_BODY_BYTES`."""

    code = "too_large"
    status_code = 413


class UnsupportedMediaTypeError(SquashError):
    """The body is not declared as JSON, or has an encoding other than gzip."""

    code = "unsupported_media_type"
    status_code = 415


class SkippedInStrictModeError(SquashError):
    """With `?strict=true`, a value would have been skipped; nothing was stored."""

    code = "skipped_in_strict_mode"
    status_code = 422


class NotFoundError(SquashError):
    """No such user, metric, specification, job or blob."""

    code = "not_found"
    status_code = 404

    @classmethod
    def of(cls, noun: str, name: str, known: Iterable[str] = ()) -> "NotFoundError":
        """Make the error for a name that is not one of these; it suggests the nearest."""
        shown = name[:_LONGEST_NAME]
        return cls(sentence(f"There is no {noun} `{shown}`{nearest(name, known)}"))


class NameTakenError(SquashError):
    """The name exists already, with different content."""

    code = "name_taken"
    status_code = 400


class ReadOnlyError(SquashError):
    """The definition comes from YAML and cannot be changed through the API."""

    code = "read_only"
    status_code = 409


class UnauthorizedError(SquashError):
    """No valid token or password; `error` is flask_jwt's word, for the oldest clients.

    `user` is the name that was given, for the log.
    """

    code = "unauthorized"
    status_code = 401

    def __init__(
        self, description: str, *, error: str, challenge: bool = False, user: str | None = None
    ) -> None:
        super().__init__(description)
        self.error = error
        self.challenge = challenge
        self.user = user


class ForbiddenError(SquashError):
    """The user is known but may not do this."""

    code = "forbidden"
    status_code = 403


class LastAdminError(SquashError):
    """The change would leave no enabled admin."""

    code = "last_admin"
    status_code = 409


class AlertChangedError(SquashError):
    """The alert is not what the user saw, such as worse or resolved, or cannot be changed so."""

    code = "alert_changed"
    status_code = 409


class BusyError(SquashError):
    """Too many requests of one kind at once; try again after `retry_after_s` seconds."""

    code = "busy"
    status_code = 429

    def __init__(self, message: str, *, retry_after_s: int) -> None:
        super().__init__(message)
        self.retry_after_s = retry_after_s


class OverLimitError(BusyError):
    """The user has used up a limit of an hour or a day; nothing was stored."""

    code = "over_limit"


class OverloadedError(BusyError):
    """There is no room for a connection, or nothing reads the record at the moment."""

    code = "overloaded"
    status_code = 503


class NotAvailableError(SquashError):
    """The answer needs a library that is not installed."""

    code = "not_available"
    status_code = 501


class RecordUnavailableError(SquashError):
    """The record cannot be read or written at the moment; `reason` is a clause that says why."""

    code = "record_unavailable"
    status_code = 503
    retry_after_s: ClassVar[int] = 5

    def __init__(self, message: str, *, reason: str | None = None) -> None:
        super().__init__(message)
        self.reason = reason

    @property
    def runbook(self) -> str:
        """The entry of the runbook on the reason."""
        return runbook_of_record(self.reason)


class OnlyReadsError(RecordUnavailableError):
    """The service only reads, from a replica of the record or by its settings.

    It is no refusal for ever: a replica may become the record.
    """

    code = "only_reads"
    retry_after_s = 60

    @property
    def runbook(self) -> str:
        """The entry of the runbook."""
        return self.code


class SettingsError(SquashError):
    """A setting is missing or wrong, or the record does not fit it: the service cannot start.

    `runbook` is the entry of the runbook on that, if it is not that of settings.
    """

    code = "settings"

    def __init__(self, message: str, *, runbook: str = "settings", **more: Any) -> None:
        super().__init__(message, **more)
        self._runbook = runbook

    @property
    def runbook(self) -> str:
        """The entry of the runbook on what is wrong."""
        return self._runbook
