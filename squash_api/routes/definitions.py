"""What the routes of metrics and of specifications have in common."""

from typing import Any

from pydantic import BaseModel, Field

from squash_api.definitions.changes import Change
from squash_api.errors import Detail, InvalidInputError, MissingFieldError


class Message(BaseModel):
    """A sentence for people."""

    message: str


class Changed(Message):
    """What a change of definitions has done."""

    requeued_jobs: int = Field(
        description="Jobs whose values are in another unit now; they are sent to InfluxDB again."
    )


class ChangedList(Changed):
    """What has become of a list of definitions."""

    stored: int
    unchanged: int = Field(description="Those that were there already, word for word.")


def body_of(schema: dict[str, Any]) -> dict[str, Any]:
    """Return what OpenAPI says of a body that has this schema."""
    return {"requestBody": {"required": True, "content": {"application/json": {"schema": schema}}}}


def same_again(model: type[BaseModel]) -> dict[int | str, dict[str, Any]]:
    """Return what OpenAPI says of the 200 for a definition that was there already."""
    return {200: {"description": "The same definition was there already.", "model": model}}


def list_of(document: dict[str, Any], key: str) -> list[Any]:
    """Return the list of definitions in a body.

    Raises
    ------
    MissingFieldError, InvalidInputError
        If there is none.
    """
    documents = _required(document, key)
    if not isinstance(documents, list):
        raise InvalidInputError(
            f"`{key}` must be a list.",
            detail=[Detail(("body", key), "must be a list", "list_type")],
        )
    return documents


def require_key(document: dict[str, Any], key: str) -> None:
    """Check that a body has a key.

    Raises
    ------
    MissingFieldError
        If it has not.
    """
    _required(document, key)


def changed_list(change: Change, *, noun: str) -> dict[str, Any]:
    """Return the reply to a posted list."""
    sentences = []
    if change.stored or not change.unchanged:
        sentences.append(f"{_count(len(change.stored), noun)} created.")
    if change.unchanged:
        counted = _count(change.unchanged, noun)
        sentences.append(f"{counted} existed already, with the same definition.")
    return {
        "message": " ".join([*sentences, *_consequences(change)]),
        "stored": len(change.stored),
        "unchanged": change.unchanged,
        "requeued_jobs": change.requeued_jobs,
    }


def changed_one(change: Change, *, name: str, verb: str) -> dict[str, Any]:
    """Return what the reply to a single definition says beside the definition."""
    done = f"`{name}` {verb}." if change.stored else f"`{name}` was defined like this already."
    return {
        "message": " ".join([done, *_consequences(change)]),
        "requeued_jobs": change.requeued_jobs,
    }


def _required(document: dict[str, Any], key: str) -> Any:
    if document.get(key) is None:
        raise MissingFieldError(
            f"The body needs `{key}`.", detail=[Detail(("body", key), "is missing", "missing")]
        )
    return document[key]


def _consequences(change: Change) -> list[str]:
    if not change.requeued_jobs:
        return []
    counted = _count(change.requeued_jobs, "job")
    return [f"Read again, and sent to InfluxDB again: {counted}.", *change.notes]


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}{'' if number == 1 else 's'}"
