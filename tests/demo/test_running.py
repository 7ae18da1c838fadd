import socket
from pathlib import Path

import httpx
import pytest

import squash_api
from squash_api.demo.processes import HOST, DemoError, Stop, free_port
from squash_api.demo.running import find_specs, register_user, running_service, service_variables


def make_package(folder: Path, name: str) -> Path:
    for part in ("metrics", "specs"):
        (folder / "specs" / name / part).mkdir(parents=True)
    return folder / "specs" / name


def make_variables(**changes: str) -> dict[str, str]:
    return service_variables(
        {"PATH": "/bin", **changes}, directory=Path("/f"), specs=[Path("/a"), Path("/b")], port=81
    )


def test_all_packages_in_the_folder_are_found_by_name(tmp_path: Path) -> None:
    packages = [make_package(tmp_path, name) for name in ("srd", "camera")]
    (tmp_path / "specs" / "notes").mkdir()
    assert find_specs(directory=tmp_path) == sorted(packages)


def test_without_a_folder_of_specs_those_of_the_checkout_are_found(tmp_path: Path) -> None:
    assert [path.name for path in find_specs(directory=tmp_path)] == ["camera", "srd"]


def test_examples_are_found_beside_the_folder(tmp_path: Path) -> None:
    package = make_package(tmp_path, "srd")
    example = make_package(tmp_path / "examples", "camera")
    assert find_specs(directory=tmp_path) == [example, package]


def test_given_packages_win(tmp_path: Path) -> None:
    make_package(tmp_path, "srd")
    mine = make_package(tmp_path / "elsewhere", "mine")
    assert find_specs(directory=tmp_path, given=[mine]) == [mine]


def test_a_given_package_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(DemoError, match="nowhere"):
        find_specs(directory=tmp_path, given=[tmp_path / "nowhere"])


def test_without_any_package_the_error_says_what_to_do(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    installed = tmp_path / "site" / "squash_api" / "__init__.py"
    monkeypatch.setattr(squash_api, "__file__", str(installed))
    with pytest.raises(DemoError, match="--specs"):
        find_specs(directory=tmp_path)


def test_no_setting_of_the_environment_reaches_the_service() -> None:
    variables = make_variables(SQUASH_TAGS="a", squash_secret="s", SQUASH_INFLUX_TARGETS="[]")
    assert "SQUASH_TAGS" not in variables
    assert "squash_secret" not in variables
    assert "SQUASH_INFLUX_TARGETS" not in variables
    assert variables["PATH"] == "/bin"


def test_the_service_gets_its_port_folder_and_packages() -> None:
    variables = make_variables()
    assert variables["SQUASH_URL"] == "http://127.0.0.1:81"
    assert variables["SQUASH_DATABASE_URL"] == "sqlite:////f/squash.db"
    assert variables["SQUASH_SPECS"] == "/a:/b"


def test_each_demo_makes_its_own_secret() -> None:
    first, second = (make_variables()["SQUASH_SECRET"] for _ in range(2))
    assert first != second
    assert len(first) >= 32


def test_a_given_port_that_is_taken_is_an_error(tmp_path: Path) -> None:
    with socket.create_server((HOST, 0)) as server:
        port = server.getsockname()[1]
        with (
            pytest.raises(DemoError, match=f"port {port} is taken"),
            running_service(
                directory=tmp_path,
                port=port,
                specs=[],
                variables={},
                influx_variables={},
                stop=Stop(),
            ),
        ):
            pass


def test_a_service_that_does_not_start_shows_its_log(tmp_path: Path) -> None:
    with (
        pytest.raises(DemoError, match="nowhere does not exist"),
        running_service(
            directory=tmp_path,
            port=0,
            specs=[tmp_path / "nowhere"],
            variables={},
            influx_variables={},
            stop=Stop(),
        ),
    ):
        pass


def test_another_port_is_taken_when_the_usual_one_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with socket.create_server((HOST, 0)) as server:
        usual = server.getsockname()[1]
        monkeypatch.setattr("squash_api.demo.running._USUAL_PORT", usual)
        with running_service(
            directory=tmp_path, port=None, specs=[], variables={}, influx_variables={}, stop=Stop()
        ) as service:
            assert not service.url.endswith(f":{usual}")
            root = httpx.get(service.url, trust_env=False, timeout=60).json()
            assert root["job"] == f"{service.url}/job"


def test_the_user_can_log_in_and_nothing_of_a_dotenv_file_is_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / ".env").write_text("SQUASH_REGISTRATION=closed\nSQUASH_SECRET=short\n")
    monkeypatch.chdir(tmp_path)
    folder = tmp_path / "temporary"
    folder.mkdir()
    port = free_port()
    with running_service(
        directory=folder, port=port, specs=[], variables={}, influx_variables={}, stop=Stop()
    ) as service:
        user = register_user(service)
        answer = httpx.post(
            f"{service.url}/auth",
            json={"username": user.name, "password": user.password},
            trust_env=False,
            timeout=60,
        )
        assert answer.json()["access_token"]
        with pytest.raises(DemoError, match="does not register"):
            register_user(service)
