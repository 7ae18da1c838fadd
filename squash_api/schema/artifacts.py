"""The artifacts of a job: which of its metadata are files, pages and pictures made with it. Pure.

An artifact is a value that is a URL of http or https, or an object with one as its `url`. They are
read from the document whenever they are asked for; nothing else stores them.
"""

import re
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

from squash_api.schema.names import FIELD_SOURCES, RUN_URL, Context
from squash_api.schema.text import clean_text, link_text

MOST_ARTIFACTS = 1000
"""Further ones in a job are only metadata."""

MAX_URL_LENGTH = 2000
"""Longer addresses are text: not every browser, mail and message holds them."""

MAX_WORDS = 300
"""Longer keys, types and descriptions are cut, in characters."""

REPOSITORY_TAG = "dataset_repo_url"

# What names the run, or where software and data come from, is not made by the job.
_OTHER_KEYS = frozenset({"packages", *FIELD_SOURCES[RUN_URL]})
_REPOSITORY = re.compile(r"(?:\A|_)(?:git|repo|repository)_url\Z", re.IGNORECASE)
# What lsst.verify writes where it knows no URL.
_PLACEHOLDERS = frozenset({"https://example.com", "https://example.com/"})
# Stricter than `link_text`, which repairs: no name and password, no blank, nothing that ends or
# splits a link in HTML, Markdown or Slack. A host outside ASCII could look like another.
_URL = re.compile(
    r"[Hh][Tt][Tt][Pp][Ss]?://(?:[A-Za-z0-9][A-Za-z0-9._-]{0,252}|\[[0-9A-Fa-f:.]{2,45}\])"
    r"(?::[0-9]{1,5})?(?:[/?#][^\s\x00-\x1f\x7f-\x9f|<>\"'\\^`{}]*)?"
)
_PICTURES = {
    "image/png": "image/png",
    "image/jpeg": "image/jpeg",
    "image/svg+xml": "image/svg+xml",
    "png": "image/png",
    "jpg": "image/jpeg",
    "jpeg": "image/jpeg",
    "svg": "image/svg+xml",
}
_DEFAULT_PORTS = {"http": ":80", "https": ":443"}
_OWN_KEYS = frozenset({"url", "type", "description"})


@dataclass(frozen=True, slots=True)
class Artifact:
    """A URL in a job's metadata.

    `key` is its place, such as `plots.map` or `plots[0]`; `type` and `description` are what the
    job says of it, or a type that the end of the URL tells.
    """

    key: str
    url: str
    type: str | None = None
    description: str | None = None

    @property
    def label(self) -> str:
        """What people read in place of the URL."""
        return self.description or self.key

    @property
    def is_picture(self) -> bool:
        """Whether it says that it is a PNG, JPEG or SVG."""
        return self.type is not None and _picture(self.type, self.url) is not None

    def may_be_shown(self, hosts: Collection[str], *, is_https: bool) -> bool:
        """Return whether a page shows it: as a picture, from one of these hosts.

        A host without a port means the usual one. A page of https shows nothing that came by http.
        """
        parts = urlsplit(self.url)
        host = parts.netloc.lower().removesuffix(_DEFAULT_PORTS[parts.scheme])
        return self.is_picture and host in hosts and (parts.scheme == "https" or not is_https)


def artifacts_of(meta: Mapping[str, Any]) -> list[Artifact]:
    """Find the artifacts in a job's metadata, at any depth, in their order; each URL once.

    At most `MOST_ARTIFACTS` are returned. The packages, the address of the run (`ci_url`, ...), and
    addresses of repositories (`git_url`, `..._repo_url`, or ending in `.git`) are none.
    """
    found: dict[str, Artifact] = {}
    for item in _walk(meta):
        found.setdefault(item.url, item)
        if len(found) == MOST_ARTIFACTS:
            break
    return list(found.values())


def first_artifact(meta: Mapping[str, Any]) -> Artifact | None:
    """Return the first artifact in a job's metadata, or None."""
    return next(_walk(meta), None)


def may_have_artifacts(context: Context) -> bool:
    """Return whether it is worth to look into the document of a job for artifacts."""
    texts = (*context.fields.items(), *context.tags.items())
    return any(
        isinstance(text, str) and "://" in text
        for name, text in texts
        if name not in {RUN_URL, REPOSITORY_TAG}
    )


def _walk(meta: Mapping[str, Any]) -> Iterator[Artifact]:
    """Yield artifacts, without recursion: metadata may be nested deeper than Python can recurse."""
    stack: list[Iterator[tuple[str, Any]]] = [_entries("", meta)]
    while stack:
        entry = next(stack[-1], None)
        if entry is None:
            stack.pop()
            continue
        key, value = entry
        if isinstance(value, dict):
            # A key `url` at the top is an artifact like any other.
            own = _url(value.get("url"))
            if own is not None:
                kind, words = _words(value.get("type")), _words(value.get("description"))
                yield Artifact(key, own, kind or _picture("", own), words)
            stack.append(_entries(key, value, but=_OWN_KEYS if own else frozenset()))
        elif isinstance(value, list):
            stack.append(_items(key, value))
        elif (url := _url(value)) is not None:
            yield Artifact(key, url, _picture("", url))


def _entries(
    path: str, node: Mapping[str, Any], *, but: frozenset[str] = frozenset()
) -> Iterator[tuple[str, Any]]:
    """Yield what an object has, with the path to each, without `but` and what is no artifact."""
    for key, value in node.items():
        if key not in _OTHER_KEYS and key not in but and not _REPOSITORY.search(key):
            yield _cut(f"{path}.{key}" if path else key), value


def _items(path: str, values: list[Any]) -> Iterator[tuple[str, Any]]:
    for number, value in enumerate(values):
        yield _cut(f"{path}[{number}]"), value


def _url(value: Any) -> str | None:
    """Return a URL that can be a link anywhere; None if the value is no such URL."""
    text = value.strip() if isinstance(value, str) and "://" in value else ""
    # The pattern is not tried on what is too long.
    if not text or len(text) > MAX_URL_LENGTH or _URL.fullmatch(text) is None:
        return None
    url = link_text(text)
    if url is None or url in _PLACEHOLDERS or len(url) > MAX_URL_LENGTH:
        return None
    try:
        parts = urlsplit(url)
        is_whole = parts.port != 0
    except ValueError:  # a port of six digits, or brackets around what is no address
        return None
    is_repository = parts.path.rstrip("/").endswith(".git")
    return _plain(url) if is_whole and not is_repository else None


def _plain(url: str) -> str:
    """Write the scheme in small letters, as everything that compares it expects."""
    scheme, _, rest = url.partition("://")
    return f"{scheme.lower()}://{rest}"


def _picture(kind: str, url: str) -> str | None:
    """Return the media type of a PNG, JPEG or SVG, by what it is said to be, or by its ending."""
    named = kind.partition(";")[0].strip().lower()
    if named in _PICTURES or "/" in named:
        return _PICTURES.get(named)
    return _PICTURES.get(urlsplit(url).path.rpartition(".")[2].lower())


def _words(value: Any) -> str | None:
    text = clean_text(value[:MAX_WORDS]).strip() if isinstance(value, str) else ""
    return text or None


def _cut(key: str) -> str:
    return key if len(key) <= MAX_WORDS else f"{key[: MAX_WORDS - 1]}\u2026"
