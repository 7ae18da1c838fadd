"""Made-up history: a nightly run of `validate_drp` on images of CFHT in g, r and i.

Pure: the same days, time and seed give the same jobs, down to the identifiers of measurements.
Astrometry and shapes drift and follow the seasons. In the middle the photometry has a regression:
a change of one package brings it, and the next change of that package fixes it.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from datetime import time as time_of_day
from math import cos, tau
from random import Random

from squash_api.client import Job, Measurement
from squash_api.verify.units import astropy_units

PIPELINE = "validate_drp"
DATASET = "cfht_nightly"
TEMPERATURE = "camera.AvgCameraBodySurfaceTemp"
FILTERS = {"g": 1.07, "r": 1.0, "i": 0.96}
"""The filters, each with the factor on its values."""

CULPRIT = "meas_base"
"""The package whose change brings the regression, and whose next change fixes it."""

_PACKAGES = (
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


def version_tag(day: date) -> str:
    """Name the build of a day as the LSST stack names its daily builds."""
    return f"d_{day:%Y_%m_%d}"


def daily_packages(
    random: Random, *, dates: list[date], culprit_changes: set[int]
) -> Iterator[dict[str, dict[str, str]]]:
    """Yield the packages of each day, by name, as the metadata of a job holds them.

    `CULPRIT` changes only on the days whose indices are in `culprit_changes`.
    """
    commits = {name: _commit(random) for name in _PACKAGES}
    versions = {name: version_tag(dates[0]) for name in _PACKAGES}
    others = [name for name in _PACKAGES if name != CULPRIT]
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
            for name in _PACKAGES
        }


def _commit(random: Random) -> str:
    return f"{random.getrandbits(160):040x}"


_REGRESSION_FACTOR = 2.4
_FIRST_START = time_of_day(3, 10, tzinfo=UTC)
_BETWEEN_FILTERS = timedelta(minutes=25)
_WARMEST_DAY = 200
_MEAN_TEMPERATURE = 9.5
_TEMPERATURE_SWING = 4.0
_TEMPERATURE_STEP = 0.6
_MEMORY = 0.85


@dataclass(frozen=True, slots=True)
class _Group:
    """Metrics that move together; step of the walk and seasonal swing are fractions of a level."""

    step: float
    swing: float
    levels: Mapping[str, tuple[float, str]]


# Level and unit. The levels are near the limits of LPM-17, so that some values break them.
_PHOTOMETRY = _Group(
    step=0.03,
    swing=0.05,
    levels={
        "PA1": (4.3, "mmag"),
        "PA2_design_gri": (12.8, "mmag"),
        "PF1_design_gri": (8.2, "%"),
    },
)
_ASTROMETRY = _Group(
    step=0.05,
    swing=0.10,
    levels={
        "AM1": (8.3, "marcsec"),
        "AM2": (8.8, "marcsec"),
        "AD1_design": (16.9, "marcsec"),
        "AD2_design": (17.4, "marcsec"),
        "AF1_design": (8.1, "%"),
        "AF2_design": (8.6, "%"),
    },
)
_SHAPES = _Group(step=0.06, swing=0.08, levels={"TE1": (1.95e-5, ""), "TE2": (0.9e-7, "")})
_GROUPS = (_PHOTOMETRY, _ASTROMETRY, _SHAPES)
# As in real runs on images of CFHT, which are too small for pairs of stars so far apart.
_ABSENT = {"AM3": "marcsec"}


@dataclass(frozen=True, slots=True)
class History:
    """Jobs in the order in which they are sent.

    `days` holds the jobs of each day, one per filter, from the oldest day to yesterday. `fresh` is
    the job of today that is judged, in r; `spare` is one in another filter, to dispatch by hand.
    `regression` holds the indices of the days of the regression.
    """

    days: tuple[tuple[Job, ...], ...]
    fresh: Job
    spare: Job
    regression: range


def make_history(*, days: int, now: datetime, seed: int) -> History:
    """Make up the jobs of today, at `now`, and of the `days` before, one or more. Days are UTC."""
    today = now.astimezone(UTC).date()
    dates = [today - timedelta(days=days - index) for index in range(days + 1)]
    first = days // 2
    regression = range(first, first + max(1, days // 10))
    culprit_changes = {regression.start, regression.stop}
    random = _random(seed, "packages")
    packages = list(daily_packages(random, dates=dates, culprit_changes=culprit_changes))
    walks = {name: _Walks(seed, name, dates=dates, regression=regression) for name in FILTERS}

    def job(index: int, name: str, moment: datetime) -> Job:
        measurements = walks[name].measurements(index)
        return Job(measurements, meta=_meta(name, moment=moment, packages=packages[index]))

    past = tuple(
        tuple(job(index, name, moment) for name, moment in _moments(dates[index]).items())
        for index in range(days)
    )
    return History(past, job(days, "r", now), job(days, "i", now), regression)


def run_id_of(job: Job) -> str:
    """Look up the run of a job; the jobs of a day share it."""
    run_id: str = job.meta["env"]["run_id"]
    return run_id


class _Walks:
    """The values of one filter over the days."""

    def __init__(self, seed: int, name: str, *, dates: Sequence[date], regression: range) -> None:
        self._seed = seed
        self._name = name
        self._season = [_season(day) for day in dates]
        self._regression = regression
        count = len(dates)
        self._groups = [
            _walk(_random(seed, f"{name}/{index}"), count, step=group.step)
            for index, group in enumerate(_GROUPS)
        ]
        # All filters see the same air.
        self._temperature = _walk(_random(seed, "temperature"), count, step=_TEMPERATURE_STEP)

    def measurements(self, index: int) -> list[Measurement]:
        """Make the measurements of a day, by the index of the day."""
        quantity = astropy_units().Quantity
        random = _random(self._seed, f"{self._name}/day {index}")
        values = self._values(index, random)
        return [
            Measurement(name, quantity(value, unit), identifier=f"{random.getrandbits(128):032x}")
            for name, (value, unit) in values.items()
        ]

    def _values(self, index: int, random: Random) -> dict[str, tuple[float, str]]:
        season = self._season[index]
        values: dict[str, tuple[float, str]] = {}
        for group, walk in zip(_GROUPS, self._groups, strict=True):
            factor = FILTERS[self._name] * (1.0 + group.swing * season + walk[index])
            if group is _PHOTOMETRY and index in self._regression:
                factor *= _REGRESSION_FACTOR
            for metric, (level, unit) in group.levels.items():
                value = level * factor * (1.0 + random.gauss(0.0, 0.01))
                values[f"{PIPELINE}.{metric}"] = (value, unit)
        for metric, unit in _ABSENT.items():
            values[f"{PIPELINE}.{metric}"] = (float("nan"), unit)
        temperature = _MEAN_TEMPERATURE + _TEMPERATURE_SWING * season + self._temperature[index]
        values[TEMPERATURE] = (temperature + random.gauss(0.0, 0.1), "deg_C")
        return values


def _meta(name: str, *, moment: datetime, packages: dict[str, dict[str, str]]) -> dict[str, object]:
    """Make the metadata of a job; `env` is that of a data facility."""
    tag = version_tag(moment.astimezone(UTC).date())
    run_id = f"{DATASET}-{tag}"
    return {
        "instrument": "CFHT",
        "camera_name": "MegaCam",
        "filter_name": name,
        "pipeline": PIPELINE,
        "packages": packages,
        "env": {
            "env_name": "ldf",
            "dataset": DATASET,
            "dataset_repo_url": f"https://example.org/{DATASET}.git",
            "run_id": run_id,
            "run_id_url": f"https://example.org/runs/{run_id}",
            "version_tag": tag,
            "date": moment.isoformat(),
        },
    }


def _moments(day: date) -> dict[str, datetime]:
    start = datetime.combine(day, _FIRST_START)
    return {name: start + index * _BETWEEN_FILTERS for index, name in enumerate(FILTERS)}


def _season(day: date) -> float:
    """1 on the warmest day of the year, -1 half a year later."""
    return cos(tau * (day.timetuple().tm_yday - _WARMEST_DAY) / 365.25)


def _walk(random: Random, count: int, *, step: float) -> list[float]:
    """Make a random walk that is drawn back to 0, and so never goes far from it."""
    walk = [random.gauss(0.0, step)]
    for _ in range(count - 1):
        walk.append(_MEMORY * walk[-1] + random.gauss(0.0, step))
    return walk


def _random(seed: int, what: str) -> Random:
    """Make random numbers for one purpose, which do not depend on how many others have taken.

    With a text as the seed they are the same in every process and on every machine.
    """
    return Random(f"{seed}/{what}")
