"""Job documents of the usual shape, no two alike: 100 measurements, 40 packages, 24 kB."""

import json
import random

MEASUREMENTS = 100
PACKAGES = 40
LARGEST = 50
PACKAGE = "bench_drp"


def metric_name(index: int) -> str:
    return f"{PACKAGE}.metric_{index:03d}"


def make_body(number: int) -> bytes:
    """Return the body of job `number`; the same number gives the same bytes."""
    chance = random.Random(number)

    def digits(count: int) -> str:
        return f"{chance.getrandbits(4 * count):0{count}x}"

    # Ten jobs a run, and a run has one package changed.
    run = number // 10
    packages = {
        f"package_{index}": {
            "name": f"package_{index}",
            "git_sha": f"{run if index == run % PACKAGES else index:040x}",
            "git_url": f"https://github.com/lsst/package_{index}.git",
            "git_branch": "main",
            "eups_version": f"22.0.1-{index}-gabcdef0+1234567890",
        }
        for index in range(PACKAGES)
    }
    document = {
        "measurements": [
            {
                "metric": metric_name(index),
                "identifier": digits(32),
                "value": chance.uniform(0, LARGEST),
                "unit": "mmag",
                "blob_refs": [],
            }
            for index in range(MEASUREMENTS)
        ],
        "blobs": [],
        "meta": {
            "instrument": "HSC",
            "filter_name": "HSC-R",
            "tract": number % 50,
            "visit": number,
            "airmass": chance.uniform(1, 2),
            "env": {
                "env_name": "jenkins",
                "ci_id": str(run),
                "ci_name": "bench_drp",
                "ci_dataset": "bench",
                "ci_label": "centos-7",
                "ci_url": f"https://ci.example.org/job/{run}/",
                "status": 0,
            },
            "packages": packages,
        },
    }
    return json.dumps(document).encode()
