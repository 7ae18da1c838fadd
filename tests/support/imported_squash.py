"""Imports all commands of `squash`, and makes what a service makes in advance.

Only the process that `tests/support/forked.py` forks imports it.
"""

import gc
from importlib import import_module

from squash_api.app import ROUTES
from squash_api.cli import COMMANDS
from squash_api.pages import addresses, plots
from squash_api.verify.units import astropy_units

for place, _ in COMMANDS.values():
    import_module(f"squash_api.{place.partition(':')[0]}")
for routes in ROUTES:
    routes.router()
for page in addresses.PAGES:
    import_module(f"squash_api.pages.{page.place.partition(':')[0]}")
plots.warm_up()
astropy_units()
# A process that searched these for cycles would get its own copy of all of them.
gc.collect()
gc.freeze()
