"""What a real Kapacitor sends of groups of alerts, and of limits that the service raises."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import product

import pytest

from squash_api.generate.kapacitor.verdicts import is_verdict_id
from tests.support.alert_world import World
from tests.support.kapacitord import Kapacitord, write_load_directory
from tests.support.server import local_url
from tests.support.site import wait_for
from tests.support.slack import Slack

HOUR_NS = 3600 * 10**9
METRICS = """
PA1: {description: Photometric repeatability., unit: mmag}
AM1: {description: Astrometric repeatability., unit: mmag}
AM2: {description: The same on larger scales., unit: mmag}
twice: {description: Only bad twice in three runs., unit: mmag}
young: {description: Only bad after three runs., unit: mmag}
both: {description: Two of the newest three of at least four., unit: mmag}
alone: {description: Each by itself., unit: mmag}
"""
LIMIT = """
---
name: {name}
threshold: {{operator: "<=", unit: mmag, value: {limit}}}
tags: [{tag}]
alert: {{{alert}}}
"""
SPECS = "".join(
    LIMIT.format(name=name, limit=limit, tag=tag, alert=alert)
    for name, limit, tag, alert in (
        ("PA1.minimum", 8, "minimum", ""),
        ("PA1.design", 5, "design", ""),
        ("AM1.minimum", 8, "minimum", "group: job"),
        ("AM2.design", 5, "design", "group: job"),
        ("twice.limit", 8, "minimum", "after: {runs: 2, of: 3}, group: none"),
        ("young.limit", 8, "minimum", "min_runs: 3, group: none"),
        ("both.limit", 8, "minimum", "after: {runs: 2, of: 3}, min_runs: 4, group: none"),
        ("alone.limit", 8, "minimum", "group: none"),
    )
)


@dataclass
class Stack:
    """A record with its engine and outlet, and what is behind them."""

    world: World
    kapacitord: Kapacitord
    slack: Slack

    def tell(self) -> None:
        """Let the engine and the outlet do what there is to do."""
        self.world.raise_alerts()
        self.world.drain()

    def messages(self, dataset: str) -> list[list[str]]:
        """Return the messages on a dataset as Slack shows them, once there is nothing to come."""
        mark = f"mark-{len(self.slack.told)}-{dataset}"
        self.world.add({"alone": 9.0}, ago_ns=HOUR_NS, ci_dataset=mark)
        self.tell()
        self.slack.wait_for(lambda told: f"dataset {mark}" in told.text)
        found = [told for told in self.slack.told if f"dataset {dataset}" in told.text]
        return [told.shown.splitlines() for told in found]

    def levels(self, metric: str) -> dict[str, str]:
        """Return what Kapacitor has raised of a served metric."""
        return {
            name: state["level"]
            for name, state in self.kapacitord.events().items()
            if state["level"] != "OK" and name.startswith(f"validate.{metric}/")
        }


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    folder = tmp_path_factory.mktemp("groups")
    files = World(folder / "files", metrics=METRICS, specs=SPECS).files()
    load = write_load_directory(folder / "load", files)
    with Slack() as slack, Kapacitord(folder / "kapacitord", load, slack=slack.url) as kapacitord:
        world = World(
            folder / "world", url=local_url(kapacitord.port), metrics=METRICS, specs=SPECS
        )
        stack = Stack(world, kapacitord, slack)
        stack.tell()
        yield stack
        assert kapacitord.problems() == []
        world.stop()


def visit(stack: Stack, dataset: str, values: Sequence[float], *, hours: int, run: str) -> None:
    """Add a job for each detector of an exposure, so many hours ago."""
    for detector, value in enumerate(values):
        stack.world.add(
            {"PA1": value},
            ago_ns=hours * HOUR_NS + detector,
            ci_dataset=dataset,
            detector=detector,
            run_id=run,
        )


pytestmark = pytest.mark.sqlite


def test_an_exposure_of_189_detectors_is_one_message_and_what_breaks_later_another(
    stack: Stack,
) -> None:
    values = [9.5 if number < 12 else 6.0 if number < 17 else 1.0 for number in range(189)]
    visit(stack, "cosmos", values, hours=9, run="r1")
    stack.tell()
    (told,) = stack.messages("cosmos")
    assert told[:-1] == [
        "🔴 *CRITICAL* PA1 (validate): Photometric repeatability",
        "PA1: 17 of 189 detectors, 12 CRITICAL and 5 WARNING",
        "detector 0: PA1 = 9.50 mmag, must be <= 8 (minimum)",
        "detector 1: PA1 = 9.50 mmag, must be <= 8 (minimum)",
        "detector 2: PA1 = 9.50 mmag, must be <= 8 (minimum)",
        "and 14 more",
        "instrument HSC, dataset cosmos",
    ]
    assert "|run r1>" in told[-1] or told[-1].startswith("run r1, ")
    assert "/alerts?group=" in told[-1]
    # The next exposure: the same are bad, and another is.
    visit(stack, "cosmos", [*values[:100], 9.0, *values[101:]], hours=8, run="r2")
    stack.tell()
    _, later = stack.messages("cosmos")
    assert later[1:4] == [
        "PA1: 1 of 189 detectors",
        "PA1 = 9.00 mmag, must be <= 8 (minimum)",
        "instrument HSC, dataset cosmos, detector 100",
    ]
    visit(stack, "cosmos", [1.0] * 189, hours=7, run="r3")
    stack.tell()
    messages = stack.messages("cosmos")[2:]
    assert sorted(lines[1] for lines in messages) == [
        "PA1 = 1.00 mmag, must be <= 8 (minimum)",
        "PA1: 17 of 189 detectors, all well again",
    ]
    assert all(lines[0].startswith("✅ *OK* PA1 (validate)") for lines in messages)


def test_what_gets_worse_is_told_once(stack: Stack) -> None:
    for hours, value in ((9, 6.0), (8, 6.1), (7, 9.0), (6, 9.1)):
        visit(stack, "worse", [value, value], hours=hours, run=f"w{hours}")
        stack.tell()
    first, second = stack.messages("worse")
    assert (first[0][:13], second[0][:14]) == ("🟡 *WARNING* P", "🔴 *CRITICAL* P")
    assert first[1] == second[1] == "PA1: 2 of 2 detectors"
    assert "was WARNING before" in second


def test_with_group_job_a_job_is_one_message_the_worst_first(stack: Stack) -> None:
    values: dict[str, float | None] = {"AM2": 6.0, "AM1": 9.0}
    stack.world.add(values, ago_ns=HOUR_NS, ci_dataset="jobs", run_id="j")
    stack.tell()
    (told,) = stack.messages("jobs")
    assert told[:5] == [
        "🔴 *CRITICAL* AM1 (validate) and 1 metric more: Astrometric repeatability",
        "2 metrics, 1 CRITICAL and 1 WARNING",
        "AM1 = 9.00 mmag, must be <= 8 (minimum)",
        "AM2 = 6.00 mmag, must be <= 5 (design)",
        "instrument HSC, dataset jobs",
    ]


BROKEN, WELL, ABSENT = 9.0, 1.0, None


def is_raised(values: Sequence[float | None], *, runs: int, of: int, least: int) -> bool:
    """The definition: of the newest `of` runs with a value, at least `runs` break the limit."""
    known = [value for value in values if value is not None]
    newest = known[-of:]
    return len(known) >= least and sum(value > 8 for value in newest) >= runs


def has_raised(stack: Stack, expected: dict[str, int]) -> bool:
    return {metric: len(stack.levels(metric)) for metric in expected} == expected


def test_k_of_n_is_raised_at_the_boundaries_that_its_definition_has(stack: Stack) -> None:
    """Every history of four runs, of which some break, are well, or are not measured."""
    rules = {
        "twice": {"runs": 2, "of": 3, "least": 0},
        "young": {"runs": 1, "of": 1, "least": 3},
        "both": {"runs": 2, "of": 3, "least": 4},
    }
    histories = [*product((BROKEN, WELL, ABSENT), repeat=4)]
    for number in range(4):
        for place, history in enumerate(histories):
            stack.world.add(
                dict.fromkeys(rules, history[number]),
                ago_ns=(9 - number) * HOUR_NS + place,
                ci_dataset=f"history-{place}",
                run_id=f"{place}-{number}",
            )
        stack.tell()
        expected = {
            metric: sum(is_raised(history[: number + 1], **rule) for history in histories)
            for metric, rule in rules.items()
        }
        wait_for(partial(has_raised, stack, expected))
        assert all(is_verdict_id(name) for metric in rules for name in stack.levels(metric))
    wrong = []
    with stack.world.site.record.read() as connection:
        query = "SELECT metric, tags FROM alert WHERE state <> 'resolved'"
        living = {tuple(row) for row in connection.exec_driver_sql(query)}
    for metric, rule in rules.items():
        for place, history in enumerate(histories):
            key = (
                f"validate.{metric}",
                f'{{"dataset": "history-{place}", "instrument": "HSC"}}',
            )
            if (key in living) != is_raised(history, **rule):
                wrong.append((metric, history))
    assert wrong == []


def test_a_message_on_several_runs_says_how_many_break_it(stack: Stack) -> None:
    for hours in (9, 8, 7):
        stack.world.add(
            {"twice": 9.0}, ago_ns=hours * HOUR_NS, ci_dataset="runs", run_id=f"m{hours}"
        )
        stack.tell()
    (told,) = stack.messages("runs")
    assert told[1] == "twice = 9.00 mmag, must be <= 8 (limit), broken in 2 of the newest 2 runs"


def test_a_killed_kapacitor_sends_nothing_twice_and_learns_what_it_missed(stack: Stack) -> None:
    visit(stack, "killed", [9.0, 9.0], hours=9, run="k1")
    stack.tell()
    assert len(stack.messages("killed")) == 1
    stack.kapacitord.kill()
    visit(stack, "killed", [1.0, 1.0], hours=8, run="k2")
    visit(stack, "killed-2", [9.0, 9.0], hours=8, run="k3")
    stack.tell()
    stack.kapacitord.start()
    stack.world.restart()
    stack.tell()
    assert [lines[0][:6] for lines in stack.messages("killed")] == ["🔴 *CRI", "✅ *OK*", "🔴 *CRI"]
