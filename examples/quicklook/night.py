"""A quick-look night in one command, from FITS files to the page and the alert that a person sees.

    python examples/quicklook/night.py

It starts a service of its own (and Kapacitor, if kapacitord is on PATH), lets `squash watch` launch
the pipeline for each exposure of a made-up night, and shows what came of it. With `--url` it sends
to a service that runs already, with the credentials of `squash run`.
"""

import argparse
import http.server
import json
import os
import shlex
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from datetime import UTC, datetime
from functools import partial
from html import unescape
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import httpx
from make_night import BROKEN, CCDS, EXPOSURE, FIBERS, INSTRUMENT, make_night

from squash_api.demo.processes import (
    HOST,
    Child,
    DemoError,
    Stop,
    Stopped,
    free_port,
    running_server,
    stopped_by_signals,
)
from squash_api.demo.running import register_user, running_service

HERE = Path(__file__).resolve().parent
SQUASH = [sys.executable, "-m", "squash_api"]
TAGS = ("spectrograph", "ccd", "fiber")
SERIES = {"quicklook.snr": len(CCDS) * FIBERS, "quicklook.snr_of_ccd": len(CCDS)}
"""How many series each metric has."""

START_S, PATIENCE_S = 60.0, 120.0
HANDLER = "/kapacitor/v1/alerts/topics/metrics-default/handlers/metrics-default-slack"
KAPACITOR = """\
hostname = "{host}"
data_dir = "{folder}"
[http]
  bind-address = "{host}:{port}"
  log-enabled = false
[load]
  enabled = true
  dir = "{folder}/generated/kapacitor"
[replay]
  dir = "{folder}/replay"
[storage]
  boltdb = "{folder}/kapacitor.db"
[task]
  dir = "{folder}/tasks"
[[influxdb]]
  enabled = false
  default = true
  name = "none"
  urls = ["http://{host}"]
[[slack]]
  enabled = true
  default = true
  url = "{slack}"
  channel = "#quick-look"
[reporting]
  enabled = false
[stats]
  enabled = false
"""


def main() -> None:
    """Play the night."""
    parser = argparse.ArgumentParser(description="Play a quick-look night.")
    parser.add_argument("--url", help="a service that runs already; default: one of its own")
    parser.add_argument("--port", type=int, help="of its own service; default: 8000 if free")
    parser.add_argument("--once", action="store_true", help="exit when all is shown")
    given = parser.parse_args()
    with stopped_by_signals() as stop:
        try:
            play(given, stop)
        except Stopped:
            sys.exit("\nStopped.")
        except (DemoError, httpx.HTTPError, subprocess.CalledProcessError) as error:
            sys.exit(f"night.py: {error}")


def play(given: argparse.Namespace, stop: Stop) -> None:
    """Start what is needed, watch the night, show what came of it; all ends with this."""
    with ExitStack() as stack:
        folder = Path(stack.enter_context(TemporaryDirectory(prefix="squash-night-")))
        alerts: list[str] = []
        desk = stack.enter_context(front_desk(folder / "out", alerts))
        kapacitor = None
        if given.url is None:
            kapacitor = start_kapacitor(stack, folder, desk, stop)
            settings = {
                # Each fiber of each CCD is a series.
                "SQUASH_TAGS": ",".join(TAGS),
                # The host of the plots, which pages then show.
                "SQUASH_ARTIFACT_HOSTS": desk.removeprefix("http://"),
                # Groups of alerts are told soon: nobody wants to wait a minute for an example.
                "SQUASH_ALERT_QUIET": "5",
                **({"SQUASH_KAPACITOR_URL": kapacitor} if kapacitor else {}),
            }
            variables = start_service(stack, folder, settings, given.port, stop)
        else:
            variables = {**os.environ, "SQUASH_URL": given.url.rstrip("/")}
        variables["SQUASH_SPOOL"] = str(folder / "spool")
        end = datetime.now(UTC).replace(microsecond=0)
        watch(folder, desk, variables, end, stop)
        tell(variables["SQUASH_URL"], end - EXPOSURE, stop)
        if kapacitor is not None:
            about = f"fiber {BROKEN}"
            # One message for both CCDs, or one for each if one of them took much longer.
            wait_until(
                lambda: all(
                    any(about in text and f"ccd {ccd}" in text for text in alerts) for ccd in CCDS
                ),
                stop,
                what=f"alerts of {about}",
            )
            # On a slow machine there are also some on the service itself.
            for text in alerts:
                # Slack shows these three entities so, and the links by their text.
                print(f"\nSlack was told:\n\n{unescape(text)}")
        if not given.once:
            print("\nCtrl-C ends it all and deletes the night.", flush=True)
            with suppress(Stopped):
                stop.pause(float("inf"))


@contextmanager
def front_desk(folder: Path, alerts: list[str]) -> Iterator[str]:
    """Serve the plots to people, and take alerts in place of Slack; yields its address."""
    folder.mkdir()

    class Desk(http.server.SimpleHTTPRequestHandler):
        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            alerts.extend(item["text"] for item in body["attachments"])
            self.send_response(200)
            self.end_headers()

        def log_message(self, *_: object) -> None:
            """Say nothing."""

    server = http.server.ThreadingHTTPServer((HOST, 0), partial(Desk, directory=folder))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://{HOST}:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()


def start_kapacitor(
    stack: ExitStack,
    folder: Path,
    desk: str,
    stop: Stop,
    *,
    specs: Path = HERE,
    tags: Iterable[str] = TAGS,
) -> str | None:
    """Start a Kapacitor with the alerts of the limits; None where it is not installed."""
    program = shutil.which("kapacitord")
    if program is None:
        show("Kapacitor", "no kapacitord on PATH: no alerts, the pages have all")
        return None
    generated = folder / "generated"
    generated.mkdir()
    more = [f"--tag={tag}" for tag in tags]
    subprocess.run(
        [*SQUASH, "generate", f"--specs={specs}", f"--output={generated}", *more],
        check=True,
        stdout=subprocess.DEVNULL,
    )

    def start(port: int) -> Child:
        path = folder / "kapacitor.conf"
        path.write_text(KAPACITOR.format(host=HOST, port=port, folder=folder, slack=desk))
        command = [program, "-config", str(path)]
        return Child("kapacitord", command=command, directory=folder, variables=os.environ)

    url, _ = stack.enter_context(
        running_server(
            start,
            choose_port=free_port,
            # The handlers are loaded last.
            path=HANDLER,
            is_taken=lambda child, _port: not child.is_running(),
            stop=stop,
            timeout_s=START_S,
        )
    )
    show("Kapacitor", f"{url} (private)")
    return url


def start_service(
    stack: ExitStack, folder: Path, settings: dict[str, str], port: int | None, stop: Stop
) -> dict[str, str]:
    """Start a service; gives the environment in which commands send to it."""
    service = stack.enter_context(
        running_service(
            directory=folder,
            port=port,
            specs=[HERE],
            variables=os.environ,
            influx_variables=settings,
            stop=stop,
        )
    )
    user = register_user(service)
    show("service", service.url)
    return {
        **{name: text for name, text in os.environ.items() if not name.startswith("SQUASH_")},
        "SQUASH_URL": service.url,
        "SQUASH_USER": user.name,
        "SQUASH_PASSWORD": user.password,
    }


def watch(folder: Path, desk: str, variables: dict[str, str], end: datetime, stop: Stop) -> None:
    """Let `squash watch` launch the pipeline for each exposure, and end it when all are done."""
    raw = folder / "raw"
    raw.mkdir()
    python = shlex.join([sys.executable, str(HERE / "pipeline.py")])
    command = [
        *(*SQUASH, "watch", "raw", "--pattern=*.fits", "--jobs=2", "--state=watch.db"),
        *("--pipeline=quicklook", f"--instrument={INSTRUMENT}", "--run={name}"),
        *("--outputs=out/{name}", f"--exec={python} {{}} --out out/{{name}} --plots-url {desk}"),
    ]
    show("watch", "squash watch raw --exec 'python pipeline.py {} ...', which says")
    with Child("squash watch", command=command, directory=folder, variables=variables) as child:
        exposures = make_night(raw, end=end)

        def are_done() -> bool:
            child.check()
            return child.log.read_text().count(": exit status ") >= len(exposures)

        wait_until(are_done, stop, what="results of all exposures")
        child.signal(signal.SIGTERM)
    print("".join(f"  {line}\n" for line in child.log.read_text().splitlines()), flush=True)
    # What the service did not take in time waits there.
    if any((folder / "spool").glob("*.json*")):
        sent = subprocess.run([*SQUASH, "spool", "send"], env=variables, check=False)
        if sent.returncode:
            raise DemoError(f"{variables['SQUASH_URL']} did not take all jobs")


def tell(url: str, began: datetime, stop: Stop) -> None:
    """Show what is broken, and where people see it, once all values are there.

    `began` is when the last exposure began.
    """

    def standings(package: str) -> Any:
        query = {"package": package, "instrument": INSTRUMENT}
        answer = httpx.get(f"{url}/standings", params=query, timeout=30, trust_env=False)
        if not answer.is_success:
            raise DemoError(f"{answer.url}: {answer.status_code} {answer.text}")
        return answer.json()["standings"]

    def are_there() -> bool:
        series = [each for metric in standings("quicklook") for each in metric["series"]]
        new = sum(datetime.fromisoformat(each["date"]) >= began for each in series)
        return new >= sum(SERIES.values()) and bool(standings("run"))

    wait_until(are_there, stop, what=f"values of {SERIES} at {url}")
    for metric in standings("quicklook"):
        counts = Counter(series["state"] for series in metric["series"])
        words = ", ".join(f"{count} {state}" for state, count in counts.items())
        print(f"{metric['metric']}: {words}")
        for series in metric["series"]:
            if series["broken"]:
                part = ", ".join(f"{t} {series['tags'][t]}" for t in TAGS if t in series["tags"])
                verdict = series["verdict"]
                limit = f"{verdict['operator']} {verdict['threshold']:g}"
                print(f"  {part}: {series['value']:.2f}, must be {limit} ({verdict['level']})")
    show("page", f"{url}/metric/quicklook.snr?fiber={BROKEN}")
    show("all", f"{url}/")
    (status,) = (each for each in standings("run") if each["metric"] == "run.exit_status")
    show("log", f"{status['series'][0]['job']}  (of the pipeline, and what it took)")


def wait_until(is_so: Callable[[], bool], stop: Stop, *, what: str) -> None:
    """Wait for something to become true; `what` it is."""
    deadline = time.monotonic() + PATIENCE_S
    while not is_so():
        if time.monotonic() > deadline:
            raise DemoError(f"after {PATIENCE_S:g} s there are still no {what}")
        stop.pause(0.2)


def show(what: str, text: str) -> None:
    """Print a line."""
    print(f"{what:<10}{text}", flush=True)


if __name__ == "__main__":
    main()
