"""docker-compose.yml, Dockerfile and .env.example agree with the service and with the images.

There is no docker engine where the tests run: nothing is built or started here. What the servers
make of their variables is asked of their binaries where they are installed.
"""

import json
import os
import re
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from fnmatch import fnmatch
from pathlib import Path
from typing import Any
from zipfile import ZipFile

import pytest
import yaml
from sqlalchemy import make_url

from squash_api.settings import Settings, load_settings
from tests.support.programs import find_program
from tests.support.service import Service

ROOT = Path(__file__).parent.parent
COMPOSE = ROOT / "docker-compose.yml"
ENV_EXAMPLE = ROOT / ".env.example"
DUMMY_SECRET = "dummy-secret-of-tests-32-bytes-long"
_SETTINGS = {f"SQUASH_{name.upper()}" for name in Settings.model_fields}

FIXED_SETTINGS = {
    "SQUASH_HOST": "Dockerfile: all addresses of the container",
    "SQUASH_PORT": "Dockerfile; the variable of this name is the port on the host",
    "SQUASH_DELIVER": "one process does all",
    "SQUASH_KAPACITOR_RETENTION_POLICY": "the name is written in kapacitor/",
    "SQUASH_KAFKA_CA": "a file, which must be mounted first",
    "SQUASH_INFLUX_TOKEN": "InfluxDB 1.8 has users, no tokens",
}
"""Settings that a container does not offer, and why."""

OF_LIBRARIES = {"PGPASSWORD": "libpq, in which psycopg connects to PostgreSQL"}
"""What else the container of the service is given, and who reads it."""

IMAGE_VARIABLES = {
    # The entrypoints are those of the official images: `<version>/<os>/` of PostgreSQL's, and
    # `<image>/<version>/` in influxdata-docker.
    "POSTGRES_USER": "docker-entrypoint.sh",
    "POSTGRES_DB": "docker-entrypoint.sh",
    "POSTGRES_PASSWORD": "docker-entrypoint.sh",
    "POSTGRES_INITDB_ARGS": "docker-entrypoint.sh; initdb --help",
    "INFLUXDB_DB": "init-influxdb.sh",
    "INFLUXDB_ADMIN_USER": "init-influxdb.sh",
    "INFLUXDB_ADMIN_PASSWORD": "init-influxdb.sh",
    "INFLUXDB_HTTP_AUTH_ENABLED": "init-influxdb.sh; influxd: http.auth-enabled",
    "INFLUXDB_HTTP_LOG_ENABLED": "influxd: http.log-enabled",
    "INFLUXDB_DATA_QUERY_LOG_ENABLED": "influxd: data.query-log-enabled",
    "INFLUXDB_MONITOR_STORE_ENABLED": "influxd: monitor.store-enabled",
    # Debian's influxd spells this one `reporting-enabled`.
    "INFLUXDB_REPORTING_DISABLED": "influxd: reporting-disabled",
    "KAPACITOR_HOSTNAME": "entrypoint.sh; kapacitord: hostname",
    "KAPACITOR_INFLUXDB_0_URLS_0": "kapacitord: influxdb.0.urls.0",
    "KAPACITOR_INFLUXDB_0_USERNAME": "kapacitord: influxdb.0.username",
    "KAPACITOR_INFLUXDB_0_PASSWORD": "kapacitord: influxdb.0.password",
    "KAPACITOR_INFLUXDB_0_DISABLE_SUBSCRIPTIONS": "kapacitord: influxdb.0.disable-subscriptions",
    "KAPACITOR_LOAD_ENABLED": "kapacitord: load.enabled",
    "KAPACITOR_LOAD_DIR": "kapacitord: load.dir",
    "KAPACITOR_SLACK_0_ENABLED": "kapacitord: slack.0.enabled",
    "KAPACITOR_SLACK_0_URL": "kapacitord: slack.0.url",
    "KAPACITOR_SLACK_0_CHANNEL": "kapacitord: slack.0.channel",
    "KAPACITOR_HTTP_LOG_ENABLED": "kapacitord: http.log-enabled",
    "KAPACITOR_REPORTING_ENABLED": "kapacitord: reporting.enabled",
    "RESOURCES_PATH": "chronograf --help",
    "INFLUXDB_USERNAME": "chronograf --help; chronograf/squash.src",
    "INFLUXDB_PASSWORD": "chronograf --help; chronograf/squash.src",
    "REPORTING_DISABLED": "chronograf --help",
    # Grafana reads GF_<section>_<key> of its configuration: "Configure Grafana", version 11.6.
    "GF_SECURITY_ADMIN_PASSWORD": "grafana: security.admin_password; the entrypoint here",
    "GF_SERVER_ROOT_URL": "grafana: server.root_url",
    "GF_DASHBOARDS_DEFAULT_HOME_DASHBOARD_PATH": "grafana: dashboards.default_home_dashboard_path",
    "GF_ANALYTICS_REPORTING_ENABLED": "grafana: analytics.reporting_enabled",
    "GF_ANALYTICS_CHECK_FOR_UPDATES": "grafana: analytics.check_for_updates",
    "GF_ANALYTICS_CHECK_FOR_PLUGIN_UPDATES": "grafana: analytics.check_for_plugin_updates",
    "GF_ANALYTICS_FEEDBACK_LINKS_ENABLED": "grafana: analytics.feedback_links_enabled",
    "GF_NEWS_NEWS_FEED_ENABLED": "grafana: news.news_feed_enabled",
    "GF_SECURITY_DISABLE_GRAVATAR": "grafana: security.disable_gravatar",
    "GF_SNAPSHOTS_EXTERNAL_ENABLED": "grafana: snapshots.external_enabled",
    "SQUASH_URL": "grafana/provisioning",
    "SQUASH_INFLUX_URL": "grafana/provisioning",
    "SQUASH_INFLUX_USER": "grafana/provisioning",
    "SQUASH_INFLUX_PASSWORD": "grafana/provisioning",
    "SQUASH_SLACK_URL": "grafana/provisioning, with SQUASH_ALERTS_BY=grafana",
}
"""Who reads each variable of the other images, and as what."""

HOST_VARIABLES = {
    "RECORD_URL",
    "POSTGRES_IMAGE",
    "POSTGRES_MEMORY",
    "INFLUXDB_IMAGE",
    "KAPACITOR_IMAGE",
    "CHRONOGRAF_IMAGE",
    "GRAFANA_IMAGE",
    "GRAFANA_ADMIN_PASSWORD",
    "BIND_ADDRESS",
    "SQUASH_PORT",
    "INFLUXDB_PORT",
    "KAPACITOR_PORT",
    "CHRONOGRAF_PORT",
    "GRAFANA_PORT",
    "SQUASH_MEMORY",
    "INFLUXDB_MEMORY",
    "KAPACITOR_MEMORY",
    "CHRONOGRAF_MEMORY",
    "GRAFANA_MEMORY",
}
"""Variables of docker-compose.yml alone, which no container sees by these names."""

SECRETS = {
    "SQUASH_SECRET": DUMMY_SECRET,
    "SQUASH_SECRET_PREVIOUS": f"{DUMMY_SECRET} of before",
    "SQUASH_REGISTRATION_KEY": "a dummy registration key",
    "SQUASH_GITHUB_TOKEN": "a dummy token for GitHub",
    "SQUASH_KAFKA_PASSWORD": "a dummy password for Kafka",
    "SQUASH_KAFKA_REGISTRY_PASSWORD": "a dummy password for a registry",
    "KAPACITOR_SLACK_0_URL": "http://127.0.0.1:9/dummy",
    "INFLUXDB_ADMIN_PASSWORD": "dummypassword",
    "POSTGRES_PASSWORD": "anotherdummypassword",
    "GRAFANA_ADMIN_PASSWORD": "athirddummypassword",
    "SQUASH_GRAFANA_TOKEN": "a dummy token for Grafana",
}


def _services() -> dict[str, dict[str, Any]]:
    services: dict[str, dict[str, Any]] = yaml.safe_load(COMPOSE.read_text("utf-8"))["services"]
    return services


def _environments() -> dict[str, dict[str, str]]:
    return {name: service["environment"] for name, service in _services().items()}


def _interpolated() -> dict[str, str | None]:
    """Return the variables that docker-compose fills in, with their defaults."""
    found = re.findall(r"\$\{(\w+)(?::-([^}]*)|:\?[^}]*)?\}", COMPOSE.read_text("utf-8"))
    return {name: default or None for name, default in found}


def _example() -> dict[str, str]:
    lines = ENV_EXAMPLE.read_text("utf-8").splitlines()
    return dict(line.split("=", 1) for line in lines if line and not line.startswith("#"))


def _dockerfile() -> list[str]:
    """Return the instructions, each as one line."""
    text = (ROOT / "Dockerfile").read_text("utf-8")
    lines = re.sub(r"^#.*\n", "", text, flags=re.MULTILINE).replace("\\\n", " ").splitlines()
    return [line.strip() for line in lines if line.strip()]


def _docker_compose(env_file: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    program = find_program("docker-compose")
    return subprocess.run(
        [program, "--env-file", str(env_file), "--file", str(COMPOSE), *arguments],
        cwd=ROOT,
        env={"PATH": "/usr/bin:/bin", "HOME": str(env_file.parent)},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def _configured(folder: Path, **values: str) -> dict[str, Any]:
    """Return what docker-compose makes of .env.example with other values in it."""
    path = folder / "env"
    filled = _example() | values
    path.write_text("".join(f"{name}={value}\n" for name, value in filled.items()))
    reply = _docker_compose(path, "config")
    assert reply.returncode == 0, reply.stderr
    document: dict[str, Any] = yaml.safe_load(reply.stdout)
    return document


def test_docker_compose_accepts_the_file_with_the_example_filled_in(tmp_path: Path) -> None:
    document = _configured(tmp_path, **SECRETS)
    servers = {"squash_api", "influxdb", "kapacitor", "chronograf"}
    # Compose 2 leaves out what is only in a profile.
    assert set(document["services"]) - {"postgresql", "grafana"} == servers
    assert document["services"]["squash_api"]["environment"]["SQUASH_SECRET"] == DUMMY_SECRET


def _repeated_keys(node: yaml.Node | None) -> Iterator[str]:
    """Yield the keys that are twice in one mapping, with their lines."""
    if isinstance(node, yaml.MappingNode):
        keys = [key for key, _ in node.value]
        names = [key.value for key in keys]
        for place, key in enumerate(keys):
            if key.value in names[:place]:
                yield f"line {key.start_mark.line + 1}: {key.value}"
        for _, value in node.value:
            yield from _repeated_keys(value)
    elif isinstance(node, yaml.SequenceNode):
        for item in node.value:
            yield from _repeated_keys(item)


def test_no_key_is_there_twice() -> None:
    """Compose 2 refuses the whole file then; Compose 1 and PyYAML take the last value."""
    assert not [*_repeated_keys(yaml.compose(COMPOSE.read_text("utf-8"), yaml.SafeLoader))]


def test_docker_compose_refuses_the_example_as_it_is() -> None:
    reply = _docker_compose(ENV_EXAMPLE, "config")
    assert reply.returncode != 0
    assert "set it in .env, 32 bytes or more" in reply.stderr


def test_the_example_says_what_holds_without_it(tmp_path: Path) -> None:
    shown = _configured(tmp_path, SQUASH_SECRET=DUMMY_SECRET)
    bare = tmp_path / "bare"
    bare.write_text(f"SQUASH_SECRET={DUMMY_SECRET}\n")
    assert yaml.safe_load(_docker_compose(bare, "config").stdout) == shown


def test_settings_accept_what_the_service_is_given(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    given = _configured(tmp_path, **SECRETS)["services"]["squash_api"]["environment"]
    for name in _SETTINGS:
        monkeypatch.delenv(name, raising=False)
    for name, value in given.items():
        monkeypatch.setenv(name, value)
    settings = Settings(_env_file=None)
    assert settings.database_url == "sqlite:////record/squash.db"
    assert settings.targets[0].url == "http://influxdb:8086"
    assert settings.registration == "closed"
    assert settings.tags == ()


def test_every_setting_is_offered_or_fixed_for_a_reason() -> None:
    offered = set(_environments()["squash_api"]) - set(OF_LIBRARIES)
    assert offered | set(FIXED_SETTINGS) == _SETTINGS
    assert not offered & set(FIXED_SETTINGS)


def test_settings_without_a_choice_have_the_service_s_own_default() -> None:
    defaults = {
        f"SQUASH_{name.upper()}": field.get_default(call_default_factory=True, validated_data={})
        for name, field in Settings.model_fields.items()
        # The service itself has no packages.
        if name != "specs"
    }
    differ = {
        name: default
        for name, default in _interpolated().items()
        if name in defaults
        and default is not None
        and defaults[name] is not None
        and str(defaults[name]) != default
    }
    assert not differ


def test_every_other_variable_is_one_that_its_image_knows() -> None:
    given = {
        name
        for service, environment in _environments().items()
        if service != "squash_api"
        for name in environment
    }
    assert given == set(IMAGE_VARIABLES)


@pytest.mark.parametrize("service", ["influxdb", "kapacitor", "chronograf"])
def test_servers_report_nothing_to_their_makers(service: str) -> None:
    reporting = {
        name: value for name, value in _environments()[service].items() if "REPORTING" in name
    }
    assert list(reporting.values()) == [str("DISABLED" in next(iter(reporting))).lower()]


def _at(document: Any, path: str) -> Any:
    for part in path.split("."):
        document = document[int(part) if part.isdigit() else part]
    return document


def _effective(program: str, environment: dict[str, str]) -> dict[str, Any]:
    """Return the configuration that a server prints for these variables."""
    reply = subprocess.run(
        [program, "config"],
        env={"PATH": "/usr/bin:/bin", "HOME": "/nonexistent", **environment},
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    return tomllib.loads(reply.stdout)


@pytest.mark.parametrize(
    ("service", "server"),
    [
        ("influxdb", "influxd"),
        ("kapacitor", "kapacitord"),
    ],
)
def test_server_takes_each_of_its_variables(service: str, server: str, tmp_path: Path) -> None:
    program = find_program(server)
    values = {
        "INFLUXDB_HTTP_AUTH_ENABLED": "true",
        "INFLUXDB_ADMIN_USER": "admin",
        "KAPACITOR_SLACK_0_ENABLED": "true",
        "KAPACITOR_SLACK_0_CHANNEL": '"#alerts"',
    }
    given = _configured(tmp_path, **SECRETS, **values)["services"][service]["environment"]
    effective = _effective(program, given)
    wanted = {
        name: source.rpartition(f"{server}: ")[2]
        for name, source in IMAGE_VARIABLES.items()
        if f"{server}: " in source and name != "INFLUXDB_REPORTING_DISABLED"
    }
    assert len(wanted) >= 4
    for name, path in wanted.items():
        found = _at(effective, path)
        if name.endswith("INTERVAL"):
            assert found == given[name]
        else:
            assert (str(found).lower() if isinstance(found, bool) else found) == given[name], name


def test_chronograf_names_its_variables() -> None:
    program = find_program("chronograf")
    page = subprocess.run(
        [program, "--help"], capture_output=True, text=True, timeout=60, check=False
    )
    for name in _environments()["chronograf"]:
        assert f"[${name}]" in page.stdout + page.stderr


def test_the_connection_of_chronograf_looks_up_what_it_is_given() -> None:
    text = (ROOT / "chronograf" / "squash.src").read_text("utf-8")
    named = set(re.findall(r"index \. `(\w+)`", text))
    assert named == {name for name, who in IMAGE_VARIABLES.items() if "squash.src" in who}


def test_chronograf_has_no_connection_beside_its_files() -> None:
    assert not {"INFLUXDB_URL", "KAPACITOR_URL"} & set(_environments()["chronograf"])


def test_every_variable_filled_in_is_in_the_example_and_the_other_way_round() -> None:
    assert set(_interpolated()) == set(_example())


def test_every_variable_filled_in_is_known_to_somebody() -> None:
    unknown = set(_interpolated()) - _SETTINGS - set(IMAGE_VARIABLES) - HOST_VARIABLES
    assert not unknown


def test_every_line_of_the_example_has_an_explanation_above_it() -> None:
    unexplained = []
    is_explained = False
    for line in ENV_EXAMPLE.read_text("utf-8").splitlines():
        if not line:
            is_explained = False
        elif line.startswith("# ") and not line.startswith("# ---"):
            is_explained = True
        elif "=" in line and not is_explained:
            unexplained.append(line)
    assert not unexplained


def test_no_secret_is_written_down() -> None:
    is_secret = re.compile("SECRET|PASSWORD|TOKEN$|KEY$|SLACK_0_URL")
    assert {name for name in _example() if is_secret.search(name)} == set(SECRETS)
    assert not [name for name in SECRETS if _example()[name]]
    for environment in _environments().values():
        for name, value in environment.items():
            if is_secret.search(name):
                assert re.fullmatch(r"\$\{\w+(:-|:\?[^}]*)\}", value), name
    instructions = "\n".join(_dockerfile())
    assert not is_secret.search(instructions)


def test_the_service_does_not_start_without_a_secret() -> None:
    assert _environments()["squash_api"]["SQUASH_SECRET"].startswith("${SQUASH_SECRET:?")


def test_all_state_is_in_named_volumes() -> None:
    declared = set(yaml.safe_load(COMPOSE.read_text("utf-8"))["volumes"])
    mounted = [
        volume.split(":")
        for service in _services().values()
        for volume in service["volumes"]
        if not volume.startswith("./")
    ]
    assert {name for name, _ in mounted} == declared
    assert {path for _, path in mounted} == {
        "/record",
        "/var/lib/postgresql/data",
        "/var/lib/influxdb",
        "/var/lib/kapacitor",
        "/var/lib/chronograf",
        "/var/lib/grafana",
    }


def test_what_is_mounted_from_the_repository_is_there_and_cannot_be_written() -> None:
    mounts = [
        volume
        for service in _services().values()
        for volume in service["volumes"]
        if volume.startswith("./")
    ]
    assert len(mounts) == 5
    for mount in mounts:
        folder, _, mode = mount.split(":")
        assert any((ROOT / folder).iterdir()), folder
        assert mode == "ro"


def test_the_service_uses_every_metrics_package_of_the_repository_but_no_example() -> None:
    packages = sorted(path.name for path in (ROOT / "specs").iterdir() if path.is_dir())
    named = _interpolated()["SQUASH_SPECS"]
    assert named == ":".join(f"specs/{name}" for name in packages)
    assert _example()["SQUASH_SPECS"] == named


def test_specs_mean_the_same_in_the_container_as_in_the_checkout() -> None:
    service = _services()["squash_api"]
    assert service["working_dir"] == "/"
    assert "./specs:/specs:ro" in service["volumes"]


@pytest.mark.parametrize(
    ("name", "value"),
    [("SQUASH_SPECS", "specs/mine"), ("SQUASH_URL", "https://squash.example.org")],
)
def test_the_service_is_given_what_env_says(tmp_path: Path, name: str, value: str) -> None:
    document = _configured(tmp_path, SQUASH_SECRET=DUMMY_SECRET, **{name: value})
    assert document["services"]["squash_api"]["environment"][name] == value


def test_the_image_of_the_service_has_the_version_of_the_project() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    assert _services()["squash_api"]["image"] == f"squash_api:{project['version']}"


def test_the_settings_of_the_example_are_known_to_the_service(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in list(os.environ):
        if name.upper().startswith("SQUASH_"):
            monkeypatch.delenv(name)
    (tmp_path / ".env").write_text(ENV_EXAMPLE.read_text("utf-8"))
    monkeypatch.chdir(tmp_path)
    assert load_settings().specs == (Path("specs/srd"),)


def test_one_database_for_all() -> None:
    default = Settings.model_fields["influx_database"].default
    assert _environments()["influxdb"]["INFLUXDB_DB"] == default
    assert _environments()["squash_api"]["SQUASH_INFLUX_DATABASE"] == default


def test_ports_are_open_on_this_machine_alone(tmp_path: Path) -> None:
    services = _configured(tmp_path, SQUASH_SECRET=DUMMY_SECRET)["services"]
    assert {name: given["ports"] for name, given in services.items() if "ports" in given} == {
        "squash_api": ["127.0.0.1:8000:8000/tcp"],
        "influxdb": ["127.0.0.1:8086:8086/tcp"],
        "kapacitor": ["127.0.0.1:9092:9092/tcp"],
        "chronograf": ["127.0.0.1:8888:8888/tcp"],
    } | ({"grafana": ["127.0.0.1:3000:3000/tcp"]} if "grafana" in services else {})


def test_every_server_is_watched_limited_and_started_again() -> None:
    for name, service in _services().items():
        assert service["restart"] == "unless-stopped", name
        assert service["logging"]["options"]["max-size"], name
        assert service["mem_limit"], name
        assert "healthcheck" in service or name == "squash_api", name
    assert any(line.startswith("HEALTHCHECK") for line in _dockerfile())


def test_postgresql_is_started_only_by_its_profile_and_serves_only_the_containers() -> None:
    service = _services()["postgresql"]
    assert service["profiles"] == ["postgresql"]
    assert "ports" not in service


def test_grafana_is_started_only_by_its_profile_with_an_admin_s_password() -> None:
    service = _services()["grafana"]
    assert service["profiles"] == ["grafana"]
    assert {name for name, each in _services().items() if "profiles" in each} == {
        "postgresql",
        "grafana",
    }
    # Compose reads `$$` as `$`.
    shell, option, script = (part.replace("$$", "$") for part in service["entrypoint"])
    script = script.replace("exec /run.sh", "echo started")
    for password, said in (("", "GRAFANA_ADMIN_PASSWORD is empty"), ("x", "started")):
        reply = subprocess.run(
            [shell, option, script],
            env={"PATH": "/usr/bin:/bin", "GF_SECURITY_ADMIN_PASSWORD": password},
            capture_output=True,
            text=True,
            check=False,
        )
        assert said in reply.stdout + reply.stderr
        assert reply.returncode == (0 if password else 1)


def test_grafana_is_given_what_its_files_ask_for_and_tells_nobody() -> None:
    environment = _environments()["grafana"]
    files = [path.read_text("utf-8") for path in (ROOT / "grafana/provisioning").rglob("*.yaml")]
    named = set(re.findall(r"(?<!\$)\$\{?(SQUASH_\w+)", "\n".join(files)))
    assert named
    assert named <= set(environment)
    telling = {name for name in environment if "ANALYTICS" in name or "NEWS" in name}
    assert len(telling) == 5
    assert {environment[name] for name in telling} == {"false"}


def test_grafana_finds_the_dashboards_where_its_provisioning_says() -> None:
    (path,) = (ROOT / "grafana/provisioning/dashboards").glob("*.yaml")
    (provider,) = yaml.safe_load(path.read_text("utf-8"))["providers"]
    mount = f"./grafana/dashboards:{provider['options']['path']}:ro"
    assert mount in _services()["grafana"]["volumes"]


def test_the_record_is_in_postgresql_if_the_example_is_followed(tmp_path: Path) -> None:
    text = ENV_EXAMPLE.read_text("utf-8")
    (url,) = re.findall(r"^# (postgresql\S+)\.", text, re.MULTILINE)
    given = _configured(tmp_path, **SECRETS, RECORD_URL=url)["services"]["squash_api"]
    parsed = make_url(given["environment"]["SQUASH_DATABASE_URL"])
    server = _environments()["postgresql"]
    assert (parsed.host, parsed.username, parsed.database) == (
        "postgresql",
        server["POSTGRES_USER"],
        server["POSTGRES_DB"],
    )
    # Both get the password, and neither from a URL.
    assert parsed.password is None
    assert given["environment"]["PGPASSWORD"] == SECRETS["POSTGRES_PASSWORD"]


def test_the_image_can_keep_its_record_in_postgresql() -> None:
    (install,) = [line for line in _dockerfile() if "--require-hashes" in line]
    assert "-r /build/requirements/postgresql.txt" in install


def test_servers_wait_for_influxdb_and_the_service_for_nothing() -> None:
    waits = {"influxdb": {"condition": "service_healthy"}}
    services = _services()
    assert services["kapacitor"]["depends_on"] == waits
    assert services["chronograf"]["depends_on"] == waits
    assert services["grafana"]["depends_on"] == waits
    assert "depends_on" not in services["squash_api"]


def test_images_are_named_without_a_registry() -> None:
    images = [service["image"].rpartition(":-")[2] for service in _services().values()]
    images += [line.split()[1] for line in _dockerfile() if line.startswith("FROM ")]
    # A name before a slash is that of a registry if it has a point or a port.
    assert not [image for image in images if re.match(r"[^/]*[.:][^/]*/", image)]


def test_the_image_runs_as_a_user_of_its_own() -> None:
    instructions = _dockerfile()
    last_stage = instructions[max(i for i, line in enumerate(instructions) if "FROM" in line) :]
    assert "USER squash" in last_stage
    assert any("useradd" in line and "--uid 10001" in line for line in last_stage)


def test_the_image_installs_what_is_pinned_with_hashes() -> None:
    installs = [line for line in _dockerfile() if "pip install" in line]
    assert "--require-hashes" in installs[0]
    assert "-r /build/requirements/main.txt" in installs[0]
    assert all("--no-deps" in line for line in installs[1:])


def test_the_image_is_made_from_nothing_but_what_the_build_may_see() -> None:
    lines = (ROOT / ".dockerignore").read_text("utf-8").splitlines()
    rules = [line for line in lines if line and not line.startswith("#")]
    assert rules[0] == "*"
    seen = [rule.removeprefix("!") for rule in rules if rule.startswith("!")]
    copied = [
        source
        for line in _dockerfile()
        if line.startswith("COPY ") and "--from" not in line
        for source in line.split()[1:-1]
    ]
    assert sorted(copied) == sorted(seen)
    assert all((ROOT / source).exists() for source in copied)
    assert not [rule for rule in seen if fnmatch(".env", rule)]


def test_the_package_that_the_image_installs_is_whole(tmp_path: Path) -> None:
    source = tmp_path / "build"
    ignored = shutil.ignore_patterns("__pycache__")
    shutil.copytree(ROOT / "squash_api", source / "squash_api", ignore=ignored)
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, source)
    subprocess.run(
        [
            *(sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--no-build-isolation"),
            *("--no-index", "--wheel-dir", str(tmp_path), str(source)),
        ],
        check=True,
        timeout=120,
        capture_output=True,
    )
    (wheel,) = tmp_path.glob("*.whl")
    with ZipFile(wheel) as archive:
        packed = {name for name in archive.namelist() if ".dist-info/" not in name}
    # What a new migration is begun from is for developers alone.
    wanted = {
        path.relative_to(source).as_posix()
        for path in (source / "squash_api").rglob("*")
        if path.is_file() and path.suffix != ".mako"
    }
    assert packed == wanted


def test_the_variables_of_the_image_are_settings() -> None:
    named = set(re.findall(r"\b(SQUASH_\w+)=", "\n".join(_dockerfile())))
    fixed = {name for name, why in FIXED_SETTINGS.items() if "Dockerfile" in why}
    # Compose says it again, by a variable of its own.
    assert named == fixed | {"SQUASH_DATABASE_URL"}


def test_the_health_check_of_the_image_tells_a_running_service_from_none(tmp_path: Path) -> None:
    (line,) = [line for line in _dockerfile() if line.startswith("HEALTHCHECK")]
    command = json.loads(line.partition("CMD ")[2])
    assert command[0] == "python"

    def check(port: int) -> int:
        return subprocess.run(
            [sys.executable, *command[1:]],
            env={"SQUASH_PORT": str(port), "http_proxy": "http://127.0.0.1:9"},
            capture_output=True,
            timeout=60,
            check=False,
        ).returncode

    with Service(tmp_path) as service:
        assert check(service.port) == 0
    assert check(service.port) == 1
