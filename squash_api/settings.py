"""Settings: environment variables (and `.env`), one field each with its description."""

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, Literal
from urllib.parse import urlsplit

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    SecretStr,
    ValidationError,
)
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict
from pydantic_settings import SettingsError as SourceError

from squash_api.errors import SettingsError

MIN_SECRET_BYTES = 32
# In Slack and Markdown these end a link.
_NOT_IN_URLS = frozenset('<>"\\^`{|}')


def _http_url(url: str) -> str:
    url = url.strip()
    parts = urlsplit(url)
    if parts.scheme not in {"http", "https"} or not parts.hostname or len(url.split()) > 1:
        raise ValueError("must be an http:// or https:// URL with a host")
    if parts.port == 0:
        raise ValueError("must have a port from 1 to 65535, or none")
    if parts.query or parts.fragment:
        raise ValueError("must have no query and no fragment")
    if not _NOT_IN_URLS.isdisjoint(url):
        raise ValueError(f"must have no {' '.join(sorted(_NOT_IN_URLS.intersection(url)))}")
    return url.rstrip("/")


_Url = Annotated[str, AfterValidator(_http_url)]


def _split(separator: str) -> Any:
    def split(value: Any) -> Any:
        if isinstance(value, str):
            return tuple(part.strip() for part in value.split(separator) if part.strip())
        return value

    return BeforeValidator(split)


class InfluxTarget(BaseModel):
    """An InfluxDB that receives every point. A `token` takes precedence over `user`."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str = Field("default", pattern=r"^[A-Za-z0-9_.-]{1,64}$")
    url: _Url
    database: str = Field("squash", min_length=1)
    user: str | None = None
    password: SecretStr | None = None
    token: SecretStr | None = None


class Settings(BaseSettings):
    """The settings; in the environment each name has the prefix `SQUASH_`."""

    model_config = SettingsConfigDict(
        env_prefix="SQUASH_", env_file=".env", extra="ignore", frozen=True, env_ignore_empty=True
    )

    secret: SecretStr | None = Field(None, description="Key that signs tokens; 32 bytes or more.")
    url: _Url = Field(
        "http://127.0.0.1:8000", description="Public root URL of the service, used in every link."
    )
    host: str = Field("127.0.0.1", description="Address to listen on.")
    port: int = Field(8000, ge=0, le=65535, description="Port to listen on.")
    database_url: str = Field("sqlite:///squash.db", description="The record, as a SQLAlchemy URL.")
    registration: Literal["open", "key", "closed"] = Field(
        "closed", description="Who may register: anyone, those with the key, or nobody."
    )
    registration_key: SecretStr | None = Field(
        None, description="The `key` that the body of /register must have."
    )
    token_minutes: int = Field(60, ge=1, le=10_080, description="Lifetime of a token, in minutes.")
    specs: Annotated[tuple[Path, ...], NoDecode, _split(":")] = Field(
        (), description="Metrics-package directories, separated by colons."
    )
    tags: Annotated[tuple[str, ...], NoDecode, _split(",")] = Field(
        (),
        description="More metadata keys that become tags, separated by commas.",
    )
    max_body_bytes: int = Field(16_000_000, ge=1_000, description="Largest job accepted, in bytes.")
    deliver: Literal["inline", "off"] = Field(
        "inline", description="Deliver from this process, or leave it to `squash deliver`."
    )
    watch: Literal["on", "off"] = Field(
        "on",
        description="Write every minute what is late and the state of metrics, or nothing.",
    )
    influx_url: _Url | None = Field(None, description="InfluxDB of the target `default`.")
    influx_database: str = Field("squash", min_length=1, description="Its database.")
    influx_user: str | None = Field(None, description="Its user, for Basic authentication.")
    influx_password: SecretStr | None = Field(None, description="Its password.")
    influx_token: SecretStr | None = Field(None, description="Its token, instead of a password.")
    influx_targets: tuple[InfluxTarget, ...] = Field(
        (), description="JSON list of more targets: name, url, database, user, password, token."
    )
    kapacitor_url: _Url | None = Field(None, description="Kapacitor, for `squash live`.")
    chronograf_url: _Url | None = Field(None, description="Chronograf, for `squash live`.")

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

    def choose_targets(self, names: Sequence[str]) -> list[InfluxTarget]:
        """Look up targets by name, or all; `SettingsError` if there is no such target, or none."""
        known = {target.name: target for target in self.targets}
        if not known:
            raise SettingsError("SQUASH_INFLUX_URL: no InfluxDB is configured")
        unknown = [name for name in names if name not in known]
        if unknown:
            raise SettingsError(
                f"there is no target {unknown[0]}; known targets: {', '.join(sorted(known))}"
            )
        return [known[name] for name in dict.fromkeys(names or known)]

    @property
    def url_path(self) -> str:
        """Path of the public root, without a trailing slash: empty, or something like `/api`."""
        return urlsplit(self.url).path.rstrip("/")


def load_settings(**overrides: Any) -> Settings:
    """Read the settings; `overrides` take precedence over the environment.

    Raises
    ------
    SettingsError
        Names every wrong variable, and what is wrong.
    """
    try:
        settings = Settings(**overrides)
    except ValidationError as error:
        lines = [
            f"SQUASH_{'.'.join(str(part) for part in problem['loc']).upper()}: "
            + problem["msg"].removeprefix("Value error, ")
            for problem in error.errors(include_url=False, include_input=False)
        ]
        raise SettingsError("\n".join(lines)) from None
    except SourceError as error:
        field = re.search(r'field "(\w+)"', str(error))
        name = f"SQUASH_{field[1].upper()}" if field else "the settings"
        raise SettingsError(f"{name}: not JSON: {error.__cause__}") from None
    except UnicodeError:
        raise SettingsError("the value of a SQUASH_ variable is not UTF-8") from None
    names = [target.name for target in settings.targets]
    if len(set(names)) != len(names):
        raise SettingsError("SQUASH_INFLUX_TARGETS: two targets have the same name")
    if settings.registration == "key" and settings.registration_key is None:
        raise SettingsError("SQUASH_REGISTRATION_KEY: must be set when SQUASH_REGISTRATION is key")
    return settings


def require_secret(settings: Settings) -> str:
    """Read the key that signs tokens. There is no default, on purpose.

    Raises
    ------
    SettingsError
        If it is missing or shorter than 32 bytes.
    """
    secret = settings.secret.get_secret_value() if settings.secret else ""
    try:
        size = len(secret.encode())
    except UnicodeEncodeError:
        size = 0
    if size < MIN_SECRET_BYTES:
        raise SettingsError(
            f"SQUASH_SECRET: must be set to {MIN_SECRET_BYTES} bytes or more of UTF-8, for "
            'instance the output of: python -c "import secrets; print(secrets.token_hex(32))"'
        )
    return secret
