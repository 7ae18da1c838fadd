from pathlib import Path

import pytest
from starlette.routing import Route

from squash_api.app import ROUTES, create_app
from squash_api.pages.addresses import PAGES, Page
from squash_api.routes.later import LaterPage, LaterRoutes
from tests.support.builders import make_settings


@pytest.mark.parametrize("later", ROUTES, ids=lambda later: later.place)
def test_the_table_says_what_the_paths_of_its_routes_begin_with(later: LaterRoutes) -> None:
    routes = [route for route in later.router().routes if isinstance(route, Route)]
    assert {f"/{route.path.split('/')[1]}" for route in routes} == later.parts


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.path)
def test_every_page_is_where_the_table_says(page: Page) -> None:
    assert callable(LaterPage(f"pages.{page.place}").load())


def test_routes_keep_their_order_whichever_is_asked_for_first(tmp_path: Path) -> None:
    app = create_app(make_settings(tmp_path))
    expected = [route for later in ROUTES for route in later.router().routes]
    for later in reversed(ROUTES):
        later.put(app)
        later.put(app)
    assert app.router.routes[-len(expected) :] == expected
    app.state.site.close()
