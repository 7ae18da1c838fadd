"""JUnit XML, as CI systems show it: verdicts on a job, results of a report. Pure."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal
from xml.etree import ElementTree as ET

_NO_XML = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


@dataclass(frozen=True, slots=True)
class Case:
    """One test case. `text` says why it failed or was skipped, or what is remarkable about it.

    `kind` is the type of a failure.
    """

    group: str
    name: str
    outcome: Literal["passed", "failed", "skipped"] = "passed"
    text: str = ""
    kind: str = ""


def junit_xml(suite: str, cases: Sequence[Case]) -> bytes:
    """Return a suite of test cases as a document; characters that XML has not are replaced."""
    outcomes = [case.outcome for case in cases]
    counts = {
        "tests": str(len(cases)),
        "failures": str(outcomes.count("failed")),
        "skipped": str(outcomes.count("skipped")),
    }
    root = ET.Element("testsuites", counts)
    inner = ET.SubElement(root, "testsuite", {"name": _plain(suite), "errors": "0", **counts})
    for case in cases:
        names = {"classname": _plain(case.group), "name": _plain(case.name), "time": "0"}
        element = ET.SubElement(inner, "testcase", names)
        text = _plain(case.text)
        if case.outcome == "failed":
            ET.SubElement(element, "failure", message=text, type=_plain(case.kind))
        elif case.outcome == "skipped":
            ET.SubElement(element, "skipped", message=text)
        elif text:
            ET.SubElement(element, "system-out").text = text
    ET.indent(root)
    document: bytes = ET.tostring(root, encoding="utf-8", xml_declaration=True)
    return document


def _plain(text: str) -> str:
    return _NO_XML.sub("\ufffd", text)
