import gzip
import io
import json
import os
import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from squash_api.wires import files
from squash_api.wires.data_id import DataId, PathTemplate
from squash_api.wires.files import Found, read_jobs
from tests.wires.test_bundle import BUNDLE

JOB: dict[str, Any] = {
    "measurements": [
        {"metric": "p.m", "identifier": "a" * 32, "value": 1.5, "unit": "s", "blob_refs": []}
    ],
    "blobs": [],
    "meta": {"filter_name": "r"},
}
VALUE = """\
!<lsst.verify.Measurement>
metric: validate_drp.AM1
identifier: 418fb458dbeb4ac1b8942f7ba0e3ab11
value: 7.5
unit: marcsec
notes: {validate_drp.AM1.filter_name: r, seeing: .nan}
blobs:
- !<lsst.verify.Blob>
  identifier: 636eadf8b0b94f4e8d0f4a7d0d6c0a11
  name: validate_drp.AM1
  data:
    bins: !<lsst.verify.Datum> {value: [1.0, .inf], unit: mag, label: b, description: null}
- !<lsst.verify.Blob> {identifier: 77, name: validate_drp.AM1, data: {}}
"""
RUN = "HSC/runs/20260515T031245Z"
Write = Callable[..., str]


@pytest.fixture
def write(tmp_path: Path) -> Write:
    def write(name: str, content: Any) -> str:
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        text = content if isinstance(content, str | bytes) else json.dumps(content)
        path.write_bytes(text if isinstance(text, bytes) else text.encode())
        return str(path)

    return write


def only(path: str, **data_id: str) -> Found:
    (found,) = read_jobs(path, DataId(data_id))
    return found


def document(path: str, **data_id: str) -> dict[str, Any]:
    found = only(path, **data_id)
    assert found.problem is None
    assert found.document is not None
    return found.document


def test_a_job_is_read_as_it_is(write: Write) -> None:
    assert only(write("a.verify.json", {**JOB, "specs": []})).document == JOB


def test_a_bundle_becomes_a_job_of_its_data_id(write: Write) -> None:
    found = document(write("x.json", BUNDLE), run=RUN, detector="7")
    assert [item["metric"].partition(".")[0] for item in found["measurements"]] == [
        "stellarAstrometricRepeatability1",
        "stellarAstrometricRepeatability1",
        "numSources",
    ]
    assert (found["meta"]["run_id"], found["meta"]["detector"]) == (RUN, "7")


def test_a_measurement_in_yaml_becomes_a_job_with_its_blobs_and_notes(write: Write) -> None:
    assert document(write("x.yaml", VALUE), run=RUN) == {
        "measurements": [
            {
                "metric": "validate_drp.AM1",
                "identifier": "418fb458dbeb4ac1b8942f7ba0e3ab11",
                "value": 7.5,
                "unit": "marcsec",
                "blob_refs": ["636eadf8b0b94f4e8d0f4a7d0d6c0a11"],
            }
        ],
        "blobs": [
            {
                "identifier": "636eadf8b0b94f4e8d0f4a7d0d6c0a11",
                "name": "validate_drp.AM1",
                "data": {
                    "bins": {"value": [1.0, None], "unit": "mag", "label": "b", "description": None}
                },
            }
        ],
        "meta": {
            "run_id": RUN,
            "validate_drp.AM1.filter_name": "r",
            "validate_drp.AM1.seeing": None,
            "env": {"date": "2026-05-15T03:12:45+00:00"},
        },
    }


def test_what_became_null_is_counted(write: Write) -> None:
    note = "NaN or infinite numbers were sent as null"
    assert only(write("x.yaml", VALUE), run=RUN).notes == (f"2 {note}",)
    content = '{"measurements": [{"metric": "p.m", "value": NaN, "unit": "s"}]}'
    assert only(write("x.json", content)).notes == (f"1 {note}",)


@pytest.mark.parametrize(
    "text",
    [
        "!!python/object/apply:os.system ['touch x']",
        "metric: a.b\nvalue: !!python/name:os.system\n",
        "!<lsst.verify.Measurement>\nmetric: a.b\nvalue: !<lsst.other.Thing> {x: 1}\n",
        "!<lsst.verify.Measurement> 7",
    ],
)
def test_no_other_tag_is_known(write: Write, text: str) -> None:
    found = only(write("x.yaml", text))
    assert (found.form, found.document) == ("unreadable", None)
    assert "x.yaml:" in found.place


@pytest.mark.parametrize("name", ["x.json", "x.yaml", "x", "x.txt", "x.verify", "x.fits"])
@pytest.mark.parametrize(("content", "form"), [(JOB, "job"), (BUNDLE, "bundle"), (VALUE, "value")])
@pytest.mark.parametrize("is_packed", [False, True])
def test_the_form_is_told_by_the_content(
    write: Write, name: str, content: Any, form: str, *, is_packed: bool
) -> None:
    text = content if isinstance(content, str) else json.dumps(content)
    path = write(name, gzip.compress(text.encode()) if is_packed else text)
    assert only(path).form == form
    assert [found.form for found in read_jobs(str(Path(path).parent))] == [form]


@pytest.mark.parametrize(
    ("document", "form"),
    [
        ({"metric": "p.m", "value": 1, "unit": ""}, "value"),
        ({"metric": "p.m", "value": None}, "value"),
        ({"measurements": []}, "job"),
        ({"meta": {}}, "job"),
        ({"metric": "PA1", "description": "x", "units": "mmag"}, "other"),
        ({"name": "x"}, "other"),
        ({}, "other"),
        ([], "other"),
        ([[JOB]], "other"),
        (7, "other"),
        ({"__metricNamePrefix": ""}, "other"),
    ],
)
def test_forms(write: Write, document: Any, form: str) -> None:
    assert only(write("x.json", document)).form == form


def test_a_list_of_all_forms_is_read_one_by_one(write: Write) -> None:
    path = write("x.json", [JOB, {"name": "x"}, BUNDLE, {"metric": "p.m", "value": 1}])
    assert [(found.place.removeprefix(path), found.form) for found in read_jobs(path)] == [
        ("[0]", "job"),
        ("[1]", "other"),
        ("[2]", "bundle"),
        ("[3]", "value"),
    ]


def test_a_list_in_yaml_is_read_in_spite_of_what_is_wrong_in_it(write: Write) -> None:
    items = ["metric: p.a\n  value: 1e-6", "!!python/name:os.system", "{metric: p.b, value: 2}"]
    found = list(read_jobs(write("x.yaml", "".join(f"- {item}\n" for item in items))))
    assert [item.document and item.document["measurements"][0]["value"] for item in found] == [
        1e-6,
        2,
        None,
    ]
    assert found[-1].place.endswith("x.yaml:3")


def test_documents_of_yaml_are_read_one_by_one(write: Write) -> None:
    path = write("x.yaml", f"--- {VALUE}--- {VALUE}")
    assert [found.form for found in read_jobs(path)] == ["value", "value"]


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        ('{"meta":\n  {"a" 1}}', "not JSON: Expecting ':' delimiter at line 2, column 8"),
        (b"", "the file is empty"),
        (b" \n", "the file is empty"),
        (b"\x1f\x8b\x08\x00broken", "not whole: "),
        (gzip.compress(json.dumps(JOB).encode())[:-20], "not whole: "),
        (b"SIMPLE  = \xff", "neither JSON nor YAML"),
        ("just: [a", "neither JSON nor YAML"),
        ({"name": "x", "other": 1}, "an object with name, other"),
        ({"measurements": 7}, "not a job: measurements is not a list"),
        ({"metric": 7, "value": 1}, "metric is not text"),
        ({"metric": "a.b", "value": 1, "blobs": [1]}, "blobs is not a list of blobs"),
        ({**BUNDLE, "__timestamp_version": "explicit_timestamp:x"}, "__timestamp_version"),
    ],
)
def test_what_is_no_job_is_said_to_be_what_it_is(write: Write, content: Any, problem: str) -> None:
    found = only(write("x.dat", content))
    assert found.document is None
    assert problem in str(found.problem)


def test_a_file_that_is_not_there_is_named() -> None:
    assert only("none.json").problem == "cannot be read: No such file or directory"
    assert only("none*.json").place == "none*.json"


def test_an_empty_folder_is_named(tmp_path: Path) -> None:
    assert only(str(tmp_path)).problem == "there is no file in this folder"


def test_a_file_that_is_too_large_is_named(write: Write, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(files, "MAX_BYTES", 1000)
    assert only(write("x.json", gzip.compress(b"[" * 2000))).problem == (
        "larger than 1000 bytes: split it"
    )


def test_a_folder_is_read_whole_without_what_is_hidden(write: Write, tmp_path: Path) -> None:
    for name in ("b/c/x.json", "a.json", ".hidden.json", ".git/x.json", "z.json.gz"):
        content = json.dumps(JOB).encode()
        write(name, gzip.compress(content) if name.endswith("gz") else content)
    os.mkfifo(tmp_path / "pipe.json")
    assert [found.place for found in read_jobs(tmp_path)] == [
        str(tmp_path / name) for name in ("a.json", "z.json.gz", "b/c/x.json")
    ]


def test_in_a_folder_only_json_and_yaml_are_named_if_they_are_no_job(
    write: Write, tmp_path: Path
) -> None:
    contents = {"a.txt": "hello", "b.fits": b"SIMPLE \xff", "c.py": "[1]", "d.yaml": "a: 1"}
    for name, content in contents.items():
        write(name, content)
    assert [
        (found.place[-6:], found.form, found.is_bystander) for found in read_jobs(tmp_path)
    ] == [("d.yaml", "other", True)]


@pytest.mark.parametrize(
    ("pattern", "names"),
    [
        ("*.json", ["a.json"]),
        ("**/*.json", ["a.json", "n/b.json", "n/m/c.json"]),
        ("n/*", ["n/b.json", "n/m/c.json"]),
        ("n*", ["n/b.json", "n/m/c.json"]),
        ("[ab].json", ["a.json"]),
    ],
)
def test_a_glob_is_read(write: Write, tmp_path: Path, pattern: str, names: list[str]) -> None:
    for name in ("a.json", "n/b.json", "n/m/c.json"):
        write(name, JOB)
    assert [found.place for found in read_jobs(str(tmp_path / pattern))] == [
        str(tmp_path / name) for name in names
    ]


def test_a_file_may_have_the_letters_of_a_glob(write: Write) -> None:
    assert only(write("a[1].json", JOB)).form == "job"


def give_stdin(monkeypatch: pytest.MonkeyPatch, data: bytes) -> None:
    monkeypatch.setattr(sys, "stdin", SimpleNamespace(buffer=io.BytesIO(data)))


@pytest.mark.parametrize("pack", [bytes, gzip.compress])
def test_standard_input_is_read(
    monkeypatch: pytest.MonkeyPatch, pack: Callable[[bytes], bytes]
) -> None:
    give_stdin(monkeypatch, pack(json.dumps(JOB).encode()))
    found = only("-")
    assert (found.place, found.document) == ("-", JOB)


def test_the_template_counts_from_the_folder_on_or_else_for_the_whole_path(
    write: Write, tmp_path: Path
) -> None:
    write(f"{RUN}/object_metrics/9813/x.json", BUNDLE)
    data_id = DataId({}, PathTemplate("{run}/{dataset_type}/{tract}/*.json"))
    for path, run in ((tmp_path, RUN), (tmp_path / RUN / "object_metrics", None)):
        (found,) = read_jobs(path, data_id)
        assert found.document is not None
        meta = found.document["meta"]
        assert (meta["dataset_type"], meta["tract"]) == ("object_metrics", "9813")
        assert run is None or meta["run_id"] == run


def test_a_bundle_whose_path_does_not_fit_is_no_job_and_a_job_is_one(write: Write) -> None:
    data_id = DataId({}, PathTemplate("{tract}/{band}/y.json"))
    (bundle,) = read_jobs(write("x.json", BUNDLE), data_id)
    assert (bundle.document, bundle.problem) == (
        None,
        "the path does not fit {tract}/{band}/y.json",
    )
    (job,) = read_jobs(write("x.json", JOB), data_id)
    assert job.document == JOB


def test_a_job_says_itself_what_it_is_about(write: Write) -> None:
    found = only(write("x.json", {**JOB, "meta": {"env": {"tract": 1}}}), tract="2", band="r")
    assert found.document is not None
    assert found.document["meta"] == {"band": "r", "env": {"tract": 1}}
    assert found.notes == ("the job has tract 1: 2 is not used",)


def test_keys_that_no_job_has_are_said_not_to_be_sent(write: Write) -> None:
    found = only(write("x.json", {"name": "qlf", "status": 0, "measurements": [], "specs": []}))
    assert found.notes == ("not sent, since no job of lsst.verify has it: name, status",)


def test_without_a_time_in_the_run_it_is_that_of_the_file(write: Write) -> None:
    path = write("x.json", BUNDLE)
    os.utime(path, (1.0e9, 1.0e9))
    found = only(path, run="u/me/run7")
    assert found.document is not None
    assert found.document["meta"]["env"] == {"date": "2001-09-09T01:46:40+00:00"}
    assert found.notes == ("its run does not tell its time: that of the file is used",)


def test_a_measurement_without_identifier_gets_the_same_one_each_time(write: Write) -> None:
    bare = [{"metric": "p.a", "value": 1}, {"metric": "p.b", "value": 1, "identifier": "c"}]
    path = write("x.json", {"measurements": bare})
    first, second = (document(path)["measurements"] for _ in range(2))
    assert first == second
    assert (len(first[0]["identifier"]), first[1]["identifier"]) == (32, "c")


def test_a_file_that_was_written_anew_has_other_measurements(write: Write) -> None:
    path = write("x.json", {"measurements": [{"metric": "p.a", "value": 1}]})
    os.utime(path, (1.0e9, 1.0e9))
    first = document(path)
    os.utime(path, (1.1e9, 1.1e9))
    assert document(path) != first
