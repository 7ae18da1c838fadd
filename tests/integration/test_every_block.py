"""Every code block of README, docs and examples works by the letter.

One user begins in an empty directory, with a copy of the checkout, and runs the blocks in order:
README, quickstart, then the other pages. What a reader has to fill in, `...`, is filled in here;
ports are free ones instead of 8000 and 8086.
"""

import os
import re
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import date
from pathlib import Path

import pytest

from squash_api.metrics_packages.doubts import find_doubts
from squash_api.metrics_packages.loading import load_metrics_packages
from tests.support.influxd import Influxd
from tests.support.programs import find_program
from tests.support.server import free_port, is_up, local_url

ROOT = Path(__file__).parents[2]
FIRST = ("README.md", "docs/quickstart.md", "docs/operations.md", "docs/specification-format.md")
PAGES = (
    *FIRST,
    *(
        path.relative_to(ROOT).as_posix()
        for path in sorted([*ROOT.glob("*.md"), *(ROOT / "docs").glob("*.md")])
        if path.relative_to(ROOT).as_posix() not in FIRST
    ),
)
PASSWORD = "correct horse"
_FENCE = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_TIMEOUT_S = 300.0

NEED_DOCKER = "needs Docker; test_compose.py and test_compose_stack.py check what can be without it"
NEED_ROOT = "needs root, on the machine that serves"
NEED_NETWORK = "downloads from a package index"
ENDS_NOT = "runs until it is stopped; the tests of pipelines/ have processes that do"

NOT_RUN: Mapping[tuple[str, str], str] = {
    ("README.md", "make test"): "is these tests",
    ("docs/quickstart.md", ".venv/bin/python -m pip"): NEED_NETWORK,
    ("docs/deployment.md", "cp .env.example"): NEED_DOCKER,
    ("docs/deployment.md", "docker compose exec kapacitor"): NEED_DOCKER,
    ("docs/deployment.md", "git pull"): NEED_DOCKER,
    ("docs/deployment.md", "#!/bin/sh"): NEED_DOCKER,
    ("docs/deployment.md", "sudo install -d"): NEED_ROOT,
    ("docs/deployment.md", "docker compose stop chronograf"): NEED_DOCKER,
    ("docs/deployment.md", "docker compose stop squash_api"): NEED_DOCKER,
    ("docs/deployment.md", "docker compose exec influxdb"): NEED_DOCKER,
    ("docs/deployment.md", "docker compose exec squash_api"): NEED_DOCKER,
    ("docs/deployment.md", "squash-backup"): NEED_DOCKER,
    ("docs/deployment.md", "git checkout"): NEED_DOCKER,
    ("docs/deployment.md", "docker compose pull"): NEED_DOCKER,
    ("docs/kafka.md", "import json"): "needs brokers; test_kafka.py runs it",
    ("docs/scaling.md", "docker compose --profile"): NEED_DOCKER,
    ("docs/grafana.md", "docker compose --profile"): NEED_DOCKER,
    ("docs/quick-look.md", "squash watch"): ENDS_NOT,
    ("docs/quick-look.md", ".venv/bin/python examples"): "test_quicklook.py runs it",
    ("docs/deployment.md", "sudo apt-get"): NEED_ROOT,
    ("docs/deployment.md", "sudo useradd"): NEED_ROOT,
    ("docs/deployment.md", "sudo systemctl"): NEED_ROOT,
}
"""Blocks, or lines of blocks, that are not run here: by page and how they begin, and why."""

NOT_COMMANDS: Mapping[str, str] = {
    "text": "is what is shown or the content of a file; test_docs.py checks those that can change",
    "json": "is a reply or a setting; test_docs.py reads all, and compares those that can change",
    "sql": "test_queries.py asks every one of a real influxd, and checks the answers",
    "tick": "is generated; the tests of generate/ compare it",
    "toml": "is Telegraf's configuration; test_kafka_points.py reads messages by it",
    "yaml": "is a file; the test below checks those that `squash specs check` reads",
}
"""Languages whose blocks are not commands, and what checks them."""

MAY_FIND = ("squash report", "squash judge", "squash spool", "squash specs propose")
"""Commands that exit with 1 for what they find in the data."""

GIVEN: Mapping[tuple[str, str], str] = {
    ("docs/quickstart.md", "job.dispatch("): (
        "from squash_api.client import Job\njob = Job([], meta={'instrument': 'LSSTCam'})\n"
    ),
    **{
        ("docs/client.md", begins): (
            "from squash_api.client import Squash\n"
            'squash = Squash("http://127.0.0.1:8000", user="ada", password="...")\n'
        )
        for begins in (
            "for run in",
            "import astropy",
            "for alert in",
            "silence =",
            "from squash_api.client import SquashClientError",
        )
    },
}
"""What a block needs that no block gives: here a job of the LSST stack, whose part ours plays."""

SHOWN: Mapping[tuple[str, str], str] = {
    ("README.md", "U="): "camera.AvgCameraBodySurfaceTemp.design",
    ("docs/quickstart.md", "from squash_api.client import Squash"): "try-1",
    ("docs/reports.md", "#!/bin/sh"): "mailed: -s SQuaSH, last 24 h: passed",
}
"""What the output of a block must have, by page and how the block begins."""

_FUNCTIONS = """
log() { code=$1; shift; echo "$code $(echo "$*" | tr '\\n' ' ')" >> "$LOG"; return "$code"; }
"""
_LOGGED = {
    "squash": 'command squash "$@"',
    "python": 'command python "$@"',
    "sqlite3": 'command sqlite3 "$@"',
    "make": 'command make "$@"',
    "curl": 'command curl --fail-with-body -sS "$@"',
}


@dataclass(frozen=True, slots=True)
class Block:
    """A block of code; `before` is the text between it and the block above."""

    page: str
    number: int
    language: str
    text: str
    before: str

    def __str__(self) -> str:
        return f"{self.page}-{self.number}"

    def begins(self, place: tuple[str, str]) -> bool:
        """Tell whether it is the block of a table."""
        return self.page == place[0] and self.text.startswith(place[1])

    @property
    def serves(self) -> bool:
        """Whether it runs until it is stopped."""
        return re.search(r"^(squash serve|make demo)\b", self.text, re.MULTILINE) is not None


@dataclass(slots=True)
class Outcome:
    """What came of a block: what it printed, and the commands that failed."""

    output: str = ""
    failed: list[str] = field(default_factory=list)


def blocks() -> Iterator[Block]:
    """Yield all blocks in the order in which the user meets them."""
    for page in PAGES:
        text = (ROOT / page).read_text("utf-8")
        end = 0
        for number, match in enumerate(_FENCE.finditer(text), start=1):
            yield Block(page, number, match[1], match[2], text[end : match.start()])
            end = match.end()


ALL = [*blocks()]
RUN = [
    block
    for block in ALL
    if (block.language in {"sh", "python"} or block.text.startswith("#!/bin/sh"))
    and not any(block.begins(place) for place in NOT_RUN)
]


class Terminal:
    """A program in a terminal of its own, as `script` makes it."""

    def __init__(self, command: str, *, folder: Path, variables: Mapping[str, str]) -> None:
        self._process = subprocess.Popen(
            ["script", "-qefc", command, "/dev/null"],
            cwd=folder,
            env=dict(variables),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            bufsize=0,
        )
        self._shown = bytearray()
        self._seen = 0
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        assert self._process.stdout is not None
        while chunk := self._process.stdout.read(4096):
            self._shown += chunk

    @property
    def output(self) -> str:
        """What it has shown."""
        return self._shown.decode(errors="replace").replace("\r\n", "\n")

    def wait_for(self, text: str) -> None:
        """Wait until it shows a text, after what was waited for before."""
        deadline = time.monotonic() + _TIMEOUT_S
        while (place := self.output.find(text, self._seen)) < 0:
            assert self._process.poll() is None, self.output
            assert time.monotonic() < deadline, f"no {text!r} in: {self.output}"
            time.sleep(0.05)
        self._seen = place + len(text)

    def wait(self) -> None:
        """Wait until it has ended."""
        self._process.wait(timeout=_TIMEOUT_S)
        self._reader.join()
        for pipe in (self._process.stdin, self._process.stdout):
            if pipe is not None:
                pipe.close()

    def type(self, text: str) -> None:
        """Type a text."""
        assert self._process.stdin is not None
        self._process.stdin.write(text.encode())

    def interrupt(self) -> None:
        """Press Ctrl-C, and wait until it has ended."""
        if self._process.poll() is None:
            self.type("\x03")
        self.wait()


class User:
    """Somebody who has got the project, and runs one block after the other."""

    def __init__(self, folder: Path, influxd: Influxd) -> None:
        self.home = folder
        self.checkout = folder / "squash"
        self.port = free_port()
        self._influx_url = influxd.url
        self._password = PASSWORD
        self._name = "ada"
        self._server: Terminal | None = None
        self._demo_url: str | None = None
        ignored = shutil.ignore_patterns(
            *(".git", ".venv", ".env", "build", "__pycache__", ".*_cache", "*.db*", "*.egg-info")
        )
        shutil.copytree(ROOT, self.checkout, ignore=ignored)
        self._install()
        self._log = folder / "log"
        self._state = folder / "state"

    def _install(self) -> None:
        """Make the environment that `make` would; what it has is that of the tests."""
        programs = self.checkout / ".venv" / "bin"
        programs.mkdir(parents=True)
        for name, module in (("python", ""), ("squash", "-m squash_api"), ("pip", "-m pip")):
            script = f'#!/bin/sh\nPYTHONPATH={self.checkout} exec {sys.executable} {module} "$@"\n'
            (programs / name).write_text(script)
            (programs / name).chmod(0o755)
        later = time.time() + 3600
        for name in ("main", "dev"):
            (self.checkout / ".venv" / f"{name}.installed").touch()
            os.utime(self.checkout / ".venv" / f"{name}.installed", (later, later))
        mail = self.home / "bin" / "mutt"
        mail.parent.mkdir()
        mail.write_text('#!/bin/sh\ncat > /dev/null\necho "mailed: $*"\n')
        mail.chmod(0o755)

    @property
    def _variables(self) -> dict[str, str]:
        return {
            "PATH": f"{self.home / 'bin'}:/usr/local/bin:/usr/bin:/bin",
            "HOME": str(self.home),
            "LANG": "C.UTF-8",
            "TERM": "dumb",
            "LOG": str(self._log),
            "SQUASH_PORT": str(self.port),
            "REPORTS": str(self.home),
        }

    def _filled_in(self, text: str) -> str:
        """Fill in what the reader has to, and the ports of this test."""
        url = self._demo_url or local_url(self.port)
        text = text.replace("http://127.0.0.1:8000", url)
        text = text.replace("http://127.0.0.1:8086", self._influx_url)
        text = re.sub(r'(password"?[:=] ?)"\.\.\."', rf'\1"{self._password}"', text)
        return re.sub(r"(PASSWORD=)\.\.\.", rf"\1'{self._password}'", text)

    def run(self, block: Block) -> Outcome:
        """Run a block, and return what came of it."""
        if "another shell" in block.before:
            self._state.unlink(missing_ok=True)
        self._log.write_text("")
        text = self._filled_in(block.text)
        if block.serves:
            return self._serve(block, text)
        if block.language != "sh":
            script = self.home / "block"
            given = [code for place, code in GIVEN.items() if block.begins(place)]
            script.write_text("".join([*map(self._filled_in, given), text]))
            text = f"python {script}" if block.language == "python" else f"sh {script} a@b.example"
        if "user add" in text:
            terminal = self._typed(text, text)
            terminal.wait()
            output, code = terminal.output, 0
        else:
            done = self._shell(text)
            output, code = done.stdout + done.stderr, done.returncode
        codes = [line.split(" ", 1) for line in self._log.read_text().splitlines()]
        failed = [
            f"{code} {command}"
            for code, command in codes
            if code != "0" and not (code == "1" and command.startswith(MAY_FIND))
        ]
        if code and not codes:
            failed.append(f"{code} {block.text}")
        return Outcome(output, failed)

    def _script(self, text: str) -> Path:
        functions = _FUNCTIONS + "".join(
            f'{name}() {{ {call}; log "$?" {name} "$@"; }}\n' for name, call in _LOGGED.items()
        )
        before = f". {self._state}\n" if self._state.exists() else ""
        path = self.home / "block.sh"
        path.write_text(
            f"{before}{functions}{text}\nlast=$?\nexport -p > {self._state}\nexit $last\n"
        )
        return path

    def _typed(self, text: str, asking: str) -> Terminal:
        """Run commands in a terminal, and type the password whenever it is asked for."""
        terminal = Terminal(
            f"sh {self._script(text)}", folder=self.checkout, variables=self._variables
        )
        for line in asking.splitlines():
            if "user add" in line and "--password-stdin" not in line:
                for prompt in ("Password: ", "confirmation: "):
                    terminal.wait_for(prompt)
                    terminal.type(f"{PASSWORD}\n")
        return terminal

    def _shell(self, text: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            ["sh", str(self._script(text))],
            cwd=self.checkout,
            env=self._variables,
            capture_output=True,
            text=True,
            timeout=_TIMEOUT_S,
            check=False,
        )

    def _serve(self, block: Block, text: str) -> Outcome:
        """Run a block that ends with a server, and leave that running."""
        self.stop()
        for place in NOT_RUN:
            if block.page == place[0]:
                text = re.sub(rf"^{place[1]}.*\n", "", text, flags=re.MULTILINE)
        *head, server = text.strip().splitlines()
        # A shell that is interrupted writes no state.
        lines = [*head, f"export -p > {self._state}", server]
        terminal = self._server = self._typed("\n".join(lines), "\n".join(head))
        try:
            if "make demo" in text:
                terminal.wait_for("Ctrl-C ends it all")
                self._demo_url = re.findall(r"^pages +(\S+)/$", terminal.output, re.MULTILINE)[0]
                found = re.findall(r"^user .*the password (\S+)$", terminal.output, re.MULTILINE)
                self._password = found[0]
            else:
                terminal.wait_for("serving url=")
                deadline = time.monotonic() + _TIMEOUT_S
                while not is_up(f"{local_url(self.port)}/healthz"):
                    assert time.monotonic() < deadline, terminal.output
                    time.sleep(0.1)
        except (AssertionError, IndexError) as error:
            return Outcome(terminal.output, [str(error)])
        return Outcome(terminal.output)

    def stop(self) -> None:
        """End the server, as with Ctrl-C."""
        if self._server is not None:
            self._server.interrupt()
            self._server = self._demo_url = None
            self._password = PASSWORD


@pytest.fixture(scope="module")
def outcomes(tmp_path_factory: pytest.TempPathFactory, influxd: Influxd) -> dict[str, Outcome]:
    """What came of each block, when all were run in order."""
    for name in ("script", "make", "curl", "sqlite3"):
        find_program(name)
    user = User(tmp_path_factory.mktemp("user"), influxd)
    found = {}
    try:
        for block in RUN:
            try:
                found[str(block)] = user.run(block)
            except (AssertionError, subprocess.TimeoutExpired) as error:
                found[str(block)] = Outcome(failed=[str(error)])
    finally:
        user.stop()
    return found


@pytest.mark.parametrize("block", RUN, ids=str)
def test_the_block_works(block: Block, outcomes: dict[str, Outcome]) -> None:
    outcome = outcomes[str(block)]
    if outcome.failed:
        pytest.fail("\n".join([*outcome.failed, outcome.output[-3000:]]), pytrace=False)
    for place, text in SHOWN.items():
        if block.begins(place):
            assert text in outcome.output


@pytest.mark.parametrize(
    "block",
    [block for block in ALL if any(block.begins(place) for place in NOT_RUN)],
    ids=str,
)
def test_a_block_that_is_not_run_is_valid_shell_at_least(block: Block) -> None:
    done = subprocess.run(
        ["sh", "-n"], input=block.text, capture_output=True, text=True, timeout=60, check=False
    )
    assert not done.stderr


def test_the_yaml_of_a_page_is_a_metrics_package(tmp_path: Path) -> None:
    page = "docs/specification-format.md"
    found = [block.text for block in ALL if (block.page, block.language) == (page, "yaml")]
    metrics, reduced, aggregated, specifications, conditions, *kinds, alert = found
    package = tmp_path / "mine"
    (package / "metrics").mkdir(parents=True)
    (package / "metrics" / "validate_drp.yaml").write_text(metrics)
    (package / "metrics" / "demo.yaml").write_text(reduced + aggregated)
    (package / "specs" / "validate_drp").mkdir(parents=True)
    shutil.copy(ROOT / "specs/srd/specs/validate_drp/levels.yaml", package / "specs/validate_drp")
    another = f'{alert}---\nname: faint\nbase: "#AM1"\nthreshold: {{value: 20.0}}\n{conditions}'
    (package / "specs" / "validate_drp" / "astrometry.yaml").write_text(specifications + another)
    # The mute in it ends some day.
    loaded = load_metrics_packages([package], today=date(2026, 11, 27))
    assert loaded.problems == ()
    assert find_doubts([package]) == []
    levels = [item.level for item in loaded.specifications.values()]
    assert levels == ["CRITICAL", "WARNING"]

    shutil.copytree(ROOT / "examples/specs/kinds", tmp_path / "kinds")
    (tmp_path / "kinds" / "rules" / "quality" / "rules.yaml").write_text("---\n".join(kinds))
    loaded = load_metrics_packages([tmp_path / "kinds"])
    assert loaded.problems == ()
    found_kinds = {item.criterion.TYPE for item in loaded.specifications.values()}
    assert found_kinds == {"threshold", "range", "trend", "compound"}


def test_every_block_is_run_or_it_is_said_why_not() -> None:
    left = [
        str(block)
        for block in ALL
        if block not in RUN
        and block.language not in NOT_COMMANDS
        and not any(block.begins(place) for place in NOT_RUN)
    ]
    assert not left
    unused = [
        place
        for place in (*NOT_RUN, *SHOWN, *GIVEN)
        if not any(block.page == place[0] and place[1] in block.text for block in ALL)
    ]
    assert not unused
