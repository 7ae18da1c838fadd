"""The states: how a value, a metric, a job, a run or a report stands. One list, worst first.

Whatever has several parts is in the state of the worst of them. Pages, the API, badges, reports,
commands and the watch take the states, their order, their words and their counts from here.
"""

from collections import Counter
from collections.abc import Iterable, Mapping
from types import MappingProxyType
from typing import get_args

from squash_api.judging.alerts import level_of
from squash_api.judging.wording import counted
from squash_api.schema import answers

State = answers.State

STATES: tuple[State, ...] = get_args(State)
"""All states, worst first."""

CRITICAL, WARNING, LATE, NOT_MEASURED, INFO, PASSED, NO_LIMIT, OLD, NEVER_SEEN = STATES

BROKEN: tuple[State, ...] = (CRITICAL, WARNING, INFO)
"""The states in which a limit is broken, worst first."""

JUDGED: tuple[State, ...] = (*BROKEN, PASSED)
"""The states of what a limit has judged, worst first."""

MEANINGS: Mapping[State, str] = MappingProxyType(
    {
        "CRITICAL": "The newest value breaks a limit of this level.",
        "WARNING": "The newest value breaks a limit of this level, and of no worse one.",
        "late": "A value that a specification expects has not arrived in time.",
        "not measured": "The newest job names the metric, but without a value that can be used: "
        "it is null, NaN, infinite or text, or its unit does not convert.",
        "INFO": "The newest value breaks only limits of this level.",
        "passed": "The newest value meets every limit that applies.",
        "no limit": "There is a value, but no specification applies to it.",
        "old": "The newest job with the metric is more than 30 days old.",
        "never seen": "The metric is declared or has a specification, but no job has named it.",
    }
)
"""What each state means, in a sentence."""

RANKS: Mapping[str, int] = MappingProxyType({state: rank for rank, state in enumerate(STATES)})
"""The place of each state in the list: 0 is the worst."""


def state_of(severity: int, *, is_limited: bool, is_measured: bool = True) -> State:
    """Tell the state of one newest value.

    Parameters
    ----------
    severity
        That of the worst limit that it breaks: 0 for none, 1 for INFO to 3 for CRITICAL.
    is_limited
        Whether any limit applies.
    is_measured
        Whether there is a value at all.
    """
    if not is_measured:
        return NOT_MEASURED
    if severity:
        return level_of(severity)
    return PASSED if is_limited else NO_LIMIT


def worst_state(states: Iterable[State], default: State) -> State:
    """Return the worst of several states."""
    return min(states, key=RANKS.__getitem__, default=default)


def slug_of(state: str) -> str:
    """Write a state as the end of CSS classes (`state-`, `edge-`, `cell-`)."""
    return state.lower().replace(" ", "-")


def count_states(states: Iterable[State]) -> dict[State, int]:
    """Count states, worst first; those that do not occur are left out."""
    counts = Counter(states)
    return {state: counts[state] for state in STATES if counts[state]}


def added(counts: Iterable[Mapping[State, int]]) -> dict[State, int]:
    """Add up counts, worst state first."""
    total: Counter[State] = Counter()
    for item in counts:
        total.update(item)
    return {state: total[state] for state in STATES if total[state]}


def counts_text(counts: Mapping[State, int], noun: str = "") -> str:
    """Write counts, such as `3 metrics: 1 CRITICAL, 2 passed`; without a noun only the parts."""
    parts = ", ".join(f"{counts[state]} {state}" for state in STATES if counts.get(state))
    if not noun:
        return parts
    total = counted(sum(counts.values()), noun)
    return f"{total}: {parts}" if parts else total
