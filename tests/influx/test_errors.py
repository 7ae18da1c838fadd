import pytest

from squash_api.influx import client as errors
from squash_api.influx.client import BatchRejectedError, InfluxError

BEYOND_OF_1_12 = "points beyond retention policy or outside permissible write window"
BEYOND_OF_2 = "dropped 3 points outside retention policy of duration 1h0m0s - oldest a, newest b"


@pytest.mark.parametrize(
    ("status", "words", "expected"),
    [
        (400, "unable to parse 'x': missing fields", errors.BatchRejectedError),
        (422, "partial write: field type conflict", errors.BatchRejectedError),
        (400, "unable to parse 'database is required'", errors.BatchRejectedError),
        (400, "database is required", errors.InfluxMisconfiguredError),
        (422, "Adding a new database would exceed limit of 5", errors.InfluxMisconfiguredError),
        (400, "cannot write to soft-deleted database 'x'", errors.InfluxMisconfiguredError),
        (400, "db name did not start with a number", errors.InfluxMisconfiguredError),
        (400, None, errors.InfluxUnavailableError),
        (401, "authorization failed", errors.InfluxRefusedError),
        (403, None, errors.InfluxRefusedError),
        (404, 'database not found: "x"', errors.DatabaseMissingError),
        (404, None, errors.InfluxMisconfiguredError),
        (405, None, errors.InfluxMisconfiguredError),
        (301, None, errors.InfluxMisconfiguredError),
        (413, None, errors.BatchTooLargeError),
        (413, "Request Entity Too Large", errors.BatchTooLargeError),
        (408, None, errors.InfluxUnavailableError),
        (429, None, errors.InfluxUnavailableError),
        (500, "timeout", errors.InfluxUnavailableError),
        (500, "retention policy not found: x", errors.InfluxMisconfiguredError),
        (503, None, errors.InfluxUnavailableError),
        (200, None, errors.InfluxUnavailableError),
    ],
)
def test_a_reply_to_a_write_says_what_to_do_next(
    status: int, words: str | None, expected: type[InfluxError]
) -> None:
    error = errors.write_error(status, words)
    assert type(error) is expected
    assert error.reason == (words or f"HTTP {status} without an explanation by InfluxDB")


@pytest.mark.parametrize(
    ("status", "words", "expected"),
    [
        (400, "error parsing query: found EOF", errors.QueryRejectedError),
        (400, None, errors.InfluxUnavailableError),
        (401, "authorization failed", errors.InfluxRefusedError),
        (404, None, errors.InfluxMisconfiguredError),
        (502, None, errors.InfluxUnavailableError),
    ],
)
def test_a_reply_to_a_query_says_what_to_do_next(
    status: int, words: str | None, expected: type[InfluxError]
) -> None:
    assert type(errors.query_error(status, words)) is expected


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ("database not found: x", errors.DatabaseMissingError),
        ("retention policy not found: x", errors.InfluxMisconfiguredError),
        ('"rd" user is not authorized to write', errors.InfluxRefusedError),
        ("measurement not found", errors.QueryRejectedError),
        ("Database x not found", errors.DatabaseMissingError),
        ("default retention policy not set for: x", errors.InfluxMisconfiguredError),
        ("insufficient permissions", errors.InfluxRefusedError),
        ("not implemented: CREATE DATABASE", errors.NotImplementedByItError),
        ("x error: This feature is not implemented: DELETE", errors.NotImplementedByItError),
    ],
)
def test_a_failed_statement_says_what_to_do_next(words: str, expected: type[InfluxError]) -> None:
    assert type(errors.statement_error(words)) is expected


def test_every_error_has_a_common_root() -> None:
    found = [
        member
        for member in vars(errors).values()
        if isinstance(member, type) and issubclass(member, Exception)
    ]
    assert len(found) == 9
    assert all(issubclass(member, InfluxError) for member in found)


@pytest.mark.parametrize(
    ("words", "partial", "beyond"),
    [
        ("partial write: points beyond retention policy dropped=3", True, 3),
        ("partial write: field type conflict: input field dropped=3", True, 0),
        (
            f"partial write: {BEYOND_OF_1_12} dropped=3 for database: d for retention policy: r",
            True,
            3,
        ),
        (
            f"failure writing points to database: partial write: {BEYOND_OF_2} dropped=3",
            True,
            3,
        ),
        ("partial write: unable to parse 'x': missing fields dropped=0", True, 0),
        ("unable to parse 'x': missing fields", False, 0),
        (
            "unable to parse 'partial write: points beyond retention policy dropped=2': x",
            False,
            0,
        ),
    ],
)
def test_a_rejection_tells_how_much_was_stored(words: str, *, partial: bool, beyond: int) -> None:
    error = BatchRejectedError(words)
    assert (error.partial, error.beyond_retention) == (partial, beyond)


def test_an_error_is_known_to_come_from_a_query_that_reads_too_much() -> None:
    error = errors.statement_error("Query would scan 500 Parquet files, exceeding the file limit.")
    assert isinstance(error, errors.QueryRejectedError)
    assert error.is_cut


def test_what_is_wrong_with_a_mapping_is_said_with_where_to_look() -> None:
    assert "docs/influxdb.md" in errors.write_error(404, "no dbrp mapping found").reason


def test_a_rejection_names_the_lines_that_are_not_line_protocol() -> None:
    error = BatchRejectedError(
        "partial write: unable to parse 'a': missing fields\n"
        "unable to parse 'm,t='v': x f=': invalid number dropped=0"
    )
    assert error.unparsed_lines() == {"a", "m,t='v': x f="}
