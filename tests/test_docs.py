"""The documentation names what there is, and nothing else."""

import json
import re
import shlex
from collections.abc import Iterator
from dataclasses import fields
from importlib import import_module
from pathlib import Path
from urllib.parse import urlsplit

import click
import pytest

from squash_api import errors
from squash_api.cli import COMMANDS, load
from squash_api.influx.points import job_to_points
from squash_api.ingest.assessment import Assessment, assess
from squash_api.ingest.document import Job, decode_job
from squash_api.judging.alerts import LEVELS, After, Alert, Expect, Mute
from squash_api.judging.kinds.threshold import OPERATORS, THRESHOLD_KEYS
from squash_api.metrics_packages.drafts import CONTENT_KEYS
from squash_api.metrics_packages.loading import load_metrics_packages
from squash_api.pages import addresses
from squash_api.record.tables import metadata
from squash_api.schema import names as schema
from squash_api.settings import InfluxTarget, Settings
from squash_api.trends.parameters import FORMATS
from squash_api.verify.metrics import KnownMetric

ROOT = Path(__file__).parent.parent
DOCS = ROOT / "docs"
WORDS = [
    "metric",
    "measurement",
    "specification",
    "limit",
    "verdict",
    "standing",
    "series",
    "combination",
    "run",
    "target",
    "outlet",
    "cursor",
    "job",
    "value",
    "absent",
    "skipped",
    "undeclared",
    "blob",
    "dataset",
    "definition",
    "revision",
    "threshold",
    "level",
    "margin",
    "state",
    "late",
    "alert",
    "mute",
    "report",
    "record",
    "index",
    "lease",
    "quarantine",
    "replay",
    "site",
    "wire",
    "kind",
    "criterion",
    "expectation",
    "board",
    "watch",
    "branch",
    "engine",
    "deriver",
    "view",
    "output",
]
"""What `docs/glossary.md` promises to explain."""
PAGES = sorted([*ROOT.glob("*.md"), *DOCS.glob("*.md")])
_FENCE = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_LINK = re.compile(r"\[[^\]]*\]\(([^)\s]+)\)")
_ROUTE_HEADING = re.compile(r"^### `([A-Z]+ /\S*)`$", re.MULTILINE)
_LOCAL_ROOT = "http://127.0.0.1:8000"


def _read(name: str) -> str:
    return (DOCS / name).read_text(encoding="utf-8")


def _blocks(text: str, language: str) -> list[str]:
    return [body for found, body in _FENCE.findall(text) if found == language]


def _section(text: str, heading: str) -> str:
    """Return what stands below a heading, up to the next one of its depth or above."""
    depth = len(heading) - len(heading.lstrip("#"))
    parts = re.split(rf"^(#{{1,{depth}}} .*)$", text, flags=re.MULTILINE)
    return parts[parts.index(heading) + 1]


def _rows(section: str) -> dict[str, list[str]]:
    """Return the rows of tables by the word in their first cell."""
    cells = [
        [cell.strip() for cell in line.strip("|").split(" | ")]
        for line in section.splitlines()
        if line.startswith("| `")
    ]
    return {row[0].strip("`"): row[1:] for row in cells}


def _routes() -> set[str]:
    document = json.loads(_read("openapi.json"))
    listed = {
        f"{method.upper()} {path}"
        for path, methods in document["paths"].items()
        for method in methods
    }
    return listed | {"GET /docs", "GET /openapi.json"}


def _commands() -> dict[str, click.Command]:
    """Return the commands of `squash` by their full names."""
    return {f"squash {path}": load(path) for path in COMMANDS}


def _option_names(command: click.Command) -> set[str]:
    """Return the options of a command; of a pair, the one that changes something."""
    names = set()
    for parameter in command.params:
        if parameter.param_type_name == "option" and parameter.name != "help":
            is_on = parameter.default is True and parameter.secondary_opts
            names.add((parameter.secondary_opts if is_on else parameter.opts)[0])
    return names


def _examples() -> Iterator[tuple[str, list[str]]]:
    """Yield the words of each command in the shell blocks of all pages, with the page."""
    for page in PAGES:
        for block in _blocks(page.read_text(encoding="utf-8"), "sh"):
            for words in _commands_in(block):
                yield page.name, words


def _commands_in(block: str) -> Iterator[list[str]]:
    """Yield the words of each command; one goes on while a quote is open or a line ends in `\\`."""
    block = re.sub(r"^\w+=\$\((.*)\)$", r"\1", block, flags=re.MULTILINE).replace("$U", _LOCAL_ROOT)
    waiting = ""
    for line in block.splitlines():
        waiting += line + "\n"
        if line.endswith("\\"):
            continue
        try:
            words = shlex.split(waiting.replace("\\\n", " "), comments=True)
        except ValueError:
            continue
        waiting = ""
        while words and re.match(r"[A-Z_]+=", words[0]):
            words.pop(0)
        if words:
            yield words
    assert not waiting, f"an open quote in: {waiting}"


def test_every_setting_is_in_the_table_with_its_default() -> None:
    rows = _rows(_section(_read("operations.md"), "## Settings"))
    expected = {
        f"SQUASH_{name.upper()}": "none" if field.default in (None, ()) else f"`{field.default}`"
        for name, field in Settings.model_fields.items()
    } | {"SQUASH_URL": "from host and port"}
    assert {name: row[0] for name, row in rows.items()} == expected


def test_every_key_of_a_target_is_named() -> None:
    section = _section(_read("operations.md"), "## Settings")
    example = json.loads(_blocks(section, "json")[0])
    InfluxTarget(**example[0])
    named = set(example[0]) | set(re.findall(r"`(\w+)`", section))
    assert set(InfluxTarget.model_fields) <= named


def test_every_route_has_a_section_and_every_section_a_route() -> None:
    assert set(_ROUTE_HEADING.findall(_read("http-api.md"))) == _routes()


def test_every_route_of_the_api_names_its_parameters() -> None:
    document = json.loads(_read("openapi.json"))
    page = _read("http-api.md")
    everywhere = _section(page, "### Paging")
    missing = [
        f"{method} {path}: {parameter['name']}"
        for path, methods in document["paths"].items()
        for method, operation in methods.items()
        for parameter in operation.get("parameters", ())
        if parameter["in"] == "query"
        and f"?{parameter['name']}="
        not in everywhere + _section(page, f"### `{method.upper()} {path}`")
    ]
    assert not missing


def test_the_list_of_pages_is_that_of_the_code() -> None:
    listed = re.findall(r"`(/[^`]*)`", _read("pages.md").partition("\n## ")[0])
    paths = [re.sub(r"\{.*?\}", "<>", page.path) for page in addresses.PAGES]
    assert sorted(re.sub(r"<.*?>", "<>", path) for path in listed) == sorted(paths)


def test_every_format_of_measurements_is_named() -> None:
    section = _section(_read("http-api.md"), "### `GET /measurements`")
    route = json.loads(_read("openapi.json"))["paths"]["/measurements"]["get"]
    assert [name for name in FORMATS if f"`{name}`" not in section] == []
    titles = [row.title for row in FORMATS.values()]
    assert [title for title in titles if title not in route["description"]] == []


def test_every_error_is_in_the_table_with_its_status() -> None:
    rows = _rows(_section(_read("http-api.md"), "### Errors"))
    classes = [
        found
        for found in vars(errors).values()
        if isinstance(found, type) and issubclass(found, errors.SquashError)
    ]
    expected = {found.code: str(found.status_code) for found in classes}
    # No client ever meets it; the words that `app.py` has for Starlette's own errors are not ours.
    del expected[errors.SettingsError.code]
    expected["method_not_allowed"] = "405"
    assert {code: row[0] for code, row in rows.items()} == expected


def test_the_code_of_settings_errors_is_explained() -> None:
    assert f"`{errors.SettingsError.code}` is a code" in _read("http-api.md")


def test_every_key_of_a_specification_is_in_a_table() -> None:
    alert = {field.name.removesuffix("_s") for field in fields(Alert)} - {"mute", "after"}
    expected = (
        {"name", "id", "metric", "base", *CONTENT_KEYS}
        | {f"threshold.{key}" for key in THRESHOLD_KEYS}
        | {f"alert.{key}" for key in alert}
        | {f"alert.mute.{field.name}" for field in fields(Mute)}
        | {f"alert.after.{field.name}" for field in fields(After)}
        | {f"expect.{field.name.removesuffix('_s')}" for field in fields(Expect)}
    )
    section = _section(
        _read("specification-format.md"), "## Specifications: `specs/<package>/**/*.yaml`"
    )
    assert expected <= set(_rows(section))


def test_every_operator_and_level_is_named() -> None:
    page = _read("specification-format.md")
    assert [name for name in OPERATORS if f"`{name}`" not in page] == []
    assert [level for level in LEVELS if level not in page] == []


def test_every_tag_field_and_source_in_influxdb_is_named() -> None:
    page = _read("data-model.md")
    sources = [
        key
        for keys in (*schema.TAG_SOURCES.values(), *schema.FIELD_SOURCES.values())
        for key in keys
    ]
    names = [*schema.TAGS, *schema.CONTRACT_FIELDS, *sources]
    assert [name for name in names if f"`{name}`" not in page] == []


def test_every_table_of_the_record_is_named() -> None:
    assert set(_rows(_section(_read("data-model.md"), "## The record"))) == set(metadata.tables)


def test_every_command_has_a_section_and_every_section_a_command() -> None:
    headings = re.findall(
        r"^### `(squash [a-z ]*[a-z])",
        _section(_read("operations.md"), "## Commands"),
        re.MULTILINE,
    )
    assert sorted(headings) == sorted(_commands())


@pytest.mark.parametrize("name", sorted(_commands()))
def test_section_of_a_command_names_its_options(name: str) -> None:
    page = _read("operations.md")
    heading = re.search(rf"^### `{name}[ `].*$|^### `{name}`$", page, re.MULTILINE)
    assert heading is not None
    assert set(_rows(_section(page, heading[0]))) == _option_names(_commands()[name])


def test_examples_name_only_commands_and_options_that_exist() -> None:
    commands = _commands()
    seen, wrong = 0, []
    for page, line in _examples():
        words = _in_container(line)
        if words[:1] != ["squash"]:
            continue
        seen += 1
        # What follows is another program's.
        words = words[: words.index("--")] if "--" in words else words
        command = next(
            (
                found
                for name, found in commands.items()
                if words[: name.count(" ") + 1] == name.split()
            ),
            None,
        )
        # What follows `--` is a command of its own.
        own = words[: words.index("--")] if "--" in words else words
        options = {word.partition("=")[0] for word in own if word.startswith("--")}
        if command is None or not options <= {*_all_option_names(command)}:
            wrong.append(f"{page}: {' '.join(words)}")
    assert not wrong
    assert seen >= 10


def _in_container(words: list[str]) -> list[str]:
    """Return the command that is run in the service's container, or the one that is given."""
    if words[0] != "docker" or "squash_api" not in words or "--entrypoint" in words:
        return words
    inner = words[words.index("squash_api") + 1 :]
    return ["squash", *inner] if "run" in words else inner


def _all_option_names(command: click.Command) -> Iterator[str]:
    for parameter in command.params:
        yield from (*parameter.opts, *parameter.secondary_opts)


def test_examples_ask_only_for_addresses_that_exist() -> None:
    known = [
        (method, re.compile(re.sub(r"\{\w+\}", "[^/]+", path)))
        for method, _, path in (route.partition(" ") for route in _routes())
    ]
    seen, wrong = 0, []
    for page, words in _examples():
        if "curl" not in words:
            continue
        has_body = any(word.startswith(("-d", "--data")) for word in words)
        method = words[words.index("-X") + 1] if "-X" in words else "POST" if has_body else "GET"
        for url in (word for word in words if word.startswith(_LOCAL_ROOT)):
            seen += 1
            path = urlsplit(url).path.rstrip("/") or "/"
            if not any(method == other and pattern.fullmatch(path) for other, pattern in known):
                wrong.append(f"{page}: {method} {path}")
    assert not wrong
    assert seen >= 9


def test_examples_send_json() -> None:
    bodies = [
        words[words.index("-d") + 1]
        for _, words in _examples()
        if "curl" in words and "-d" in words
    ]
    assert bodies
    for body in bodies:
        json.loads(body)


def test_examples_name_only_make_targets_that_exist() -> None:
    targets = set(re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text("utf-8"), re.MULTILINE))
    named = {
        match[1]
        for page in PAGES
        for match in re.finditer(r"(?:^|`)make ([a-z]+)", page.read_text("utf-8"), re.MULTILINE)
    }
    assert named <= targets


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_relative_link_leads_somewhere(page: Path) -> None:
    text = _FENCE.sub("", page.read_text(encoding="utf-8"))
    dead = []
    for link in _LINK.findall(text):
        if "://" in link:
            continue
        name, _, anchor = link.partition("#")
        target = page if not name else (page.parent / name)
        if not target.exists() or (anchor and anchor not in _anchors(target)):
            dead.append(link)
    assert not dead


def _anchors(page: Path) -> set[str]:
    """Return the anchors of a page's headings, spelled as GitHub does."""
    headings = re.findall(r"^#+ (.*)$", page.read_text(encoding="utf-8"), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def test_the_glossary_has_the_words_that_the_code_uses() -> None:
    words = set(re.findall(r"^\| ([a-z, ]+) \|", _read("glossary.md"), re.MULTILINE)) - {"word"}
    assert set(WORDS) - words == set()
    assert len(words) >= 30


def test_what_the_glossary_names_in_the_code_exists() -> None:
    places = re.findall(r"`([a-z_.]+):(\w+)` \|$", _read("glossary.md"), re.MULTILINE)
    assert len(places) >= 15
    missing = [
        f"{module}:{name}"
        for module, name in places
        if not hasattr(import_module(f"squash_api.{module}"), name)
    ]
    assert not missing


def test_every_json_block_is_json() -> None:
    for page in PAGES:
        for block in _blocks(page.read_text(encoding="utf-8"), "json"):
            json.loads(block)


def _walked() -> tuple[Job, Assessment]:
    """Return the job of the data model's example, judged by the metrics of `specs/`."""
    section = _section(_read("data-model.md"), "## One job, walked to its points")
    package = load_metrics_packages(
        [ROOT / "specs" / "srd", ROOT / "examples" / "specs" / "camera"]
    )
    known = {
        name: KnownMetric(metric.unit, is_declared=True) for name, metric in package.metrics.items()
    }
    job = decode_job(_blocks(section, "json")[0].encode())
    return job, assess(job, metrics=known, schema=schema.Schema())


def test_walked_job_becomes_exactly_the_lines_shown() -> None:
    job, outcome = _walked()
    time_ns, note = job.time_ns(received_ns=2 * 10**18)
    assert note is None
    points = job_to_points(
        job_id=7,
        squash_url="https://squash.example.org/job/7",
        time_ns=time_ns,
        values=outcome.values,
        context=schema.Schema().context(job.meta),
        code_changes=None,
    )
    section = _section(_read("data-model.md"), "## One job, walked to its points")
    shown = [
        lines.replace("\n    ", "").replace("\n  ", " ")
        for lines in _blocks(section, "text")[0].strip().split("\n\n")
    ]
    assert [point.line for point in points] == shown


def test_what_the_walked_job_leaves_out_is_what_the_page_says() -> None:
    _, outcome = _walked()
    page = _read("http-api.md")
    reply = json.loads(_blocks(_section(page, "### `POST /job`"), "json")[0])
    assert outcome.absent == reply["absent"]
    assert outcome.undeclared == reply["undeclared"]
    skipped = [{"metric": skip.metric, "reason": skip.reason} for skip in outcome.skipped]
    assert skipped == reply["skipped"]
