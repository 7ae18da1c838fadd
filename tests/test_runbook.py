"""The runbook has an entry for whatever the code points to, and no other."""

import ast
import re
from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path

import pytest

from squash_api import errors
from squash_api.errors import (
    RecordUnavailableError,
    SquashError,
    help_link,
    runbook_of_record,
    split_runbook,
    with_runbook,
)
from squash_api.judging.own import OWN_ALERT_NAMES
from squash_api.record import faults
from squash_api.routes.documents import anchor_of

pytestmark = pytest.mark.sqlite
ROOT = Path(__file__).parent.parent
RUNBOOK = (ROOT / "docs" / "runbook.md").read_text(encoding="utf-8")
LABELS = ["Data", "Look", "Do", "Wake somebody"]

_ENTRY = re.compile(r"^### `([a-z0-9_-]+)`\n\n(.*?)(?=^#|\Z)", re.MULTILINE | re.DOTALL)
ENTRIES = dict(_ENTRY.findall(RUNBOOK))


@lru_cache(maxsize=1)
def _named() -> frozenset[str]:
    """Return the entries that the code names, as what is called `runbook`."""
    return frozenset(_constants())


def _constants() -> Iterator[str]:
    for path in sorted((ROOT / "squash_api").rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            value: ast.expr | None = None
            if isinstance(node, ast.keyword) and node.arg == "runbook":
                value = node.value
            elif isinstance(node, ast.Assign | ast.AnnAssign):
                target = node.targets[0] if isinstance(node, ast.Assign) else node.target
                is_it = isinstance(target, ast.Name) and target.id == "runbook"
                value = node.value if is_it else None
            if isinstance(value, ast.Constant) and isinstance(value.value, str) and value.value:
                yield value.value


def _codes() -> set[str]:
    kinds = [
        kind
        for kind in vars(errors).values()
        if isinstance(kind, type) and issubclass(kind, SquashError)
    ]
    return {kind.code for kind in kinds} | {"method_not_allowed"}


def _of_the_record() -> set[str]:
    return set(errors._OF_THE_RECORD.values())


def test_every_alert_on_the_service_itself_has_an_entry() -> None:
    assert set(OWN_ALERT_NAMES) <= set(ENTRIES)


def test_every_entry_that_the_code_names_is_there() -> None:
    assert _named() <= set(ENTRIES)


def test_every_code_of_the_api_has_an_entry() -> None:
    assert _codes() <= set(ENTRIES)


def test_every_reason_why_the_record_is_unavailable_has_an_entry() -> None:
    assert _of_the_record() <= set(ENTRIES)


def test_no_entry_is_one_that_nothing_leads_to() -> None:
    named = _named() | _codes() | _of_the_record() | set(OWN_ALERT_NAMES)
    assert set(ENTRIES) - named == set()


@pytest.mark.parametrize("name", ENTRIES)
def test_an_entry_says_what_somebody_woken_must_know(name: str) -> None:
    meaning, *_ = ENTRIES[name].splitlines()
    assert meaning[0].isupper()
    assert re.findall(r"^- \*\*(.*?):\*\*", ENTRIES[name], re.MULTILINE) == LABELS


@pytest.mark.parametrize("name", ENTRIES)
def test_the_name_of_an_entry_is_its_anchor(name: str) -> None:
    assert anchor_of(f"`{name}`") == name


def test_every_section_of_entries_has_nothing_else() -> None:
    headings = re.findall(r"^### (.*)$", RUNBOOK, re.MULTILINE)
    assert headings == [f"`{name}`" for name in ENTRIES]
    assert len(set(headings)) == len(headings)


@pytest.mark.parametrize(
    "reason",
    [
        *faults._REASONS.values(),
        "The file of the record has been replaced by another one",
    ],
)
def test_the_reason_of_a_failing_record_leads_to_its_own_entry(reason: str) -> None:
    error = RecordUnavailableError(f"{reason}. Try again.", reason=reason)
    assert error.runbook.startswith("record-")


def test_an_unknown_reason_leads_to_the_entry_of_the_code() -> None:
    assert runbook_of_record(None) == runbook_of_record("Who knows") == "record_unavailable"


@pytest.mark.parametrize("text", ["refused", "refused (again)", "a (runbook: b) c", ""])
def test_a_kept_text_gives_back_its_entry(text: str) -> None:
    assert split_runbook(with_runbook(text, "quarantine")) == (text, "quarantine")
    assert split_runbook(text) == (text, None)


def test_a_link_is_ascii_whatever_the_root_is() -> None:
    link = help_link("https://sténopé.example/日", "busy")
    assert link.isascii()
    assert link.endswith('/docs/runbook#busy>; rel="help"')
