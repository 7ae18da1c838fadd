"""The tasks on the service itself; what real Kapacitor makes of them is in tests/integration."""

import pytest

from squash_api.generate.kapacitor.own import own_tasks
from squash_api.judging.own import OWN_ALERTS, SILENT, OwnAlert

PLACE = ("squash", "autogen")


@pytest.mark.parametrize("alert", OWN_ALERTS, ids=lambda item: item.name)
def test_each_alert_is_in_one_task_with_its_state_by_its_tags(alert: OwnAlert) -> None:
    whole = "".join(own_tasks(PLACE).values())
    assert whole.count(f".id('{alert.name}/{{{{ .Group }}}}')") == 1
    branch = whole.partition(f"// {alert.name}\n")[2].partition("\n\n")[0]
    assert f"|groupBy({', '.join(repr(tag) for tag in alert.per)})" in branch
    assert branch.count("(lambda: ") == 1 + len(alert.limits)
    assert ".stateChangesOnly()" in branch


def test_a_process_that_says_nothing_for_five_minutes_is_told() -> None:
    task = own_tasks(PLACE)["squash.silence"]
    assert ".groupBy('process', 'instance')\n    |deadman(0.0, 5m)" in task
    assert f".id('{SILENT}/{{{{ .Group }}}}')" in task
