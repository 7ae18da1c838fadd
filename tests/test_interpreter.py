import gc
import sys
from collections.abc import Iterator

import pytest

from squash_api.site import spare_cycle_search, take_short_turns


@pytest.fixture(autouse=True)
def as_before() -> Iterator[None]:
    before, turn_s = gc.get_threshold(), sys.getswitchinterval()
    yield
    gc.set_threshold(*before)
    sys.setswitchinterval(turn_s)
    gc.unfreeze()


def test_the_search_for_cycles_is_rare_but_not_off() -> None:
    spare_cycle_search()
    assert gc.isenabled()
    assert gc.get_threshold()[0] > 10_000


def test_what_exists_is_left_out_of_the_search() -> None:
    spare_cycle_search()
    assert gc.get_freeze_count() > 0


def test_a_thread_waits_no_longer_than_the_disk_takes() -> None:
    sys.setswitchinterval(0.005)
    take_short_turns()
    assert sys.getswitchinterval() < 0.005
