from xml.etree import ElementTree as ET

from squash_api.reports.texts import Case, junit_xml


def suite(*cases: Case) -> ET.Element:
    root = ET.fromstring(junit_xml("a suite", cases))
    found = root.find("testsuite")
    assert found is not None
    return found


def test_outcomes_are_counted() -> None:
    found = suite(
        Case("g", "a"), Case("g", "b", "failed", "bad", "CRITICAL"), Case("g", "c", "skipped")
    )
    assert dict(found.attrib) == {
        "name": "a suite",
        "tests": "3",
        "failures": "1",
        "skipped": "1",
        "errors": "0",
    }


def test_a_failure_says_why() -> None:
    (case,) = suite(Case("g", "b", "failed", "bad", "CRITICAL"))
    failure = case.find("failure")
    assert failure is not None
    assert dict(failure.attrib) == {"message": "bad", "type": "CRITICAL"}


def test_a_skipped_case_says_why() -> None:
    (case,) = suite(Case("g", "b", "skipped", "not there"))
    skipped = case.find("skipped")
    assert skipped is not None
    assert skipped.get("message") == "not there"


def test_what_is_remarkable_goes_to_the_output() -> None:
    (case,) = suite(Case("g", "b", text="milder"))
    assert case.findtext("system-out") == "milder"


def test_a_case_that_passes_holds_nothing() -> None:
    (case,) = suite(Case("g", "b"))
    assert (case.get("classname"), case.get("name"), list(case)) == ("g", "b", [])


def test_what_xml_cannot_hold_is_replaced() -> None:
    (case,) = suite(Case('a\x00\x1b<&"', "b\ufffe\ud800"))
    assert (case.get("classname"), case.get("name")) == ('a\ufffd\ufffd<&"', "b\ufffd\ufffd")
