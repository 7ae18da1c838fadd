"""Logging in and out, the page of one's own account, and for admins users and the audit trail.

Whatever changes something is a form with the token of its session.
"""

import re
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import replace
from typing import Any
from urllib.parse import quote

from fastapi import APIRouter, Request, Response
from starlette.concurrency import run_in_threadpool

from squash_api.accounts.accounts import Account
from squash_api.accounts.key_ring import state_of
from squash_api.accounts.keys import SCOPES
from squash_api.accounts.sessions import new_owner
from squash_api.delivery.subscriptions import webhook_object
from squash_api.errors import (
    BusyError,
    ForbiddenError,
    InvalidInputError,
    LastAdminError,
    NotFoundError,
    OnlyReadsError,
    SquashError,
    UnauthorizedError,
)
from squash_api.pages.rendering import render
from squash_api.record.audit import ACTIONS
from squash_api.routes.audit import noted
from squash_api.routes.dependencies import (
    Page,
    address_of,
    login_address,
    read_form,
    require_own_page,
)
from squash_api.routes.door import (
    LOGIN,
    cookie_options,
    form_cookie,
    safe_address,
    session_cookie,
    session_of,
    to_login,
)
from squash_api.routes.parameters import read_parameters
from squash_api.routes.replies import USER
from squash_api.site import Site
from squash_api.trends.question import parse_moment

router = APIRouter(include_in_schema=False)

_OWNER = re.compile("[0-9a-f]{32}")
_DONE = {
    "password": "The password is changed. All other sessions and all tokens have ended.",
    "revoked": "The key is revoked.",
}
_CHANGES: Mapping[str, tuple[str | None, bool | None]] = {
    "admin": ("admin", None),
    "user": ("user", None),
    "disable": (None, True),
    "enable": (None, False),
}
"""What the page of users can do, as a role and whether the user is disabled."""

_MOST = 100
# More than a user can have that are good.
_MOST_KEYS = 1000
# What people can mend by sending the form again.
_MENDABLE = (BusyError, ForbiddenError, InvalidInputError, UnauthorizedError)


def login_page(request: Request) -> Response:
    """Make the page to log in on; who is logged in goes on to where they wanted to."""
    back = safe_address(read_parameters(request, ("next",))["next"])
    if session_of(request) is not None:
        return go(request, back)
    return _login_form(request, back=back)


@router.post("/login")
async def post_login(request: Request) -> Response:
    """Begin a session with a name and a password."""
    site: Site = request.app.state.site
    form = await read_form(request)
    name, back = form.get("username", ""), safe_address(form.get("next"))
    try:
        owner = request.cookies.get(form_cookie(site.settings), "")
        if not owner:
            # For instance at the http address of a service whose cookies need https.
            raise ForbiddenError(
                "Your browser sent no cookie with this form: allow cookies, and log in at "
                f"{site.settings.url}{LOGIN}."
            )
        require_own_page(request, site, owner, form.get("token"))
        account = await site.accounts.check_password(
            name, form.get("password", ""), address=login_address(request, site)
        )
        if account.key is not None:
            # A session may do what the key must not.
            raise ForbiddenError("A key is for programs: log in with your password.")
    except _MENDABLE as error:
        if isinstance(error, UnauthorizedError):
            request.scope[USER] = error.user
        return await run_in_threadpool(_login_form, request, back=back, name=name, error=error)
    request.scope[USER] = account.name
    reply = go(request, back)
    _keep_session(reply, site, account)
    reply.delete_cookie(form_cookie(site.settings), **cookie_options(site.settings))
    return reply


def logout_page(request: Request) -> Response:
    """Lead to the page that has the button: an address alone changes nothing."""
    return go(request, "/account")


@router.post("/logout")
async def post_logout(request: Request) -> Response:
    """End the session, wherever its cookie is kept."""
    site: Site = request.app.state.site
    form = await read_form(request)
    session = session_of(request)
    if session is not None:
        require_own_page(request, site, session.session_id, form.get("token"))
        # Where it cannot be ended for good, this browser forgets it.
        with suppress(OnlyReadsError):
            await run_in_threadpool(site.sessions.end, session)
    reply = go(request, "/" if site.settings.read == "open" else "/login")
    reply.delete_cookie(session_cookie(site.settings), **cookie_options(site.settings))
    return reply


def account_page(request: Request) -> Response:
    """Make the page of the account of who is logged in."""
    done = read_parameters(request, ("done",), choices={"done": tuple(_DONE)})["done"]
    session = session_of(request)
    if session is None:
        return to_login(request)
    return _account_form(request, session.account, done=_DONE.get(done or "", ""))


@router.post("/account/password")
async def post_password(request: Request) -> Response:
    """Change one's own password. This session goes on as a new one; all others end."""
    site: Site = request.app.state.site
    account, form = await sent(request)
    try:
        if form.get("new") != form.get("again"):
            raise InvalidInputError("The new passwords differ.")
        account = await site.accounts.change_password(
            account, present=form.get("password", ""), new=form.get("new", "")
        )
    except _MENDABLE as error:
        return await run_in_threadpool(_account_form, request, account, error=error)
    reply = go(request, "/account?done=password")
    _keep_session(reply, site, account)
    return reply


@router.post("/account/keys")
async def post_key(request: Request) -> Response:
    """Make a key for oneself, and show it this once."""
    account, form = await sent(request)
    return await run_in_threadpool(_make_key, request, account, form)


def _make_key(request: Request, account: Account, form: dict[str, str]) -> Response:
    site: Site = request.app.state.site
    packages = form.get("namespaces", "").replace(",", " ").split()
    try:
        _, text = site.keys.create(
            account.name,
            form.get("name", ""),
            scopes=[scope for scope in SCOPES if scope in form],
            namespaces=packages or None,
            expires_ns=_end_of(form.get("expires", "")),
            by=account,
        )
    except _MENDABLE as error:
        return _account_form(request, account, error=error, made=form)
    return _account_form(request, account, text=text)


@router.post("/account/keys/revoke")
async def post_revoke(request: Request) -> Response:
    """Revoke a key of one's own."""
    site: Site = request.app.state.site
    account, form = await sent(request)
    await run_in_threadpool(site.keys.revoke, form.get("key", ""), by=account)
    return go(request, "/account?done=revoked")


def users_page(request: Request) -> Response:
    """Make the page of all users, for admins."""
    after = read_parameters(request, ("after",))["after"]
    session = session_of(request)
    return to_login(request) if session is None else _users_form(request, session.account, after)


@router.post("/users")
async def post_users(request: Request) -> Response:
    """Change the role of a user, disable the user, or enable the user again."""
    account, form = await sent(request)
    return await run_in_threadpool(_change_user, request, account, form)


def _change_user(request: Request, account: Account, form: dict[str, str]) -> Response:
    site: Site = request.app.state.site
    _require_admin(account)
    change = _CHANGES.get(form.get("change", ""))
    if change is None:
        raise InvalidInputError("This form has no such change.")
    role, is_disabled = change
    try:
        site.accounts.change(
            form.get("user", ""), role=role, is_disabled=is_disabled, by=account.actor
        )
    except (LastAdminError, NotFoundError) as error:
        return _users_form(request, account, form.get("after"), error=error)
    after = form.get("after")
    return go(request, f"/users?after={quote(after, safe='')}" if after else "/users")


def audit_page(request: Request) -> Response:
    """Make the page of the audit trail, for admins."""
    asked = read_parameters(request, ("user", "action", "since", "until", "after"))
    session = session_of(request)
    if session is None:
        return to_login(request)
    _require_admin(session.account)
    after = asked.pop("after")
    site: Site = request.app.state.site
    found = noted(site, Page(_MOST, after), **asked)
    following = str(found[_MOST - 1].entry_id) if len(found) > _MOST else None
    return render(
        request,
        "audit.html",
        found=found[:_MOST],
        asked=asked,
        actions=ACTIONS,
        following=following,
    )


async def sent(request: Request) -> tuple[Account, dict[str, str]]:
    """Return who has sent a form of their own page, and the form.

    Raises
    ------
    UnauthorizedError
        If their session has ended.
    ForbiddenError
        If it is not from their page.
    """
    site: Site = request.app.state.site
    form = await read_form(request)
    session = session_of(request)
    if session is None:
        raise UnauthorizedError("Your session has ended: log in again.", error="Invalid token")
    require_own_page(request, site, session.session_id, form.get("token"))
    return replace(session.account, address=address_of(request)), form


def _require_admin(account: Account) -> None:
    if not account.is_admin:
        raise ForbiddenError("Only admins may see this.")


def _end_of(day: str) -> int | None:
    """Read the last moment of the day on which a key expires."""
    if not day.strip():
        return None
    moment = parse_moment(day, now_ns=time.time_ns(), is_end=True)
    if moment is None:
        raise InvalidInputError("The expiry must be a date, such as 2027-01-31.")
    return moment


def _keep_session(reply: Response, site: Site, account: Account) -> None:
    reply.set_cookie(
        session_cookie(site.settings),
        site.sessions.begin(account),
        max_age=site.sessions.seconds,
        **cookie_options(site.settings),
    )


def _login_form(
    request: Request, *, back: str, name: str = "", error: SquashError | None = None
) -> Response:
    site: Site = request.app.state.site
    owner = request.cookies.get(form_cookie(site.settings), "")
    is_new = _OWNER.fullmatch(owner) is None
    if is_new:
        owner = new_owner()
    reply = _form(
        request,
        "login.html",
        error,
        back=back,
        name=name,
        hours=site.settings.session_hours,
        entry_token=site.sessions.form_token(owner),
    )
    if is_new:
        reply.set_cookie(form_cookie(site.settings), owner, **cookie_options(site.settings))
    return reply


def _account_form(
    request: Request,
    account: Account,
    *,
    error: SquashError | None = None,
    done: str = "",
    text: str = "",
    made: Mapping[str, str] | None = None,
) -> Response:
    """Make the page of an account; `text` is a new key, `made` the form of one to be made."""
    site: Site = request.app.state.site
    now_ns = time.time_ns()
    keys = site.keys.list(user_id=account.user_id, limit=_MOST_KEYS)
    states_of = {key.public_id: state_of(key, now_ns=now_ns) for key in keys}
    hooks = site.subscriptions.list(by=account) if account.is_admin else ()
    webhooks = [webhook_object(hook) for hook in hooks]
    return _form(
        request,
        "account.html",
        error,
        account=account,
        done=done,
        text=text,
        # Those that are good first, the newest first.
        keys=sorted(keys, key=lambda key: (states_of[key.public_id] != "valid", -key.key_id)),
        states_of=states_of,
        webhooks=webhooks,
        # Nobody else may have one with it.
        scopes={name: SCOPES[name] for name in SCOPES if name != "admin" or account.is_admin},
        is_making=made is not None,
        made=dict.fromkeys(("name", "namespaces", "expires", *SCOPES), "") | dict(made or {}),
    )


def _users_form(
    request: Request, account: Account, after: str | None, *, error: SquashError | None = None
) -> Response:
    site: Site = request.app.state.site
    _require_admin(account)
    found = site.accounts.list(after=after or "", limit=_MOST + 1)
    return _form(
        request,
        "users.html",
        error,
        account=account,
        found=found[:_MOST],
        after=after or "",
        following=found[_MOST - 1].name if len(found) > _MOST else None,
    )


def _form(request: Request, template: str, error: SquashError | None, **values: Any) -> Response:
    """Make a page with a form, and what was wrong with it when it was sent."""
    status_code = 200 if error is None else error.status_code
    problem = _words(error) if error else ""
    reply = render(request, template, status_code=status_code, problem=problem, **values)
    if isinstance(error, BusyError):
        reply.headers["Retry-After"] = str(error.retry_after_s)
    return reply


def _words(error: SquashError) -> str:
    return (
        "The user name or the password is wrong."
        if isinstance(error, UnauthorizedError)
        else error.message
    )


def go(request: Request, address: str) -> Response:
    """Send a browser to an address of this service; it asks for it by GET."""
    site: Site = request.app.state.site
    return Response(status_code=303, headers={"Location": f"{site.settings.url_path}{address}"})
