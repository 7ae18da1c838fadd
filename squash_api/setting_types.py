"""What settings are made of: addresses, networks, hosts, repositories, paths and durations."""

import ipaddress
import re
from typing import Annotated, Literal
from urllib.parse import urlsplit

from pydantic import AfterValidator, SecretStr

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
