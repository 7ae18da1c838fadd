"""The software that the made-up runs are made with: packages whose commits change over the days.

Pure: the same random numbers give the same days.
"""

from collections.abc import Iterator
from datetime import date
from random import Random

_NAMES = (
    "afw",
    "astro_metadata_translator",
    "daf_butler",
    "ip_isr",
    "jointcal",
    "meas_algorithms",
    "meas_astrom",
    "meas_base",
    "meas_deblender",
    "obs_cfht",
    "pipe_tasks",
    "utils",
    "validate_drp",
)
# Most nights bring little, some a lot.
_CHANGES_A_DAY = (0, 0, 1, 1, 1, 2, 2, 3, 5)

CULPRIT = "meas_base"
"""The package that brings the regression, and whose next change ends it."""


def version_tag(day: date) -> str:
    """Return the name of the day's build, as the LSST stack names its daily builds."""
    return f"d_{day:%Y_%m_%d}"


def daily_packages(
    random: Random, *, dates: list[date], culprit_changes: set[int]
) -> Iterator[dict[str, dict[str, str]]]:
    """Yield the packages of each day, by name, as a job's metadata holds them.

    Parameters
    ----------
    random
        Where commits and changes come from.
    dates
        The days, in order.
    culprit_changes
        Indices of the days on which `CULPRIT` changes; on no other day does it.
    """
    commits = {name: _commit(random) for name in _NAMES}
    versions = {name: version_tag(dates[0]) for name in _NAMES}
    others = [name for name in _NAMES if name != CULPRIT]
    for index, day in enumerate(dates):
        changed = random.sample(others, random.choice(_CHANGES_A_DAY))
        if index in culprit_changes:
            changed.append(CULPRIT)
        for name in changed:
            commits[name] = _commit(random)
            versions[name] = version_tag(day)
        yield {
            name: {
                "name": name,
                "git_url": f"https://example.org/lsst/{name}.git",
                "git_sha": commits[name],
                "git_branch": "main",
                "eups_version": versions[name],
            }
            for name in _NAMES
        }


def _commit(random: Random) -> str:
    return f"{random.getrandbits(160):040x}"
