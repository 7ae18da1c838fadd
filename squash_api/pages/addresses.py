"""Which page is at which address. Programs get the JSON of the API there."""

from collections.abc import Awaitable, Callable
from typing import Any

Page = Callable[..., Any] | Callable[..., Awaitable[Any]]

PAGES: tuple[tuple[str, Page], ...] = ()
"""Addresses below the public root, and the functions that make the pages."""
