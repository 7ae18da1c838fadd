"""A toy quick-look pipeline: the signal-to-noise ratio of each fiber and CCD of one exposure.

    python pipeline.py raw/20261128T020000.fits --out out/20261128T020000

The exposure has an image FLUX_<ccd> and its IVAR_<ccd> for each CCD, a row for each fiber. The
pipeline writes one file with a job for each fiber and CCD, which is then a series of its own, and
a plot of them all. It sends nothing: `squash run` or `squash dispatch` does.
"""

import argparse
import json
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from astropy import units as u
from astropy.io import fits

from squash_api.client import Job, Measurement

METRIC = "quicklook.snr"
LOW = 3.0
WIDTH, HEIGHT, SCALE = 18, 200, 10.0
COLORS = {"b": "#0b57a4", "r": "#b3140c"}


def main() -> None:
    """Reduce one exposure."""
    parser = argparse.ArgumentParser(description="Measure the SNR of the fibers of an exposure.")
    parser.add_argument("exposure", type=Path, help="a FITS file")
    parser.add_argument("--out", type=Path, required=True, help="folder for what it writes")
    parser.add_argument("--plots-url", help="address of the folder that --out is in")
    given = parser.parse_args()
    name = given.exposure.stem
    try:
        with fits.open(given.exposure) as file:
            header = file[0].header
            ccds = [hdu.name.removeprefix("FLUX_") for hdu in file if "FLUX_" in hdu.name]
            ratios = {ccd.lower(): snr(file[f"FLUX_{ccd}"], file[f"IVAR_{ccd}"]) for ccd in ccds}
    except (OSError, KeyError) as error:
        sys.exit(f"pipeline.py: {given.exposure}: {error}")
    given.out.mkdir(parents=True, exist_ok=True)
    (given.out / "snr.svg").write_text(picture(ratios), encoding="utf-8")
    meta = {
        "instrument": header["INSTRUME"],
        "exposure": name,
        "spectrograph": str(header["SPECTRO"]),
        "date": f"{header['DATE-OBS']}Z",
    }
    if given.plots_url:
        address = f"{given.plots_url.rstrip('/')}/{given.out.name}/snr.svg"
        meta["plot"] = {"url": address, "description": f"SNR of all fibers, exposure {name}"}
    found = [job.to_json() for job in jobs(ratios, meta)]
    (given.out / f"{name}.verify.json").write_text(json.dumps(found), encoding="ascii")


def snr(flux: Any, ivar: Any) -> Any:
    """Compute the median signal-to-noise ratio of the pixels of each row."""
    return np.median(flux.data * np.sqrt(ivar.data), axis=1)


def jobs(ratios: Mapping[str, Any], meta: Mapping[str, Any]) -> Iterator[Job]:
    """Make a job for each fiber on each CCD, and say what was found."""
    for ccd, values in sorted(ratios.items()):
        print(f"{meta['exposure']}, CCD {ccd}: median SNR {np.median(values):.2f}")
        for fiber, value in enumerate(values):
            if not value >= LOW:
                print(f"  fiber {fiber}: SNR {value:.2f}: hardly any light")
            # JSON has no NaN: an absent value.
            measured = None if np.isnan(value) else float(value) * u.dimensionless_unscaled
            yield Job(
                [Measurement(METRIC, measured)], meta={**meta, "ccd": ccd, "fiber": str(fiber)}
            )


def picture(ratios: Mapping[str, Any]) -> str:
    """Draw a bar for each fiber, CCD by CCD."""
    bars, x = [], WIDTH
    for ccd, values in sorted(ratios.items()):
        for fiber, value in enumerate(np.nan_to_num(values)):
            height = min(max(SCALE * value, 1), HEIGHT)
            bars.append(
                f'<rect x="{x}" y="{HEIGHT - height:.0f}" width="{WIDTH - 4}" '
                f'height="{height:.0f}" fill="{COLORS.get(ccd, "#555")}">'
                f"<title>CCD {ccd}, fiber {fiber}: {value:.2f}</title></rect>"
                f'<text x="{x + WIDTH / 2 - 2:g}" y="{HEIGHT + 14}">{ccd}{fiber}</text>'
            )
            x += WIDTH
        x += WIDTH
    size = f'viewBox="0 0 {x} {HEIGHT + 22}" width="{x}" height="{HEIGHT + 22}"'
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" {size} font-size="9" text-anchor="middle" '
        f'font-family="sans-serif"><rect width="{x}" height="{HEIGHT + 22}" fill="#f4f6f8"/>'
        f"{''.join(bars)}</svg>\n"
    )


if __name__ == "__main__":
    main()
