"""Imports all of `squash`, and makes what a service makes in advance.

Only the process that `tests/support/forked.py` forks imports it.
"""

import gc
import pkgutil
from contextlib import suppress
from importlib import import_module

import squash_api
from squash_api.pages import plots
from squash_api.verify.units import astropy_units

for module in pkgutil.walk_packages(squash_api.__path__, "squash_api."):
    if module.name != "squash_api.__main__" and "migrations" not in module.name:
        # A library that is not installed.
        with suppress(ImportError):
            import_module(module.name)
plots.warm_up()
astropy_units()
# A process that searched these for cycles would get its own copy of all of them.
gc.collect()
gc.freeze()
