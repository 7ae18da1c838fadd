"""Making servers what the specifications generate: step by step, each with its outcome."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Literal, cast

from squash_api.generate.live.chronograf import Chronograf
from squash_api.generate.live.comparison import Comparison, Difference, is_from_file
from squash_api.generate.live.http import LiveError, UnreachableError
from squash_api.generate.live.kapacitor import Kapacitor
from squash_api.generate.live.objects import Dashboard, Handler, Kind, LiveObject, Task

Outcome = Literal["created", "updated", "started", "removed", "left", "failed"]


@dataclass(frozen=True, slots=True)
class Step:
    """What was done about a difference; `words` are those of the server if it failed."""

    kind: Kind
    name: str
    outcome: Outcome
    words: str = ""


def push(
    comparison: Comparison,
    kapacitor: Kapacitor | None,
    chronograf: Chronograf | None,
    *,
    prune: bool,
) -> Iterator[Step]:
    """Do away with the differences on the side of the servers, one by one.

    One that fails holds up no other. Without `prune` orphans are left.

    Parameters
    ----------
    kapacitor, chronograf
        The servers that were compared; None for one that was not.

    Raises
    ------
    UnreachableError
        If a server goes away meanwhile.
    """
    # Of a server that was not compared there are no differences.
    pushing = _Pushing(comparison, cast("Kapacitor", kapacitor), cast("Chronograf", chronograf))
    # A task that raises its first alert should find the handlers.
    order = {"handler": 0, "task": 1, "dashboard": 2}
    for difference in sorted(comparison.differences, key=lambda item: order[item.kind]):
        if difference.server in ("same", "absent"):
            continue
        if difference.server == "orphaned" and not prune:
            yield Step(*difference.key, "left", "no specification makes it: --prune removes it")
            continue
        try:
            yield pushing.mend(difference)
        except UnreachableError:
            raise
        except LiveError as error:
            yield Step(*difference.key, "failed", str(error))


@dataclass(frozen=True, slots=True)
class _Pushing:
    comparison: Comparison
    kapacitor: Kapacitor
    chronograf: Chronograf

    def mend(self, difference: Difference) -> Step:
        right = self.comparison.generated.get(difference.key)
        there = self.comparison.live.get(difference.key)
        act: Callable[[LiveObject | None, LiveObject | None], None] = {
            "task": self._mend_task,
            "handler": self._mend_handler,
            "dashboard": self._mend_dashboard,
        }[difference.kind]
        act(right, there)
        outcomes: dict[str, Outcome] = {
            "missing": "created",
            "changed": "updated",
            "stopped": "started",
            "orphaned": "removed",
        }
        return Step(*difference.key, outcomes[difference.server])

    def _mend_task(self, right: LiveObject | None, there: LiveObject | None) -> None:
        if isinstance(right, Task):
            if isinstance(there, Task):
                self.kapacitor.update_task(there, right.script)
            else:
                self.kapacitor.create_task(right.name, right.script)
        elif isinstance(there, Task):
            self.kapacitor.delete_task(there.name)

    def _mend_handler(self, right: LiveObject | None, there: LiveObject | None) -> None:
        if isinstance(right, Handler):
            self.kapacitor.put_handler(right, is_new=there is None)
        elif isinstance(there, Handler):
            self.kapacitor.delete_handler(there)

    def _mend_dashboard(self, right: LiveObject | None, there: LiveObject | None) -> None:
        if isinstance(there, Dashboard) and is_from_file(there, self.comparison.generated):
            raise LiveError(
                "the server reads it from a file: update its folder of resources instead"
            )
        if isinstance(right, Dashboard):
            if isinstance(there, Dashboard):
                self.chronograf.replace_dashboard(there, right)
            else:
                self.chronograf.create_dashboard(right)
        elif isinstance(there, Dashboard):
            self.chronograf.delete_dashboard(there)
