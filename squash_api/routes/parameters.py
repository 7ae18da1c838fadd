"""The parameters of a URL: one that a route or a page does not have is refused, with the nearest.

So a typo never returns everything, and never loses a wish in silence (`?stict=true`).
"""

from collections.abc import Callable, Collection, Coroutine, Iterable, Iterator, Mapping
from typing import Any, get_args, get_origin

from fastapi import Request, Response, params
from fastapi.dependencies.utils import get_flat_params
from fastapi.routing import APIRoute
from starlette.datastructures import QueryParams

from squash_api.errors import Detail, Hints, InvalidInputError, sentence
from squash_api.routes.replies import errors_of

_BOOLEANS = dict.fromkeys(("true", "1", "yes", "on", ""), True) | dict.fromkeys(
    ("false", "0", "no", "off"), False
)
_MOST_LETTERS = 1000
_SHOWN_LETTERS = 100


class KnownParametersRoute(APIRoute):
    """A route that refuses parameters other than those of its signature.

    One that describes parameters in `openapi_extra` reads and checks them itself.
    """

    def __init__(self, path: str, endpoint: Callable[..., Any], **options: Any) -> None:
        responses = {**errors_of(422), **(options.get("responses") or {})}
        options["responses"] = dict(sorted(responses.items(), key=str))
        super().__init__(path, endpoint, **options)

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        """Return the function that answers a request."""
        answer = super().get_route_handler()
        if "parameters" in (self.openapi_extra or {}):
            return answer
        fields = get_flat_params(self.dependant)
        query = [item for item in fields if isinstance(item.field_info, params.Query)]
        known = [item.alias for item in query]
        lists = [item.alias for item in query if list in _origins(item.field_info.annotation)]

        async def answer_known(request: Request) -> Response:
            if request.scope["query_string"]:
                refuse_unknown(request.query_params, known, lists=lists)
            return await answer(request)

        return answer_known


def _origins(annotation: Any) -> set[Any]:
    return {get_origin(item) for item in (annotation, *get_args(annotation))}


def refuse_unknown(
    given: QueryParams, known: Collection[str], *, lists: Collection[str] = ()
) -> None:
    """Refuse parameters that are not known, have NUL in them, or are given twice but no `lists`.

    Raises
    ------
    InvalidInputError
        With each of them in `detail`.
    """
    raise_problems(_unknown(given, known, lists))


def read_flag(request: Request, name: str) -> bool:
    """Read the flag that is the only parameter of a URL; it is false if it is missing.

    Raises
    ------
    InvalidInputError
        If it is neither true nor false, or there is another parameter.
    """
    refuse_unknown(request.query_params, [name])
    text = request.query_params.get(name, "false").lower()
    if text not in _BOOLEANS:
        raise InvalidInputError(
            f"query.{name}: must be true or false.",
            detail=[Detail(("query", name), "must be true or false", "bool_parsing")],
        )
    return _BOOLEANS[text]


def read_parameters(
    request: Request,
    known: Collection[str],
    *,
    choices: Mapping[str, Collection[str]] | None = None,
    lists: Collection[str] = (),
) -> dict[str, str | None]:
    """Read the parameters of a page: stripped, and None where they are missing or empty.

    `choices` are the values that some of them may have, and `lists` those that may be repeated, of
    which the first is returned.

    Raises
    ------
    InvalidInputError
        If there is an unknown one, or a value that is not one of the choices or is too long.
    """
    given = request.query_params
    found = {name: given.get(name, "").strip() or None for name in known}
    # `format` overrides the header, see `PageRoute`.
    raise_problems([*_unknown(given, (*known, "format"), lists), *_wrong(found, choices or {})])
    return found


def read_number(given: Mapping[str, str | None], name: str, *, default: int, most: int = 0) -> int:
    """Read a parameter of a page that is a whole number from 1, up to `most` unless that is 0.

    Raises
    ------
    InvalidInputError
        If it is none.
    """
    text = given[name]
    if text is None:
        return default
    number = int(text) if text.isascii() and text.isdigit() else 0
    if not 1 <= number <= (most or number):
        must = f"`{name}` must be a whole number from 1{f' to {most}' if most else ' on'}"
        raise_problems([Detail(("query", name), must, "int_parsing")])
    return number


def raise_problems(problems: Iterable[Detail]) -> None:
    """Raise an error with these problems, if there are any."""
    detail = list(problems)
    if detail:
        message = "; ".join(item.msg for item in detail[:3])
        raise InvalidInputError(sentence(message[:1].upper() + message[1:]), detail=detail)


def _unknown(
    given: QueryParams, known: Collection[str], lists: Collection[str] = ()
) -> Iterator[Detail]:
    hints = Hints()
    for name in given:
        shown = name[:_SHOWN_LETTERS]
        # Programs get JSON anyhow; it overrides the header where there is a page too.
        if (name, given[name]) in {("format", "json"), ("", "")}:
            continue
        if name not in known:
            hint = hints.of(name, known) or _all_of(known)
            yield Detail(("query", name), f"there is no parameter `{shown}` here{hint}", "unknown")
        elif len(given.getlist(name)) > 1 and name not in lists:
            yield Detail(("query", name), f"`{shown}` can be given only once", "repeated")
        elif any("\0" in text for text in given.getlist(name)):
            # PostgreSQL takes no such text.
            yield Detail(("query", name), f"`{shown}` must not contain NUL", "value_error")


def _wrong(
    found: Mapping[str, str | None], choices: Mapping[str, Collection[str]]
) -> Iterator[Detail]:
    for name, text in found.items():
        if text is None:
            continue
        if name in choices and text not in choices[name]:
            listed = ", ".join(choices[name])
            yield Detail(("query", name), f"`{name}` must be one of {listed}", "literal_error")
        elif len(text) > _MOST_LETTERS:
            yield Detail(
                ("query", name),
                f"`{name}` is longer than {_MOST_LETTERS} characters",
                "string_too_long",
            )


def _all_of(known: Collection[str]) -> str:
    if not known:
        return ": this URL has none"
    return f"; there are {', '.join(f'`{name}`' for name in sorted(known))}"
