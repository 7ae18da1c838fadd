from pathlib import Path

import pytest

from squash_api.verify.job_file import identified, job_parts, read_job_file
from squash_api.verify.measurement import DocumentError


def write(tmp_path: Path, content: str | bytes) -> Path:
    path = tmp_path / "job.json"
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


def test_only_what_dispatch_sends_is_read(tmp_path: Path) -> None:
    path = write(tmp_path, '{"measurements": [], "specs": [], "metrics": [], "meta": {"a": 1}}')
    assert read_job_file(path) == ({"measurements": [], "blobs": [], "meta": {"a": 1}}, 0)


def test_numbers_that_are_not_finite_are_read_as_null_and_counted(tmp_path: Path) -> None:
    path = write(tmp_path, '\ufeff{"meta": {"a": NaN, "b": [-Infinity, 1e999, 1.5]}}')
    parts, nulls = read_job_file(path)
    assert (parts["meta"], nulls) == ({"a": None, "b": [None, None, 1.5]}, 3)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ('{"meta":\n  {"a" 1}}', r"not JSON: Expecting ':' delimiter at line 2, column 8"),
        (b'{"meta": "\xff"}', "not JSON: it is not UTF-8 at byte 10"),
        ('{"meta": {"a": ' + "1" * 5000 + "}}", "a number has too many digits"),
        ("[" * 100_000, "nested too deeply"),
        ("[]", "not a job: it is not an object with"),
        ('{"a": 1}', "not a job: it is not an object with"),
        ('{"measurements": {"a": 1}}', "not a job: measurements is not a list"),
        ('{"meta": [1]}', "not a job: meta is not an object"),
    ],
)
def test_what_cannot_be_read_is_named_with_its_place(
    tmp_path: Path, content: str | bytes, message: str
) -> None:
    with pytest.raises(DocumentError, match=rf"job\.json: .*{message}"):
        read_job_file(write(tmp_path, content))


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(DocumentError, match=r"none\.json: cannot be read: No such file"):
        read_job_file(tmp_path / "none.json")


def test_null_parts_are_empty() -> None:
    assert job_parts({"measurements": None}) == {"measurements": [], "blobs": [], "meta": {}}


def test_only_measurements_without_identifier_get_one() -> None:
    found = identified({"measurements": [{"identifier": "a"}, {"metric": "p.m"}]})
    identifiers = [item["identifier"] for item in found["measurements"]]
    assert (identifiers[0], len(identifiers[1])) == ("a", 32)


def test_the_document_itself_is_left_as_it_is() -> None:
    document = {"measurements": [{"metric": "p.m"}]}
    identified(document)
    assert document == {"measurements": [{"metric": "p.m"}]}
