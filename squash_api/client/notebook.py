"""Numbers that a notebook measures: they become measurements of its run's job.

    >>> from squash_api.client import Measurement, record
    >>> record(Measurement("camera.Temperature", 11.5 * u.deg_C))

`squash notebook run` reads them from the outputs of the notebook. They show as a line of text.
"""

import sys
from typing import Any

from squash_api.verify.measurement import Measurement

MEDIA_TYPE = "application/vnd.squash.measurement+json"
"""The kind of output that has a measurement, with its blobs."""


def record(*measurements: Measurement) -> None:
    """Measure something in a notebook; a later value of a metric replaces an earlier one.

    Outside a notebook it is only printed.
    """
    for item in measurements:
        value = "not measured" if item.value is None else f"{item.value:g} {item.unit or ''}"
        text = f"{item.metric} = {value.strip()}"
        # Only what runs in a kernel has imported it.
        if "ipykernel" not in sys.modules:
            print(text)  # noqa: T201 - it is for people
            continue
        from IPython.display import display  # noqa: PLC0415

        content: dict[str, Any] = {
            "measurement": item.to_json(),
            "blobs": [blob.to_json() for blob in item.linked_blobs()],
        }
        display({MEDIA_TYPE: content, "text/plain": text}, raw=True)  # type: ignore[no-untyped-call]
