"""Which tests touch a record, by what their source names: they run on every engine.

A function touches a record if it names `record_url`, a function that does, or a fixture that does.
Those of `LATER` run on PostgreSQL only in `make soak`: each would tell there what others tell.
"""

import ast
from functools import cache
from pathlib import Path

ROOT = Path(__file__).parents[2]

# Who may come in, and how, is decided before the record is asked. What is shown and asked for is
# read by `index` and `record`, and accounts, keys, the trail and definitions are kept by packages
# whose own tests run on both, and so do those of the way from the network to InfluxDB that kill the
# service, delete, fill again or send hostile documents. Outlets ask the record what their own tests
# ask it on both.
LATER = (
    "tests/client",
    "tests/commands/test_backtest.py",
    "tests/commands/test_export.py",
    "tests/commands/test_keys.py",
    "tests/commands/test_quarantine.py",
    "tests/commands/test_replay.py",
    "tests/commands/test_report.py",
    "tests/commands/test_users.py",
    "tests/delivery/test_kapacitor_states.py",
    "tests/ingest/test_short_ways.py",
    "tests/integration/test_accounts.py",
    "tests/integration/test_added_measurements.py",
    "tests/integration/test_changed_tags.py",
    "tests/integration/test_dates.py",
    "tests/integration/test_deliver_command.py",
    "tests/integration/test_dispatch.py",
    "tests/integration/test_disputed_units.py",
    "tests/integration/test_every_page_of_any_job.py",
    "tests/integration/test_faults.py",
    "tests/integration/test_graceful_stop.py",
    "tests/integration/test_kapacitor_outlet.py",
    "tests/integration/test_many_names.py",
    "tests/integration/test_outage.py",
    "tests/integration/test_quarantine.py",
    "tests/integration/test_refill_is_live.py",
    "tests/integration/test_replay.py",
    "tests/integration/test_round_trip.py",
    "tests/integration/test_sasquatch_clients.py",
    "tests/integration/test_states.py",
    "tests/integration/test_two_services.py",
    "tests/integration/test_two_targets.py",
    "tests/integration/test_units.py",
    "tests/integration/test_uploads.py",
    "tests/integration/test_verdicts.py",
    "tests/integration/test_watch.py",
    "tests/pages",
    "tests/reports",
    "tests/routes/test_accounts.py",
    "tests/routes/test_audit.py",
    "tests/routes/test_bodies.py",
    "tests/routes/test_definitions.py",
    "tests/routes/test_dependencies.py",
    "tests/routes/test_door.py",
    "tests/routes/test_events.py",
    "tests/routes/test_guarding.py",
    "tests/routes/test_health.py",
    "tests/routes/test_keys.py",
    "tests/routes/test_names.py",
    "tests/routes/test_quarantine.py",
    "tests/routes/test_scopes.py",
    "tests/serving",
    "tests/test_any_document.py",
    "tests/test_app.py",
    "tests/test_cli.py",
    "tests/test_error_shape.py",
    "tests/test_secrets_in_logs.py",
    "tests/trends",
)
"""Folders and files."""

_ORIGIN = "record_url"
_FIXTURES = ROOT / "tests" / "conftest.py"


@cache
def touching(path: Path) -> frozenset[str]:
    """Return the functions and classes of a module that touch a record, by name."""
    tree = ast.parse(path.read_text())
    defined = {
        item.name: _names_in(item)
        for item in tree.body
        if isinstance(item, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef)
    }
    known = {_ORIGIN, *_imported(tree), *_fixtures_around(path)}
    for item in tree.body:
        # A constant that holds such functions, for tests to choose from.
        if isinstance(item, ast.Assign | ast.AnnAssign) and item.value is not None:
            targets = item.targets if isinstance(item, ast.Assign) else [item.target]
            names = _names_in(item.value)
            defined |= {each.id: names for each in targets if isinstance(each, ast.Name)}
    found = {_ORIGIN} & defined.keys()
    while more := {name for name, used in defined.items() if used & known} - found:
        found |= more
        known |= more
    return frozenset(found)


def is_later(path: Path) -> bool:
    """Tell whether the tests of a module run on PostgreSQL only in `make soak`."""
    place = path.relative_to(ROOT)
    return any(place.is_relative_to(each) for each in LATER)


@cache
def everything(path: Path) -> bool:
    """Tell whether every test of a module touches a record, by a fixture that all of them use."""
    tree = ast.parse(path.read_text())
    names = touching(path)
    return any(
        isinstance(item, ast.FunctionDef | ast.AsyncFunctionDef)
        and item.name in names
        and any("autouse=True" in ast.unparse(each) for each in item.decorator_list)
        for item in tree.body
    )


def _names_in(item: ast.AST) -> set[str]:
    return {
        each.id if isinstance(each, ast.Name) else each.arg
        for each in ast.walk(item)
        if isinstance(each, ast.Name | ast.arg)
    }


def _imported(tree: ast.Module) -> set[str]:
    """Return the names of what is imported from modules of tests, and touches a record."""
    found = set()
    for item in ast.walk(tree):
        if isinstance(item, ast.ImportFrom) and (item.module or "").startswith("tests."):
            path = ROOT.joinpath(*str(item.module).split(".")).with_suffix(".py")
            if not path.exists():
                # Modules of a package.
                continue
            names = touching(path)
            found |= {each.asname or each.name for each in item.names if each.name in names}
    return found


def _fixtures_around(path: Path) -> frozenset[str]:
    """Return the fixtures that touch a record, of the `conftest.py` files above a module."""
    if path == _FIXTURES or path.parent == ROOT / "tests" / "support":
        return frozenset()
    above = [folder / "conftest.py" for folder in path.parents if folder.is_relative_to(ROOT)]
    return frozenset().union(*(touching(each) for each in above if each != path and each.exists()))
