import ast
from collections.abc import Iterator
from pathlib import Path

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
    names = ("SettingsError", "RecordUnavailableError", "NotAvailableError", "OverloadedError")
    is_ours = any(kind.__name__ in names for kind in error.__mro__)
    assert (error.status_code >= 500) == is_ours


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


# flask_jwt's own words are kept for the oldest clients.
SENTENCES = {
    error.__name__
    for error in ERRORS
    if error.__name__ not in {"SettingsError", "SquashError", "UnauthorizedError"}
}
CLAUSES = {
    *("Detail", "Fault", "Problem", "Skip", "SettingsError", "ValueError", "TypeError"),
    *("DemoError", "DocumentError", "FilesError", "ServerError", "SquashClientError"),
    *("UnitError", "UnreachableError", "fail", "report", "info", "warning", "error"),
}
"""What is called with a message that is shown after a place, or as a line of the log."""


def last_words(message: ast.expr) -> str | None:
    """Return the constant end of a message in the code; None if it ends in a variable."""
    if isinstance(message, ast.JoinedStr):
        end = message.values[-1]
        return end.value if isinstance(end, ast.Constant) and isinstance(end.value, str) else None
    if isinstance(message, ast.Constant) and isinstance(message.value, str):
        return message.value if " " in message.value else None
    return None


def messages() -> Iterator[tuple[str, str, ast.expr]]:
    """Yield every call in the code that may make a message: its place, name and arguments."""
    for path in sorted((Path(__file__).parent.parent / "squash_api").rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Call):
                name = getattr(node.func, "id", "") or getattr(node.func, "attr", "")
                for argument in node.args:
                    yield f"{path.name}:{node.lineno}", name, argument


def test_messages_of_the_api_end_with_a_full_stop_and_no_others_do() -> None:
    wrong = []
    for place, name, argument in messages():
        words = last_words(argument)
        if words and not words.endswith("?"):
            is_sentence = words.endswith(".")
            if (name in CLAUSES and is_sentence) or (name in SENTENCES and not is_sentence):
                wrong.append(f"{place}: {words}")
    assert wrong == []
