"""Settings: environment variables (and `.env`), one field each with its description."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from difflib import get_close_matches
from pathlib import Path
from socket import gethostname
from typing import Annotated, Any, Literal, TypeVar
from urllib.parse import urlsplit

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    SecretStr,
    ValidationError,
)
from pydantic_settings import (
    DotEnvSettingsSource,
    EnvSettingsSource,
    NoDecode,
    SettingsConfigDict,
)

from squash_api.errors import SettingsError, plain_words
from squash_api.setting_types import (
    DAYS,
    DURATION,
    LOOPBACK,
    AlertsBy,
    Host,
    KafkaSettings,
    KafkaTarget,
    Keep,
    Network,
    Package,
    Prefix,
    Repository,
    SecretUrl,
    Url,
    json_text,
    seconds,
    split,
)

# Where JSON has a key too few or too many.
_WORDS = {"missing": "is missing", "extra_forbidden": "is no key that is known here"}

MIN_SECRET_BYTES = 32
MIN_KEY_CHARACTERS = 16

OTHER_VARIABLES: Mapping[str, str] = {
    "SQUASH_KEY": "commands that ask a service",
    "SQUASH_USER": "commands that send jobs",
    "SQUASH_PASSWORD": "commands that send jobs",
    "SQUASH_SPOOL": "squash run, squash watch and squash spool",
    "SQUASH_RUN_ID": "squash run, for a run inside a run",
    "SQUASH_RUN_CLAIMS": "squash run, from squash watch",
    "SQUASH_MEMORY": "docker-compose.yml",
    "SQUASH_TEST_REQUIRE": "the tests",
    "SQUASH_TEST_HISTORIES": "the tests",
    "SQUASH_TEST_DAMAGES": "the tests",
    "SQUASH_TEST_KILLS": "the tests",
    "SQUASH_TEST_REPLICA_KILLS": "the tests",
    "SQUASH_TEST_REPLICA_JOBS": "the tests",
    "SQUASH_TEST_QUEUED": "the tests",
    "SQUASH_TEST_SEED": "the tests",
    "SQUASH_TEST_FIGURES": "the tests",
    "SQUASH_TEST_FUZZ": "the tests",
    "SQUASH_TEST_ENGINES": "the tests",
}
"""Variables that are not settings of the service, and who reads them."""

_PREFIX = "SQUASH_"
_EVERY_ADDRESS = {"": "127.0.0.1", "0.0.0.0": "127.0.0.1", "::": "::1"}  # noqa: S104  looked up


def _own_url(given: Mapping[str, Any]) -> str:
    """Return the address that the service listens on, as a URL that this machine can use."""
    host = given.get("host", "127.0.0.1")
    host = _EVERY_ADDRESS.get(host, host)
    port = given.get("port", 8000)
    # Which one 0 becomes is known only to `serve`.
    return f"http://{f'[{host}]' if ':' in host else host}{f':{port}' if port else ''}"


_TARGET_NAME = r"^[A-Za-z0-9_.-]{1,64}$"


class InfluxTarget(BaseModel):
    """An InfluxDB that receives every point. A `token` takes precedence over `user`."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str = Field("default", pattern=_TARGET_NAME)
    url: Url
    database: str = Field("squash", min_length=1)
    user: str | None = None
    password: SecretStr | None = None
    token: SecretStr | None = None

    @property
    def label(self) -> str:
        """What people call it."""
        return f"InfluxDB {self.name}"


class KapacitorTarget(BaseModel):
    """A Kapacitor that is told what is the newest value of each series."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str = Field("kapacitor", pattern=_TARGET_NAME)
    url: Url
    database: str = Field("squash", min_length=1)
    retention_policy: str = Field("autogen", min_length=1)

    @property
    def label(self) -> str:
        """What people call it; there is mostly one."""
        return "Kapacitor" if self.name == "kapacitor" else f"Kapacitor {self.name}"


Target = InfluxTarget | KapacitorTarget | KafkaTarget
"""What an outlet sends to."""


_AnyTarget = TypeVar("_AnyTarget", InfluxTarget, InfluxTarget | KafkaTarget, Target)


class Settings(KafkaSettings):
    """The settings; in the environment each name has the prefix `SQUASH_`."""

    model_config = SettingsConfigDict(
        env_prefix=_PREFIX, env_file=".env", extra="ignore", frozen=True, env_ignore_empty=True
    )

    secret: SecretStr | None = Field(None, description="Key that signs tokens; 32 bytes or more.")
    secret_previous: SecretStr | None = Field(
        None, description="The key before it, whose tokens are still read: see the rotation."
    )
    host: str = Field("127.0.0.1", description="Address to listen on.")
    port: int = Field(8000, ge=0, le=65535, description="Port to listen on; 0: any free one.")
    # After host and port, from which its default is made.
    url: Url = Field(
        default_factory=_own_url,
        description="Public root URL of the service, used in every link. Default: host and port.",
    )
    database_url: str = Field("sqlite:///squash.db", description="The record, as a SQLAlchemy URL.")
    read_only: Literal["auto", "on"] = Field(
        "auto",
        description="Only read the record: `auto` if it is a streaming replica, or `on`.",
    )
    write_url: Url | None = Field(
        None, description="Public root URL of the service that writes, where this one only reads."
    )
    registration: Literal["open", "key", "closed"] = Field(
        "closed", description="Who may register: anyone, those with the key, or nobody."
    )
    registration_key: SecretStr | None = Field(
        None, description="The `key` that the body of /register must have."
    )
    registrations_per_address: int = Field(
        60, ge=1, description="Most users that one address may register in an hour."
    )
    registrations_per_hour: int = Field(
        240, ge=1, description="Most users that all together may register in an hour."
    )
    trusted_proxies: Annotated[tuple[Network, ...], NoDecode, split(",")] = Field(
        (),
        description=(
            "Addresses or networks of proxies whose X-Forwarded-For is believed, separated by "
            "commas."
        ),
    )
    token_minutes: int = Field(60, ge=1, le=10_080, description="Lifetime of a token, in minutes.")
    read: Literal["open", "users"] = Field(
        "open", description="Who may read: everybody who reaches the service, or users."
    )
    artifact_hosts: Annotated[tuple[Host, ...], NoDecode, split(",")] = Field(
        (), description="Hosts whose pictures the page of a job shows, separated by commas."
    )
    session_hours: int = Field(
        12, ge=1, le=720, description="How long a login on the pages lasts, in hours."
    )
    specs: Annotated[tuple[Path, ...], NoDecode, split(":")] = Field(
        (), description="Metrics-package directories, separated by colons."
    )
    tags: Annotated[tuple[str, ...], NoDecode, split(",")] = Field(
        (),
        description="More metadata keys that become tags, separated by commas.",
    )
    default_package: Package = Field(
        "quicklook", description="The package of metrics that simple clients post without one."
    )
    simple_prefixes: Annotated[tuple[Prefix, ...], NoDecode, split(",")] = Field(
        (),
        description=(
            "Paths under which the API is found too, separated by commas, such as "
            "/api,/dashboard/api."
        ),
    )
    anonymous_namespaces: Annotated[tuple[str, ...], NoDecode, split(",")] = Field(
        (),
        description="Namespaces of Sasquatch to which anyone may send records, between commas.",
    )
    sasquatch_prefix: Prefix = Field(
        "/sasquatch-rest-proxy",
        description="Path below which Sasquatch's clients are answered too, besides the root.",
    )
    max_body_bytes: int = Field(16_000_000, ge=1_000, description="Largest job accepted, in bytes.")
    metadata_per_job: int = Field(2_000, ge=0, description="Most metadata keys of one job.")
    new_metrics_per_job: int = Field(
        1_000, ge=0, description="Most metrics that one job may be the first to measure."
    )
    new_metrics_per_day: int = Field(
        5_000, ge=0, description="Most new metrics that a user may bring in a UTC day."
    )
    new_tag_values_per_day: int = Field(
        5_000, ge=0, description="Most new values of each tag, likewise."
    )
    new_metadata_per_day: int = Field(5_000, ge=0, description="Most new metadata keys, likewise.")
    new_series_per_day: int = Field(100_000, ge=0, description="Most new series, likewise.")
    jobs_per_hour: int = Field(0, ge=0, description="Most jobs of a user in an hour; 0: any.")
    bytes_per_day: int = Field(
        0, ge=0, description="Most bytes of a user's jobs in a UTC day; 0: any."
    )
    keep: Keep | None = Field(
        None, description="How long jobs are kept, such as 400d; unset: for ever."
    )
    keep_releases: Annotated[tuple[str, ...], NoDecode, split(",")] = Field(
        (), description="Releases whose jobs are kept for ever: version tags, or patterns like v*."
    )
    readers: int = Field(
        1, ge=0, le=16, description="Processes that only read; 0: one does all, delivering too."
    )
    max_connections: int = Field(
        1_000, ge=10, le=100_000, description="Most connections at a time; fewer if files are few."
    )
    patience_s: float = Field(
        20,
        ge=1,
        le=600,
        description="How long clients may take for a request's head, or each 1 kB/s of the rest.",
    )
    instance: str | None = Field(
        None,
        min_length=1,
        max_length=200,
        description="Name of this process in what the service says of itself; else its host.",
    )
    log_jobs: Literal["on", "off"] = Field(
        "on", description="Log what becomes of each job, or only what is remarkable."
    )
    deliver: Literal["inline", "off"] = Field(
        "inline", description="Deliver from this service, or leave it to `squash deliver`."
    )
    watch: Literal["on", "off"] = Field(
        "on",
        description="Write every minute what is late and the state of metrics, or nothing.",
    )
    alert_quiet: Annotated[float, seconds()] = Field(
        60,
        ge=0,
        le=3600,
        description="How long no alert must join a group until it is told, in seconds.",
    )
    alerts_by: AlertsBy = Field(
        "kapacitor",
        description="Who tells people of alerts: `kapacitor`, or `grafana`. See `squash generate`.",
    )
    influx_url: Url | None = Field(None, description="InfluxDB of the target `default`.")
    influx_database: str = Field("squash", min_length=1, description="Its database.")
    influx_user: str | None = Field(None, description="Its user, for Basic authentication.")
    influx_password: SecretStr | None = Field(None, description="Its password.")
    influx_token: SecretStr | None = Field(None, description="Its token, instead of a password.")
    influx_targets: Annotated[tuple[InfluxTarget, ...], NoDecode, json_text()] = Field(
        (), description="JSON list of more targets: name, url, database, user, password, token."
    )
    kapacitor_url: Url | None = Field(
        None, description="Kapacitor: gets the newest value of each series, and for `squash live`."
    )
    kapacitor_retention_policy: str = Field(
        "autogen", min_length=1, description="The retention policy in the names of its tasks."
    )
    kapacitor_targets: Annotated[tuple[KapacitorTarget, ...], NoDecode, json_text()] = Field(
        (), description="JSON list of more Kapacitors: name, url, database, retention_policy."
    )
    chronograf_url: Url | None = Field(None, description="Chronograf, for `squash live`.")
    grafana_url: Url | None = Field(None, description="Grafana, for `squash live`.")
    grafana_token: SecretStr | None = Field(
        None, description="Token of a service account of Grafana, with the role Editor."
    )
    webhook_networks: Annotated[tuple[Network, ...], NoDecode, split(",")] = Field(
        (),
        description=(
            "Networks that are not public and that webhooks may be sent to, separated by commas."
        ),
    )
    slack_url: SecretUrl | None = Field(
        None, description="Incoming webhook of Slack, to which the service tells alerts itself."
    )
    slack: Literal["auto", "on", "off"] = Field(
        "auto",
        description=(
            "Tell Slack alerts: `auto` unless Kapacitor, which has a URL then, or Grafana does."
        ),
    )
    github_token: SecretStr | None = Field(
        None, description="Token for GitHub, which sets the states of commits and comments."
    )
    github_repositories: Annotated[tuple[Repository, ...], NoDecode, split(",")] = Field(
        (),
        description="Repositories that may be told, separated by commas, such as lsst/afw,lsst/*.",
    )
    github_url: Url = Field(
        "https://api.github.com", description="GitHub's API; of GitHub Enterprise, its /api/v3."
    )

    def token_of(self, server: str) -> str:
        """Return the token for a server that files are generated for; empty if there is none."""
        found: SecretStr | None = getattr(self, f"{server}_token", None)
        return "" if found is None else found.get_secret_value()

    @property
    def file_variables(self) -> dict[str, str]:
        """What stands for variables in generated files, with secrets, as far as it is set."""
        url = {"SQUASH_URL": self.url} if "url" in self.model_fields_set else {}
        if self.slack_url is None:
            return url
        return {**url, "SQUASH_SLACK_URL": self.slack_url.get_secret_value()}

    @property
    def targets(self) -> tuple[InfluxTarget, ...]:
        """The InfluxDBs to deliver to: `default` first if it has a URL, then the listed ones."""
        if self.influx_url is None:
            return self.influx_targets
        default = InfluxTarget(
            url=self.influx_url,
            database=self.influx_database,
            user=self.influx_user,
            password=self.influx_password,
            token=self.influx_token,
        )
        return (default, *self.influx_targets)

    @property
    def outlets(self) -> tuple[Target, ...]:
        """All that is delivered to: the InfluxDBs, then the Kapacitors, then Kafka."""
        return (*self.targets, *self.kapacitors, *self.kafka)

    @property
    def kapacitors(self) -> tuple[KapacitorTarget, ...]:
        """The Kapacitors to tell: `kapacitor` first if it has a URL, then the listed ones."""
        if self.kapacitor_url is None:
            return self.kapacitor_targets
        first = KapacitorTarget(
            url=self.kapacitor_url,
            database=self.influx_database,
            retention_policy=self.kapacitor_retention_policy,
        )
        return (first, *self.kapacitor_targets)

    @property
    def tells_slack(self) -> bool:
        """Whether the service itself tells Slack: by default only if no other program does."""
        if self.slack_url is None or self.slack == "off":
            return False
        is_told = self.alerts_by == "grafana" or bool(self.kapacitors)
        return self.slack == "on" or not is_told

    @property
    def tells_github(self) -> bool:
        """Whether GitHub is told of runs."""
        return self.github_token is not None and bool(self.github_repositories)

    @property
    def receivers(self) -> tuple[str, ...]:
        """Who is told of alerts, besides webhooks: their kinds in the record."""
        told = {"slack": self.tells_slack, "github": self.tells_github}
        return tuple(kind for kind, is_told in told.items() if is_told)

    def choose_targets(self, names: Sequence[str]) -> list[InfluxTarget]:
        """Look up InfluxDBs by name, or all; `SettingsError` if there is no such one, or none."""
        if not self.targets:
            raise SettingsError("SQUASH_INFLUX_URL: no InfluxDB is configured")
        return _chosen(self.targets, names)

    def choose_replayed(self, names: Sequence[str]) -> Sequence[InfluxTarget | KafkaTarget]:
        """Look up what jobs are sent to again, by name: InfluxDBs or Kafka; or all InfluxDBs.

        Raises
        ------
        SettingsError
            If there is no such one, or none.
        """
        return _chosen((*self.targets, *self.kafka), names) if names else self.choose_targets([])

    def choose_outlets(self, names: Sequence[str]) -> list[Target]:
        """Look up outlets by name, or all; `SettingsError` if there is no such one, or none."""
        if not self.outlets:
            raise SettingsError(
                "none of SQUASH_INFLUX_URL, SQUASH_KAPACITOR_URL and SQUASH_KAFKA_BROKERS is set: "
                "nothing to deliver to"
            )
        return _chosen(self.outlets, names)

    def url_problem(self) -> str | None:
        """Tell why links may not lead to this service; only the operator knows what is between.

        `SQUASH_URL` has another port on the host that the service listens on; or it is not set, and
        the service listens on all addresses.
        """
        own, url = urlsplit(_own_url(self.model_dump(include={"host", "port"}))), urlsplit(self.url)
        if "url" not in self.model_fields_set:
            is_open = self.host in _EVERY_ADDRESS
            reason = f"SQUASH_URL is not set: links lead to {self.url}, for this machine only"
            return reason if is_open else None
        port = url.port or {"http": 80, "https": 443}[url.scheme]
        own_names = {own.hostname, *(LOOPBACK if own.hostname in LOOPBACK else ())}
        if self.host in _EVERY_ADDRESS:
            own_names.add(gethostname().lower())
        is_here = url.hostname in own_names
        if not is_here or port == self.port:
            return None
        return (
            f"SQUASH_URL is {self.url}, but the service listens on port {self.port}: unless "
            f"something forwards port {port}, links and logins go to another program"
        )

    @property
    def keep_days(self) -> int | None:
        """How many days jobs are kept; None: for ever."""
        found = None if self.keep is None else DURATION.fullmatch(self.keep)
        return None if found is None else int(found[1]) * DAYS[found[2]]

    @property
    def is_https(self) -> bool:
        """Whether browsers reach the service by https, whoever ends TLS."""
        return urlsplit(self.url).scheme == "https"

    @property
    def url_path(self) -> str:
        """Path of the public root, without a trailing slash: empty, or something like `/api`."""
        return urlsplit(self.url).path.rstrip("/")


def _chosen(targets: Sequence[_AnyTarget], names: Sequence[str]) -> list[_AnyTarget]:
    known = {target.name: target for target in targets}
    unknown = [name for name in names if name not in known]
    if unknown:
        raise SettingsError(
            f"there is no target {unknown[0]}; known targets: {', '.join(sorted(known))}"
        )
    return [known[name] for name in dict.fromkeys(names or known)]


def load_settings(**overrides: Any) -> Settings:
    """Read the settings; `overrides` take precedence over the environment.

    Raises
    ------
    SettingsError
        Names every wrong variable, and what is wrong.
    """
    settings, wrong = read_settings(**overrides)
    if wrong:
        raise SettingsError("\n".join(wrong))
    return settings


def read_settings(**overrides: Any) -> tuple[Settings, list[str]]:
    """Read the settings as far as they are right; name every wrong variable, and what is wrong.

    A setting that is wrong has its default in what is returned.

    Raises
    ------
    SettingsError
        If a value is not UTF-8, so that nothing can be read.
    """
    try:
        wrong = [*_unknown_variables()]
        try:
            settings = Settings(**overrides)
        except ValidationError as error:
            faults = error.errors(include_url=False, include_input=False)
            wrong += _named(faults)
            defaults = {
                name: Settings.model_fields[name].get_default(
                    call_default_factory=True, validated_data={}
                )
                for name in {str(fault["loc"][0]) for fault in faults}
            }
            settings = Settings(**overrides | defaults)
    except UnicodeError:
        raise SettingsError("the value of a SQUASH_ variable is not UTF-8") from None
    names = [target.name for target in settings.outlets]
    twice = next((name for name in names if names.count(name) > 1), None)
    if twice is not None:
        wrong.append(
            "SQUASH_INFLUX_TARGETS, SQUASH_KAPACITOR_TARGETS: two targets have the same name, "
            f"{twice} (`default` is that of SQUASH_INFLUX_URL, `kapacitor` that of "
            "SQUASH_KAPACITOR_URL, `kafka` and `kafka-points` those of SQUASH_KAFKA_BROKERS)"
        )
    wrong += dict.fromkeys(words for item in settings.kafka for words in item.problems())
    if settings.registration == "key":
        wrong += _wrong_key(settings.registration_key)
    return settings, wrong


def _named(faults: Iterable[Any]) -> Iterator[str]:
    """Say what pydantic found, by the variable."""
    for fault in faults:
        # The default of SQUASH_URL cannot be made from what is wrong itself.
        if fault["type"] != "default_factory_not_called":
            first, *rest = fault["loc"] or ("",)
            # Below a setting are entries of lists, and keys of JSON as it was written.
            place = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in rest)
            words = _WORDS.get(fault["type"]) or plain_words(fault).removeprefix("Value error, ")
            yield f"{_PREFIX}{str(first).upper()}{place}: {words}"


def _wrong_key(key: SecretStr | None) -> Iterator[str]:
    """Say if a registration key is missing, or could be guessed."""
    if key is None:
        yield "SQUASH_REGISTRATION_KEY: must be set when SQUASH_REGISTRATION is key"
    elif len(key.get_secret_value().strip()) < MIN_KEY_CHARACTERS:
        yield (
            f"SQUASH_REGISTRATION_KEY: must have at least {MIN_KEY_CHARACTERS} characters, or it "
            "could be guessed: take for instance the output of: "
            'python -c "import secrets; print(secrets.token_urlsafe())"'
        )


def _unknown_variables() -> Iterator[str]:
    """Describe the variables that look like settings and are none, with the nearest name.

    An empty one counts as unset, as everywhere.
    """
    known = {*(f"{_PREFIX}{name.upper()}" for name in Settings.model_fields), *OTHER_VARIABLES}
    places = {
        "in the environment": EnvSettingsSource(Settings).env_vars,
        "in .env": DotEnvSettingsSource(Settings).env_vars,
    }
    for place, variables in places.items():
        for name in sorted(key.upper() for key, value in variables.items() if value):
            if name.startswith(_PREFIX) and name not in known:
                bare = {item.removeprefix(_PREFIX): item for item in sorted(known)}
                near = get_close_matches(name.removeprefix(_PREFIX), bare, n=1)
                meant = f"did you mean {bare[near[0]]}?" if near else "remove it"
                yield f"{name}: there is no such setting ({place}): {meant}"


def require_secret(settings: Settings) -> str:
    """Read the key that signs tokens. There is no default, on purpose.

    Raises
    ------
    SettingsError
        If it is missing or shorter than 32 bytes.
    """
    return _strong_secret("SQUASH_SECRET", settings.secret)


def previous_secret(settings: Settings) -> str | None:
    """Read the key that signed tokens before; None if there is none.

    Raises
    ------
    SettingsError
        If it is shorter than 32 bytes, or the same as the present one.
    """
    if settings.secret_previous is None:
        return None
    secret = _strong_secret("SQUASH_SECRET_PREVIOUS", settings.secret_previous)
    if settings.secret is not None and secret == settings.secret.get_secret_value():
        raise SettingsError(
            "SQUASH_SECRET_PREVIOUS: is the same as SQUASH_SECRET: give SQUASH_SECRET a new one, "
            "or remove this"
        )
    return secret


def _strong_secret(name: str, given: SecretStr | None) -> str:
    secret = given.get_secret_value() if given else ""
    try:
        size = len(secret.encode())
    except UnicodeEncodeError:
        size = 0
    if size < MIN_SECRET_BYTES:
        raise SettingsError(
            f"{name}: must be set to {MIN_SECRET_BYTES} bytes or more of UTF-8, for "
            'instance the output of: python -c "import secrets; print(secrets.token_hex(32))"'
        )
    return secret
