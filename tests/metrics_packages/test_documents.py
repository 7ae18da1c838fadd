from pathlib import Path

import pytest

from squash_api.metrics_packages.documents import Document, read_documents
from squash_api.verify.metrics import Source


def read(tmp_path: Path, content: str | bytes) -> tuple[list[Document], list[str]]:
    path = tmp_path / "a.yaml"
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    problems: list[str] = []

    def report(source: Source, message: str) -> None:
        problems.append(f"{source}: {message}")

    return read_documents(path, file="a.yaml", report=report), problems


def value(tmp_path: Path, text: str) -> object:
    (document,), problems = read(tmp_path, f"x: {text}\n")
    assert problems == []
    return document.value["x"]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("1e-6", "1e-6"),
        ("1.0e-6", 1e-6),
        ("010", 8),
        ("1:30", 90),
        ("1_000", 1000),
        ("yes", True),
        ("on", True),
        ("y", "y"),
        ("~", None),
        ("!!set {a, b}", {"a", "b"}),
        ("!!str 5", "5"),
    ],
)
def test_values_are_those_of_yaml_1_1(tmp_path: Path, text: str, expected: object) -> None:
    assert value(tmp_path, text) == expected


def test_every_document_knows_the_line_of_a_key(tmp_path: Path) -> None:
    documents, _ = read(tmp_path, "# one\n---\na: 1\n---\nb:\n  c: 1\n  d: 2\n")
    assert [document.source().line for document in documents] == [3, 5]
    assert documents[1].source("b", "d").line == 7


def test_a_path_that_is_not_written_has_the_line_of_its_nearest_key(tmp_path: Path) -> None:
    (document,), _ = read(tmp_path, "a: 1\nb:\n  c: 1\n")
    assert document.source("b", "x", "y").line == 2
    assert (document.has(("b", "c")), document.has(("b", "x"))) == (True, False)


def test_a_merged_key_has_the_line_it_is_written_on(tmp_path: Path) -> None:
    (document,), _ = read(tmp_path, "a: &a\n  c: 1\nb:\n  <<: *a\n")
    assert document.source("b", "c").line == 2


def test_documents_before_a_syntax_error_are_kept(tmp_path: Path) -> None:
    documents, problems = read(tmp_path, "a: 1\n---\nb: [\n---\nc: 1\n")
    assert [document.value for document in documents] == [{"a": 1}]
    assert problems == [
        "a.yaml:4: not YAML: while parsing a flow node, did not find expected node content"
    ]


@pytest.mark.parametrize("bad", ["2026-13-01", "2026-02-30", "!!int x", "!!float x"])
def test_a_value_that_cannot_be_read_is_named_with_its_line(tmp_path: Path, bad: str) -> None:
    text = f"name: a\nalert:\n  mute:\n    why: x\n    until: {bad}\n"
    _, (problem,) = read(tmp_path, text)
    written = bad.rpartition(" ")[2]
    assert problem.startswith(f"a.yaml:5: the value '{written}' cannot be read (")


def test_documents_around_a_value_that_cannot_be_read_are_kept(tmp_path: Path) -> None:
    documents, problems = read(tmp_path, "a: 1\n---\nb: 2020-13-45\n---\nc: {d: [1]}\n")
    assert [document.value for document in documents] == [{"a": 1}, {"c": {"d": [1]}}]
    (problem,) = problems
    assert problem.startswith("a.yaml:3: the value '2020-13-45' cannot be read (month must be")


@pytest.mark.parametrize(
    "text",
    [
        "{[a]: b}",
        "{? !!set {a} : b}",
        "!!int abc",
        "!!bool maybe",
        "!!timestamp soon",
        "!!int ''",
        "!!python/name:os.system",
        "*nowhere",
        "'\\",
        '"\\ud800"',
        "a\x00b",
        "&a [*a]",
        "&a {b: *a}",
        "{<<: [1]}",
        "9" * 5000,
    ],
)
def test_what_yaml_cannot_hold_is_one_problem_in_its_line(tmp_path: Path, text: str) -> None:
    documents, problems = read(tmp_path, f"a: {text}\n")
    assert documents == []
    assert [problem.partition(": ")[0] for problem in problems] == ["a.yaml:1"]


@pytest.mark.parametrize("text", ["[" * 200_000, "- " * 200_000, "{a: " * 200_000])
def test_deep_nesting_is_one_problem(tmp_path: Path, text: str) -> None:
    documents, problems = read(tmp_path, text)
    assert (documents, len(problems)) == ([], 1)
    assert "nested deeper" in problems[0]


def test_aliases_that_multiply_are_one_problem(tmp_path: Path) -> None:
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x]"]
    lines += [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]" for n in range(1, 12)]
    documents, problems = read(tmp_path, "\n".join(lines))
    assert documents == []
    assert problems == ["a.yaml:1: aliases expand to more than 200000 values: write fewer"]


def test_a_file_in_another_encoding_is_a_problem_in_its_line(tmp_path: Path) -> None:
    _, problems = read(tmp_path, b"a: 1\nb: caf\xe9\n")
    assert problems == ["a.yaml:2: not UTF-8: save the file as UTF-8"]


def test_a_file_that_cannot_be_opened_is_a_problem(tmp_path: Path) -> None:
    problems: list[str] = []
    documents = read_documents(
        tmp_path, file="a.yaml", report=lambda source, text: problems.append(f"{source}: {text}")
    )
    assert documents == []
    assert "cannot be read" in problems[0]


def test_comments_alone_are_no_document(tmp_path: Path) -> None:
    assert read(tmp_path, "# nothing yet\n") == ([], [])


def test_a_byte_order_mark_is_passed_over(tmp_path: Path) -> None:
    (document,), _ = read(tmp_path, "\ufeffa: 1\n")
    assert document.value == {"a": 1}
