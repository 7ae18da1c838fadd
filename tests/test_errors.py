from collections.abc import Iterator

import pytest

from squash_api.errors import BusyError, Detail, InvalidInputError, SquashError, UnauthorizedError


def all_errors(root: type[SquashError] = SquashError) -> Iterator[type[SquashError]]:
    yield root
    for child in root.__subclasses__():
        yield from all_errors(child)


ERRORS = sorted(
    {error for error in all_errors() if error.__module__ == "squash_api.errors"},
    key=lambda error: error.__name__,
)


def test_every_error_has_a_code_of_its_own() -> None:
    codes = [error.code for error in ERRORS]
    assert len(set(codes)) == len(codes)


@pytest.mark.parametrize("error", ERRORS)
def test_a_code_is_a_word_for_programs(error: type[SquashError]) -> None:
    assert error.code.replace("_", "").isalpha()
    assert error.code == error.code.lower()


@pytest.mark.parametrize("error", [item for item in ERRORS if item is not SquashError])
def test_an_error_of_the_input_is_not_reported_as_one_of_the_service(
    error: type[SquashError],
) -> None:
    ours = ("SettingsError", "RecordUnavailableError", "NotAvailableError")
    assert (error.status_code >= 500) == (error.__name__ in ours)


@pytest.mark.parametrize("error", ERRORS)
def test_every_error_says_when_it_is_raised(error: type[SquashError]) -> None:
    assert error.__doc__


def test_the_text_of_an_error_is_its_message() -> None:
    assert str(SquashError("A sentence.")) == SquashError("A sentence.").message == "A sentence."


def test_an_error_keeps_the_places_it_is_about() -> None:
    places = [Detail(("body", "measurements", 3, "metric"), "is missing", "missing")]
    assert InvalidInputError("No.", detail=places).detail == tuple(places)


def test_an_unauthorized_error_carries_the_word_of_flask_jwt() -> None:
    error = UnauthorizedError("Signature has expired", error="Invalid token")
    assert (error.message, error.error, error.challenge) == (
        "Signature has expired",
        "Invalid token",
        False,
    )


def test_a_busy_error_says_when_to_come_back() -> None:
    assert BusyError("Busy.", retry_after_s=3).retry_after_s == 3
