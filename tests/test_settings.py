import os
import re
from pathlib import Path
from socket import gethostname
from typing import Any

import pytest
from pydantic import SecretStr, ValidationError

from squash_api.errors import SettingsError
from squash_api.setting_types import KafkaTarget
from squash_api.settings import (
    OTHER_VARIABLES,
    KapacitorTarget,
    Settings,
    load_settings,
    previous_secret,
    require_secret,
)
from tests.support.builders import make_settings


@pytest.fixture(autouse=True)
def clean_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Without the developer's own variables, and without a `.env`."""
    for name in [name for name in os.environ if name.startswith("SQUASH_")]:
        monkeypatch.delenv(name)
    monkeypatch.chdir(tmp_path)


def refusal(**changes: Any) -> str:
    with pytest.raises(SettingsError) as caught:
        load_settings(**changes)
    return caught.value.message


def test_without_any_variable_the_defaults_are_those_of_the_embedded_service() -> None:
    settings = load_settings()
    assert settings.database_url == "sqlite:///squash.db"
    assert settings.registration == "closed"
    assert settings.targets == ()


def test_variables_of_generated_files_stand_for_what_is_set_and_not_for_a_default() -> None:
    assert load_settings().file_variables == {}
    known = load_settings(url="https://squash.example.org", slack_url="https://hooks.example.org/x")
    assert known.file_variables == {
        "SQUASH_URL": "https://squash.example.org",
        "SQUASH_SLACK_URL": "https://hooks.example.org/x",
    }


def test_every_setting_has_a_description() -> None:
    assert all(field.description for field in Settings.model_fields.values())


def test_a_variable_is_read_with_the_prefix(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SQUASH_PORT", "8123")
    monkeypatch.setenv("PORT", "1")
    assert load_settings().port == 8123


def test_an_empty_variable_counts_as_unset(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SQUASH_INFLUX_URL", "")
    assert load_settings().influx_url is None


def test_env_file_is_read(tmp_path: Path) -> None:
    (tmp_path / ".env").write_text("SQUASH_PORT=8124\nOTHER=x\n")
    assert load_settings().port == 8124


def test_the_environment_wins_over_the_env_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / ".env").write_text("SQUASH_PORT=8124\n")
    monkeypatch.setenv("SQUASH_PORT", "8125")
    assert load_settings().port == 8125


def test_an_override_wins_over_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SQUASH_PORT", "8125")
    assert load_settings(port=8126).port == 8126


def test_every_wrong_variable_is_named_at_once() -> None:
    message = refusal(port=70_000, registration="maybe", url="nowhere")
    assert [line.partition(":")[0] for line in message.splitlines()] == [
        "SQUASH_PORT",
        "SQUASH_URL",
        "SQUASH_REGISTRATION",
    ]


# Names that are no settings


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("SQUASH_SPEC", "did you mean SQUASH_SPECS?"),
        ("SQUASH_INFLUXDB_URL", "did you mean SQUASH_INFLUX_URL?"),
        ("squash_prot", "did you mean SQUASH_PORT?"),
        ("SQUASH_PASWORD", "did you mean SQUASH_PASSWORD?"),
        ("SQUASH_COLOUR_OF_PAGES", "remove it"),
        ("SQUASH_", "remove it"),
    ],
)
@pytest.mark.parametrize("place", ["the environment", ".env"])
def test_an_unknown_variable_is_an_error_with_the_nearest_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, said: str, place: str
) -> None:
    if place == ".env":
        (tmp_path / ".env").write_text(f"{name}=x\n")
    else:
        monkeypatch.setenv(name, "x")
    message = f"{name.upper()}: there is no such setting (in {place}): {said}"
    assert refusal() == message


def test_unknown_variables_and_wrong_values_are_named_together(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("SQUASH_SPEC", "x")
    monkeypatch.setenv("SQUASH_WATHC", "off")
    names = [line.partition(":")[0] for line in refusal(port=70_000).splitlines()]
    assert names == ["SQUASH_SPEC", "SQUASH_WATHC", "SQUASH_PORT"]


@pytest.mark.parametrize("name", sorted(OTHER_VARIABLES))
def test_variables_of_others_are_known(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.setenv(name, "x")
    load_settings()


def test_every_variable_that_the_project_names_is_known() -> None:
    root = Path(__file__).parent.parent
    places = [root / name for name in ("README.md", "Makefile", "docker-compose.yml")]
    places += [
        *(root / "docs").glob("*.md"),
        *(root / "squash_api").rglob("*.py"),
        root / "Dockerfile",
    ]
    named = {
        name
        for place in places
        for name in re.findall(r"SQUASH_[A-Z_]*[A-Z]", place.read_text("utf-8"))
    }
    known = {f"SQUASH_{name.upper()}" for name in Settings.model_fields}
    assert named - known - set(OTHER_VARIABLES) <= {"SQUASH_ID", "SQUASH_INFLUX"}


def test_an_unknown_variable_without_a_value_is_let_pass(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SQUASH_SPEC", "")
    load_settings()


# The address of the service


@pytest.mark.parametrize(
    ("given", "url"),
    [
        ({}, "http://127.0.0.1:8000"),
        ({"port": 8123}, "http://127.0.0.1:8123"),
        ({"host": "squash.example.org", "port": 80}, "http://squash.example.org:80"),
        ({"host": "::1"}, "http://[::1]:8000"),
        ({"host": "0.0.0.0"}, "http://127.0.0.1:8000"),
        ({"host": "::"}, "http://[::1]:8000"),
        ({"port": 8123, "url": "https://squash.example.org"}, "https://squash.example.org"),
    ],
)
def test_the_url_follows_host_and_port_unless_it_is_set(given: dict[str, Any], url: str) -> None:
    assert load_settings(**given).url == url


@pytest.mark.parametrize(
    ("given", "is_told"),
    [
        ({}, False),
        ({"port": 8123}, False),
        ({"port": 8123, "url": "http://127.0.0.1:8000"}, True),
        ({"port": 8123, "url": "http://localhost:8000/squash"}, True),
        ({"port": 8123, "url": "http://localhost:8123/squash"}, False),
        ({"port": 8123, "url": "http://localhost"}, True),
        ({"port": 80, "url": "http://localhost"}, False),
        ({"port": 443, "url": "https://127.0.0.1"}, False),
        ({"port": 8123, "host": "0.0.0.0", "url": "http://127.0.0.1:8000"}, True),
        ({"port": 8123, "host": "0.0.0.0"}, True),
        ({"port": 8123, "host": "0.0.0.0", "url": f"http://{gethostname()}:8000"}, True),
        ({"port": 8123, "host": "0.0.0.0", "url": f"http://{gethostname()}:8123"}, False),
        ({"port": 8123, "host": "h", "url": "http://h:8000"}, True),
        ({"port": 8123, "host": "h", "url": "http://H:8123"}, False),
        ({"port": 8123, "url": "https://squash.example.org"}, False),
    ],
)
def test_a_url_that_leads_elsewhere_on_the_same_host_is_told(
    given: dict[str, Any], *, is_told: bool
) -> None:
    assert (load_settings(**given).url_problem() is not None) == is_told


def test_a_refusal_does_not_show_a_secret() -> None:
    assert "hunter2" not in refusal(influx_password=["hunter2"])


@pytest.mark.parametrize("name", ["url", "influx_url", "kapacitor_url", "chronograf_url"])
@pytest.mark.parametrize(
    "url",
    [
        *("example.org", "ftp://example.org", "http://", "http://h:99999", "http://h:0"),
        *("http://h:x", "http://[::1", "http://h/?a=b", "http://h/#a", "http://a b/"),
    ],
)
def test_what_is_no_plain_http_url_is_refused(name: str, url: str) -> None:
    assert refusal(**{name: url}).startswith(f"SQUASH_{name.upper()}: ")


@pytest.mark.parametrize(
    ("url", "path"),
    [
        ("http://h", ""),
        ("http://h/", ""),
        (" https://h:8/api// ", "/api"),
        ("https://h/a/b", "/a/b"),
        ("http://[::1]:8086/", ""),
    ],
)
def test_path_of_the_public_root_has_no_trailing_slash(url: str, path: str) -> None:
    settings = load_settings(url=url)
    assert settings.url_path == path
    assert not settings.url.endswith(("/", " "))


def test_specs_are_separated_by_colons(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SQUASH_SPECS", "specs/srd: specs/camera:")
    assert load_settings().specs == (Path("specs/srd"), Path("specs/camera"))


def test_tags_are_separated_by_commas(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SQUASH_TAGS", "site, telescope,")
    assert load_settings().tags == ("site", "telescope")


def test_settings_cannot_be_changed() -> None:
    with pytest.raises(ValidationError):
        load_settings().port = 1  # type: ignore[misc]


# Targets


def test_influx_url_makes_the_target_default() -> None:
    settings = load_settings(
        influx_url="http://h:8086/", influx_database="d", influx_user="u", influx_password="p"
    )
    (target,) = settings.targets
    assert (target.name, target.url, target.database) == ("default", "http://h:8086", "d")
    assert (target.user, target.password, target.token) == ("u", SecretStr("p"), None)


def test_further_targets_come_after_the_default_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SQUASH_INFLUX_URL", "http://one")
    monkeypatch.setenv("SQUASH_INFLUX_TARGETS", '[{"name": "base", "url": "http://two"}]')
    assert [target.name for target in load_settings().targets] == ["default", "base"]


@pytest.mark.parametrize(
    "text",
    [
        *("[{", "nonsense", '{"url": "http://h"}', '[{"name": "a"}]', '[{"url": "nowhere"}]'),
        *('[{"url": "http://h", "name": "a/b"}]', '[{"url": "http://h", "databse": "x"}]'),
        '[{"url": "http://h", "database": ""}]',
    ],
)
def test_targets_that_cannot_be_are_refused(monkeypatch: pytest.MonkeyPatch, text: str) -> None:
    monkeypatch.setenv("SQUASH_INFLUX_TARGETS", text)
    assert refusal().startswith("SQUASH_INFLUX_TARGETS")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ('[{"name": "a"}]', "[0].url: is missing"),
        ('[{"url": "http://h"}, {"url": "http://h", "databse": "x"}]', "[1].databse: is no key"),
    ],
)
def test_a_key_of_a_target_is_named_as_it_is_written(
    monkeypatch: pytest.MonkeyPatch, text: str, said: str
) -> None:
    monkeypatch.setenv("SQUASH_INFLUX_TARGETS", text)
    assert refusal().startswith(f"SQUASH_INFLUX_TARGETS{said}")


def test_two_targets_of_one_name_are_refused() -> None:
    target = {"name": "default", "url": "http://two"}
    message = refusal(influx_url="http://one", influx_targets=[target])
    assert "same name" in message


def test_kapacitor_is_an_outlet_that_shares_its_name_with_no_influxdb() -> None:
    settings = load_settings(kapacitor_url="http://k:9092/", influx_database="metrics")
    assert settings.targets == ()
    assert settings.outlets == (KapacitorTarget(url="http://k:9092", database="metrics"),)
    target = {"name": "kapacitor", "url": "http://two"}
    message = refusal(kapacitor_url="http://k:9092", influx_targets=[target])
    assert "the same name, kapacitor" in message


def test_every_kapacitor_is_an_outlet_and_no_two_targets_share_a_name() -> None:
    base = {"name": "base", "url": "http://b:9092/", "database": "other"}
    settings = load_settings(kapacitor_url="http://k:9092", kapacitor_targets=[base])
    assert [(item.name, item.url, item.database) for item in settings.kapacitors] == [
        ("kapacitor", "http://k:9092", "squash"),
        ("base", "http://b:9092", "other"),
    ]
    assert settings.outlets == settings.kapacitors
    assert [item.label for item in settings.outlets] == ["Kapacitor", "Kapacitor base"]
    influxdb = {"name": "base", "url": "http://two"}
    assert "the same name, base" in refusal(influx_targets=[influxdb], kapacitor_targets=[base])
    assert "the same name, base" in refusal(kapacitor_targets=[base, base])


def test_the_service_leaves_slack_to_any_kapacitor() -> None:
    told = {"slack_url": "https://slack.example.org/x"}
    base = {"name": "base", "url": "http://b:9092"}
    assert load_settings(**told).tells_slack
    assert not load_settings(**told, kapacitor_targets=[base]).tells_slack
    assert not load_settings(**told, alerts_by="grafana").tells_slack
    assert load_settings(**told, alerts_by="grafana", slack="on").tells_slack


@pytest.mark.parametrize("name", ["SQUASH_URL", "SQUASH_SECRET"])
def test_a_value_that_is_not_utf8_is_refused(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.setenv(name, "http://" + "\udcff" * 40)
    with pytest.raises(SettingsError, match="UTF-8"):
        require_secret(load_settings())


# Registration and secret


def test_registration_by_key_needs_the_key() -> None:
    assert refusal(registration="key").startswith("SQUASH_REGISTRATION_KEY: ")
    assert load_settings(registration="key", registration_key="k" * 16).registration == "key"


@pytest.mark.parametrize("secret", [None, "", "x" * 31])
def test_a_missing_or_short_secret_is_refused(secret: str | None) -> None:
    with pytest.raises(SettingsError, match="SQUASH_SECRET"):
        require_secret(load_settings(secret=secret))


@pytest.mark.parametrize("secret", ["short", "x" * 31, "s" * 32])
def test_a_previous_secret_that_is_short_or_the_present_one_is_refused(secret: str) -> None:
    with pytest.raises(SettingsError, match="SQUASH_SECRET_PREVIOUS"):
        previous_secret(load_settings(secret="s" * 32, secret_previous=secret))


@pytest.mark.parametrize("secret", [None, "", "p" * 32])
def test_there_may_be_a_previous_secret(secret: str | None) -> None:
    settings = load_settings(secret="s" * 32, secret_previous=secret or None)
    assert previous_secret(settings) == (secret or None)


def test_the_length_of_the_secret_is_counted_in_bytes() -> None:
    assert require_secret(load_settings(secret="é" * 16)) == "é" * 16


def test_secrets_are_not_shown() -> None:
    settings = load_settings(
        secret="s" * 32, influx_password="s" * 32, influx_url="http://h", registration_key="s" * 32
    )
    assert "sss" not in f"{settings!r} {settings.targets!r}"


def test_settings_of_tests_do_not_read_the_environment(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("SQUASH_PORT", "8125")
    assert make_settings(tmp_path).port == 8000


@pytest.mark.parametrize("key", ["k", "sesame, open!!!", " " * 40, "short           "])
def test_a_registration_key_that_can_be_guessed_is_refused(key: str) -> None:
    message = refusal(registration="key", registration_key=key)
    assert message.startswith("SQUASH_REGISTRATION_KEY: must have at least 16 characters")
    assert load_settings(registration="closed", registration_key=key).registration == "closed"


@pytest.mark.parametrize(
    ("text", "networks"),
    [
        ("127.0.0.1", ("127.0.0.1/32",)),
        ("10.0.0.0/8, ::1,", ("10.0.0.0/8", "::1/128")),
        ("", ()),
    ],
)
def test_trusted_proxies_are_addresses_and_networks(
    monkeypatch: pytest.MonkeyPatch, text: str, networks: tuple[str, ...]
) -> None:
    monkeypatch.setenv("SQUASH_TRUSTED_PROXIES", text)
    assert load_settings().trusted_proxies == networks


@pytest.mark.parametrize("text", ["*", "nginx", "10.0.0.1/8", "1.2.3.4:80"])
def test_a_proxy_that_is_no_address_is_refused(text: str) -> None:
    assert refusal(trusted_proxies=text).startswith("SQUASH_TRUSTED_PROXIES")


@pytest.mark.parametrize(
    ("text", "hosts"),
    [
        ("", ()),
        ("Plots.example.org, 127.0.0.1:8800,", ("plots.example.org", "127.0.0.1:8800")),
    ],
)
def test_artifact_hosts_are_names_with_or_without_port(
    monkeypatch: pytest.MonkeyPatch, text: str, hosts: tuple[str, ...]
) -> None:
    monkeypatch.setenv("SQUASH_ARTIFACT_HOSTS", text)
    assert load_settings().artifact_hosts == hosts


@pytest.mark.parametrize(
    "text",
    [
        "*",
        "*.example.org",
        "https://plots.example.org",
        "plots.example.org/a",
        "plots.example.org; script-src *",
        "a b",
        "'unsafe-inline'",
        "data:",
        "x.example:0",
        "a..b",
    ],
)
def test_what_is_no_artifact_host_is_refused(text: str) -> None:
    assert refusal(artifact_hosts=text).startswith("SQUASH_ARTIFACT_HOSTS")


@pytest.mark.parametrize(
    ("text", "seconds"), [("90", 90), ("90s", 90), ("2m", 120), ("0", 0), ("0.5", 0.5)]
)
def test_the_quiet_of_alerts_may_have_a_unit(
    monkeypatch: pytest.MonkeyPatch, text: str, seconds: float
) -> None:
    monkeypatch.setenv("SQUASH_ALERT_QUIET", text)
    assert load_settings().alert_quiet == seconds


@pytest.mark.parametrize("text", ["soon", "-1", "2h", "s", "3601", "nan"])
def test_a_quiet_that_is_none_is_refused_by_name(
    monkeypatch: pytest.MonkeyPatch, text: str
) -> None:
    monkeypatch.setenv("SQUASH_ALERT_QUIET", text)
    assert "SQUASH_ALERT_QUIET" in refusal()


def test_kafka_is_two_targets_so_that_events_do_not_wait_for_points(tmp_path: Path) -> None:
    settings = make_settings(
        tmp_path, kafka_brokers=("k:9092",), kafka_send=("points", "alerts"), kafka_tls="on"
    )
    events, points = settings.outlets
    assert isinstance(events, KafkaTarget)
    assert isinstance(points, KafkaTarget)
    assert (events.name, events.sends, events.is_tls) == ("kafka", ("alerts",), True)
    assert (points.name, points.sends) == ("kafka-points", ("points",))
    assert make_settings(tmp_path, kafka_brokers=("k:9092",)).kafka[0].sends == (
        "jobs",
        "verdicts",
        "alerts",
    )


@pytest.mark.parametrize(
    ("variables", "words"),
    [
        ({"BROKERS": "k"}, "SQUASH_KAFKA_BROKERS[0]: must be brokers such as kafka.example.org:"),
        ({"BROKERS": "k:0"}, "SQUASH_KAFKA_BROKERS[0]: must be brokers"),
        ({"BROKERS": "ada:hidden@k:9092"}, "SQUASH_KAFKA_BROKERS[0]: must be brokers"),
        ({"SEND": "jobs,everything"}, "SQUASH_KAFKA_SEND[1]: "),
        ({"PREFIX": "a-b"}, "SQUASH_KAFKA_PREFIX: must be names between dots"),
        ({"NAMESPACE": "lsst..dm"}, "SQUASH_KAFKA_NAMESPACE: must be names between dots"),
        ({"SEND": "points", "POINTS": "avro"}, "SQUASH_KAFKA_REGISTRY: must be set when"),
        ({"USER": "u"}, "SQUASH_KAFKA_PASSWORD: must be set when SQUASH_KAFKA_USER is"),
        ({"PASSWORD": "hidden"}, "SQUASH_KAFKA_USER: must be set when SQUASH_KAFKA_PASSWORD is"),
        (
            {"USER": "u", "PASSWORD": "hidden", "MECHANISM": "PLAIN"},
            "SQUASH_KAFKA_TLS: must be on when SQUASH_KAFKA_MECHANISM is PLAIN",
        ),
        ({"CA": "/nowhere/ca.pem"}, "SQUASH_KAFKA_CA: there is no file /nowhere/ca.pem"),
    ],
)
def test_what_is_wrong_with_kafka_is_said_by_the_variable(
    monkeypatch: pytest.MonkeyPatch, variables: dict[str, str], words: str
) -> None:
    for name, text in ({"BROKERS": "kafka.example.org:9092"} | variables).items():
        monkeypatch.setenv(f"SQUASH_KAFKA_{name}", text)
    with pytest.raises(SettingsError) as found:
        load_settings(_env_file=None)
    assert words in str(found.value)
    assert "hidden" not in str(found.value)
