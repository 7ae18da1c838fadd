"""What the demo found on this machine and used, and what it did without."""

import shutil
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from importlib.util import find_spec

EXTRAS: Mapping[str, tuple[Sequence[str], str]] = {
    "changepoints": (["ruptures"], "no change points in reports and plots"),
    "kafka": (["confluent_kafka", "fastavro"], "nothing can be sent to Kafka"),
    "notebooks": (["ipykernel", "nbclient", "nbconvert"], "no notebook can be run"),
    "parquet": (["pyarrow"], "no exports as Parquet"),
    "postgresql": (["psycopg"], "no record in PostgreSQL"),
}
"""What each extra installs, and what is missing without it."""

_TELLING = {
    "SQUASH_KAPACITOR_URL": "Kapacitor",
    "SQUASH_SLACK_URL": "Slack",
    "SQUASH_GITHUB_TOKEN": "GitHub",
    "SQUASH_KAFKA_BROKERS": "Kafka",
}
_OUTSIDE = {
    "kapacitord": ("Kapacitor", "alerts are on the page /alerts, and sent to nobody"),
    "chronograf": ("Chronograf", "its dashboards are in chronograf/"),
    "grafana": ("Grafana", "its dashboards are in grafana/"),
}


@dataclass(frozen=True, slots=True)
class Part:
    """Something that the demo could use: whether it does, and what that means, in words."""

    is_used: bool
    words: str


def look_around(
    *,
    influxdb: str | None,
    lacks: Sequence[str],
    variables: Mapping[str, str],
    path: str | None = None,
) -> Iterator[Part]:
    """Name what the demo used, and what it did without.

    Parameters
    ----------
    influxdb
        Which InfluxDB has the points; None if none has.
    lacks
        What that cannot do, as the service says it.
    variables
        The environment: settings that name real receivers are left alone.
    path
        Where programs are looked for, by default on PATH.
    """
    if influxdb is None:
        yield Part(is_used=False, words="InfluxDB: values are in the record and on the pages only")
    else:
        yield Part(is_used=True, words=influxdb)
    yield from (Part(is_used=False, words=f"{influxdb}: {lack}") for lack in lacks)
    yield Part(is_used=True, words="SQLite, for the record")
    for program, (name, meaning) in _OUTSIDE.items():
        there = shutil.which(program, path=path) is not None
        how = "is installed, and not started" if there else "is not installed"
        yield Part(is_used=False, words=f"{name}, which {how}: {meaning}")
    for variable, name in _TELLING.items():
        if variables.get(variable):
            words = f"{name} of {variable}: it is told nothing that is made up"
            yield Part(is_used=False, words=words)
    installed = []
    for extra, (modules, meaning) in EXTRAS.items():
        if all(find_spec(module) is not None for module in modules):
            installed.append(extra)
        else:
            how = f"pip install 'squash-api[{extra}]'"
            yield Part(is_used=False, words=f"the extra {extra}: {meaning} ({how})")
    if installed:
        yield Part(is_used=True, words=f"the extras {', '.join(installed)}")
