import threading

from squash_api.definitions.in_force import DefinitionsInForce, Snapshot
from squash_api.record.definitions import DefinitionRow, append_definitions
from squash_api.schema.names import Schema
from tests.support.definitions import ADA, World, metric, spec


def test_reports_find_what_was_in_force_at_a_revision(world: World) -> None:
    definitions = world.definitions
    definitions.post_one("metric", "p.a", metric(), ADA)
    definitions.post_one("spec", "p.a.design", spec(value=5.0), ADA)
    before = world.revision
    definitions.put("spec", "p.a.design", spec(value=7.0), ADA)
    definitions.put("metric", "p.a", metric(unit="mag"), ADA)
    then, now = (definitions.in_force.at(revision).by_metric for revision in (before, None))
    assert (then["p.a"][0].criterion.numbers, now["p.a"][0].criterion.numbers) == ((5.0,), (7.0,))
    assert definitions.in_force.at(before).declared["p.a"].unit == "mmag"
    assert definitions.in_force.at(None).declared["p.a"].unit == "mag"


def test_many_revisions_are_told_apart(world: World) -> None:
    definitions = world.definitions
    definitions.post_one("metric", "p.a", metric(), ADA)
    definitions.post_one("spec", "p.a.design", spec(value=0.0), ADA)
    first = world.revision
    for value in range(1, 40):
        definitions.put("spec", "p.a.design", spec(value=value), ADA)
    found = [
        definitions.in_force.at(first + value).by_metric["p.a"][0].criterion.numbers[0]
        for value in range(40)
    ]
    assert found == [*range(40)]


def test_nothing_was_in_force_before_the_first_definition(world: World) -> None:
    world.definitions.post_one("metric", "p.a", metric(), ADA)
    snapshot = DefinitionsInForce(world.record, Schema()).at(0)
    assert (dict(snapshot.metrics), dict(snapshot.by_metric)) == ({}, {})


def test_a_revision_that_does_not_exist_yet_is_not_kept(world: World) -> None:
    in_force = DefinitionsInForce(world.record, Schema())
    assert in_force.at(1).metrics == {}
    world.definitions.post_one("metric", "p.a", metric(), ADA)
    assert list(in_force.at(1).metrics) == ["p.a"]


def test_what_another_process_stores_is_seen_at_once(world: World) -> None:
    in_force = DefinitionsInForce(world.record, Schema())
    in_force.at(None)
    world.definitions.post_one("metric", "p.a", metric(), ADA)
    assert list(in_force.at(None).declared) == ["p.a"]


def test_what_is_in_force_is_in_the_order_of_the_names(world: World) -> None:
    world.definitions.post("metric", [metric(name) for name in ("p.c", "p.a", "p.b")], ADA)
    assert list(DefinitionsInForce(world.record, Schema()).at(None).metrics) == [
        "p.a",
        "p.b",
        "p.c",
    ]


def test_a_definition_with_a_tag_that_is_none_any_more_stays_in_force(world: World) -> None:
    world.definitions.post_one("metric", "p.a", metric(), ADA)
    document = spec("p.a.x", alert={"per": ["night"]})
    row = DefinitionRow(
        kind="spec", name="p.a.x", document=document, origin="api", user_id=1, created_ns=0
    )
    world.record.write(lambda connection: append_definitions(connection, [row]))
    found = DefinitionsInForce(world.record, Schema()).at(None).specifications["p.a.x"]
    assert found.content.criterion.numbers == (5.0,)


def test_a_stored_definition_that_cannot_be_read_costs_no_other(world: World) -> None:
    world.definitions.post_one("metric", "p.a", metric(), ADA)
    rows = [
        DefinitionRow(kind="spec", name="p.a.x", document={}, origin="api", created_ns=0),
        DefinitionRow(
            kind="metric", name="p.b", document={"unit": "no"}, origin="api", created_ns=0
        ),
    ]
    world.record.write(lambda connection: append_definitions(connection, rows))
    snapshot = DefinitionsInForce(world.record, Schema()).at(None)
    assert (list(snapshot.metrics), list(snapshot.specifications)) == (["p.a"], [])


def test_many_threads_may_ask_at_once(world: World) -> None:
    for index in range(20):
        world.definitions.post_one("metric", f"p.m{index}", metric(f"p.m{index}"), ADA)
    in_force = DefinitionsInForce(world.record, Schema())
    found: dict[int, Snapshot] = {}

    def read(start: int) -> None:
        for revision in range(start, 21, 4):
            found[revision] = in_force.at(revision)

    threads = [threading.Thread(target=read, args=(start,)) for start in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert {revision: len(snapshot.metrics) for revision, snapshot in found.items()} == {
        revision: revision for revision in range(21)
    }
