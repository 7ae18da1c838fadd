import stat
import threading
from pathlib import Path

import pytest

from squash_api.commands.results import writing


def test_a_file_takes_its_place_when_it_is_whole(tmp_path: Path) -> None:
    place = tmp_path / "a.txt"
    with writing(place) as file:
        file.write(b"new")
        assert not place.exists()
    assert place.read_bytes() == b"new"


def test_what_was_there_stays_if_the_writing_fails(tmp_path: Path) -> None:
    place = tmp_path / "a.txt"
    place.write_bytes(b"old")
    with pytest.raises(TypeError), writing(place) as file:
        file.write("text")  # type: ignore[call-overload]
    assert [item.read_bytes() for item in tmp_path.iterdir()] == [b"old"]


def test_it_may_be_read_by_everybody_who_may_read_a_new_file(tmp_path: Path) -> None:
    other = tmp_path / "other"
    other.touch()
    with writing(tmp_path / "a.txt") as file:
        file.write(b"new")
    assert (tmp_path / "a.txt").stat().st_mode == other.stat().st_mode


def test_a_file_keeps_who_may_read_it(tmp_path: Path) -> None:
    place = tmp_path / "a.txt"
    place.touch(mode=0o600)
    with writing(place) as file:
        file.write(b"new")
    assert stat.S_IMODE(place.stat().st_mode) == 0o600


def test_a_link_stays_a_link(tmp_path: Path) -> None:
    (tmp_path / "a.txt").touch()
    (tmp_path / "link").symlink_to(tmp_path / "a.txt")
    with writing(tmp_path / "link") as file:
        file.write(b"new")
    assert (tmp_path / "link").is_symlink()
    assert (tmp_path / "a.txt").read_bytes() == b"new"


def test_a_pipe_is_written_to(tmp_path: Path) -> None:
    import os

    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    read: list[bytes] = []
    reader = threading.Thread(target=lambda: read.append(pipe.read_bytes()))
    reader.start()
    with writing(pipe) as file:
        file.write(b"new")
    reader.join()
    assert read == [b"new"]


def test_without_a_name_it_is_standard_output(capfdbinary: pytest.CaptureFixture[bytes]) -> None:
    with writing(None) as file:
        file.write(b"shown")
    assert capfdbinary.readouterr().out == b"shown"


def test_a_folder_that_is_not_there_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError), writing(tmp_path / "none" / "a.txt"):
        pass
