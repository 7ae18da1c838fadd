import gc
from collections.abc import Iterator

import pytest

from squash_api.garbage import spare_cycle_search


@pytest.fixture(autouse=True)
def as_before() -> Iterator[None]:
    before = gc.get_threshold()
    yield
    gc.set_threshold(*before)
    gc.unfreeze()


def test_the_search_for_cycles_is_rare_but_not_off() -> None:
    spare_cycle_search()
    assert gc.isenabled()
    assert gc.get_threshold()[0] > 10_000


def test_what_exists_is_left_out_of_the_search() -> None:
    spare_cycle_search()
    assert gc.get_freeze_count() > 0
