"""Logging in and out, and the page of one's own account; what changes something is a form."""

import re
from typing import Any

from fastapi import APIRouter, Request, Response
from starlette.concurrency import run_in_threadpool

from squash_api.accounts.accounts import Account
from squash_api.accounts.sessions import new_owner
from squash_api.errors import (
    BusyError,
    ForbiddenError,
    InvalidInputError,
    SquashError,
    UnauthorizedError,
)
from squash_api.pages.rendering import render
from squash_api.routes.dependencies import read_form, require_own_page
from squash_api.routes.door import (
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

router = APIRouter(include_in_schema=False)

_OWNER = re.compile("[0-9a-f]{32}")
_DONE = {"password": "The password is changed. All other sessions and all tokens have ended."}
# What people can mend by sending the form again.
_MENDABLE = (BusyError, ForbiddenError, InvalidInputError, UnauthorizedError)


def login_page(request: Request) -> Response:
    """Make the page to log in on; who is logged in goes on to where they wanted to."""
    back = safe_address(read_parameters(request, ("next",))["next"])
    if session_of(request) is not None:
        return _go(request, back)
    return _login_form(request, back=back)


@router.post("/login")
async def post_login(request: Request) -> Response:
    """Begin a session with a name and a password."""
    site: Site = request.app.state.site
    form = await read_form(request)
    name, back = form.get("username", ""), safe_address(form.get("next"))
    try:
        owner = request.cookies.get(form_cookie(site.settings), "")
        require_own_page(request, site, owner, form.get("token"))
        account = await site.accounts.check_password(name, form.get("password", ""))
        if account.key is not None:
            # A session may do what the key must not.
            raise ForbiddenError("A key is for programs: log in with your password.")
    except _MENDABLE as error:
        if isinstance(error, UnauthorizedError):
            request.scope[USER] = error.user
        return await run_in_threadpool(_login_form, request, back=back, name=name, error=error)
    request.scope[USER] = account.name
    reply = _go(request, back)
    _keep_session(reply, site, account)
    reply.delete_cookie(form_cookie(site.settings), **cookie_options(site.settings))
    return reply


def logout_page(request: Request) -> Response:
    """Lead to the page that has the button: an address alone changes nothing."""
    return _go(request, "/account")


@router.post("/logout")
async def post_logout(request: Request) -> Response:
    """End the session, wherever its cookie is kept."""
    site: Site = request.app.state.site
    form = await read_form(request)
    session = session_of(request)
    if session is not None:
        require_own_page(request, site, session.session_id, form.get("token"))
        await run_in_threadpool(site.sessions.end, session)
    reply = _go(request, "/" if site.settings.read == "open" else "/login")
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
    form = await read_form(request)
    session = session_of(request)
    if session is None:
        return to_login(request)
    try:
        require_own_page(request, site, session.session_id, form.get("token"))
        if form.get("new") != form.get("again"):
            raise InvalidInputError("The new passwords differ.")
        account = await site.accounts.change_password(
            session.account, present=form.get("password", ""), new=form.get("new", "")
        )
    except _MENDABLE as error:
        return await run_in_threadpool(_account_form, request, session.account, error=error)
    reply = _go(request, "/account?done=password")
    _keep_session(reply, site, account)
    return reply


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
    request: Request, account: Account, *, error: SquashError | None = None, done: str = ""
) -> Response:
    return _form(request, "account.html", error, account=account, done=done)


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


def _go(request: Request, address: str) -> Response:
    """Send a browser to an address of this service; it asks for it by GET."""
    site: Site = request.app.state.site
    return Response(status_code=303, headers={"Location": f"{site.settings.url_path}{address}"})
