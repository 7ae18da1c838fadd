import csv
from io import StringIO

import pytest
from hypothesis import given
from hypothesis import strategies as st

from squash_api.schema.cells import cell_meaning, cell_text

STARTS = "=+-@\t\r\n\uff1d\uff0b\uff0d\uff20"
hostile = st.builds("{}{}{}".format, st.text("'"), st.sampled_from(STARTS), st.text())


@given(st.text() | hostile)
def test_a_text_reads_back_as_it_was(text: str) -> None:
    assert cell_meaning(cell_text(text)) == text


@given(st.text() | hostile)
def test_no_cell_begins_a_formula_but_numbers(text: str) -> None:
    cell = cell_text(text)
    if cell[:1] in set(STARTS):
        float(cell)


@given(st.lists(hostile, min_size=1))
def test_so_it_is_in_a_file(texts: list[str]) -> None:
    file = StringIO(newline="")
    csv.writer(file).writerow(map(cell_text, texts))
    (row,) = csv.reader(StringIO(file.getvalue(), newline=""))
    assert [*map(cell_meaning, row)] == texts


@pytest.mark.parametrize(
    "text",
    ["=1+1", "=cmd|' /C calc'!A0", "+1+1", "-1-1", "@SUM(A1)", "\t=1", "\r=1", "'=1", "-", "+",
     "-inf", "-1\n", "-1,5", "-1 ", "-\u0661", "+49 30 123", "-1e", "--1", "\uff1d1", "\n=1"],
)  # fmt: skip
def test_what_a_spreadsheet_would_run_gets_a_mark(text: str) -> None:
    assert cell_text(text) == f"'{text}"


@pytest.mark.parametrize(
    "text", ["-1", "+1", "-1.5", "-1.", "-1e-5", "+0.5E+10", "1=2", "a-b", "", "'", "'a", " =1"]
)
def test_numbers_and_other_texts_stay_as_they_are(text: str) -> None:
    assert cell_text(text) == text
