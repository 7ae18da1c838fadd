"""Makes a record as this folder has one, through the service alone: HTTP and the command `squash`.

    python tests/data/record_1_2_1/make.py new.sqlite.xz --influx http://127.0.0.1:8086

It needs an empty InfluxDB 1.x, since what one says about a delivery is a part of the record.
"""

import argparse
import json
import lzma
import os
import socket
import sqlite3
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from urllib.parse import quote

import httpx

SPECS = Path(__file__).parent / "specs"
SECRET = "a secret of tests, longer than 32 bytes"
PASSWORD = "a password of tests"
PUBLIC_URL = "https://squash.example.org"
LAST_NIGHT = datetime(2026, 11, 27, 3, 12, 44, 500000, tzinfo=UTC)
HTML = "<script>alert('x')</script><b title=\"y\">&amp;</b>"
TEXT = "ünïcode \u202eRTL \u05e9\u05dc\u05d5\u05dd \"quotes\" 'single' `tick` {{ 7 * 7 }} \\ $$"
PLACE = "a/../b?c=d&e#f%2F;"


class Site:
    """A service of a folder, run by the command, and its users."""

    def __init__(self, folder: Path, influx_url: str) -> None:
        self.folder = folder
        self.influx_url = influx_url
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        self.client = httpx.Client(base_url=f"http://127.0.0.1:{self.port}", trust_env=False)
        self.tokens: dict[str, str] = {}

    def environment(self, specs: str, archive_url: str) -> dict[str, str]:
        """Return what the service is started with."""
        archive = {"name": "archive", "url": archive_url, "database": "archive"}
        return {
            **{key: text for key, text in os.environ.items() if not key.startswith("SQUASH_")},
            "SQUASH_SECRET": SECRET,
            "SQUASH_URL": PUBLIC_URL,
            "SQUASH_PORT": str(self.port),
            "SQUASH_DATABASE_URL": f"sqlite:///{self.folder / 'squash.db'}",
            "SQUASH_SPECS": ":".join(str(SPECS / name) for name in specs.split()),
            "SQUASH_INFLUX_URL": self.influx_url,
            "SQUASH_INFLUX_TARGETS": json.dumps([archive]),
            "SQUASH_WATCH": "off",
        }

    def squash(self, *words: str, typed: str = "") -> None:
        """Run a command of `squash` on the record."""
        subprocess.run(
            [sys.executable, "-m", "squash_api", *words],
            cwd=self.folder,
            env=self.environment("", self.influx_url),
            input=typed,
            text=True,
            check=True,
        )

    @contextmanager
    def running(self, specs: str, *, archive_url: str) -> Iterator[None]:
        """Run the service, until all is delivered that can be, and derived."""
        process = subprocess.Popen(
            [sys.executable, "-m", "squash_api", "serve"],
            cwd=self.folder,
            env=self.environment(specs, archive_url),
        )
        try:
            self._wait(lambda: self.client.get("/healthz").is_success)
            for name in ("root", "ada", "grace", "leaver"):
                who = {"username": name, "password": PASSWORD}
                self.tokens[name] = self.ask("POST", "/auth", who)["access_token"]
            yield
            self._wait(lambda: self._waiting("default") == 0)
            self._wait(lambda: self._waiting("archive") == 0 or archive_url != self.influx_url)
            # What is derived beside the requests is derived within seconds, and says nothing of it.
            time.sleep(10)
        finally:
            process.terminate()
            process.wait()

    def ask(self, method: str, path: str, document: Any = None, *, by: str = "") -> dict[str, Any]:
        """Ask, as a user if one is named, and return the answer, which must be good."""
        headers = {"Content-Type": "application/json"}
        if by:
            headers["Authorization"] = f"JWT {self.tokens[by]}"
        content = None if document is None else json.dumps(document)
        reply = self.client.request(method, path, content=content, headers=headers)
        if not reply.is_success:
            raise RuntimeError(f"{method} {path}: {reply.text}")
        answer: dict[str, Any] = reply.json()
        return answer

    def post(self, document: dict[str, Any], *, by: str = "ada") -> int:
        """Post a job, and return its id."""
        return int(self.ask("POST", "/job", document, by=by)["id"])

    def _waiting(self, target: str) -> int:
        return int(self.client.get("/readyz").json()["targets"][target]["waiting"])

    def _wait(self, is_done: Any) -> None:
        for _ in range(600):
            try:
                if is_done():
                    return
            except httpx.TransportError:
                pass
            time.sleep(0.1)
        raise RuntimeError("the service does not get there")


def main() -> None:
    """Make a record, and pack it."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("output", type=Path)
    parser.add_argument("--influx", required=True, metavar="URL")
    given = parser.parse_args()
    for name in ("squash", "archive"):
        words = {"q": f'CREATE DATABASE "{name}"'}
        httpx.post(f"{given.influx}/query", params=words, trust_env=False).raise_for_status()
    with tempfile.TemporaryDirectory() as folder:
        site = Site(Path(folder), given.influx)
        site.squash("user", "add", "root", "--admin", "--password-stdin", typed=f"{PASSWORD}\n")
        for name in ("ada", "grace", "leaver", "<b>ünï &co>"):
            site.squash("user", "add", name, "--password-stdin", typed=f"{PASSWORD}\n")
        with site.running("camera srd", archive_url=given.influx):
            define_survey(site)
            measure_nights(site, range(9, 3, -1))
            measure_camera(site)
            measure_survey(site, range(4))
            site.post(job([measured("checks.Below", 22.0, "mag")], night=40, run="c-0"))
            site.post(job([measured("checks.Unlimited", 2.5, "km/s")], night=40, run="c-0"))
        # A text where a number is to come: this line InfluxDB refuses.
        line = f'checks,instrument=HSC Text="a word" {time_ns(1)}'
        influx = {"db": "squash", "precision": "ns"}
        httpx.post(
            f"{given.influx}/write", params=influx, content=line, trust_env=False
        ).raise_for_status()
        # Nobody listens at port 9, so the archive stays behind.
        with site.running("camera srd checks", archive_url="http://127.0.0.1:9"):
            redefine_survey(site)
            measure_nights(site, range(3, -1, -1))
            measure_checks(site)
            measure_survey(site, range(4, 6))
            post_hostile(site)
            post_odd(site)
            change_jobs(site)
        site.squash("user", "disable", "leaver", "--yes")
        pack(Path(folder) / "squash.db", given.output)


def pack(path: Path, output: Path) -> None:
    """Pack a record, with nothing of it left beside it."""
    with closing(sqlite3.connect(path)) as record:
        record.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        record.execute("VACUUM")
    output.write_bytes(lzma.compress(path.read_bytes(), preset=9 | lzma.PRESET_EXTREME))


def time_of(night: float) -> datetime:
    """Return the time of a night; 0 is the last."""
    return LAST_NIGHT - timedelta(days=night)


def time_ns(night: float) -> int:
    """Return the same in ns."""
    return int(time_of(night).timestamp() * 1000) * 10**6


def measured(metric: str, value: Any, unit: str | None, *, key: str = "", **more: Any) -> Any:
    """Return a measurement, with an identifier if there is a key for it."""
    identifier = {"identifier": f"{key}-{metric}"} if key else {}
    return {"metric": metric, "value": value, "unit": unit, **identifier, **more}


def job(
    measurements: list[Any],
    *,
    night: float | None = None,
    run: str | None = None,
    pipeline: str | None = "checks",
    env: dict[str, Any] | None = None,
    blobs: Any = (),
    **meta: Any,
) -> dict[str, Any]:
    """Return a job."""
    said: dict[str, Any] = {"env_name": "ldf", "ci_name": pipeline, "ci_id": run}
    if run is not None:
        said["ci_url"] = f"https://ci.example.org/{pipeline or 'any'}/{quote(run)}/"
    if night is not None:
        said["date"] = time_of(night).isoformat()
    said |= env or {}
    said = {key: value for key, value in said.items() if value is not None}
    return {"measurements": measurements, "blobs": list(blobs), "meta": {"env": said, **meta}}


def packages(night: int) -> list[dict[str, Any]]:
    """Return the software of a night: one package changes often, one comes, and one goes."""
    shades = {"afw": 10, "ip_isr": 900 - night // 2, "obs_lsst": 77 if night > 5 else 78}
    if night > 6:
        shades["old_thing"] = 5
    if night < 4:
        shades["new_thing"] = 6
    host = {"afw": "git.example.org"}
    return [
        {
            "name": name,
            "git_sha": f"{shade:040x}",
            "git_url": f"https://{host.get(name, 'github.com')}/lsst/{name}.git",
            "git_branch": "main",
            "eups_version": f"1.{shade}" if name != "old_thing" else None,
        }
        for name, shade in shades.items()
    ]


def arrays(night: int) -> dict[str, Any]:
    """Return a blob with arrays of all kinds."""
    steps = range(40)
    rms = [round(3 + (step * 7 + night) % 11 / 4, 3) for step in steps]
    columns: dict[str, tuple[Any, str | None, str | None]] = {
        "mag": ([18 + step / 8 for step in steps], "mag", "Magnitude"),
        "rms": ([None if step == 5 else value for step, value in enumerate(rms)], "mmag", "RMS"),
        "rms_err": ([0.25 for _ in steps], "mmag", "Error of the RMS"),
        "counts": ([1, 2, 900_000, 3, 2, 4, 3, 2, 1, 2], "", None),
        "fit": (0.125, "mmag", "Fit"),
        "method": ("least squares", None, "Method"),
    }
    data = {
        key: {"value": value, "unit": unit, "label": label, "description": f"The {key}."}
        for key, (value, unit, label) in columns.items()
    }
    return {"identifier": f"blob-{night}", "name": "PhotRepeat", "data": data}


def define_survey(site: Site) -> None:
    """Define metrics and limits through the API, to be changed later."""
    names = {"Seeing": "arcsec", "Depth": "mag", "Count": "", "Gone": "s"}
    metrics: list[dict[str, Any]] = [
        {"name": f"survey.{name}", "unit": unit, "description": f"{name}, from the API."}
        for name, unit in names.items()
    ]
    metrics[0] |= {"tags": ["sky", "image quality"], "display_name": "Seeing (FWHM)"}
    metrics[1] |= {"description": f"{HTML} {TEXT}", "reference": {"doc": HTML, "url": PLACE}}
    site.ask("POST", "/metrics", {"metrics": metrics}, by="ada")
    limits = {
        "survey.Seeing.minimum": ("<=", 1.2, "arcsec", ["minimum"]),
        "survey.Seeing.design": ("<", 900, "marcsec", ["design"]),
        "survey.Depth.minimum": (">=", 24.0, "mag", ["minimum"]),
        "survey.Count.stretch": (">", 10, "", ["stretch", HTML]),
        "survey.Gone.design": ("<=", 3, "min", ["design"]),
    }
    specs = [
        {
            "name": name,
            "threshold": {"operator": operator, "value": value, "unit": unit},
            "tags": tags,
            "metadata_query": {"note": HTML} if "Count" in name else {},
        }
        for name, (operator, value, unit, tags) in limits.items()
    ]
    site.ask("POST", "/specs", {"specs": specs}, by="grace")


def redefine_survey(site: Site) -> None:
    """Give what the API has defined other versions, and take some of it away."""
    metric = {"unit": "mmag", "description": f"{HTML} in mmag", "reference": {"url": PLACE}}
    limit = {"operator": "<=", "value": 0.7, "unit": "arcsec"}
    tags = ["design", "image quality"]
    site.ask("PUT", "/metric/survey.Depth", metric, by="ada")
    site.ask("PUT", "/spec/survey.Seeing.design", {"threshold": limit, "tags": tags}, by="grace")
    limit = {"operator": "<=", "value": 0.8, "unit": "arcsec"}
    site.ask("PUT", "/spec/survey.Seeing.design", {"threshold": limit, "tags": tags}, by="root")
    site.ask("DELETE", "/spec/survey.Gone.design", by="grace")
    site.ask("DELETE", "/metric/survey.Gone", by="root")
    document = {"threshold": limit, "tags": ["design"], "metadata_query": {"filter_name": "z"}}
    site.ask("POST", "/spec/survey.Seeing.z", document, by="ada")


def measure_nights(site: Site, nights: range) -> None:
    """Post the runs of a pipeline, two filters each; night 7 has no packages."""
    for night in nights:
        for index, band in enumerate("ri"):
            key = f"night-{night}-{band}"
            values: list[tuple[str, Any, str | None]] = [
                ("validate_drp.PA1", 4 + (night * 3 + index) % 7, "mmag"),
                ("validate_drp.PF1_design_gri", 0.02 * (night % 8), ""),
                ("validate_drp.AM1", 0.004 * (2 + night % 5), "arcsec"),
                ("validate_drp.TE1", None if night in {2, 8} else 1e-5 * (night % 4), ""),
                ("validate_drp.Extra", 100 + night, "ct"),
            ]
            if night == 0 and band == "i":
                values[1] = ("validate_drp.PF1_design_gri", 3, "K")
            refs: dict[str, Any] = {"blob_refs": [f"blob-{night}"]}
            found = [measured(*item, key=key, **refs) for item in values[:1]]
            found += [measured(*item, key=key) for item in values[1:]]
            env = {
                "ci_dataset": "HSC RC2",
                "version_tag": f"w_2026_{47 - night // 4}",
                "ci_label": "centos",
            }
            said: dict[str, Any] = {"filter_name": band, "instrument": "HSC", "tract": 9813}
            if night != 7:
                said["packages"] = packages(night)
            more = {
                "airmass": 1 + night / 10,
                "seeing": {"median": 0.6 + index / 10},
                "visit": 1200,
            }
            document = job(
                found,
                night=night + index / 1000,
                run=str(1000 - night),
                pipeline="validate_drp",
                env=env,
                blobs=[arrays(night)],
                **said,
                **more,
            )
            site.post(document)


def measure_camera(site: Site) -> None:
    """Post temperatures: jobs of no run, two cameras, some of long ago."""
    for night, value in {60: 10.0, 45: 10.5, 20: 4.5, 12: 11.9, 6: 12.5, 5: 16.25}.items():
        celsius = measured("camera.AvgCameraBodySurfaceTemp", value, "deg_C")
        camera = "lsstCam" if night % 2 else "comCam"
        document = job([celsius], night=night, pipeline=None, instrument="LSSTCam")
        site.post(document | {"meta": document["meta"] | {"camera_name": camera}}, by="grace")


def measure_survey(site: Site, nights: range) -> None:
    """Post jobs under the limits of the API, of a run of Jenkins."""
    for night in nights:
        found = [
            measured("survey.Seeing", 600 + 100 * night, "marcsec", key=f"survey-{night}"),
            measured("survey.Depth", 23.5 + night / 4, "mag", key=f"survey-{night}"),
            measured("survey.Count", 8 + night, "", key=f"survey-{night}"),
            measured("survey.Gone", 200, "s", key=f"survey-{night}"),
        ]
        env = {"env_name": "jenkins", "ci_dataset": "sky"}
        said = {"filter_name": "zy"[night % 2], "instrument": "LATISS", "note": HTML}
        run = str(700 + night // 2)
        document = job(
            found,
            night=15 - night,
            run=run,
            pipeline="survey",
            env=env,
            **said,
            physical_filter="g~z",
        )
        site.post(document, by="grace")


def measure_checks(site: Site) -> None:
    """Post runs that hold and break each kind of limit, of two detectors."""
    for index, night in enumerate((31, 8, 1)):
        for detector in (41, 42):
            key = f"checks-{night}-{detector}"
            wave = index + detector - 41
            values: dict[str, tuple[Any, str | None]] = {
                "Below": (22 + wave / 4, "mag"),
                "AtMost": (1.2, None),
                "Above": (0.001 * (1 + wave), "Jy"),
                "AtLeast": (93 + wave, "%"),
                "Equal": (189 if wave else 188, ""),
                "Different": (wave, ""),
                "Zero": (wave - 1, "min"),
                "Queried": (25 * (1 + wave), "ct"),
                "Muted": (290 + 10 * wave, "K"),
                "Rare": (4, "mm"),
                "Daily": (0.6 if wave == 3 else 0.4, "cm"),
            }
            found = [measured(f"checks.{name}", *item, key=key) for name, item in values.items()]
            said: dict[str, Any] = {"instrument": "HSC", "filter": "r", "is_science": True}
            said["visit"] = 1202 + index
            document = job(
                found,
                night=night + detector / 1000,
                run=f"c-{index + 1}",
                **said,
                detector=detector,
            )
            site.post(document)
    for band, ago in (("u", 0.5), ("r", 1.0)):
        found = [measured("checks.Text", 7.5, ""), measured("checks.Unlimited", 1, "m/s")]
        site.post(job(found, night=ago, run="c-4", instrument="HSC", filter_name=band))


def post_hostile(site: Site) -> None:
    """Post jobs that have strange texts wherever there is room."""
    for index, text in enumerate((HTML, TEXT, PLACE)):
        blob = {
            "identifier": f"blob/{text}",
            "name": text,
            "data": {
                text: {"value": [1, 2, 3.5], "unit": text, "label": text, "description": text}
            },
        }
        found = [
            measured(f"hostile.{text}", index, "", blob_refs=[f"blob/{text}"]),
            measured("hostile.plain", 0.5 + index, ""),
            measured("hostile.unit", 1, text[:9]),
        ]
        env = {"ci_dataset": text, "version_tag": text, "ci_url": "javascript:alert(1)"}
        said: dict[str, Any] = {
            "instrument": text,
            "filter_name": text,
            "link": f"https://example.org/{text}",
        }
        listed = {text: {"name": text, "git_sha": text, "git_url": text}}
        document = job(
            found,
            night=3 + index / 10,
            run=text,
            pipeline=text,
            env=env,
            blobs=[blob, {"name": "no identifier", "data": {}}],
            packages=listed,
            **said,
        )
        document["meta"] |= {text: text, "nested": {text: {text: [text, {"deep": None}]}}}
        site.post(document)


def post_odd(site: Site) -> None:
    """Post jobs that are left out in part, come again, or say hardly anything."""
    found = [
        measured("checks.Below", None, "mag"),
        measured("checks.AtMost", 1.0, "kg"),
        measured("checks.Above", "three", "Jy"),
        measured("checks.Equal", True, ""),
        measured("checks.Zero", 1.0, "s"),
        measured("checks.Zero", -2.0, "s"),
        measured("checks.run_id", 1.0, ""),
        measured("loose.Count", 12, "ct"),
        measured("loose.Count2", 1.5e300, None),
    ]
    site.post(job(found, night=2, run="c-5", instrument="HSC"))
    site.post({"measurements": measured("loose.Count", float("nan"), "ct")})
    site.post({})
    site.post(job([measured("loose.Old", 3.25, "ct")], night=50, run="old"), by="leaver")
    site.post(job([measured("loose.Count", 3, "ct")], env={"date": "some day"}, pipeline=None))
    site.post(job([measured("loose.Count", 4, "ct")], env={"date": "2999-01-01"}, run="-odd"))
    site.post(job([measured("loose.Count", 5, "kg")], night=2, run="late run", pipeline=None))
    site.post(job([measured("loose.Count", 6, "ct")], night=2.25, run=None, pipeline="loose"))
    again = job([measured("loose.Count", 7.0, "ct", key="again")], night=2.5, run="again")
    first = site.post(again)
    if site.post(again) != first:
        raise RuntimeError("the same job was stored again")
    again["meta"]["note"] = "other metadata, same identifiers"
    site.post(again)
    again["measurements"][0]["value"] = 8
    site.post(again)
    site.post(again, by="grace")


def change_jobs(site: Site) -> None:
    """Delete a job, one of them to be posted again; add and replace measurements."""
    doomed = job([measured("loose.Count", 9, "ct", key="doomed")], night=2.75, run="doomed")
    for _ in range(2):
        number = site.post(doomed)
        site.ask("DELETE", f"/job/{number}", by="root")
    site.post(doomed)
    first, second = site.ask("GET", "/jobs?limit=2")["ids"]
    new = {"metric": "validate_drp.AM1", "value": 0.012, "unit": "arcsec", "identifier": "replaced"}
    site.ask("POST", f"/measurement/{first}", new, by="ada")
    new = {"metric": "loose.Added", "value": None, "unit": "ct", "identifier": "added"}
    site.ask("POST", f"/measurement/{second}", new, by="root")


if __name__ == "__main__":
    main()
