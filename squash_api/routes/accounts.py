"""Users: registering, logging in, listing and disabling."""

from typing import Any

from fastapi import APIRouter, Request, Response

from squash_api.accounts.credentials import ROLES
from squash_api.errors import ForbiddenError, UnauthorizedError
from squash_api.routes.dependencies import (
    AccountDep,
    JsonObjectDep,
    PageDep,
    SiteDep,
    body_of,
    json_object,
    login_address,
    missing_key,
    object_schema,
    paged_reply,
    required,
    wrong_value,
)
from squash_api.routes.parameters import KnownParametersRoute
from squash_api.routes.replies import errors_of, json_reply
from squash_api.site import Site

router = APIRouter(tags=["accounts"], route_class=KnownParametersRoute)

_LOGIN = {"username": {"type": "string"}, "password": {"type": "string"}}


@router.post(
    "/register",
    status_code=201,
    responses=errors_of(400, 403, 413, 415, 422, 429),
    openapi_extra=body_of(
        object_schema(
            {**_LOGIN, "key": {"type": "string", "description": "If registration needs one."}},
            *_LOGIN,
        ),
        {"username": "grace", "password": "a long password"},
    ),
)
async def post_register(request: Request, site: SiteDep, document: JsonObjectDep) -> Response:
    """Register a user, if `SQUASH_REGISTRATION` allows it.

    `username` and `password` are required, and so is `key` if registration needs one.
    """
    name, password = (_text(document, key) for key in ("username", "password"))
    key = _text(document, "key") if document.get("key") is not None else None
    account = await site.accounts.register(
        name, password, key=key, address=login_address(request, site)
    )
    return json_reply({"message": f"User `{account.name}` created."}, status_code=201)


@router.post(
    "/auth",
    responses=errors_of(400, 401, 413, 415, 422, 429),
    openapi_extra=body_of(
        object_schema(_LOGIN, *_LOGIN), {"username": "grace", "password": "a long password"}
    ),
)
async def post_auth(request: Request) -> Response:
    """Exchange a name and password for a token, to send as `Authorization: JWT <access_token>`.

    An API key as the password is its own token: clients that know only passwords can use a key.
    """
    # The short way gives only the request.
    site: Site = request.app.state.site
    document = await json_object(request)
    for key in ("username", "password"):
        if key not in document:
            raise missing_key(key)
    name, password = document["username"], document["password"]
    if not isinstance(name, str) or not isinstance(password, str):
        # lsst.verify sends null for what it was not given.
        raise UnauthorizedError("Invalid credentials", error="Bad Request")
    account = await site.accounts.check_password(
        name, password, address=login_address(request, site)
    )
    token = site.accounts.issue_token(account) if account.key is None else password
    return json_reply({"access_token": token})


@router.get("/users", responses=errors_of(401, 422))
def get_users(request: Request, site: SiteDep, page: PageDep, _account: AccountDep) -> Response:
    """List the names of all users that are not disabled, sorted."""
    rows = site.accounts.list(after=page.after or "", limit=page.limit + 1, is_disabled=False)
    return paged_reply(request, page, "users", [row.name for row in rows])


@router.get("/user/{name}", responses=errors_of(401, 404))
def get_user(name: str, site: SiteDep, _account: AccountDep) -> Response:
    """Return a user that is not disabled."""
    return json_reply({"username": site.accounts.get(name).name})


@router.put(
    "/user/{name}",
    responses=errors_of(400, 401, 403, 404, 409, 413, 415, 422),
    openapi_extra=body_of(
        object_schema(
            {
                "role": {"type": "string", "enum": list(ROLES)},
                "disabled": {"type": "boolean"},
            }
        ),
        {"role": "admin"},
    ),
)
def put_user(name: str, site: SiteDep, account: AccountDep, document: JsonObjectDep) -> Response:
    """Change a user's `role`, or disable the user or enable the user again. For admins.

    What is missing from the body stays. The user's tokens end. Disabling revokes the user's keys;
    enabling does not bring them back. The last enabled admin stays one.
    """
    if not account.is_admin:
        raise ForbiddenError("Only admins may change users.")
    role, is_disabled = document.get("role"), document.get("disabled")
    if not (role is None or isinstance(role, str)):
        raise wrong_value("role", "must be text", "string_type")
    if not (is_disabled is None or isinstance(is_disabled, bool)):
        raise wrong_value("disabled", "must be true or false", "bool_type")
    if role is None and is_disabled is None:
        raise missing_key("role")
    user = site.accounts.change(name, role=role, is_disabled=is_disabled, by=account.actor)
    return json_reply({"username": user.name, "role": user.role, "disabled": user.is_disabled})


@router.delete("/user/{name}", responses=errors_of(401, 403, 404, 409))
def delete_user(name: str, site: SiteDep, account: AccountDep) -> Response:
    """Disable a user. Tokens and keys stop working, and nobody else can take the name.

    Only the user and admins may do this. The last enabled admin cannot be disabled.
    """
    # Names have several spellings in Unicode; ids have one.
    user = site.accounts.get(name)
    if account.user_id != user.user_id and not account.is_admin:
        raise ForbiddenError("Only the user and admins may do this.")
    site.accounts.disable(user.name, by=account.actor)
    return json_reply({"message": f"User `{user.name}` disabled."})


def _text(document: dict[str, Any], key: str) -> str:
    value = required(document, key)
    if not isinstance(value, str):
        raise wrong_value(key, "must be text", "string_type")
    return value
