"""`squash specs withdraw`: definitions that came from YAML and are in no metrics package now."""

from collections import Counter
from typing import Annotated

import typer

from squash_api.commands.terminal import AsYes, confirm, fail, failing, operator
from squash_api.judging.wording import counted
from squash_api.settings import load_settings
from squash_api.site import Site


def withdraw(
    packages: Annotated[
        list[str] | None,
        typer.Argument(metavar="PACKAGE", help="Only these verification packages. Default: all."),
    ] = None,
    *,
    yes: AsYes = False,
) -> None:
    """Withdraw definitions that SQUASH_SPECS no longer has.

    They came from YAML at an earlier start. The service withdraws single ones by itself when it
    starts, but refuses to start if a whole package or all of its specifications are gone. Jobs
    and values stay.

    Exit code: 0 success, 1 a package is still in SQUASH_SPECS or unknown, 2 it cannot be done.
    """
    with failing(), Site(load_settings()) as site:
        found = site.definitions.orphans(site.settings.specs)
        counts = Counter(name.partition(".")[0] for _, name in found)
        for package in packages or ():
            if package not in counts:
                fail(f"SQUASH_SPECS lacks nothing of {package} that came from YAML", code=1)
        chosen = {package: counts[package] for package in packages or sorted(counts)}
        if not chosen:
            typer.echo("Nothing to withdraw: SQUASH_SPECS has all that came from YAML.")
            return
        listed = ", ".join(f"{count} of {package}" for package, count in chosen.items())
        confirm(
            f"Withdraw {counted(sum(chosen.values()), 'definition')} ({listed})?", is_agreed=yes
        )
        withdrawn = [item for item in found if item[1].partition(".")[0] in chosen]
        site.definitions.withdraw(withdrawn, by=operator("specs withdraw"))
    typer.echo(f"Withdrawn: {listed}.")
