"""The exposures of a made-up night: two CCDs with ten fibers, one of which breaks at half time.

    python make_night.py raw

The files come from the same seed, so every night is the same but for its date: the last exposure
ended now, each took ten minutes.
"""

import argparse
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
from astropy.io import fits

EXPOSURES = 4
EXPOSURE = timedelta(minutes=10)
BREAKS = 3
"""The first exposure without light in the broken fiber, from 1."""

INSTRUMENT = "ToySpec"
FIBERS = 10
BROKEN = 7
CCDS = {"b": 10.0, "r": 14.0}
"""Their median signal-to-noise ratios."""

PIXELS = 256
SEED = 17


def main() -> None:
    """Write the night."""
    parser = argparse.ArgumentParser(description="Write the exposures of a made-up night.")
    parser.add_argument("folder", type=Path)
    given = parser.parse_args()
    given.folder.mkdir(parents=True, exist_ok=True)
    for path in make_night(given.folder, end=datetime.now(UTC)):
        print(path)


def make_night(folder: Path, *, end: datetime) -> list[Path]:
    """Write the exposures into a folder, each whole or not at all; their paths in order."""
    random = np.random.default_rng(SEED)
    paths = []
    for number in range(1, EXPOSURES + 1):
        began = end - EXPOSURE * (EXPOSURES - number + 1)
        primary = fits.PrimaryHDU()
        primary.header["INSTRUME"] = INSTRUMENT
        primary.header["SPECTRO"] = 0
        primary.header["EXPTIME"] = EXPOSURE.total_seconds()
        # UTC, as FITS has it: without an offset.
        primary.header["DATE-OBS"] = began.replace(tzinfo=None).isoformat(timespec="milliseconds")
        images = [primary]
        for ccd, level in CCDS.items():
            fibers = level * random.normal(1.0, 0.05, FIBERS)
            if number >= BREAKS:
                fibers[BROKEN] = 0.4
            variance = random.uniform(0.5, 2.0, (FIBERS, PIXELS))
            noise = random.normal(0.0, 1.0, (FIBERS, PIXELS))
            flux = (fibers[:, np.newaxis] + noise) * np.sqrt(variance)
            images += [
                fits.ImageHDU(flux.astype(np.float32), name=f"FLUX_{ccd}"),
                fits.ImageHDU((1 / variance).astype(np.float32), name=f"IVAR_{ccd}"),
            ]
        path = folder / f"{began:%Y%m%dT%H%M%S}.fits"
        # Who watches the folder leaves out names that begin with a dot.
        hidden = folder / f".{path.name}"
        fits.HDUList(images).writeto(hidden, overwrite=True)
        paths.append(hidden.replace(path))
    return paths


if __name__ == "__main__":
    main()
