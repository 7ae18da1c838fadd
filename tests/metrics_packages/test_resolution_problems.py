from pathlib import Path

import pytest

from squash_api.metrics_packages.loading import load_metrics_package
from tests.support.metrics_packages import write_package

FULL = "threshold: {value: 1, unit: s, operator: '<'}"


def problems(tmp_path: Path, text: str) -> list[str]:
    found = load_metrics_package(write_package(tmp_path / "pkg", {"a.yaml": text})).problems
    return [str(problem).removeprefix("pkg/specs/demo/") for problem in found]


def test_what_is_inherited_is_reported_where_it_is_written(tmp_path: Path) -> None:
    text = """\
        id: p
        threshold:
          value: 1
          unit: M
          operator: <
        ---
        name: latency.x
        base: '#p'
        """
    assert problems(tmp_path, text) == ["a.yaml:4: 'M' is not a unit that astropy knows: write m"]


def test_one_fault_that_many_inherit_is_one_problem(tmp_path: Path) -> None:
    heirs = "".join(f"---\nname: latency.x{number}\nbase: '#p'\n" for number in range(9))
    text = f"id: p\nthreshold: {{value: 1, unit: s, operator: =>}}\n{heirs}"
    assert len(problems(tmp_path, text)) == 1


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (
            f"id: part\n{FULL}\n---\nname: latency.x\nbase: '#pert'\n",
            "a.yaml:5: the base 'demo:a#pert' is not found: write 'demo:a#part'",
        ),
        (
            "id: unused\nbase: latency.nothing\n",
            "a.yaml:2: the base 'demo.latency.nothing' is not found: define it, or write another",
        ),
        (
            f"name: latency.x\nbase: latency.x\n{FULL}\n",
            "a.yaml:2: 'demo.latency.x' is its own base: remove that base",
        ),
        (
            "id: p\nbase: '#q'\n---\nid: q\nbase: '#r'\n---\nid: r\nbase: '#p'\n",
            (
                "a.yaml:2: the bases form a cycle, demo:a#p -> demo:a#q -> demo:a#r -> demo:a#p: "
                "remove one of them"
            ),
        ),
        (
            f"name: x\n{FULL}\n",
            "a.yaml:1: there is no metric: write metric: here, or use a base that has one",
        ),
        (
            f"id: p\nmetric: latency\n---\nname: x\nmetric: null\nbase: '#p'\n{FULL}\n",
            "a.yaml:4: there is no metric: write metric: here, or use a base that has one",
        ),
        (
            f"name: latency.x\nmetric: frac\n{FULL}\n",
            "a.yaml:1: the name 'latency.x' and the metric 'frac' disagree: write the metric once",
        ),
        (
            f"name: other.latency.x\n{FULL}\n",
            (
                "a.yaml:1: the package 'other' is not 'demo', the directory it is in: move "
                "the document, or write 'demo'"
            ),
        ),
        (
            f"name: a.b.c.d\n{FULL}\n",
            "a.yaml:1: 'a.b.c.d' has more than three parts: write package.metric.name",
        ),
        (
            f"name: latency.x\nbase: hard\n{FULL}\n",
            (
                "a.yaml:2: the base 'hard' names nothing: write '#hard' for a partial in this "
                "file, 'path#hard' for one in another, metric.hard for a specification"
            ),
        ),
        (
            f"name: latency.x\nbase: other.latency.y\n{FULL}\n",
            ("a.yaml:2: the base 'other.latency.y' is in another package: only a partial can be"),
        ),
        (
            f"name: latency.x\nbase: null\n{FULL}\n",
            "a.yaml:2: the base None is not text: write base: '#id'",
        ),
        (
            "name: latency.x\n",
            (
                "a.yaml:1: the threshold is missing: write threshold: {value: 5, unit: mmag, "
                "operator: '<='}"
            ),
        ),
        (
            f"title: latency.x\n{FULL}\n",
            "a.yaml:1: there is no name: write name: for a specification, id: for a partial",
        ),
        (
            f"id: a b\n{FULL}\n",
            "a.yaml:1: 'a b' is not a partial's name: write '#id' or 'path#id', without spaces",
        ),
        (
            "id: p\nthreshold: {unit: M}\n",
            "a.yaml:2: 'M' is not a unit that astropy knows: write m",
        ),
        (
            "- name\n",
            "a.yaml:1: the document is not a mapping: write one, or delete its ---",
        ),
    ],
)
def test_a_document_that_does_not_resolve_is_named(
    tmp_path: Path, text: str, expected: str
) -> None:
    assert problems(tmp_path, text) == [expected]


@pytest.mark.parametrize("key", ["id: p\n", "name: latency.x\n"])
def test_a_name_defined_twice_is_a_problem(tmp_path: Path, key: str) -> None:
    (problem,) = problems(tmp_path, f"{key}{FULL}\n---\n{key}{FULL}\n")
    assert problem.startswith("a.yaml:4: ")
    assert "is defined at pkg/specs/demo/a.yaml:1 already" in problem


def test_what_hangs_on_a_broken_base_is_not_reported_again(tmp_path: Path) -> None:
    text = "id: p\nbase: '#q'\n---\nname: x\nbase: '#p'\n---\nname: latency.y\nbase: '#p'\n"
    assert len(problems(tmp_path, text)) == 1


def test_a_list_that_doubles_at_every_step_is_stopped(tmp_path: Path) -> None:
    steps = "".join(
        f"---\nid: p{number}\nbase: ['#p{number - 1}', '#p{number - 1}']\n"
        for number in range(1, 60)
    )
    (problem,) = problems(tmp_path, f"id: p0\ntags: [a]\n{steps}")
    assert "'tags' grows beyond 10000 items: name each base only once" in problem
