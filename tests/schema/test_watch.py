from squash_api.schema import watch as watch_names
from squash_api.schema.names import RESERVED_PACKAGE_PREFIX, Schema


def test_no_metric_can_have_the_measurements_of_the_service() -> None:
    own = (watch_names.FRESHNESS, watch_names.STANDING, watch_names.HEARTBEAT)
    assert all(name.startswith(RESERVED_PACKAGE_PREFIX) for name in own)
    assert all(Schema().name_problem(f"{name}.AM1") for name in own)


def test_no_tag_of_the_points_has_the_name_of_one_of_the_services_own() -> None:
    assert not {watch_names.METRIC, watch_names.SPECIFICATION} & set(Schema().tags)
