import pytest
from starlette.types import Scope

from squash_api.routes.runs import readings_of, run_path

NAMES = ["drp", "a/b", "/", "a//b/", ".", "..", "-", "--", "-x", "Ω%2F", "a?b#c", '"<b>', "…"]


def scope_of(path: str, *, is_unquoted: bool = False) -> Scope:
    from urllib.parse import unquote

    raw = b"" if is_unquoted else path.encode()
    return {"path": unquote(path), "raw_path": raw}


@pytest.mark.parametrize("pipeline", [None, *NAMES])
@pytest.mark.parametrize("run_id", NAMES)
def test_what_a_path_was_made_of_is_read_from_it(pipeline: str | None, run_id: str) -> None:
    assert readings_of(scope_of(run_path(pipeline, run_id)))[0] == (pipeline, run_id)


@pytest.mark.parametrize(("pipeline", "run_id"), [("a/b", "c"), ("a", "b/c"), (None, "b/c")])
def test_it_is_among_the_readings_where_the_quoting_is_lost(
    pipeline: str | None, run_id: str
) -> None:
    path = run_path(pipeline, run_id)
    assert (pipeline, run_id) in readings_of(scope_of(path, is_unquoted=True))


def test_a_browser_meets_no_folders_and_no_empty_parts() -> None:
    for name in NAMES:
        parts = run_path(name, name).split("/")
        assert parts[:2] == ["", "runs"]
        assert len(parts) == 4
        assert not {"", ".", ".."} & set(parts[2:])


def test_names_are_read_as_the_record_keeps_them() -> None:
    assert readings_of(scope_of("/runs/my%20pipe/run%205")) == [("my_pipe", "run_5")]


def test_the_root_of_the_service_makes_no_difference() -> None:
    scope = {"path": "/runs/a/b/c", "raw_path": b"/api/runs/a%2Fb/c"}
    assert readings_of(scope)[0] == ("a/b", "c")
