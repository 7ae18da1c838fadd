"""A night of alerts in one command: what went wrong, and how few messages say it.

    python examples/night/play.py

It starts a service of its own (and Kapacitor, if kapacitord is on PATH) and plays 300 visits of 189
detectors. One exposure is bad; one detector's gain drifts, as its visits become worse and worse;
one amplifier of another breaks, and reads too much noise in most visits; and for a while nothing
comes, or what comes is of calibrations: that is planned, so there is a silence. Then it counts the
messages that the alerts of SQuaSH 1.2.1 would have sent of the same jobs, and those that this
release has sent, and checks that Kapacitor, the record and the report say the same. Exit code: 0 if
they do, and nothing was missed, in at most six messages.
"""

import argparse
import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing, suppress
from dataclasses import dataclass
from functools import partial
from html import unescape
from pathlib import Path
from random import Random
from tempfile import TemporaryDirectory
from typing import Any

import httpx

HERE = Path(__file__).resolve().parent
# The desk that takes messages in place of Slack, and the private Kapacitor, are those of the
# quick-look night.
sys.path.insert(0, str(HERE.parent / "quicklook"))

from night import SQUASH, front_desk, show, start_kapacitor, wait_until  # noqa: E402 - see above

from squash_api.demo.processes import (  # noqa: E402 - see above
    DemoError,
    Stop,
    Stopped,
    stopped_by_signals,
)
from squash_api.demo.running import RECORD, register_user, running_service  # noqa: E402

DRIFTING, BROKEN = 5, 7
"""The detectors whose gain drifts, and whose amplifier breaks."""

MOST_MESSAGES = 6
UNITS = {"night.psf_fwhm": "arcsec", "night.gain": "", "night.read_noise": "electron"}
TRUE = {
    "psf_fwhm": ["CRITICAL", "OK"],
    "gain": ["WARNING", "CRITICAL"],
    "read_noise": ["CRITICAL"],
}
"""What must be told of each metric, in this order."""

QUIET_S, CONNECTIONS, TIMEOUT_S = 2, 6, 60.0
_HEAD = re.compile(r"\*(\w+)\* (\w+)")
_OWN = "* SQuaSH: "
_TRIES = 3


@dataclass(frozen=True)
class Night:
    """Which of the visits has what."""

    visits: int
    detectors: int

    @property
    def bad(self) -> int:
        """The visit with the bad exposure."""
        return self.visits // 4

    @property
    def warned(self) -> int:
        """A visit at which the drift is bad, and not yet too bad."""
        return 18 * self.visits // 25

    @property
    def calibrations(self) -> range:
        """The visits while the dome is closed."""
        first = 5 * self.visits // 8
        return range(first, first + max(2, self.visits // 30))

    def values(self, visit: int) -> Iterator[dict[str, float]]:
        """Make up the values of each detector of a visit."""
        part = visit / (self.visits - 1)
        for detector in range(self.detectors):
            random = Random(f"{visit} {detector}")  # noqa: S311 - made up, not secret
            is_bad = visit == self.bad or visit in self.calibrations
            gain = random.gauss(1.0, 0.001)
            noise = random.gauss(7.0, 0.3)
            if detector == DRIFTING:
                gain -= 0.06 * max(0.0, part - 0.1)
            # It reads right now and then, but not at the end.
            if detector == BROKEN and part > 0.5 and (visit % 3 or part == 1.0):
                noise += random.uniform(10.0, 40.0)
            yield {
                "night.psf_fwhm": random.gauss(4.5 if is_bad else 0.8, 0.05),
                "night.gain": gain,
                "night.read_noise": noise,
            }


def main() -> None:
    """Play the night."""
    parser = argparse.ArgumentParser(description="Play a night of alerts.")
    parser.add_argument("--visits", type=int, default=300)
    parser.add_argument("--detectors", type=int, default=189)
    parser.add_argument("--gap", type=int, default=100, help="so long nothing comes, in seconds")
    parser.add_argument("--port", type=int, help="of the service; default: 8000 if free")
    parser.add_argument("--stay", action="store_true", help="keep the service until Ctrl-C")
    given = parser.parse_args()
    if given.visits < 40 or given.detectors <= BROKEN:
        parser.error(f"it takes 40 visits and {BROKEN + 1} detectors")
    with stopped_by_signals() as stop:
        try:
            is_well = play(given, stop)
        except Stopped:
            sys.exit("\nStopped.")
        except (DemoError, httpx.HTTPError, subprocess.CalledProcessError) as error:
            sys.exit(f"play.py: {error}")
    sys.exit(0 if is_well else 1)


def play(given: argparse.Namespace, stop: Stop) -> bool:
    """Start what is needed, send the night, and tell what came of it."""
    night = Night(given.visits, given.detectors)
    with ExitStack() as stack:
        folder = Path(stack.enter_context(TemporaryDirectory(prefix="squash-night-")))
        specs = limits_of(night, folder / "limits")
        # The service's own messages, and those of Kapacitor.
        own: list[str] = []
        theirs: list[str] = []
        desk = stack.enter_context(front_desk(folder / "own", own))
        slack = stack.enter_context(front_desk(folder / "theirs", theirs))
        kapacitor = start_kapacitor(stack, folder, slack, stop, specs=specs, tags=())
        told = {"the service": own, **({"Kapacitor": theirs} if kapacitor else {})}
        settings = {
            "SQUASH_ALERT_QUIET": str(QUIET_S),
            "SQUASH_SLACK": "on",
            "SQUASH_SLACK_URL": desk,
            **({"SQUASH_KAPACITOR_URL": kapacitor} if kapacitor else {}),
        }
        service = stack.enter_context(
            running_service(
                directory=folder,
                port=given.port,
                specs=[specs],
                variables=os.environ,
                influx_variables=settings,
                stop=stop,
            )
        )
        show("service", service.url)
        client = stack.enter_context(closing(logged_in(service)))
        try:
            send(night, client, told, stop, gap_s=given.gap)
            for who, messages in told.items():
                wait_until(partial(is_all_told, messages), stop, what=f"messages of all by {who}")
        except DemoError:
            # What there is shows what is missing.
            for who, messages in told.items():
                show("told", f"by {who}: {heads(messages)}")
            raise
        # What is too much would come now.
        stop.pause(3 * QUIET_S)
        is_well = tell(night, client, told, specs, folder)
        if given.stay:
            print("\nCtrl-C ends it all and deletes the night.", flush=True)
            with suppress(Stopped):
                stop.pause(float("inf"))
        return is_well


def limits_of(night: Night, folder: Path) -> Path:
    """Copy the limits, with as many detectors as the night has."""
    for name in ("metrics", "specs"):
        shutil.copytree(HERE / name, folder / name)
    limits = folder / "specs" / "night" / "limits.yaml"
    limits.write_text(limits.read_text().replace("0-188", f"0-{night.detectors - 1}"))
    return folder


def logged_in(service: Any) -> httpx.Client:
    """Return a client of a new user, who may do everything that this needs."""
    user = register_user(service)
    client = httpx.Client(base_url=service.url, timeout=TIMEOUT_S, trust_env=False)
    answer = client.post("/auth", json={"username": user.name, "password": user.password})
    answer.raise_for_status()
    client.headers["Authorization"] = f"JWT {answer.json()['access_token']}"
    return client


def send(
    night: Night, client: httpx.Client, told: Mapping[str, list[str]], stop: Stop, *, gap_s: int
) -> None:
    """Send all visits. After the bad one it waits until people know, as they would at night."""
    silence: dict[str, Any] = {}
    with ThreadPoolExecutor(CONNECTIONS) as pool:
        for visit in range(night.visits):
            stop.check()
            if visit == night.calibrations.start:
                silence = quiet(client, "night", "dome closed: calibrations")
                if gap_s:
                    show("gap", f"nothing comes for {gap_s} s, which is planned")
                    stop.pause(gap_s)
            jobs = [job_of(visit, number, each) for number, each in enumerate(night.values(visit))]
            list(pool.map(partial(post, client), jobs))
            if visit == night.bad:
                wait_until(is_told(told, "psf_fwhm", "CRITICAL"), stop, what="messages of it")
            elif visit == night.bad + 1:
                wait_until(is_told(told, "psf_fwhm", "OK"), stop, what="messages that it is over")
            elif visit == night.calibrations.stop:
                wait_until(lambda: not living(client, "night.psf_fwhm"), stop, what="good images")
                client.delete(f"/silence/{silence['id']}").raise_for_status()
            elif visit == night.warned:
                # Else it may be worse before anybody has heard that it is bad.
                wait_until(is_told(told, "gain", "WARNING"), stop, what="messages of the drift")
            if visit % 50 == 49:
                show("visits", f"{visit + 1} of {night.visits}")
    # Of what comes with every visit, only this is expected.
    quiet(client, "night.psf_fwhm", "the night is over")


def post(client: httpx.Client, job: Mapping[str, Any]) -> None:
    """Send a job; again, if the service closes a connection that was idle just then."""
    for left in range(_TRIES, 0, -1):
        try:
            client.post("/job", json=job).raise_for_status()
        except httpx.TransportError:
            if left == 1:
                raise
        else:
            return


def quiet(client: httpx.Client, metric: str, why: str) -> dict[str, Any]:
    """Make a silence for what is planned; returns it."""
    answer = client.post("/silences", json={"metric": metric, "why": why, "until": "1h"})
    answer.raise_for_status()
    found: dict[str, Any] = answer.json()
    return found


def job_of(visit: int, detector: int, values: Mapping[str, float]) -> dict[str, Any]:
    """Make the job of a detector of a visit."""
    return {
        "measurements": [
            {"metric": name, "value": value, "unit": UNITS[name]} for name, value in values.items()
        ],
        "blobs": [],
        "meta": {
            "instrument": "LSSTCam",
            "detector": detector,
            "pipeline": "night",
            "run_id": f"visit-{visit:03}",
        },
    }


def heads(messages: Sequence[str]) -> dict[str, list[str]]:
    """Return the levels that messages have told of each metric, in their order."""
    found: dict[str, list[str]] = {}
    for text in messages:
        head = _HEAD.search(text)
        if head is not None:
            found.setdefault(head[2], []).append(head[1])
    return found


def is_told(told: Mapping[str, list[str]], metric: str, level: str) -> Callable[[], bool]:
    """Return whether everybody has told a level of a metric."""
    return lambda: all(level in heads(some).get(metric, []) for some in told.values())


def is_all_told(messages: Sequence[str]) -> bool:
    """Return whether all that is true has been told."""
    found = heads(messages)
    return all(set(levels) <= set(found.get(metric, [])) for metric, levels in TRUE.items())


def living(
    client: httpx.Client, metric: str = "night", *, more: str = ""
) -> set[tuple[str, str, str]]:
    """Return metric, detector and level of the alerts that live; `more` goes into the query."""
    found: set[tuple[str, str, str]] = set()
    query: str | None = f"/alerts?state=open&state=acknowledged&metric={metric}&limit=1000"
    query += more
    while query is not None:
        answer = client.get(query, headers={"Accept": "application/json"})
        answer.raise_for_status()
        page = answer.json()
        found |= {
            (item["metric"], item["tags"].get("detector", ""), item["severity"])
            for item in page["alerts"]
        }
        query = page["next"]
    return found


def in_report(client: httpx.Client) -> set[tuple[str, str, str]]:
    """Return metric, detector and level of the last values that break a limit."""
    report = client.get("/report?since=1d&format=json").json()
    return {
        (item["metric"], item["tags"].get("detector", ""), item["state"])
        for item in report["worst"]
    }


def before(specs: Path, folder: Path) -> int:
    """Count the messages that the alerts of 1.2.1 would have sent, each series by itself."""
    variables = {"SQUASH_DATABASE_URL": f"sqlite:///{folder / RECORD}", "SQUASH_SECRET": "x" * 32}
    done = subprocess.run(
        [*SQUASH, "specs", "backtest", str(specs), "--since", "1d", "--json"],
        env={**os.environ, **variables},
        check=True,
        capture_output=True,
        text=True,
    )
    count: int = json.loads(done.stdout)["messages"]["new"]["without_keys"]
    return count


def tell(
    night: Night,
    client: httpx.Client,
    told: Mapping[str, list[str]],
    specs: Path,
    folder: Path,
) -> bool:
    """Print what was told, and whether all say the same; returns whether it is as it must be."""
    jobs = f"{night.visits * night.detectors:,} jobs"
    print(f"\n{night.visits} visits of {night.detectors} detectors: {jobs}")
    print(f"SQuaSH 1.2.1 would have sent {before(specs, folder)} messages.")
    is_well = True
    for who, everything in told.items():
        # On a slow machine there are also some on the service itself.
        messages = [text for text in everything if _OWN not in text]
        print(f"Now {who} has sent {len(messages)} messages:")
        for text in messages:
            # Slack shows these three entities so, and the links by their text.
            print("  " + "\n    ".join(unescape(text).splitlines()))
        is_well = is_well and heads(messages) == TRUE and len(messages) <= MOST_MESSAGES
    record = living(client, more="&silenced=false")
    report = in_report(client)
    for place, found in (("the record", record), ("the report", report)):
        words = ", ".join(
            f"{level} {metric} of detector {part}" for metric, part, level in sorted(found)
        )
        print(f"At the end {place} has: {words or 'nothing'}.")
    is_well = is_well and record == report
    print("All say the same." if is_well else "These are not as they must be.")
    return is_well


if __name__ == "__main__":
    main()
