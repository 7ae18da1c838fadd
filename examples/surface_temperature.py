"""A job that computes, makes an artifact and alerts, against a running service.

    SQUASH_API_KEY=sq_... python examples/surface_temperature.py http://localhost:8000

It averages readings of the camera's sensors, draws them as an SVG, and sends the average with the
address of the picture in the metadata. Its 15.6 deg_C breaks the limits of `examples/specs/camera`:
with these in force the service alerts, and the message links to the picture. The script prints the
verdicts, and ends with status 1 if a limit is broken. Source: the second training piece of FAFF,
the Rubin task force on first-look analysis.

Serve the folder of the pictures to people, and name its address; for a try-out on one machine

    python -m http.server 8800 --bind 127.0.0.1 --directory artifacts

and `SQUASH_ARTIFACT_HOSTS=localhost:8800` for the service, which then shows them on the job's page.
"""

import argparse
import os
import statistics
import sys
from datetime import UTC, datetime
from pathlib import Path

import astropy.units as u

from squash_api.client import Job, Measurement, Squash, SquashClientError

METRIC = "camera.AvgCameraBodySurfaceTemp"
READINGS = (14.9, 15.2, 15.1, 15.8, 16.4, 16.2)


def main() -> None:
    """Compute, draw, send; print what was made of it."""
    parser = argparse.ArgumentParser(description="Send the average of readings, with a picture.")
    parser.add_argument("url", help="root of the service, such as http://localhost:8000")
    parser.add_argument("readings", nargs="*", type=float, help="in deg_C")
    parser.add_argument("--folder", type=Path, default=Path("artifacts"), help="for the pictures")
    parser.add_argument("--folder-url", default="http://localhost:8800", help="its address")
    parser.add_argument("--api-key", default=os.environ.get("SQUASH_API_KEY"))
    given = parser.parse_args()
    readings = given.readings or list(READINGS)
    run_id = f"camera-{datetime.now(UTC):%Y%m%dT%H%M%S.%f}"
    given.folder.mkdir(parents=True, exist_ok=True)
    name = f"{run_id}.svg"
    (given.folder / name).write_text(picture(readings), encoding="utf-8")
    job = Job(
        [Measurement(METRIC, statistics.fmean(readings) * u.deg_C)],
        meta={
            "instrument": "LSSTCam",
            "run_id": run_id,
            "plot": {
                "url": f"{given.folder_url.rstrip('/')}/{name}",
                "type": "image/svg+xml",
                "description": "Surface temperature by sensor",
            },
        },
    )
    squash = Squash(given.url, key=given.api_key)
    try:
        reply = squash.send(job)
        verdicts = squash.report(reply.job_id or 0)
    except SquashClientError as error:
        sys.exit(f"surface_temperature.py: {error}")
    print(f"{reply.message} {given.url.rstrip('/')}/job/{reply.job_id}")
    for verdict in verdicts:
        print(f"{verdict['specification']}: {verdict['status']}")
    sys.exit(any(verdict["status"] == "failed" for verdict in verdicts))


def picture(readings: list[float]) -> str:
    """Draw a bar for each reading, with the limit of 15 deg_C."""
    bars = "".join(
        f'<rect x="{20 + 60 * number}" y="{220 - 10 * value:.0f}" width="40" '
        f'height="{10 * value:.0f}" fill="{"#b3140c" if value > 15 else "#0b57a4"}">'
        f"<title>sensor {number + 1}: {value} deg_C</title></rect>"
        for number, value in enumerate(readings)
    )
    width = 20 + 60 * len(readings)
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} 240" width="{width}" '
        f'height="240"><rect width="{width}" height="240" fill="#f4f6f8"/>{bars}'
        f'<line x1="0" x2="{width}" y1="70" y2="70" stroke="#1b2126" stroke-dasharray="4"/></svg>\n'
    )


if __name__ == "__main__":
    main()
