import csv
import io
import json
import struct
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

import pytest
from pyarrow.parquet import read_table

from squash_api.errors import InvalidInputError, NotAvailableError
from squash_api.record.metrics import note_metrics
from squash_api.schema.cells import cell_meaning
from squash_api.schema.names import Schema
from squash_api.trends.formats.answer import answer_chunks, time_text
from squash_api.trends.formats.json import value_object
from squash_api.trends.parameters import FORMATS
from squash_api.trends.question import read_question
from squash_api.trends.series import Series
from tests.support.measured_jobs import MeasuredJobs

ROOT = Path(__file__).parent.parent.parent
HARD_NUMBERS = [0.1, 0.0, -5e-324, 1.7976931348623157e308, 1 / 3, 2.0**53 + 2, 1e22, 123456789.125]
HOSTILE = 'a "quoted", b; \u202eright to left\u202c <script>= =1+1'


def answer(jobs: MeasuredJobs, **parameters: str) -> bytes:
    question = read_question(parameters.items(), schema=Schema(), now_ns=10**18)
    series = Series(jobs.reader, question)
    return b"".join(answer_chunks(series, question, schema=Schema()))


def rows_of_csv(jobs: MeasuredJobs, **parameters: str) -> list[dict[str, str]]:
    text = answer(jobs, format="csv", **parameters).decode()
    return list(csv.DictReader(io.StringIO(text, newline="")))


def rows_of_parquet(jobs: MeasuredJobs, **parameters: str) -> list[dict[str, Any]]:
    table = read_table(io.BytesIO(answer(jobs, format="parquet", **parameters)))
    # As a list, times to the ns need pandas.
    found: list[dict[str, Any]] = table.drop_columns(["time"]).to_pylist()
    return found


def bits(values: list[float]) -> list[bytes]:
    return [struct.pack("<d", value) for value in values]


def test_every_bit_comes_back_from_every_format(jobs: MeasuredJobs) -> None:
    for number, value in enumerate(HARD_NUMBERS):
        jobs.add({"p.a": value}, time_ns=number, x=value)
    shown = json.loads(answer(jobs, points="100", fields="*"))["measurements"]
    assert bits([item["value"] for item in shown]) == bits(HARD_NUMBERS)
    assert bits([item["fields"]["meta.x"] for item in shown]) == bits(HARD_NUMBERS)
    rows = rows_of_csv(jobs, fields="meta.x")
    assert bits([float(row["value"]) for row in rows]) == bits(HARD_NUMBERS)
    assert bits([float(row["meta.x"]) for row in rows]) == bits(HARD_NUMBERS)
    table = rows_of_parquet(jobs, fields="meta.x")
    assert bits([row["value"] for row in table]) == bits(HARD_NUMBERS)
    assert bits([row["meta.x"] for row in table]) == bits(HARD_NUMBERS)


def test_a_negative_zero_comes_back_as_what_it_equals(jobs: MeasuredJobs) -> None:
    jobs.add({"p.a": -0.0})
    assert float(rows_of_csv(jobs)[0]["value"]) == 0.0


def test_times_come_back_to_the_nanosecond(jobs: MeasuredJobs) -> None:
    time_ns = 1_790_000_000_123_456_789
    jobs.add({"p.a": 1}, time_ns=time_ns)
    assert rows_of_csv(jobs)[0]["time"] == "2026-09-21T14:13:20.123456789Z"
    table = read_table(io.BytesIO(answer(jobs, format="parquet")))
    assert (table["time"].cast("int64").to_pylist(), str(table["time"].type)) == (
        [time_ns],
        "timestamp[ns, tz=UTC]",
    )
    assert time_text(7) == "1970-01-01T00:00:00.000000007Z"


def test_a_row_says_all_that_is_known_of_its_job(jobs: MeasuredJobs) -> None:
    env = {"ci_id": "904", "ci_url": "https://ci.example/904", "ci_name": "drp"}
    jobs.add({"q.a": 2.5}, filter="r", airmass=1.5, note="ok", version_tag="w_1", env=env)
    (row,) = rows_of_csv(jobs, fields="meta.note.text,meta.airmass,meta.nothing")
    expected = {
        "time": "1970-01-01T00:00:00.000001000Z",
        "job": "1",
        "metric": "q.a",
        "value": "2.5",
        "unit": "arcsec",
        "run_id": "904",
        "run_url": "https://ci.example/904",
        "version_tag": "w_1",
        **dict.fromkeys(Schema().tags, ""),
        "filter": "r",
        "pipeline": "drp",
        "meta.note.text": "ok",
        "meta.airmass": "1.5",
        "meta.nothing": "",
    }
    assert list(row.items()) == list(expected.items())
    (typed,) = rows_of_parquet(jobs, fields="meta.note.text,meta.airmass,meta.nothing")
    assert ["time", *typed] == list(expected)
    assert {name: str(value) for name, value in typed.items() if value is not None} == {
        name: text for name, text in expected.items() if text and name != "time"
    }


def test_hostile_text_comes_back_from_every_format(jobs: MeasuredJobs) -> None:
    jobs.add({"p.a": 1}, filter=HOSTILE, note=HOSTILE)
    kept = HOSTILE.replace(" ", "_")
    for row in (rows_of_csv(jobs, fields="*")[0], rows_of_parquet(jobs, fields="*")[0]):
        assert (row["filter"], row["meta.note.text"]) == (kept, kept)
    (shown,) = json.loads(answer(jobs, points="2", fields="*"))["measurements"]
    assert (shown["tags"]["filter"], shown["fields"]["meta.note.text"]) == (kept, kept)


FORMULAS = ["=cmd|'/C calc'!A0", "+1+1", "-2+3", "@SUM(1)", "'=1", '=1,"2"', "\uff1d1", "-5"]


def test_no_cell_of_csv_begins_a_formula_and_numbers_stay_numbers(jobs: MeasuredJobs) -> None:
    names = {f"{text}.a": None for text in FORMULAS}
    jobs.record.write(lambda connection: note_metrics(connection, names))
    for number, text in enumerate(FORMULAS):
        env = {"ci_id": text, "ci_url": text, "ci_name": text}
        jobs.add(
            {f"{text}.a": -1.5 - number},
            filter=text,
            instrument=text,
            note=text,
            version_tag=text,
            env=env,
        )
    rows = rows_of_csv(jobs, fields="*")
    assert [row["value"] for row in rows] == [repr(-1.5 - n) for n in range(len(FORMULAS))]
    for row, text in zip(rows, FORMULAS, strict=True):
        for cell in row.values():
            if cell[:1] in tuple("=+-@\t\r\n\uff1d"):
                float(cell)
        expected = text.replace(" ", "_")
        for name in ("filter", "pipeline", "run_id", "meta.note.text"):
            assert cell_meaning(row[name]) == expected, name
    assert rows[-1]["filter"] == "-5"


def test_a_metric_with_a_comma_and_a_quote_is_quoted(jobs: MeasuredJobs) -> None:
    name = 'p.a,"b"'
    jobs.record.write(lambda connection: note_metrics(connection, {name: None}))
    jobs.add({name: 1})
    assert rows_of_csv(jobs)[0]["metric"] == name


def test_absent_values_are_empty_or_null(jobs: MeasuredJobs) -> None:
    jobs.add({"p.a": None})
    assert rows_of_csv(jobs, absent="true")[0]["value"] == ""
    assert rows_of_parquet(jobs, absent="true")[0]["value"] is None


def test_the_unit_of_a_metric_without_one_is_empty_or_null(jobs: MeasuredJobs) -> None:
    jobs.record.write(lambda connection: note_metrics(connection, {"u.a": None}))
    jobs.add({"u.a": 1})
    assert rows_of_csv(jobs, metric="u.a")[0]["unit"] == ""
    assert rows_of_parquet(jobs, metric="u.a")[0]["unit"] is None


@pytest.mark.parametrize("format_", ["csv", "parquet"])
def test_an_empty_table_has_its_columns(jobs: MeasuredJobs, format_: str) -> None:
    found = answer(jobs, format=format_)
    if format_ == "csv":
        names = found.decode().strip().split(",")
    else:
        names = read_table(io.BytesIO(found)).column_names
    assert names[:5] == ["time", "job", "metric", "value", "unit"]


@pytest.mark.parametrize("format_", list(FORMATS))
def test_every_format_answers_even_without_values(jobs: MeasuredJobs, format_: str) -> None:
    assert answer(jobs, format=format_, points="5", fields="*")


def test_a_library_that_a_format_needs_can_be_installed_by_the_name_of_the_format() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    needed = {row.name: [row.needs] for row in FORMATS.values() if row.needs}
    assert needed == {name: project["optional-dependencies"][name] for name in needed}


def test_the_command_starts_without_the_modules_of_the_formats() -> None:
    modules = [row.writer.partition(":")[0] for row in FORMATS.values()]
    program = "import sys, squash_api.commands.export; print(*sys.modules)"
    run = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    assert not {*modules, "pyarrow", "numpy"} & set(run.stdout.split())


def test_an_empty_answer_in_json_is_an_empty_page(jobs: MeasuredJobs) -> None:
    assert json.loads(answer(jobs, points="5")) == {"measurements": [], "next": None}


def test_long_answers_come_in_pieces(jobs: MeasuredJobs, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("squash_api.trends.formats.csv._CHUNK_BYTES", 1)
    monkeypatch.setattr("squash_api.trends.formats.parquet._ROWS_OF_A_GROUP", 2)
    monkeypatch.setattr("squash_api.trends.series.MOST_JOBS", 2)
    for number in range(7):
        jobs.add({"p.a": number, "p.b": -number}, time_ns=number)
    expected = [value for number in range(7) for value in (float(number), -float(number))]
    assert [float(row["value"]) for row in rows_of_csv(jobs)] == expected
    assert [row["value"] for row in rows_of_parquet(jobs)] == expected
    question = read_question([("format", "csv")], schema=Schema(), now_ns=0)
    series = Series(jobs.reader, question)
    assert len(list(answer_chunks(series, question, schema=Schema()))) == 7


def test_long_json_is_one_document(jobs: MeasuredJobs) -> None:
    for number in range(1200):
        jobs.add({"p.a": number}, time_ns=number)
    shown = json.loads(answer(jobs, points="5000"))
    assert [item["value"] for item in shown["measurements"]] == [*map(float, range(1200))]


def test_a_limit_and_a_cursor_cut_a_file(jobs: MeasuredJobs) -> None:
    for number in range(5):
        jobs.add({"p.a": number}, time_ns=number)
    (metric,) = jobs.ids("p.a")
    rows = rows_of_csv(jobs, limit="2", after=f"1.{metric}")
    assert [row["value"] for row in rows] == ["2.0", "3.0"]


def test_points_make_a_file_short(jobs: MeasuredJobs) -> None:
    for number in range(50):
        jobs.add({"p.a": number}, time_ns=number)
    found = [float(row["value"]) for row in rows_of_csv(jobs, points="4")]
    assert len(found) <= 4
    assert {0.0, 49.0} <= set(found)


def test_too_many_kinds_of_metadata_are_refused(
    jobs: MeasuredJobs, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("squash_api.trends.formats.answer.MOST_FIELDS", 2)
    jobs.add({"p.a": 1}, a=1, b=2, c=3)
    with pytest.raises(InvalidInputError, match="The jobs have 3 metadata keys"):
        answer(jobs, format="csv", fields="*")


def test_without_pyarrow_parquet_is_refused_at_once(
    jobs: MeasuredJobs, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(
        NotAvailableError, match=r"Parquet needs the library pyarrow.* pip install pyarrow"
    ):
        answer(jobs, format="parquet")


def test_json_gives_the_metadata_that_is_asked_for(jobs: MeasuredJobs) -> None:
    jobs.add({"p.a": 1}, a=1, b="x")
    (value,) = jobs.values(fields=("*",))
    assert "fields" not in value_object(value)
    assert value_object(value, fields=["meta.a", "meta.z"])["fields"] == {"meta.a": 1.0}
    assert value_object(value, fields=["*"])["fields"] == {"meta.a": 1.0, "meta.b.text": "x"}
