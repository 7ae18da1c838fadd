"""The pictures in the README, made from the demo: `python -m tests.support.pictures FOLDER`.

The made-up history is sent up to the day on which photometry gets worse. So the front page has
something to show, and the real Kapacitor, loaded with `kapacitor/` as it is committed, something to
tell. What it tells goes to a stand-in for Slack, and is drawn here as Slack would.
"""

import html
import re
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path
from tempfile import TemporaryDirectory

import httpx
from playwright.sync_api import Browser

from squash_api.client import Squash
from squash_api.demo.history import make_history
from tests.support.calls import PASSWORD, log_in
from tests.support.chromium import running
from tests.support.influxd import Influxd
from tests.support.kapacitord import Kapacitord
from tests.support.programs import where_is
from tests.support.service import Service
from tests.support.site import wait_for
from tests.support.slack import Slack, Told

ROOT = Path(__file__).parents[2]
_SEED = 17
_DAYS = 60
_COLOURS = {"danger": "#c9302c", "warning": "#e0a030", "good": "#2fa44f"}
_CARD = """<!doctype html><meta charset="utf-8"><style>
body {{ margin: 0; background: #fff; font: 15px/1.5 system-ui, sans-serif; color: #1d1c1d }}
.name {{ font-weight: 700 }} .channel {{ color: #616061; font-size: 13px; margin-left: 8px }}
.card {{ border-left: 4px solid {colour}; padding: 2px 0 2px 12px; margin-top: 6px }}
.card {{ white-space: pre-wrap }}
a {{ color: #1264a3; text-decoration: none }}</style>
<div id="message" style="padding: 16px; width: 600px"><span class="name">Kapacitor</span>
<span class="channel">{channel}</span><div class="card">{text}</div></div>"""


def make_pictures(folder: Path) -> list[str]:
    """Write `front.png` and `alert.png`; return the names of those that were made."""
    binary = where_is("chromium")
    if binary is None or where_is("influxd") is None:
        sys.exit("Install Debian's packages chromium and influxdb first.")
    folder.mkdir(parents=True, exist_ok=True)
    with TemporaryDirectory(prefix="squash-pictures-") as scratch:
        place = Path(scratch)
        with Influxd(place / "influxd") as influxd, Slack() as slack:
            variables = {
                "SQUASH_INFLUX_URL": influxd.url,
                "SQUASH_SPECS": f"{ROOT / 'specs/srd'}:{ROOT / 'examples/specs/camera'}",
            }
            with Service(place / "service", **variables) as service, running(binary) as browser:
                if where_is("kapacitord") is None:
                    _send_history(service.url)
                    _draw_front(browser, service.url, folder)
                    return ["front.png"]
                load = ROOT / "kapacitor"
                influxd.query("CREATE DATABASE squash")
                with Kapacitord(place / "kapacitord", load, influxdb=influxd.url, slack=slack.url):
                    wait_for(lambda: influxd.query("SHOW SUBSCRIPTIONS"))
                    _send_history(service.url)
                    told = slack.wait_for(lambda item: "*CRITICAL* PA1 " in item.text)
                _draw_front(browser, service.url, folder)
                _draw_alert(browser, told, folder)
    return ["front.png", "alert.png"]


def _send_history(url: str) -> None:
    """Send the jobs up to the first day of the regression, which is today."""
    with httpx.Client(base_url=url, trust_env=False, timeout=60) as client:
        log_in(client, "demo")
    now = datetime.now(UTC)
    worse = make_history(days=_DAYS, now=now, seed=_SEED).regression.start
    history = make_history(days=_DAYS, now=now + timedelta(days=_DAYS - 1 - worse), seed=_SEED)
    with Squash(url, "demo", PASSWORD, transport=httpx.HTTPTransport()) as squash:
        replies = [squash.send(job) for day in history.days[: worse + 1] for job in day]
        squash.wait(replies[-1])


def _draw_front(browser: Browser, url: str, folder: Path) -> None:
    page = browser.new_page(viewport={"width": 1280, "height": 800}, color_scheme="light")
    page.goto(url, wait_until="load")
    page.screenshot(path=folder / "front.png")
    page.close()


def _draw_alert(browser: Browser, told: Told, folder: Path) -> None:
    # Slack's markup: text in asterisks is bold, <address|words> is a link; what else a message
    # holds is escaped as in HTML.
    text = re.sub(r"<(https?://[^|>]+)\|([^>]*)>", r'<a href="\1">\2</a>', told.text)
    text = re.sub(r"\*(\w+)\*", r"<b>\1</b>", text)
    page = browser.new_page(viewport={"width": 700, "height": 300}, device_scale_factor=2)
    colour = _COLOURS.get(told.color, "#888")
    page.set_content(_CARD.format(colour=colour, channel=html.escape(told.channel), text=text))
    page.locator("#message").screenshot(path=folder / "alert.png")
    page.close()


if __name__ == "__main__":
    target = Path(sys.argv[1])
    made = make_pictures(target)
    sys.stdout.write(f"made {', '.join(made)} in {target}\n")
    if "alert.png" not in made:
        sys.exit(f"{target / 'alert.png'} is left as it is: kapacitord is not on PATH.")
