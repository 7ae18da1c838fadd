import re
from collections.abc import Iterator

import httpx
import pytest
from starlette.routing import Route

from squash_api.accounts.keys import SCOPES
from squash_api.app import ROUTES as LATER
from squash_api.app import create_app
from squash_api.pages.addresses import PAGES
from squash_api.routes.later import LaterPage
from squash_api.routes.scopes import PUBLIC, ROUTES, SCOPE_OF
from squash_api.settings import Settings
from squash_api.site import Site
from tests.support.builders import make_settings
from tests.support.calls import PASSWORD, Calls, log_in
from tests.support.in_process import serving

WAYS = ("Bearer {}", "JWT {}")


@pytest.fixture(scope="module", params=["open", "users"])
def settings(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Settings:
    return make_settings(tmp_path_factory.mktemp("service"), read=request.param)


@pytest.fixture(scope="module")
def client(settings: Settings) -> Iterator[httpx.Client]:
    with serving(create_app(settings)) as client:
        yield client


@pytest.fixture(scope="module")
def root(client: httpx.Client, settings: Settings) -> Calls:
    with Site(settings) as site:
        site.accounts.add("root", PASSWORD, role="admin")
    return log_in(client, "root")


def new_key(root: Calls, *scopes: str) -> str:
    reply = root("POST", "/keys", {"name": "-".join(scopes), "scopes": scopes})
    assert reply.status_code == 201, reply.text
    text: str = reply.json()["key"]
    return text


@pytest.fixture(scope="module")
def keys(root: Calls) -> dict[str, str]:
    """A key of an admin for each scope."""
    return {scope: new_key(root, scope) for scope in SCOPES}


def address(path: str) -> str:
    """Fill in the parameters of a path with what does not exist."""
    return re.sub(r"\{\w+(:text)?\}", "999", path)


def status(client: httpx.Client, route: str, header: str | None) -> tuple[int, str]:
    method, _, path = route.partition(" ")
    # Of events only the beginning: they do not end.
    method = "HEAD" if path == "/events" else method
    headers = {"Content-Type": "application/json"}
    if header is not None:
        headers["Authorization"] = header
    body = b"{}" if method in {"POST", "PUT"} else None
    reply = client.request(method, address(path), headers=headers, content=body)
    return reply.status_code, reply.text


def test_the_table_has_every_route_once() -> None:
    all_of_them = [route for later in LATER for route in later.router().routes]
    found = [route for route in all_of_them if isinstance(route, Route)]
    found += [Route(page.path, LaterPage(page.place), methods=["GET"]) for page in PAGES]
    routes = {
        f"{method} {route.path}"
        for route in found
        for method in route.methods or ()
        if method != "HEAD"
    }
    listed = [*(route for routes in ROUTES.values() for route in routes), *PUBLIC]
    assert sorted(routes) == sorted(set(listed)) == sorted(listed)


def demands_an_account(client: httpx.Client, route: str) -> bool:
    return status(client, route, None)[0] == 401


WRITING = sorted(
    route for route in SCOPE_OF if not route.startswith("GET") or SCOPE_OF[route] != "job:read"
)


@pytest.mark.parametrize("route", WRITING)
def test_a_route_that_changes_something_demands_an_account(
    client: httpx.Client, route: str
) -> None:
    assert demands_an_account(client, route)


@pytest.mark.parametrize("route", sorted(SCOPE_OF))
def test_a_key_needs_the_scope_of_the_route(
    client: httpx.Client, keys: dict[str, str], route: str
) -> None:
    if not demands_an_account(client, route):
        pytest.skip("everybody may read this")
    needed = SCOPE_OF[route]
    for scope, key in keys.items():
        for way in WAYS:
            code, text = status(client, route, way.format(key))
            if scope == needed:
                assert code not in {401, 403, 500}, (scope, text)
            else:
                assert code == 403, (scope, text)
                assert f"scope `{needed}`" in text or route == "GET /events"


@pytest.mark.parametrize("route", sorted(set(ROUTES["job:read"]) - {"GET /"}))
def test_where_only_users_read_every_read_needs_the_scope(
    client: httpx.Client, settings: Settings, route: str
) -> None:
    needs_it = settings.read == "users" or route.startswith("GET /user")
    assert demands_an_account(client, route) is needs_it


@pytest.mark.parametrize("route", PUBLIC)
def test_a_public_route_looks_at_no_key(
    client: httpx.Client, settings: Settings, route: str
) -> None:
    if settings.read == "users":
        pytest.skip("the door asks for one")
    anonymous, _ = status(client, route, None)
    assert status(client, route, "Bearer sq_nonsense")[0] == anonymous
    assert anonymous not in {401, 403}


@pytest.mark.parametrize(
    "route", sorted(route for route in {*SCOPE_OF, *PUBLIC} if route.startswith("GET"))
)
def test_with_a_key_one_may_all_that_nobody_at_all_may(
    client: httpx.Client, keys: dict[str, str], route: str
) -> None:
    anonymous, _ = status(client, route, None)
    if anonymous == 401:
        pytest.skip("nobody may")
    for scope, key in keys.items():
        assert status(client, route, f"Bearer {key}")[0] == anonymous, scope


@pytest.mark.parametrize("route", sorted(SCOPE_OF))
def test_the_openapi_document_names_the_scope(
    client: httpx.Client, settings: Settings, root: Calls, route: str
) -> None:
    document = root("GET", "/openapi.json").json()
    method, _, path = route.partition(" ")
    operations = document["paths"].get(path.replace(":text}", "}"))
    if operations is None or method.lower() not in operations:
        pytest.skip("it is not in the document")
    operation = operations[method.lower()]
    ways = [way for way in operation["security"] if way]
    of_browsers = {"session"} if method == "GET" else {"session", "form"}
    if route in {"POST /job", "POST /topics/{topic}"}:
        of_browsers.clear()
    assert {name: scopes for way in ways for name, scopes in way.items()} == {
        "token": [],
        "key": [SCOPE_OF[route]],
        "password": [],
        **{name: list[str]() for name in of_browsers},
    }
    if settings.read == "open":
        assert ({} not in operation["security"]) is demands_an_account(client, route)


def test_a_key_with_two_scopes_may_both(client: httpx.Client, root: Calls) -> None:
    key = f"Bearer {new_key(root, 'job:write', 'definitions:write')}"
    assert status(client, "POST /job", key)[0] == 202
    assert status(client, "POST /metrics", key)[0] == 400
    assert status(client, "GET /audit", key)[0] == 403
