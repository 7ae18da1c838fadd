"""Reading an accepted job for its values: what its points and its run are made of, and no more.

It costs little more than half of reading all of it, and is done several times for every job.
"""

from typing import Any

import msgspec
import orjson

from squash_api.ingest.document import (
    JobValues,
    Quantity,
    decode_accepted_job,
    is_writable,
    meta_problems,
)
from squash_api.ingest.json_text import decode_json


class _Document(msgspec.Struct, gc=False):
    """What is read of a document; all else is passed over."""

    measurements: list[Quantity] | None = None
    meta: dict[str, msgspec.Raw] | None = None


_DECODER = msgspec.json.Decoder(_Document)
_EMPTY = frozenset({b"null", b"{}", b"[]"})


def decode_values(body: bytes) -> JobValues:
    """Decode the body of a job that `decode_job` has accepted before.

    Its packages are left as the text that they are; `packages_in` reads them.
    """
    try:
        document = _DECODER.decode(body)
        packages = (document.meta or {}).pop("packages", None)
        meta = {key: msgspec.json.decode(text) for key, text in (document.meta or {}).items()}
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return decode_accepted_job(body)
    # Numbers and nesting of which two decoders may make different things.
    if any(meta_problems(meta)) or not is_writable(meta):
        return decode_accepted_job(body)
    if packages is not None:
        meta["packages"] = packages
    return JobValues(document.measurements or [], meta)


def packages_text(meta: dict[str, Any]) -> bytes | None:
    """Return the packages of a job's metadata as JSON; None if it names none."""
    packages = meta.get("packages")
    if isinstance(packages, msgspec.Raw):
        text = bytes(packages)
        return None if text in _EMPTY else text
    return orjson.dumps(packages) if packages else None


def packages_in(text: bytes) -> Any:
    """Read what `packages_text` has returned."""
    return decode_json(text)[0]
