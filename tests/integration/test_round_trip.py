"""What was dispatched is what every way of reading gives back, bit for bit."""

import csv
import io
import random
import struct
from collections.abc import Iterator
from math import isfinite
from pathlib import Path
from typing import Any

import astropy.units as u
import httpx
import pytest
from pyarrow.parquet import read_table

from squash_api.client import Job, Measurement, Squash
from tests.support.calls import PASSWORD, log_in
from tests.support.service import Service

_COUNT = 80
UNIT = "marcsec"


def _any_number(chance: random.Random) -> float:
    """Return a number of which every bit is by chance, but the sign of zero."""
    number: float = struct.unpack("<d", chance.randbytes(8))[0]
    return number if isfinite(number) and number != 0 else 0.0


def _bits(values: Any) -> list[bytes]:
    return [struct.pack("<d", float(value)) for value in values]


NUMBERS = [_any_number(random.Random(number)) for number in range(_COUNT)]
AIRMASSES = [_any_number(random.Random(-number - 1)) for number in range(_COUNT)]


@pytest.fixture(scope="module")
def url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A service to which the numbers were dispatched, one job each, in the order of time."""
    with Service(tmp_path_factory.mktemp("service")) as service:
        with httpx.Client(base_url=service.url, trust_env=False, timeout=60) as client:
            log_in(client, "ada")
        with Squash(service.url, "ada", PASSWORD) as squash:
            for index, (number, airmass) in enumerate(zip(NUMBERS, AIRMASSES, strict=True)):
                date = f"2026-01-01T00:{index // 60:02d}:{index % 60:02d}Z"
                meta = {"airmass": airmass, "env": {"date": date}}
                squash.send(Job([Measurement("p.m", number * u.Unit(UNIT))], meta=meta))
        yield service.url


def test_json_gives_every_bit_back(url: str) -> None:
    found: list[dict[str, Any]] = []
    address = f"{url}/measurements?metric=p.m&fields=meta.airmass&limit=37"
    while address:
        page = httpx.get(address, trust_env=False, timeout=60).json()
        found += page["measurements"]
        address = page["next"]
    assert _bits(item["value"] for item in found) == _bits(NUMBERS)
    assert _bits(item["fields"]["meta.airmass"] for item in found) == _bits(AIRMASSES)
    assert {item["unit"] for item in found} == {UNIT}


def test_csv_gives_every_bit_back(url: str) -> None:
    text = httpx.get(f"{url}/measurements?format=csv&fields=*", trust_env=False, timeout=60).text
    rows = list(csv.DictReader(io.StringIO(text, newline="")))
    assert _bits(row["value"] for row in rows) == _bits(NUMBERS)
    assert _bits(row["meta.airmass"] for row in rows) == _bits(AIRMASSES)


def test_parquet_gives_every_bit_back(url: str) -> None:
    content = httpx.get(
        f"{url}/measurements?format=parquet&fields=*", trust_env=False, timeout=60
    ).content
    table = read_table(io.BytesIO(content))
    assert _bits(table["value"].to_pylist()) == _bits(NUMBERS)
    assert _bits(table["meta.airmass"].to_pylist()) == _bits(AIRMASSES)


def test_the_table_of_the_client_gives_every_bit_back(url: str) -> None:
    with Squash(url) as squash:
        table = squash.measurements("p.m", fields="meta.airmass")
    assert str(table["value"].unit) == UNIT
    assert _bits(table["value"].value) == _bits(NUMBERS)
    assert _bits(table["meta.airmass"]) == _bits(AIRMASSES)


def test_the_jobs_themselves_give_the_same(url: str) -> None:
    for index in (0, 17, _COUNT - 1):
        job = httpx.get(f"{url}/job/{index + 1}", trust_env=False, timeout=60).json()
        assert _bits([job["measurements"][0]["value"]]) == _bits([NUMBERS[index]])


def test_the_command_gives_every_bit_back(url: str, tmp_path: Path) -> None:
    place = tmp_path / "all.csv"
    done = Service(tmp_path).run("export", "--url", url, "--output", str(place))
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    with place.open(newline="") as file:
        assert _bits(row["value"] for row in csv.DictReader(file)) == _bits(NUMBERS)
