"""The page of a search: what was found, by kind."""

from fastapi import Request, Response

from squash_api.pages.rendering import render
from squash_api.routes.parameters import read_parameters
from squash_api.routes.runs import run_path
from squash_api.routes.search import KINDS, MOST, MOST_LETTERS, Found, search, snippet
from squash_api.site import Site

_FEW = 8


def search_page(request: Request) -> Response:
    """Make the page of a search; without words it explains what is searched."""
    site: Site = request.app.state.site
    asked = read_parameters(request, ("q", "kind", "limit"), choices={"kind": KINDS})
    words = (asked["q"] or "")[:MOST_LETTERS]
    kind = asked["kind"]
    limit = MOST if kind else _FEW
    kinds = (kind,) if kind else KINDS
    # One more than are shown, to know whether there are more.
    found = search(site, words, kinds=kinds, limit=limit + 1) if words else Found()
    return render(
        request,
        "search.html",
        here="/search",
        words=words,
        kind=kind,
        kinds=KINDS,
        found=found,
        limit=limit,
        total=sum(len(getattr(found, name)) for name in KINDS),
        snippet=snippet,
        run_path=run_path,
    )
