"""What settings are made of: addresses, networks, hosts, paths, durations, brokers."""

import ipaddress
import json
import re
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Annotated, Any, Literal
from urllib.parse import urlsplit

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, SecretStr
from pydantic_settings import BaseSettings, NoDecode

LOOPBACK = frozenset({"127.0.0.1", "::1", "localhost"})

# In Slack and Markdown these end a link.
_NOT_IN_URLS = frozenset('<>"\\^`{|}')


def _http_url(url: str) -> str:
    url = url.strip()
    parts = urlsplit(url)
    if parts.scheme not in {"http", "https"} or not parts.hostname or len(url.split()) > 1:
        raise ValueError("must be an http:// or https:// URL with a host")
    try:
        port = parts.port
    except ValueError:
        # Its message shows what follows the colon, which may be a password with a slash in it.
        port = 0
    if port == 0:
        raise ValueError(
            "must have a port from 1 to 65535, or none; in a password write / as %2F, and @ as %40"
        )
    if parts.query or parts.fragment:
        raise ValueError("must have no query and no fragment")
    if not _NOT_IN_URLS.isdisjoint(url):
        raise ValueError(f"must have no {' '.join(sorted(_NOT_IN_URLS.intersection(url)))}")
    return url.rstrip("/")


Url = Annotated[str, AfterValidator(_http_url)]

AlertsBy = Literal["kapacitor", "grafana"]
"""Which of the two tells people of alerts; the other one only judges."""


def _network(text: str) -> str:
    try:
        return str(ipaddress.ip_network(text))
    except ValueError:
        raise ValueError(
            f"must be addresses such as 10.0.0.5 or networks such as 10.0.0.0/8, not {text}"
        ) from None


Network = Annotated[str, AfterValidator(_network)]


def _secret_url(url: SecretStr) -> SecretStr:
    return SecretStr(_http_url(url.get_secret_value()))


SecretUrl = Annotated[SecretStr, AfterValidator(_secret_url)]


def _broker(text: str) -> str:
    found = _BROKER.fullmatch(text)
    if found is None or not 0 < int(found[1]) < 65_536:
        # Before an @ there may be a password.
        shown = text.rpartition("@")[2]
        raise ValueError(f"must be brokers such as kafka.example.org:9092, not {shown}")
    return text


_BROKER = re.compile(r"(?:[A-Za-z0-9._-]{1,253}|\[[0-9A-Fa-f:.]{2,45}\]):(\d{1,5})", re.ASCII)
Broker = Annotated[str, AfterValidator(_broker)]


def _topic(text: str) -> str:
    if _TOPIC.fullmatch(text) is None:
        raise ValueError("must be names between dots, each a letter and then letters, digits and _")
    return text


# The namespace of a schema in Avro too.
_TOPIC = re.compile(r"(?=.{1,60}\Z)[A-Za-z_][A-Za-z0-9_]*(?:\.[A-Za-z_][A-Za-z0-9_]*)*", re.ASCII)
Topic = Annotated[str, AfterValidator(_topic)]


def _repository(text: str) -> str:
    if _REPOSITORY.fullmatch(text) is None:
        raise ValueError(
            f"must be repositories such as lsst/afw, or lsst/* for all of an owner, not {text}"
        )
    return text.lower()


_REPOSITORY = re.compile(r"[A-Za-z0-9][A-Za-z0-9-]{0,38}/([A-Za-z0-9._-]{1,100}|\*)", re.ASCII)
Repository = Annotated[str, AfterValidator(_repository)]


def _package(text: str) -> str:
    if _PACKAGE.fullmatch(text) is None or text.startswith("squash"):
        raise ValueError("must be letters, digits, - and _, and cannot begin with squash")
    return text


_PACKAGE = re.compile(r"[A-Za-z0-9_-]{1,64}", re.ASCII)


def _keep(text: str) -> str:
    text = text.strip()
    found = DURATION.fullmatch(text)
    if found is None or int(found[1]) * DAYS[found[2]] < 1:
        raise ValueError(
            "must be how long to keep jobs, at least a day: a whole number and one of y, w, d, "
            "such as 400d; unset keeps them for ever"
        )
    return text


def _host(text: str) -> str:
    if _HOST.fullmatch(text) is None:
        raise ValueError(
            "must be hosts such as plots.example.org or plots.example.org:8443, without http:// "
            f"and path, not {text}"
        )
    return text.lower()


# As a Content-Security-Policy names a host: what is not one could say something else there.
_HOST = re.compile(r"[a-z0-9-]{1,63}(\.[a-z0-9-]{1,63})*(:[1-9]\d{0,4})?", re.IGNORECASE | re.ASCII)
Host = Annotated[str, AfterValidator(_host)]

DURATION = re.compile(r"(\d{1,6})([ywd])", re.ASCII)
DAYS = {"y": 365, "w": 7, "d": 1}


def _prefix(path: str) -> str:
    path = path.strip().rstrip("/")
    if path and re.fullmatch(r"(/[A-Za-z0-9._~-]+)+", path) is None:
        raise ValueError("must be a path such as /sasquatch-rest-proxy, or / for none")
    return path


Package = Annotated[str, AfterValidator(_package)]
Keep = Annotated[str, AfterValidator(_keep)]
Prefix = Annotated[str, AfterValidator(_prefix)]


_UNITS = {"s": 1, "m": 60}


def split(separator: str) -> Any:
    """Return what splits a text at each separator; what is empty between two is left out."""

    def parts(value: Any) -> Any:
        if isinstance(value, str):
            return tuple(part.strip() for part in value.split(separator) if part.strip())
        return value

    return BeforeValidator(parts)


def json_text() -> Any:
    """Return what reads JSON."""

    def read(value: Any) -> Any:
        try:
            return json.loads(value) if isinstance(value, str) else value
        except ValueError as error:
            raise ValueError(f"not JSON: {error}") from None

    return BeforeValidator(read)


def seconds() -> Any:
    """Return what reads a number of seconds, such as 90, 90s or 1.5m."""

    def read(value: Any) -> Any:
        if isinstance(value, str) and value[-1:] in _UNITS:
            with suppress(ValueError):
                return float(value[:-1]) * _UNITS[value[-1]]
        return value

    return BeforeValidator(read)


KafkaKind = Literal["jobs", "verdicts", "alerts", "points"]
"""What is sent to Kafka."""


class KafkaTarget(BaseModel):
    """Brokers of Kafka, and what is sent to them: events and points are two, with a cursor each.

    Topics of events begin with `prefix`, those of points with `namespace`.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: Literal["kafka", "kafka-points"]
    brokers: tuple[str, ...]
    sends: tuple[KafkaKind, ...]
    prefix: str = "squash"
    namespace: str = "lsst.squash"
    points: Literal["json", "avro", "influx"] = "json"
    registry: str | None = None
    registry_user: str | None = None
    registry_password: SecretStr | None = None
    user: str | None = None
    password: SecretStr | None = None
    mechanism: str = "SCRAM-SHA-512"
    is_tls: bool = False
    ca: Path | None = None

    @property
    def label(self) -> str:
        """What people call it."""
        return "Kafka" if self.name == "kafka" else "Kafka (points)"

    def problems(self) -> Iterator[str]:
        """Say what does not fit together, by the variable."""
        if "points" in self.sends and self.points == "avro" and self.registry is None:
            yield (
                "SQUASH_KAFKA_REGISTRY: must be set when SQUASH_KAFKA_POINTS is avro: readers get "
                "the schemas from it"
            )
        if self.user is not None and self.password is None:
            yield "SQUASH_KAFKA_PASSWORD: must be set when SQUASH_KAFKA_USER is"
        if self.user is None and self.password is not None:
            yield "SQUASH_KAFKA_USER: must be set when SQUASH_KAFKA_PASSWORD is"
        hosts = {broker.rpartition(":")[0].strip("[]") for broker in self.brokers}
        is_bare = self.user is not None and self.mechanism == "PLAIN" and not self.is_tls
        if is_bare and not hosts <= LOOPBACK:
            yield (
                "SQUASH_KAFKA_TLS: must be on when SQUASH_KAFKA_MECHANISM is PLAIN, or the "
                "password would be sent unencrypted"
            )
        if self.ca is not None and not self.ca.is_file():
            yield f"SQUASH_KAFKA_CA: there is no file {self.ca}"


class KafkaSettings(BaseSettings):
    """The settings of Kafka, a part of `settings.Settings`."""

    kafka_brokers: Annotated[tuple[Broker, ...], NoDecode, split(",")] = Field(
        (), description="Brokers of Kafka, host:port, separated by commas."
    )
    kafka_send: Annotated[tuple[KafkaKind, ...], NoDecode, split(",")] = Field(
        (),
        description="What Kafka is sent: jobs, verdicts, alerts, points; unset: all but points.",
    )
    kafka_prefix: Topic = Field(
        "squash", description="What the topics of events begin with: <prefix>.jobs and so on."
    )
    kafka_namespace: Topic = Field(
        "lsst.squash", description="What the topics of points begin with: <namespace>.<package>."
    )
    kafka_points: Literal["json", "avro", "influx"] = Field(
        "json", description="The form of points: flat JSON, Avro, or InfluxDB's line protocol."
    )
    kafka_user: str | None = Field(None, description="User at the brokers (SASL).")
    kafka_password: SecretStr | None = Field(None, description="Its password.")
    kafka_mechanism: Literal["SCRAM-SHA-512", "SCRAM-SHA-256", "PLAIN"] = Field(
        "SCRAM-SHA-512", description="How it is told to them."
    )
    kafka_tls: Literal["on", "off"] = Field("off", description="Speak TLS with the brokers.")
    kafka_ca: Path | None = Field(
        None, description="File with the certificates that sign theirs; else those of the system."
    )
    kafka_registry: Url | None = Field(
        None, description="Schema registry, for points in Avro, with Confluent's API."
    )
    kafka_registry_user: str | None = Field(None, description="User there (Basic).")
    kafka_registry_password: SecretStr | None = Field(None, description="Its password.")

    @property
    def kafka(self) -> tuple[KafkaTarget, ...]:
        """The targets at Kafka: one for events, one for points, so that neither waits."""
        if not self.kafka_brokers:
            return ()
        sends: tuple[KafkaKind, ...] = self.kafka_send or ("jobs", "verdicts", "alerts")
        events = tuple(kind for kind in sends if kind != "points")
        points: tuple[KafkaKind, ...] = ("points",) if "points" in sends else ()
        own = KafkaTarget.model_fields.keys() - {"name", "sends", "is_tls"}
        common = {name: getattr(self, f"kafka_{name}") for name in own}
        named: tuple[tuple[Literal["kafka", "kafka-points"], tuple[KafkaKind, ...]], ...] = (
            ("kafka", events),
            ("kafka-points", points),
        )
        return tuple(
            KafkaTarget(name=name, sends=sends, is_tls=self.kafka_tls == "on", **common)
            for name, sends in named
            if sends
        )
