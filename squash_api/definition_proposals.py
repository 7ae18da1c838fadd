"""What is proposed to be defined, as read from a request."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from squash_api.errors import Detail, InvalidInputError
from squash_api.record.definitions import DefinitionRow, Kind
from squash_api.schema import Schema
from squash_api.verify.metrics import Metric, metric_from_json
from squash_api.verify.specifications import Specification, specification_from_json


@dataclass(frozen=True, slots=True)
class Proposal:
    """A definition that somebody wants; `loc` is its place in the request."""

    content: Metric | Specification
    loc: tuple[str | int, ...] = ("body",)

    @property
    def kind(self) -> Kind:
        """What is defined."""
        return "metric" if isinstance(self.content, Metric) else "spec"

    @property
    def name(self) -> str:
        """The name that is defined."""
        return self.content.name

    def is_in(self, row: DefinitionRow) -> bool:
        """Tell whether the record says the very same."""
        return self.text == _text(row.document)

    @property
    def text(self) -> str:
        """The whole definition, the same for the same."""
        return _text(self.content.to_json())


def read_proposals(kind: Kind, documents: Sequence[Any], *, schema: Schema) -> list[Proposal]:
    """Read a list of definitions; one that is there twice counts once.

    Raises
    ------
    InvalidInputError
        With every problem of every item in its `detail`.
    """
    found: dict[str, Proposal] = {}
    details: list[Detail] = []
    for index, document in enumerate(documents):
        loc = ("body", f"{kind}s", index)
        try:
            proposal = read_proposal(kind, document, loc=loc, schema=schema)
        except InvalidInputError as error:
            details.extend(error.detail)
            continue
        first = found.setdefault(proposal.name, proposal)
        if first.text != proposal.text:
            message = f"item {first.loc[-1]} defines '{proposal.name}' differently"
            details.append(Detail((*loc, "name"), message))
    if details:
        raise invalid_proposals(details)
    return list(found.values())


def read_proposal(
    kind: Kind,
    document: Any,
    *,
    schema: Schema,
    loc: tuple[str | int, ...] = ("body",),
    name: str | None = None,
) -> Proposal:
    """Read one definition; `name` is the one in the address.

    Raises
    ------
    InvalidInputError
        With every problem in its `detail`, below `loc`.
    """
    read = metric_from_json if kind == "metric" else specification_from_json
    try:
        return Proposal(read(document, name=name, schema=schema), loc)
    except InvalidInputError as error:
        details = [Detail((*loc, *item.loc), item.msg, item.type) for item in error.detail]
        raise InvalidInputError(error.message, detail=details) from None


def invalid_proposals(details: Sequence[Detail]) -> InvalidInputError:
    """Return the error that names the first of these problems and holds them all."""
    first = details[0]
    place = ".".join(map(str, first.loc[1:]))
    more = f" (and {len(details) - 1} more)" if len(details) > 1 else ""
    return InvalidInputError(f"Nothing was stored: {place}: {first.msg}{more}", detail=details)


def _text(document: Any) -> str:
    # As text, since for Python 1 and true are the same.
    return json.dumps(document, sort_keys=True)
